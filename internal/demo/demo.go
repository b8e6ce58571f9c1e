// Package demo is what `make run` starts and shows: a certificate authority, a
// relay, a monitor and an audit on the loopback, each the real thing, from the
// first handshake to the verdict.
package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/pebble"
)

// Options say what to show.
type Options struct {
	Programs string // folder of relayd, relaymon and relayaudit
	State    string // folder that a later run goes on from
	Once     bool   // end after the verdict
	Out      io.Writer
}

// Run shows the whole once and, without Once, goes on until ctx ends. The error
// tells what did not work; ctx ending is none.
func Run(ctx context.Context, o Options) error {
	s, err := load(o.State)
	if err != nil {
		return err
	}
	d := &demo{Options: o, state: s, programs: programs{dir: o.Programs, logs: s.dir}}
	defer d.programs.stop()
	err = d.run(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(o.Out, "\nended")
		return nil
	}
	return err
}

type demo struct {
	Options
	*state
	programs programs
	roots    *x509.CertPool
	peerID   string
}

func (d *demo) run(ctx context.Context) error {
	for i, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"a certificate authority: Pebble, Let's Encrypt's test server", d.startCA},
		{"relayd: a relay on TCP, QUIC and WSS, with a certificate from it", d.startRelay},
		{"relaymon: a monitor looks at the relay from outside", d.observe},
		{"relayaudit: a stranger checks the evidence, offline", d.audit},
	} {
		fmt.Fprintf(d.Out, "\n%d. %s\n", i+1, step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	if d.Once {
		return nil
	}
	return d.stay(ctx)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, "   "+format+"\n", args...) }

func (d *demo) startCA(ctx context.Context) error {
	ca, err := pebble.Start(ctx, pebble.Options{
		TLSPort: int(d.Ports.WSS),
		Names:   map[string]netip.Addr{domain: host},
	})
	if err != nil {
		return err
	}
	d.roots = x509.NewCertPool()
	if !d.roots.AppendCertsFromPEM(ca.RootPEM) {
		return errors.New("the CA's root cannot be read")
	}
	d.say("directory %s, its root in %s", ca.DirectoryURL, d.path("ca.pem"))
	return errors.Join(
		d.write("ca.pem", string(ca.RootPEM)),
		d.write("relay.yaml", d.relayConfig(ca.DirectoryURL)),
		d.write("rules.yaml", labRules),
		d.write("monitor.yaml", d.monitorConfig()),
	)
}

func (d *demo) startRelay(ctx context.Context) error {
	// Made on purpose and once; a later run finds it.
	if _, err := os.Stat(d.path("relay")); errors.Is(err, fs.ErrNotExist) {
		if _, err := d.programs.output(ctx, "relayd", "init", "--config", d.path("relay.yaml")); err != nil {
			return err
		}
	}
	id, err := d.programs.output(ctx, "relayd", "id", "--config", d.path("relay.yaml"))
	if err != nil {
		return err
	}
	d.peerID = strings.TrimSpace(id)
	relayd, err := d.programs.start(ctx, "relayd", "run", "--config", d.path("relay.yaml"))
	if err != nil {
		return err
	}
	status, err := d.statusPage(ctx, relayd)
	if err != nil {
		return err
	}
	d.say("peer ID %s", d.peerID)
	d.say("/ip4/%s/tcp/%d/p2p/%s", host, d.Ports.TCP, d.peerID)
	d.say("/ip4/%s/udp/%d/quic-v1/p2p/%s", host, d.Ports.QUIC, d.peerID)
	d.say("/dns4/%s/tcp/%d/tls/ws/p2p/%s", domain, d.Ports.WSS, d.peerID)
	d.say("%s", status)
	return nil
}

// statusPage waits until the relay serves its page with a certificate of the CA:
// a plain HTTPS GET on the port of its secure websocket.
func (d *demo) statusPage(ctx context.Context, relayd *process) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	at := netip.AddrPortFrom(host, d.Ports.WSS).String()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: d.roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
	}}
	defer client.CloseIdleConnections()
	url := "https://" + net.JoinHostPort(domain, strconv.Itoa(int(d.Ports.WSS))) + "/"
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				leaf := res.TLS.PeerCertificates[0]
				return fmt.Sprintf("GET %s -> %s, certificate by %s until %s", url, res.Status, leaf.Issuer.CommonName, leaf.NotAfter.Format(time.DateOnly)), nil
			}
			err = fmt.Errorf("GET %s: %s", url, res.Status)
		}
		last = err
		select {
		case <-time.After(200 * time.Millisecond):
		case <-relayd.done:
			return "", relayd.failure()
		case <-ctx.Done():
			return "", fmt.Errorf("the relay's status page did not come up: %w; see %s", last, relayd.log)
		}
	}
}

func (d *demo) observe(ctx context.Context) error {
	config := d.path("monitor.yaml")
	if _, err := os.Stat(d.path("monitor")); errors.Is(err, fs.ErrNotExist) {
		if _, err := d.programs.output(ctx, "relaymon", "init", "--config", config); err != nil {
			return err
		}
	}
	out, err := d.programs.output(ctx, "relaymon", "keys", "--json", "--config", config)
	if err != nil {
		return err
	}
	var keys struct {
		LogKey  string `json:"log_key"`
		PlanKey string `json:"plan_key"`
	}
	if err := json.Unmarshal([]byte(out), &keys); err != nil {
		return fmt.Errorf("read the monitor's keys: %w", err)
	}
	if err := d.write("roster.yaml", d.roster(d.peerID, keys.LogKey, keys.PlanKey)); err != nil {
		return err
	}
	return d.programs.show(ctx, d.Out, "relaymon", "once", "--config", config)
}

func (d *demo) audit(ctx context.Context) error {
	month := time.Now().UTC().Format("2006-01")
	bundle := d.path(fmt.Sprintf("relay-%s-%s.zip", d.peerID, month))
	if err := d.programs.show(ctx, d.Out, "relaymon", "bundle", "--config", d.path("monitor.yaml"),
		"--month", month, "--relay", d.peerID, "--out", bundle); err != nil {
		return err
	}
	return d.programs.show(ctx, d.Out, "relayaudit", "verify", bundle,
		"--rules", d.path("rules.yaml"), "--roster", d.path("roster.yaml"))
}

// stay leaves relay and monitor running, so that somebody can look at them.
func (d *demo) stay(ctx context.Context) error {
	relaymon, err := d.programs.start(ctx, "relaymon", "run", "--config", d.path("monitor.yaml"))
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\nThe monitor's status page: http://127.0.0.1:%d/\nLogs and state: %s\nCtrl-C ends everything; the next run goes on from here.\n", d.Ports.Pages, relative(d.dir))
	select {
	case <-relaymon.done:
		return relaymon.failure()
	case <-ctx.Done():
		return nil
	}
}

// relative shortens a path for people, where it lies below the working folder.
func relative(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return path
}
