package circuit

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// Circuits whose reader has stopped hold up nobody else's, and are cut when memory
// is short, the oldest first; those that go on are not.
func TestAbuseStalledReaders(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.GuestCircuitData, c.Limits.GuestCircuitTime = 1<<30, time.Hour
	a := start(t, c)
	relay := a.info()
	to, from := relaytest.NewPeerAt(t, "127.0.2.1"), relaytest.NewPeerAt(t, "127.0.2.2")
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
	relaytest.AcceptRaw(to, func(network.Stream) {}) // and read nothing
	begun := time.Now()
	const circuits = 30
	ended := make(chan error, circuits)
	for range circuits {
		s := relaytest.MustOpenRaw(t, from, relay.ID, to.ID())
		go func() {
			_, err := s.Write(make([]byte, 64<<20))
			ended <- err
		}()
	}
	stalled := func() (n int) {
		a.service.mu.Lock()
		defer a.service.mu.Unlock()
		for c := range a.service.circuits {
			if _, ok := c.stalled(); ok {
				n++
			}
		}
		return n
	}
	relaytest.Eventually(t, "all circuits stall", func() bool { return stalled() == circuits })
	relaytest.AcceptRaw(from, relaytest.SendBack)
	_, err = relaytest.Reserve(t, from, relay)
	relaytest.Must(t, err)
	relaytest.Must(t, relaytest.Talk(relaytest.MustOpenRaw(t, to, relay.ID, from.ID())))
	if n := a.service.relieve(begun.Add(stallTime), 1<<40); n != 0 {
		t.Errorf("%d circuits were cut that have only paused", n)
	}
	later := time.Now().Add(2 * stallTime)
	if n := a.service.relieve(later, 10*perStall-1); n != 10 {
		t.Errorf("%d circuits were cut, want 10", n)
	}
	if n := a.tally.Endings()[refusal.EndedMemory]; n != 10 {
		t.Errorf("%d circuits were counted, want 10", n)
	}
	for range 10 {
		if err := <-ended; err == nil {
			t.Error("64 MiB went to a peer that reads nothing")
		}
	}
	relaytest.Eventually(t, "they are gone", func() bool { return stalled() == circuits-10 })
	a.service.relieve(later, 1<<40)
	relaytest.Eventually(t, "the others, too", func() bool { return stalled() == 0 })
	relaytest.Must(t, relaytest.Talk(relaytest.MustOpenRaw(t, to, relay.ID, from.ID())))
}

// The guard does not wait for the connections of those whom it cuts: a reset, too, must
// find room on a connection that takes nothing.
func TestGuardWaitsForNobody(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.GuestCircuitData, c.Limits.GuestCircuitTime = 1<<30, time.Hour
	r := start(t, c)
	relay := r.byTransport()["tcp"]
	line := newLine(t, relay.Addrs[0])
	to, from := relaytest.NewPeerAt(t, "127.0.2.1"), relaytest.NewPeerAt(t, "127.0.2.2")
	_, err := relaytest.Reserve(t, to, peer.AddrInfo{ID: relay.ID, Addrs: []ma.Multiaddr{line.addr}})
	relaytest.Must(t, err)
	relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
	relaytest.AcceptRaw(to, func(network.Stream) {})
	const circuits = 64 // their windows are more than the kernel and yamux hold for one connection
	var all []network.Stream
	for range circuits {
		all = append(all, relaytest.MustOpenRaw(t, from, relay.ID, to.ID()))
	}
	line.dead.Store(true)
	for _, s := range all {
		go func() { _, _ = s.Write(make([]byte, 1<<20)) }()
	}
	relaytest.Eventually(t, "the connection takes nothing", func() bool {
		before := r.budget.used.Load()
		time.Sleep(500 * time.Millisecond)
		return before > 0 && r.budget.used.Load() == before
	})
	later := time.Now().Add(2 * stallTime)
	n := r.service.relieve(later, 1<<40)
	if len(r.host.Network().ConnsToPeer(to.ID())) == 0 {
		t.Error("the guard waited until the connection was given up")
	}
	if n == 0 {
		t.Error("nothing was cut")
	}
	if again := r.service.relieve(later, 1<<40); again != 0 {
		t.Errorf("%d circuits were cut twice", again)
	}
}

// line is a way to the relay by TCP that a test can cut without anybody being told.
type line struct {
	addr ma.Multiaddr
	dead atomic.Bool
}

func newLine(t testing.TB, to ma.Multiaddr) *line {
	t.Helper()
	_, relay, err := manet.DialArgs(to)
	relaytest.Must(t, err)
	l, err := net.Listen("tcp", "127.0.0.3:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { l.Close() })
	way := &line{addr: relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.3/tcp/%d", l.Addr().(*net.TCPAddr).Port))[0]}
	go func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { in.Close() })
		out, err := net.Dial("tcp", relay)
		if err != nil {
			in.Close()
			return
		}
		t.Cleanup(func() { out.Close() })
		go way.forward(in, out)
		way.forward(out, in)
	}()
	return way
}

func (l *line) forward(to io.WriteCloser, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if l.dead.Load() {
			return // without closing anything
		}
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}
