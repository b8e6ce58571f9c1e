package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/relay"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// The whole house in one process: a relay with a certificate from a real ACME
// server, judged from outside, the evidence logged, bundled and audited.
func TestHouse(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	h := startRelay(ctx, t, dir)

	cfg := h.monitor(t, "m1")
	h.writeRoster(t, cfg)
	h.observe(ctx, t, cfg)

	month := evidence.MonthOf(time.Now())
	file := filepath.Join(dir, "bundle.zip")
	q := monitor.BundleRequest{Relay: h.relay.ID().String(), Month: month, AsOf: time.Now()}
	if _, err := monitor.WriteBundle(ctx, cfg, q, file); err != nil {
		t.Fatal(err)
	}
	rules, roster := read(t, cfg.Rules), read(t, cfg.Roster)
	res, err := verify(t, file, rules, roster)
	if err != nil {
		t.Fatal(err)
	}
	if res.Result != bounty.LabResult || res.Verdict.Final {
		t.Errorf("the verdict is %s, final %v; want LAB, provisional", res.Result, res.Verdict.Final)
	}

	// Other judges than those of the bundle: refused.
	other := strings.Replace(string(roster), "operator: somebody", "operator: else", 1)
	if _, err := verify(t, file, rules, []byte(other)); err == nil {
		t.Error("a bundle verified against another roster")
	}
}

// The logs of two monitors in one bundle: from the other's data folder, from a
// bundle of its own, and from a server that has it.
func TestTwoMonitors(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	h := startRelay(ctx, t, dir)
	one, two := h.monitor(t, "m1"), h.monitor(t, "m2")
	h.writeRoster(t, one, two)
	h.observe(ctx, t, one)
	h.observe(ctx, t, two)

	q := monitor.BundleRequest{Relay: h.relay.ID().String(), Month: evidence.MonthOf(time.Now()), AsOf: time.Now()}
	others := filepath.Join(dir, "two.zip")
	if _, err := monitor.WriteBundle(ctx, two, q, others); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	for name, source := range map[string]string{"folder": two.DataDir, "bundle": others, "url": server.URL + "/two.zip"} {
		t.Run(name, func(t *testing.T) {
			merged := filepath.Join(t.TempDir(), "merged.zip")
			q := q
			q.From = []string{source}
			if _, err := monitor.WriteBundle(ctx, one, q, merged); err != nil {
				t.Fatal(err)
			}
			res, err := verify(t, merged, read(t, one.Rules), read(t, one.Roster))
			if err != nil {
				t.Fatal(err)
			}
			if n := len(res.Verdict.Monitors); n != 2 {
				t.Errorf("%d monitors in the verdict, want 2", n)
			}
			for _, m := range res.Verdict.Monitors {
				if !m.Log {
					t.Errorf("the log of %s is not in the bundle", m.Name)
				}
			}
		})
	}

	var told []string
	q.Tell = func(s string) { told = append(told, s) }
	q.From = []string{others, two.DataDir}
	if v, err := monitor.WriteBundle(ctx, one, q, filepath.Join(dir, "twice.zip")); err != nil || len(v.Monitors) != 2 || len(told) != 1 {
		t.Errorf("one log from two sources: %q, %v", told, err)
	}
	q.From = []string{server.URL + "/missing.zip"}
	if _, err := monitor.WriteBundle(ctx, one, q, filepath.Join(dir, "missing-bundle.zip")); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a bundle that is not there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "missing-bundle.zip")); err == nil {
		t.Error("a bundle was written although it failed")
	}
}

