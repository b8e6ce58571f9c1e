package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// attacked is a relay of a small machine with all its listeners, on which
// loopback addresses count as any others do.
type attacked struct {
	*running
	log  *relaytest.LogPage
	from time.Time // when it was started
	root []byte
	tcp  peer.AddrInfo
	wss  peer.AddrInfo
	http string // host:port
}

func startAttacked(t *testing.T, change func(*config.Config)) *attacked {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short (an attack takes all the CPU there is; slowed down further, as by the race detector, nobody is served in time)")
	}
	c, ca := withDomain(t, relaytest.LimitConfig(t), pebble.Options{})
	c.Limits.Connections = 512
	c.Listen.HTTP = fmt.Sprintf("127.0.0.2:%d", freePort(t))
	if change != nil {
		change(&c)
	}
	a := &attacked{log: &relaytest.LogPage{}, from: time.Now(), root: ca.RootPEM, http: c.Listen.HTTP}
	seldom := &seldom{slog.NewTextHandler(a.log, nil), &repeats{count: map[string]int{}}}
	a.running = startLogging(t, c, slog.New(seldom))
	at := dialable(t, a.Relay)
	a.tcp, a.wss = at["tcp"], at["wss"]
	return a
}

// isServing has peers from addresses of their own come, reserve and reach one
// another, half of them over TCP and half over WSS, one after the other.
func (a *attacked) isServing(t *testing.T, peers int) {
	t.Helper()
	var before host.Host
	for i := range peers {
		h, at := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.1.%d", i+1)), a.tcp
		if i%2 == 1 {
			h, at = relaytest.NewPeer(t, a.root), a.wss
		}
		if _, err := client.Reserve(relaytest.Context(t), h, at); err != nil {
			t.Fatalf("peer %d of %d does not get a reservation: %v", i+1, peers, err)
		}
		if before != nil {
			if err := relaytest.Echo(t, h, before, at, 4096); err != nil {
				t.Fatalf("peer %d of %d does not reach the one before: %v", i+1, peers, err)
			}
		}
		before = h
	}
}

// isQuiet checks that the attack did not fill the log, nor stays in memory.
func (a *attacked) isQuiet(t *testing.T) {
	t.Helper()
	a.saysLittle(t)
	relaytest.Eventually(t, "the attack's connections are gone", func() bool {
		transient := 0
		err := a.host.Network().ResourceManager().ViewTransient(func(s network.ResourceScope) error {
			stat := s.Stat()
			transient = stat.NumConnsInbound + stat.NumStreamsInbound
			return nil
		})
		return err == nil && transient == 0
	})
}

// saysLittle bounds the log: each message may stand in it once a minute.
func (a *attacked) saysLittle(t *testing.T) {
	t.Helper()
	minutes := 1 + int(time.Now().Truncate(time.Minute).Sub(a.from.Truncate(time.Minute))/time.Minute)
	if lines := strings.Count(a.log.String(), "\n"); lines > 50*minutes {
		t.Errorf("%d lines in the log, within %d minutes:\n%s", lines, minutes, a.log.String())
	}
}

