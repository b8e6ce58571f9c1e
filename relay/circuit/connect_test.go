package circuit

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// Circuits that come to nothing leave nothing behind, at whichever step they fail: no
// stream, no memory, no count, no protection.
func TestFailedCircuitsLeaveNothing(t *testing.T) {
	t.Parallel()
	c := relaytest.LimitConfig(t)
	r := start(t, c)
	relay := r.info()
	for i, tc := range []struct {
		name   string
		stop   func(s network.Stream, gone <-chan struct{}) // what the holder does with the request; gone: the askers are
		giveUp bool                                         // whether the asker goes before the answer
	}{
		{"the holder resets", func(s network.Stream, _ <-chan struct{}) { _ = s.Reset() }, false},
		{"the holder closes", func(s network.Stream, _ <-chan struct{}) { _ = s.Close() }, false},
		{"the holder refuses", func(s network.Stream, _ <-chan struct{}) {
			_, _ = s.Write(stopMessage(t, pbv2.StopMessage_STATUS, pbv2.Status_CONNECTION_FAILED))
			_ = s.Close()
		}, false},
		{"the answer is too long", func(s network.Stream, _ <-chan struct{}) { _, _ = s.Write([]byte{0x81, 0x20}); _ = s.Close() }, false},
		{"the answer is cut off", func(s network.Stream, _ <-chan struct{}) { _, _ = s.Write([]byte{4, 8, 1}); _ = s.Close() }, false},
		{"the answer is no message", func(s network.Stream, _ <-chan struct{}) { _, _ = s.Write([]byte{3, 0xff, 0xff, 0xff}); _ = s.Close() }, false},
		{"the holder goes while it is asked", func(s network.Stream, _ <-chan struct{}) { _ = s.Conn().Close() }, false},
		{"the asker resets while it waits", func(s network.Stream, gone <-chan struct{}) { <-gone; _ = s.Reset() }, true},
		{"the asker resets a circuit", func(s network.Stream, _ <-chan struct{}) { relaytest.SendBack(s) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gone := make(chan struct{})
			holder := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.2.%d", i+1))
			holder.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) {
				var m pbv2.StopMessage
				if relaytest.ReadMessage(s, &m) != nil {
					_ = s.Reset()
					return
				}
				if tc.name == "the asker resets a circuit" {
					accept(s)
				}
				tc.stop(s, gone)
			})
			_, err := relaytest.Reserve(t, holder, relay)
			relaytest.Must(t, err)
			var askers sync.WaitGroup
			for n := range 8 {
				asker := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.3.%d", n+1))
				relaytest.Must(t, asker.Connect(relaytest.Context(t), relay))
				askers.Go(func() { failToConnect(t, asker, r, holder, tc.giveUp) })
			}
			askers.Wait()
			close(gone)
			r.wantNothingOpen(t)
			relaytest.Must(t, holder.Close())
		})
	}
	if used := r.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes are counted of circuits that carried none", used)
	}
}

// failToConnect asks for ten circuits.
func failToConnect(t *testing.T, asker host.Host, r *running, holder host.Host, giveUp bool) {
	for range 10 {
		s, err := asker.NewStream(relaytest.Context(t), r.ID(), proto.ProtoIDv2Hop)
		if err != nil {
			t.Error(err)
			return
		}
		_ = s.SetDeadline(time.Now().Add(relaytest.Patience))
		if _, err := s.Write(connectMessage(t, holder.ID())); err != nil {
			t.Error(err)
		}
		var m pbv2.HopMessage
		if !giveUp {
			if err := relaytest.ReadMessage(s, &m); err != nil || m.GetStatus() == pbv2.Status_OK {
				t.Errorf("answered %v, %v", &m, err)
			}
		}
		_ = s.Reset()
	}
}