// observe lets a monitor look once and wants every rung to be ok.
func (h *house) observe(ctx context.Context, t *testing.T, cfg monitor.Config) {
	t.Helper()
	m, err := monitor.Open(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	attempts, err := m.Once(ctx)
	if err = errors.Join(err, m.Close()); err != nil {
		t.Fatal(err)
	}
	if len(attempts) != 1 {
		t.Fatalf("%d attempts, want 1", len(attempts))
	}
	for _, r := range attempts[0].Rungs {
		if r.Outcome != evidence.OK {
			t.Errorf("%s: %s (%s) %s", r.Name, r.Outcome, r.Class, r.Detail)
		}
	}
}

func verify(t *testing.T, file string, rules, roster []byte) (bundle.Result, error) {
	t.Helper()
	geo, err := bundle.DefaultGeo()
	if err != nil {
		t.Fatal(err)
	}
	packed := read(t, file)
	return bundle.Verify(bytes.NewReader(packed), int64(len(packed)), bundle.Options{Rules: rules, Roster: roster, Geo: geo})
}

var quiet = slog.New(slog.DiscardHandler)

// house is a relay and what a monitor needs to know of it.
type house struct {
	dir   string
	relay *relay.Relay
	ca    *pebble.Server
	ports [3]uint16 // tcp, quic, wss
}

const domain = "relay.test"

var host = netip.MustParseAddr("127.0.0.2")

// startRelay starts a relay with more lines of configuration than it needs.
func startRelay(ctx context.Context, t *testing.T, dir string, more ...string) *house {
	t.Helper()
	h := &house{dir: dir}
	for i := range h.ports {
		l, err := net.Listen("tcp4", netip.AddrPortFrom(host, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		h.ports[i] = l.Addr().(*net.TCPAddr).AddrPort().Port()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	h.ca, err = pebble.Start(ctx, pebble.Options{TLSPort: int(h.ports[2]), Names: map[string]netip.Addr{domain: host}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, h.path("ca.pem"), string(h.ca.RootPEM))
	file := h.path("relay.yaml")
	write(t, file, fmt.Sprintf(`
data_dir: %s
domain: %s
listen:
  tcp: [/ip4/%[3]s/tcp/%[4]d]
  quic: [/ip4/%[3]s/udp/%[5]d/quic-v1]
  wss: [/ip4/%[3]s/tcp/%[6]d/tls/ws]
  webtransport: []
  webrtc: []
  http: ""
acme: {directory: %[7]q, ca_file: %[8]s}
network: {allow_private: true}
psf: {bootstrap: [], bootstrap_list: ""}
metrics: {listen: ""}
%[9]s
`, h.path("relay"), domain, host, h.ports[0], h.ports[1], h.ports[2], h.ca.DirectoryURL, h.path("ca.pem"), strings.Join(more, "\n")))
	cfg, err := config.ReadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if h.relay, err = relay.New(cfg, quiet); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- h.relay.Run(running) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the relay ended: %v", err)
		}
	})
	select {
	case <-h.relay.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatalf("the relay ended: %v", err)
	case <-ctx.Done():
		t.Fatal("the relay did not get ready")
	}
	return h
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

// monitor makes a monitor's configuration and its log.
func (h *house) monitor(t *testing.T, name string) monitor.Config {
	t.Helper()
	write(t, h.path("rules.yaml"), "network: lab\n")
	file := h.path(name + ".yaml")
	write(t, file, fmt.Sprintf(`
name: %s
network: lab
data_dir: %[1]s
roster: roster.yaml
rules: rules.yaml
listen: ""
browser: none
lab: {ca: ca.pem, resolve: {%s: %s}}
`, name, domain, host))
	cfg, err := monitor.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := monitor.Init(cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func (h *house) writeRoster(t *testing.T, monitors ...monitor.Config) {
	t.Helper()
	from := evidence.HourOf(time.Now())
	text := "network: lab\nmonitors:\n"
	for _, cfg := range monitors {
		keys, err := monitor.Keys(cfg)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("  - {name: %s, operator: somebody, log_key: %q, from: %s}\n", cfg.Name, keys.LogKey, from)
	}
	text += fmt.Sprintf("relays:\n  - {peer_id: %s, operator: another, ipv4: %s, tcp_port: %d, domain: %s, wss_port: %d, enrolled: %s}\n",
		h.relay.ID(), host, h.ports[0], domain, h.ports[2], from)
	write(t, h.path("roster.yaml"), text)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