// everywhere runs f again and again from each of n addresses until stop is called.
func everywhere(t *testing.T, n int, f func(ctx context.Context, d *net.Dialer)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range n {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(i+1))}, Timeout: relaytest.Patience}
		wg.Go(func() {
			for ctx.Err() == nil {
				f(ctx, d)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// opening is how far an attacker goes before it falls silent.
type opening struct {
	name string
	port func(*attacked) string
	say  func(ctx context.Context, c net.Conn) (net.Conn, error)
}

func openings() []opening {
	tcp := func(a *attacked) string { _, hostPort, _ := addrOf(a.tcp.Addrs[0]); return hostPort }
	wss := func(a *attacked) string { _, hostPort, _ := addrOf(a.wss.Addrs[0]); return hostPort }
	plain := func(a *attacked) string { return a.http }
	say := func(text string) func(context.Context, net.Conn) (net.Conn, error) {
		return func(_ context.Context, c net.Conn) (net.Conn, error) {
			_, err := io.WriteString(c, text)
			return c, err
		}
	}
	secured := func(text string) func(context.Context, net.Conn) (net.Conn, error) {
		return func(ctx context.Context, c net.Conn) (net.Conn, error) {
			s := tls.Client(c, &tls.Config{ServerName: domain, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			if err := s.HandshakeContext(ctx); err != nil {
				return c, err
			}
			_, err := io.WriteString(s, text)
			return s, err
		}
	}
	return []opening{
		{"tcp: nothing", tcp, say("")},
		{"tcp: multistream", tcp, say("\x13/multistream/1.0.0\n")},
		{"tcp: half a handshake", tcp, say("\x13/multistream/1.0.0\n\x07/noise\n\x00")},
		{"wss: nothing", wss, say("")},
		{"wss: half a TLS record", wss, say("\x16\x03\x01\x02\x00\x01")},
		{"wss: TLS only", wss, secured("")},
		{"wss: half a header", wss, secured("GET / HTTP/1.1\r\nHost: " + domain + "\r\nX-")},
		{"wss: half a body", wss, secured("POST / HTTP/1.1\r\nHost: " + domain + "\r\nContent-Length: 1000\r\n\r\nx")},
		{"wss: WebSocket only", wss, secured("GET / HTTP/1.1\r\nHost: " + domain + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")},
		{"http: half a header", plain, say("GET / HTTP/1.1\r\nX-")},
	}
}

// Forty addresses open as many connections as they can on every listener, begin
// each kind of handshake, and then send a byte now and then.
func TestAbuseSlowHandshakes(t *testing.T) {
	a := startAttacked(t, nil)
	kinds := openings()
	var held, begun atomic.Int64
	stop := everywhere(t, 40, func(ctx context.Context, d *net.Dialer) {
		var conns []net.Conn
		for n := range 40 {
			kind := kinds[n%len(kinds)]
			raw, err := d.DialContext(ctx, "tcp", kind.port(a))
			if err != nil {
				break
			}
			_ = raw.SetDeadline(time.Now().Add(relaytest.Patience))
			c, err := kind.say(ctx, raw)
			if err != nil {
				raw.Close() // the relay has had enough of this address
				continue
			}
			begun.Add(1)
			conns = append(conns, c)
		}
		held.Add(int64(len(conns)))
		drip := time.NewTicker(100 * time.Millisecond)
		defer drip.Stop()
		for alive := len(conns); alive > len(conns)/2 && ctx.Err() == nil; {
			select {
			case <-ctx.Done():
			case <-drip.C:
				alive = 0
				for _, c := range conns {
					if _, err := c.Write([]byte{0}); err == nil {
						alive++
					}
				}
			}
		}
		for _, c := range conns {
			c.Close()
		}
	})
	relaytest.Eventually(t, "the attack is under way", func() bool { return held.Load() > 400 })
	a.isServing(t, 30)
	if resp, _ := get(t, a.Relay, a.root, "/healthz"); resp.StatusCode != 200 {
		t.Errorf("the status page answers %s", resp.Status)
	}
	stop()
	t.Logf("%d connections were begun", begun.Load())
	a.isQuiet(t)
}

// Sixteen addresses make the relay begin one handshake after the other and leave.
func TestAbuseAbortedHandshakes(t *testing.T) {
	a := startAttacked(t, nil)
	kinds := openings()
	var begun atomic.Int64
	stop := everywhere(t, 16, func(ctx context.Context, d *net.Dialer) {
		for _, kind := range kinds {
			c, err := d.DialContext(ctx, "tcp", kind.port(a))
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(relaytest.Patience))
			if _, err := kind.say(ctx, c); err == nil {
				begun.Add(1)
			}
			_ = c.(*net.TCPConn).SetLinger(0) // and say so by a reset
			c.Close()
		}
	})
	relaytest.Eventually(t, "the attack is under way", func() bool { return begun.Load() > 1000 })
	a.isServing(t, 30)
	stop()
	a.isQuiet(t)
}

// Sixteen peers on addresses of their own ask for reservations, and for circuits to
// nobody, without end.
func TestAbuseRequests(t *testing.T) {
	a := startAttacked(t, nil)
	var asked, refused atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 16 {
		h := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.2.%d", i+1))
		relaytest.Must(t, h.Connect(relaytest.Context(t), a.tcp))
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := client.Reserve(ctx, h, a.tcp)
				var no client.ReservationError
				if asked.Add(1); errors.As(err, &no) {
					refused.Add(1)
				}
				if s, err := relaytest.OpenRaw(ctx, h, a.tcp.ID, a.wss.ID); err == nil {
					t.Error("a circuit to the relay itself")
					_ = s.Reset()
				}
			}
		})
	}
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	defer stop()
	relaytest.Eventually(t, "the attack is refused", func() bool { return refused.Load() > 500 })
	a.isServing(t, 30)
	stop()
	t.Logf("%d of %d were refused", refused.Load(), asked.Load())
	a.isQuiet(t)
}

// Peers that are known as neighbours send announcements without end.
func TestAbuseAnnouncements(t *testing.T) {
	a := startAttacked(t, func(c *config.Config) { c.PSF.Enabled = true })
	var sent atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 8 {
		h := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.2.%d", i+1))
		relaytest.Must(t, h.Connect(relaytest.Context(t), a.tcp))
		ps, err := coord.NewPubSub(ctx, h)
		relaytest.Must(t, err)
		topic, err := ps.Join(coord.Topic)
		relaytest.Must(t, err)
		_, err = topic.Subscribe()
		relaytest.Must(t, err)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_ = topic.Publish(ctx, fmt.Appendf(nil, `{"from":"%d","n":%d,"filler":"%s"}`, i, n, strings.Repeat("x", 1<<10)))
				sent.Add(1)
				if n%100 == 99 { // as fast as a neighbour may at first, then ever on
					select {
					case <-ctx.Done():
					case <-time.After(100 * time.Millisecond):
					}
				}
			}
		})
	}
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	defer stop()
	relaytest.Eventually(t, "the attack is under way", func() bool { return sent.Load() > 4000 })
	a.isServing(t, 30)
	stop()
	if m := a.Status().PSF.Members; m > 40 {
		t.Errorf("%d members", m)
	}
	a.saysLittle(t)
}