// wantNothingOpen wants that no circuit holds anything any more.
func (r *running) wantNothingOpen(t *testing.T) {
	t.Helper()
	held := func() string {
		var of network.ScopeStat
		_ = r.host.Network().ResourceManager().ViewService(relayv2.ServiceName, func(s network.ServiceScope) error {
			of = s.Stat()
			return nil
		})
		r.service.mu.Lock()
		defer r.service.mu.Unlock()
		r.budget.mu.Lock()
		defer r.budget.mu.Unlock()
		open, protected := 0, 0
		for _, a := range r.budget.peers {
			open += a.open
		}
		for _, a := range r.budget.ips {
			open += a.open
		}
		for _, p := range r.host.Peerstore().Peers() {
			if r.host.ConnManager().IsProtected(p, circuitTag) {
				protected++
			}
		}
		return fmt.Sprint(of, len(r.service.circuits), len(r.service.perPeer), len(r.service.bySite)+len(r.service.guestsBySite), r.service.guests, r.service.newcomers, open, protected)
	}
	nothing := fmt.Sprint(network.ScopeStat{}, 0, 0, 0, 0, 0, 0, 0)
	end := time.Now().Add(relaytest.Patience)
	for got := held(); got != nothing; got = held() {
		if time.Now().After(end) {
			t.Fatalf("still held: %s (of the service, circuits, their peers, their sites, guests', newcomers', in accounts, protected)", got)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A service that is closed opens no more circuits. What is open goes on until its
// connections end, and leaves nothing.
func TestClosedServiceLetsCircuitsEnd(t *testing.T) {
	r := start(t, relaytest.LimitConfig(t))
	relay := r.info()
	holder, from := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2")
	relaytest.AcceptRaw(holder, relaytest.SendBack)
	_, err := relaytest.Reserve(t, holder, relay)
	relaytest.Must(t, err)
	relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
	s := relaytest.MustOpenRaw(t, from, relay.ID, holder.ID())
	r.service.Close()
	relaytest.Must(t, relaytest.Talk(s))
	if _, err := r.service.openCircuit(s, from.ID(), holder.ID(), mustPrefix(t, s), ofGuests, time.Now()); err == nil {
		t.Error("a circuit was opened after the end")
	}
	relaytest.Must(t, s.Reset())
	r.wantNothingOpen(t)
}

func mustPrefix(t *testing.T, s network.Stream) netip.Prefix {
	t.Helper()
	ip, err := config.PrefixOf(s.Conn().RemoteMultiaddr())
	relaytest.Must(t, err)
	return ip
}

// Of many circuits that one peer asks for at the same time, the other one takes a single
// one, whichever: what goes through that is counted in both directions.
func TestCircuitsAskedForAtOnceAreCounted(t *testing.T) {
	const tries, atOnce, carried = 10, 32, 64 << 10
	r, members := startWithClub(t, relaytest.LimitConfig(t))
	relay := r.info()
	to := relaytest.NewPeerAt(t, "127.0.1.1")
	members.Admit(to.ID())
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	var mu sync.Mutex
	taken := false
	to.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) {
		var m pbv2.StopMessage
		if err := relaytest.ReadMessage(s, &m); err != nil {
			_ = s.Reset()
			return
		}
		mu.Lock()
		first := !taken
		taken = true
		mu.Unlock()
		if !first {
			_ = s.Reset()
			return
		}
		accept(s)
		_, _ = io.CopyN(s, relaytest.Endless{}, carried)
		_ = s.Close()
	})
	for try := range tries {
		from := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.2.%d", try)) // each may ask for so many only
		relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
		taken = false
		before := r.budget.used.Load()
		var wg sync.WaitGroup
		opened := make(chan struct{}, atOnce)
		for range atOnce {
			wg.Go(func() {
				s, err := relaytest.OpenRaw(t.Context(), from, relay.ID, to.ID())
				if err != nil {
					return
				}
				opened <- struct{}{}
				if n, err := io.Copy(io.Discard, s); n != carried {
					t.Errorf("%d bytes came: %v", n, err)
				}
				_ = s.Reset()
			})
		}
		wg.Wait()
		if len(opened) != 1 {
			t.Fatalf("%d circuits were opened, want 1", len(opened))
		}
		if n := r.budget.used.Load() - before; n != carried {
			t.Errorf("try %d: %d bytes were counted of %d", try, n, carried)
		}
	}
}
