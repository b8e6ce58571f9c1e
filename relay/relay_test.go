package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/relay/circuit"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

const domain = "relay.test"

// nextPort is where freePort goes on, from somewhere.
var nextPort atomic.Uint32

func init() { nextPort.Store(mathrand.Uint32N(20000)) }

// freePort is a TCP port of 127.0.0.2 that nobody uses: the CA must know the
// port before the relay listens on it. It is below those that the kernel gives to
// others meanwhile, and no test gets it twice.
func freePort(t testing.TB) int {
	t.Helper()
	var err error
	for range 20000 {
		port := 10000 + int(nextPort.Add(1)%20000)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal(err)
	return 0
}

// withDomain gives the relay a domain and a CA that can reach it.
func withDomain(t testing.TB, c config.Config, o pebble.Options) (config.Config, *pebble.Server) {
	t.Helper()
	port := freePort(t)
	o.TLSPort = port
	if o.Names == nil {
		o.Names = map[string]netip.Addr{domain: netip.MustParseAddr("127.0.0.2")}
	}
	ca, err := pebble.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close() })
	c.Domain = domain
	c.Listen.WSS = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/tcp/%d/tls/ws", port))
	c.Listen.HTTP = ""
	c.ACME.Directory = ca.DirectoryURL
	c.ACME.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.ACME.CAFile, ca.RootPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return c, ca
}

// running is a relay that serves, and how to end it.
type running struct {
	*Relay
	stop func() error
}

func start(t testing.TB, c config.Config) *running {
	t.Helper()
	return startLogging(t, c, relaytest.Log(t))
}

func startLogging(t testing.TB, c config.Config, log *slog.Logger) *running {
	t.Helper()
	r, err := New(c, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	run := &running{Relay: r, stop: func() error {
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(2 * relaytest.Patience): // with what it says itself after closeTime
			return fmt.Errorf("the relay does not stop")
		}
	}}
	t.Cleanup(func() {
		if stopped {
			return
		}
		if err := run.stop(); err != nil {
			t.Errorf("stop the relay: %v", err)
		}
	})
	select {
	case <-r.Ready():
	case err := <-done:
		stopped = true
		t.Fatalf("the relay ended before it was ready: %v", err)
	case <-time.After(relaytest.Patience + certificateWait):
		t.Fatal("the relay is not ready")
	}
	return run
}

// dialable is where a peer that cannot resolve the domain reaches the relay, for
// each transport that it listens on.
func dialable(t testing.TB, r *Relay) map[string]peer.AddrInfo {
	t.Helper()
	out := map[string]peer.AddrInfo{}
	for _, a := range r.Addrs() {
		a, _ = peer.SplitAddr(a)
		s := a.String()
		if port, err := a.ValueForProtocol(ma.P_TCP); err == nil && config.IsWSS(a) {
			s = "/ip4/127.0.0.2/tcp/" + port + "/tls/sni/" + domain + "/ws"
		}
		var kind string
		for _, c := range []struct{ part, kind string }{
			{"webrtc-direct", "webrtc"}, {"webtransport", "webtransport"}, {"quic-v1", "quic"}, {"/ws", "wss"}, {"/tcp/", "tcp"},
		} {
			if strings.Contains(s, c.part) {
				kind = c.kind
				break
			}
		}
		out[kind] = peer.AddrInfo{ID: r.ID(), Addrs: relaytest.Multiaddrs(t, s)}
	}
	return out
}

// get fetches a page of the relay's WSS port, as a browser does.
func get(t testing.TB, r *Relay, root []byte, path string) (*http.Response, string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	port, err := r.cfg.Listen.WSS[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.2:"+port)
		},
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(relaytest.Context(t), http.MethodGet, "https://"+domain+":"+port+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// A relay with all transports: peers reach it by each of them, reserve, and
// reach one another through it.
func TestRelayByEveryTransport(t *testing.T) {
	c := relaytest.LabConfig(t)
	c.Listen.QUIC = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/udp/0/quic-v1")
	c.Listen.WebTransport = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/udp/0/quic-v1/webtransport")
	c.Listen.WebRTC = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/udp/0/webrtc-direct")
	c, ca := withDomain(t, c, pebble.Options{})
	r := start(t, c)

	addrs := dialable(t, r.Relay)
	for _, kind := range []string{"tcp", "quic", "wss", "webtransport", "webrtc"} {
		t.Run(kind, func(t *testing.T) {
			relay, ok := addrs[kind]
			if !ok {
				t.Fatalf("not announced; announced are %v", r.Addrs())
			}
			alice, bob := relaytest.NewPeer(t, ca.RootPEM), relaytest.NewPeer(t, ca.RootPEM)
			rsvp, err := relaytest.Reserve(t, alice, relay)
			if err != nil {
				t.Fatal(err)
			}
			if rsvp.Voucher == nil || rsvp.Voucher.Relay != r.ID() || rsvp.Voucher.Peer != alice.ID() {
				t.Errorf("voucher %+v", rsvp.Voucher)
			}
			// What is valid for longer than voucher_valid of the bounty's rules (3 h) counts as
			// signed beforehand. No setting changes how long a reservation lasts.
			if left := time.Until(rsvp.Voucher.Expiration); left > circuit.ReservationTTL || circuit.ReservationTTL > 3*time.Hour {
				t.Errorf("the voucher is valid for %s", left)
			}
			if len(rsvp.Addrs) != len(r.Addrs()) {
				t.Errorf("the reservation lists %v, want %v", rsvp.Addrs, r.Addrs())
			}
			if err := relaytest.Echo(t, bob, alice, relay, 4096); err != nil {
				t.Fatal(err)
			}
		})
	}

	resp, body := get(t, r.Relay, ca.RootPEM, "/")
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || !strings.Contains(body, r.ID().String()) {
		t.Errorf("status page: %s by %s:\n%s", resp.Status, resp.Proto, body)
	}
	if resp, body := get(t, r.Relay, ca.RootPEM, "/healthz"); resp.StatusCode != 200 || body != "ok\n" {
		t.Errorf("healthz: %s: %s", resp.Status, body)
	}
	_, body = get(t, r.Relay, ca.RootPEM, "/status.json")
	var s status.Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.PeerID != r.ID().String() || !s.Healthy ||
		len(s.Addrs) != 5 || s.Certificate == nil || s.Certificate.NotAfter.IsZero() {
		t.Errorf("status.json: %v: %s", err, body)
	}
}
