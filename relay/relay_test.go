package relay

import (
	"bytes"
	"context"
	"crypto/rand"
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

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	webrtc "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/pebble"
)

// patience bounds what a test waits for; nothing is measured by it.
const patience = 2 * time.Minute

const domain = "relay.test"

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok says so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func multiaddrs(t testing.TB, s ...string) []ma.Multiaddr {
	t.Helper()
	var out []ma.Multiaddr
	for _, a := range s {
		m, err := ma.NewMultiaddr(a)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// labConfig is a relay on loopback without a domain.
func labConfig(t testing.TB) Config {
	t.Helper()
	c := DefaultConfig()
	c.DataDir = filepath.Join(t.TempDir(), "relayd")
	c.Listen = Listen{TCP: multiaddrs(t, "/ip4/127.0.0.2/tcp/0")}
	c.Network.AllowPrivate = true
	c.PSF.Bootstrap, c.PSF.BootstrapList = nil, ""
	c.Metrics.Listen = ""
	c.closeTime = patience
	return c
}

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
func withDomain(t testing.TB, c Config, o pebble.Options) (Config, *pebble.Server) {
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
	c.Listen.WSS = multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/tcp/%d/tls/ws", port))
	c.Listen.HTTP = ""
	c.ACME.Directory = ca.DirectoryURL
	c.ACME.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.ACME.CAFile, ca.RootPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return c, ca
}

// testLog writes to the test's own log, until the test is over.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// running is a relay that serves, and how to end it.
type running struct {
	*Relay
	stop func() error
}

func start(t testing.TB, c Config) *running {
	t.Helper()
	return startLogging(t, c, testLog(t))
}

func startLogging(t testing.TB, c Config, log *slog.Logger) *running {
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
		case <-time.After(2 * patience): // with what it says itself after closeTime
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
	case <-time.After(patience + certificateWait):
		t.Fatal("the relay is not ready")
	}
	return run
}

// patientDials is for peers on a busy machine: the library gives up after five seconds
// on a loopback address, and after fifteen elsewhere.
var patientDials = libp2p.SwarmOpts(swarm.WithDialTimeout(patience), swarm.WithDialTimeoutLocal(patience))

// newPeer is an ordinary libp2p host that listens nowhere. root is the CA it
// trusts for WSS besides the system's.
func newPeer(t testing.TB, root []byte, opts ...libp2p.Option) host.Host {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.NoListenAddrs,
		libp2p.EnableRelay(),
		libp2p.DisableMetrics(),
		patientDials,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(webtransport.New),
		libp2p.Transport(webrtc.New),
		libp2p.Transport(websocket.New, websocket.WithTLSClientConfig(&tls.Config{RootCAs: pool})),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// dialable is where a peer that cannot resolve the domain reaches the relay, for
// each transport that it listens on.
func dialable(t testing.TB, r *Relay) map[string]peer.AddrInfo {
	t.Helper()
	out := map[string]peer.AddrInfo{}
	for _, a := range r.Addrs() {
		a, _ = peer.SplitAddr(a)
		s := a.String()
		if port, err := a.ValueForProtocol(ma.P_TCP); err == nil && isWSS(a) {
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
		out[kind] = peer.AddrInfo{ID: r.ID(), Addrs: multiaddrs(t, s)}
	}
	return out
}

// echo opens a circuit from one peer to another that holds a reservation, and
// has n random bytes come back.
func echo(t testing.TB, from, to host.Host, relay peer.AddrInfo, n int) error {
	t.Helper()
	ctx := testContext(t)
	to.SetStreamHandler("/test/echo", func(s network.Stream) {
		defer s.Close()
		_, _ = io.Copy(s, s)
	})
	circuit := relay.Addrs[0].Encapsulate(multiaddrs(t, "/p2p/"+relay.ID.String()+"/p2p-circuit")[0])
	if err := from.Connect(network.WithForceDirectDial(ctx, "test"), relay); err != nil && from.Network().Connectedness(relay.ID) != network.Connected {
		return fmt.Errorf("connect to the relay: %w", err)
	}
	if err := from.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
		return fmt.Errorf("connect through the relay: %w", err)
	}
	s, err := from.NewStream(network.WithAllowLimitedConn(ctx, "test"), to.ID(), "/test/echo")
	if err != nil {
		return fmt.Errorf("open a stream through the relay: %w", err)
	}
	defer s.Reset()
	if _, err := s.Conn().RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err != nil {
		return fmt.Errorf("reached without the relay, by %s", s.Conn().RemoteMultiaddr())
	}
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return err
	}
	want := make([]byte, n)
	_, _ = rand.Read(want)
	go func() {
		if _, err := s.Write(want); err == nil {
			_ = s.CloseWrite()
		}
	}()
	got := make([]byte, n)
	if _, err := io.ReadFull(s, got); err != nil {
		return fmt.Errorf("read the echo: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the echo differs")
	}
	return nil
}

func reserve(t testing.TB, h host.Host, relay peer.AddrInfo) (*client.Reservation, error) {
	t.Helper()
	return client.Reserve(testContext(t), h, relay)
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
	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, "https://"+domain+":"+port+path, nil)
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
	c := labConfig(t)
	c.Listen.QUIC = multiaddrs(t, "/ip4/127.0.0.2/udp/0/quic-v1")
	c.Listen.WebTransport = multiaddrs(t, "/ip4/127.0.0.2/udp/0/quic-v1/webtransport")
	c.Listen.WebRTC = multiaddrs(t, "/ip4/127.0.0.2/udp/0/webrtc-direct")
	c, ca := withDomain(t, c, pebble.Options{})
	r := start(t, c)

	addrs := dialable(t, r.Relay)
	for _, kind := range []string{"tcp", "quic", "wss", "webtransport", "webrtc"} {
		t.Run(kind, func(t *testing.T) {
			relay, ok := addrs[kind]
			if !ok {
				t.Fatalf("not announced; announced are %v", r.Addrs())
			}
			alice, bob := newPeer(t, ca.RootPEM), newPeer(t, ca.RootPEM)
			rsvp, err := reserve(t, alice, relay)
			if err != nil {
				t.Fatal(err)
			}
			if rsvp.Voucher == nil || rsvp.Voucher.Relay != r.ID() || rsvp.Voucher.Peer != alice.ID() {
				t.Errorf("voucher %+v", rsvp.Voucher)
			}
			// What is valid for longer than voucher_valid of the bounty's rules (3 h) counts as
			// signed beforehand. No setting changes how long a reservation lasts.
			if left := time.Until(rsvp.Voucher.Expiration); left > reservationTTL || reservationTTL > 3*time.Hour {
				t.Errorf("the voucher is valid for %s", left)
			}
			if len(rsvp.Addrs) != len(r.Addrs()) {
				t.Errorf("the reservation lists %v, want %v", rsvp.Addrs, r.Addrs())
			}
			if err := echo(t, bob, alice, relay, 4096); err != nil {
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
	var s Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.PeerID != r.ID().String() || !s.Healthy ||
		len(s.Addrs) != 5 || s.Certificate == nil || s.Certificate.NotAfter.IsZero() {
		t.Errorf("status.json: %v: %s", err, body)
	}
}
