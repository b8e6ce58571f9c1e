package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// A machine in the role both: relay and monitor share one name and one port 443.
// Another monitor has its log cosigned through it, and visitors see the monitor's
// pages beside the relay's.
func TestRoleBoth(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	h := startRelay(ctx, t, t.TempDir(), "http_upstream: http://"+inside)
	outside := fmt.Sprintf("https://%s:%d", domain, h.ports[2])

	// Both logs began three hours ago, so that there is something to seal.
	write(t, h.path("rules.yaml"), "network: lab\n")
	first := evidence.HourOf(time.Now()) - 3
	roster := "network: lab\nmonitors:\n"
	cfgs := map[string]monitor.Config{}
	for name, line := range map[string]string{"here": "listen: " + inside, "there": "listen: ''"} {
		file := h.path(name + ".yaml")
		write(t, file, fmt.Sprintf("name: %s\nnetwork: lab\ndata_dir: %[1]s\nroster: roster.yaml\nrules: rules.yaml\nbrowser: none\nlab: {ca: ca.pem, resolve: {%s: %s}}\n%s\n",
			name, domain, host, line))
		cfg, err := monitor.LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		store, err := store.Create(filepath.Join(cfg.DataDir, "log"), store.Options{Name: name, Network: evidence.Lab, First: first})
		if err != nil {
			t.Fatal(err)
		}
		roster += fmt.Sprintf("- {name: %s, operator: %[1]s, log_key: %q, witness_key: %q, from: %q", name, store.Key(), store.WitnessKey(), first)
		if name == "here" {
			roster += fmt.Sprintf(", witness_url: %q", outside+"/witness")
		}
		roster += "}\n"
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		cfgs[name] = cfg
	}
	write(t, h.path("roster.yaml"), roster)

	here, err := monitor.Open(cfgs["here"], quiet)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- here.Run(running) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := here.Close(); err != nil {
			t.Error(err)
		}
	}()

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.ca.RootPEM)
	visitor := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, strings.Replace(addr, domain, host.String(), 1))
		},
	}}
	defer visitor.CloseIdleConnections()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := visitor.Get(outside + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for status, _ := get("/monitor/"); status != http.StatusOK; status, _ = get("/monitor/") {
		select {
		case <-ctx.Done():
			t.Fatalf("the monitor's pages: %d", status)
		case <-time.After(50 * time.Millisecond):
		}
	}
	for path, want := range map[string]string{
		"/monitor/": "Monitor here", "/monitor/status.json": `"monitor":"here"`, "/status.json": h.relay.ID().String(),
	} {
		if status, body := get(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, and %q is not in %.200s", path, status, want, body)
		}
	}
	// The relay's page is enough to probe it.
	probed := exec.CommandContext(ctx, filepath.Join(bin, "relaymon"), "probe", "--allow-private", "--ca", h.path("ca.pem"), "--resolve", domain+":"+host.String(), outside)
	if out, err := probed.CombinedOutput(); err != nil || !strings.Contains(string(out), h.relay.ID().String()) || !strings.Contains(string(out), "level 4") {
		t.Errorf("relaymon probe %s: %v, want level 4 of %s:\n%s", outside, err, h.relay.ID(), out)
	}
	for _, path := range []string{"/metrics", "/probe?target=x", "/monitor/metrics", "/monitor/probe?target=x", "/monitor/..%2fmetrics", "/monitor/%2e%2e/metrics"} {
		if status, body := get(path); status != http.StatusNotFound {
			t.Errorf("%s is there for anybody: %d %.200s", path, status, body)
		}
	}

	there, err := monitor.Open(cfgs["there"], quiet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.Once(ctx); err != nil {
		t.Fatal(err)
	}
	if err := there.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := monitor.CheckLog(cfgs["there"])
	if err != nil {
		t.Fatal(err)
	}
	if report.Checkpoints == 0 || report.Cosignatures == 0 || len(report.Faults) > 0 {
		t.Errorf("the other monitor's log: %+v", report)
	}
}
