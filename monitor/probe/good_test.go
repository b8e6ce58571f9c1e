package probe

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Without a reservation the other components are looked at as ever.
func TestNoRelay(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr})
	o := ca.options()
	o.NoRelay = true
	a := Run(within(t), r.Target, o)
	checkShape(t, a)
	if got := a.Results[evidence.Relay]; got.Outcome != evidence.Skipped || got.Class != evidence.NotAsked || a.Facts.Reservation != nil {
		t.Errorf("relay: %+v, %+v", got, a.Facts.Reservation)
	}
	for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
		if a.Results[c].Outcome != evidence.OK {
			t.Errorf("%s: %+v", c, a.Results[c])
		}
	}
}

func TestGoodRelay(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr})
	o := ca.options()
	id, key := newID(t)
	o.ProbeKey = key
	var told []string
	o.OnRung = func(r evidence.Rung) { told = append(told, r.Name+":"+string(r.Outcome)) }
	before := time.Now()
	a := Run(within(t), r.Target, o)
	checkShape(t, a)
	var want []string
	for _, rung := range a.Rungs {
		if rung.Outcome != evidence.OK || rung.Detail != "" || rung.DurationUS <= 0 {
			t.Errorf("rung %+v", rung)
		}
		want = append(want, rung.Name+":", rung.Name+":ok")
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if a.Level != evidence.LevelEchoed {
		t.Errorf("level %d, want %d", a.Level, evidence.LevelEchoed)
	}
	if a.Started.Before(before.Add(-time.Second)) || a.Started.After(time.Now()) {
		t.Errorf("started %s", a.Started)
	}
	if a.TCP4Addr != r.TCP4.String()+"/p2p/"+a.PeerID || a.WSSAddr != r.WSS.String()+"/p2p/"+a.PeerID || a.PeerID != r.ID().String() {
		t.Errorf("target %s: %s, %s", a.PeerID, a.TCP4Addr, a.WSSAddr)
	}
	f := a.Facts
	if f.AgentVersion != "test-relay/1" || !slices.Contains(f.Protocols, ping.ID) || !slices.IsSorted(f.Protocols) {
		t.Errorf("identify: %q %q", f.AgentVersion, f.Protocols)
	}
	if len(f.PingUS) != pings || len(f.ResolvedIPv4) != 1 || f.HTTPStatus != http.StatusSwitchingProtocols {
		t.Errorf("facts %+v", f)
	}
	if f.HopReserve != 100 || f.HopConnect != 100 {
		t.Errorf("status %d, %d", f.HopReserve, f.HopConnect)
	}
	if c := ma.StringCast(f.CircuitAddr).String(); c != r.TCP4.String()+"/p2p/"+a.PeerID+"/p2p-circuit" {
		t.Errorf("circuit address %s", c)
	}
	if len(f.Reservation.Addrs) == 0 || f.Reservation.LimitBytes != 128<<10 || f.Reservation.LimitSeconds != 120 {
		t.Errorf("reservation %+v", f.Reservation)
	}
	if d := time.Until(f.Reservation.Expires.Time); d < 55*time.Minute || d > 65*time.Minute {
		t.Errorf("reservation expires in %s", d)
	}
	// The voucher is the relay's signature over this very identity.
	if err := checkVoucher(f.Reservation.Voucher, r.ID(), id); err != nil || f.Reservation.Peer != id.String() {
		t.Errorf("voucher: %v; peer %s, want %s", err, f.Reservation.Peer, id)
	}
	for i := range f.Reservation.Voucher {
		bad := slices.Clone(f.Reservation.Voucher)
		bad[i] ^= 1
		if checkVoucher(bad, r.ID(), id) == nil {
			t.Errorf("the voucher passes with byte %d changed", i)
		}
	}
}

// With one address only, the other component is skipped, and the relay is tried
// all the same.
func TestOneAddress(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRelay(t, ca.leaf(t, nil), true, nil)
	for _, test := range []struct {
		target                 Target
		missing, there         evidence.Component
		rung, detail, overAddr string
	}{
		{Target{PeerID: r.PeerID, TCP4: r.TCP4}, evidence.WSS, evidence.TCP4, "reserve", "over tcp4, since no wss address was given", r.TCP4.String()},
		{Target{PeerID: r.PeerID, WSS: r.WSS}, evidence.TCP4, evidence.WSS, "circuit", "over wss, since no tcp4 address was given", "/ip4/127.0.0.1/tcp/" + fmt.Sprint(port(r.WSS)) + "/wss"},
	} {
		a := Run(within(t), test.target, ca.options())
		checkShape(t, a)
		if got := a.Results[test.missing]; got.Outcome != evidence.Skipped || got.Class != evidence.NotAsked {
			t.Errorf("%s: %+v", test.missing, got)
		}
		if got := a.Results[test.there]; got.Outcome != evidence.OK {
			t.Errorf("%s: %+v", test.there, got)
		}
		if a.Level != evidence.LevelEchoed || a.Facts.AgentVersion != "test-relay/1" {
			t.Errorf("level %d, agent %q: %+v", a.Level, a.Facts.AgentVersion, a.Rungs)
		}
		if got := rungOf(t, a, test.rung).Detail; got != test.detail {
			t.Errorf("%s: %q, want %q", test.rung, got, test.detail)
		}
		if want := test.overAddr + "/p2p/" + r.PeerID.String() + "/p2p-circuit"; a.Facts.CircuitAddr != want {
			t.Errorf("circuit over %s, want %s", a.Facts.CircuitAddr, want)
		}
	}
}

// A name may have several addresses: browsers take the first that answers.
func TestSeveralARecords(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRelay(t, ca.leaf(t, nil), true, nil)
	o := ca.options()
	lookedUp(&o, nameServer(t, answerDNS))
	a := Run(within(t), r.Target, o)
	if got := fmt.Sprint(a.Facts.ResolvedIPv4); a.Level != evidence.LevelEchoed || got != "[127.0.0.1 127.0.0.3]" {
		t.Errorf("level %d with %s: %+v", a.Level, got, a.Rungs)
	}
}

// What the relay sees of the prober must be what it sees of anybody.
func TestLooksLikeAnyClient(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	// The relay prefers TLS and would take it from whoever offers it.
	r := newRelay(t, ca.leaf(t, nil), true, nil,
		libp2p.Security(libp2ptls.ID, libp2ptls.New))
	type seen struct {
		security, muxer, agent string
		protocols              []string
	}
	var mu sync.Mutex
	peers := map[peer.ID]seen{}
	r.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		s := seen{security: string(c.ConnState().Security), muxer: string(c.ConnState().StreamMultiplexer)}
		if v, err := r.Peerstore().Get(c.RemotePeer(), "AgentVersion"); err == nil {
			s.agent = v.(string)
		}
		protocols, _ := r.Peerstore().GetProtocols(c.RemotePeer())
		for _, p := range protocols {
			s.protocols = append(s.protocols, string(p))
		}
		slices.Sort(s.protocols)
		mu.Lock()
		peers[c.RemotePeer()] = s
		mu.Unlock()
	}})
	if a := Run(within(t), r.Target, ca.options()); a.Level != evidence.LevelEchoed {
		t.Fatalf("level %d: %+v", a.Level, a.Rungs)
	}
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(peers) == 2 })
	mu.Lock()
	defer mu.Unlock()
	var all [][]string
	for _, s := range peers {
		if s.security != noise.ID || s.muxer != string(yamux.ID) || s.agent != "github.com/libp2p/go-libp2p" {
			t.Errorf("a peer shows %+v", s)
		}
		all = append(all, s.protocols)
	}
	slices.SortFunc(all, func(a, b []string) int { return len(a) - len(b) })
	common := []string{"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"}
	if !slices.Equal(all[0], common) || !slices.Equal(all[1], append(common, "/libp2p/circuit/relay/0.2.0/stop")) {
		t.Errorf("the peers offer %q", all)
	}
}

// eventually waits for what happens beside the test.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for range 6000 { // a listener dials again after half a minute
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("did not come to pass")
}

// The monitor climbs thousands of ladders: none may leave anything behind, good
// or bad.
func TestNothingIsLeft(t *testing.T) {
	// Not parallel: it counts goroutines.
	ca := newAuthority(t)
	good := newRelay(t, ca.leaf(t, nil), true, nil).Target
	small := newRelay(t, ca.leaf(t, nil), true, dataLimit(256)).Target
	wrong := good
	wrong.PeerID, _ = newID(t)
	_ = Run(within(t), good, ca.options()) // starts what stays, such as the libraries' own
	before := -1
	stable := 0
	eventually(t, func() bool {
		n := runtime.NumGoroutine()
		if n == before {
			stable++
		} else {
			before, stable = n, 0
		}
		return stable == 30
	})
	for range 5 {
		for _, tgt := range []Target{good, small, wrong} {
			Run(within(t), tgt, ca.options())
		}
		cut, cancel := context.WithCancel(context.Background())
		o := ca.options()
		o.OnRung = func(r evidence.Rung) {
			if r.Name == "reserve" {
				cancel()
			}
		}
		Run(cut, good, o)
		l := newListener(t, ca.options())
		l.Watch([]Target{good, small})
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= before })
}

// A probe that is stopped says nothing against the relay.
func TestStopped(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	tgt := tcp4Server(silent)(t, ca, nil)
	ctx, cancel := context.WithCancel(within(t))
	o := ca.options()
	o.OnRung = func(r evidence.Rung) {
		if r.Name == "tcp4" && r.Outcome == "" {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
	}
	a := Run(ctx, tgt, o)
	checkShape(t, a)
	if got := rungOf(t, a, "tcp4"); got.Outcome != evidence.Blind || got.Class != evidence.Stopped {
		t.Errorf("tcp4 %+v", got)
	}
	if got := rungOf(t, a, "wss"); got.Outcome != evidence.Skipped || got.Class != evidence.Stopped {
		t.Errorf("wss %+v", got)
	}
	if got := a.Results[evidence.TCP4]; got.Outcome != evidence.Blind {
		t.Errorf("component tcp4 %+v", got)
	}
}

// The deadlines of all rungs fit into an attempt.
func TestLadderFitsIntoAttempt(t *testing.T) {
	var sum time.Duration
	for _, r := range ladder {
		sum += r.deadline
	}
	if sum >= MaxAttempt {
		t.Errorf("the rungs may take %s, an attempt %s", sum, MaxAttempt)
	}
}

// The hosts reach nothing that no rung has dialled.
func TestHostsDialNothing(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRelay(t, ca.leaf(t, nil), true, nil)
	h, err := newPeerHost(nil, takesCircuit)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	err = h.Connect(within(t), peer.AddrInfo{ID: r.ID(), Addrs: r.Addrs()})
	if err == nil || h.Network().Connectedness(r.ID()) != network.NotConnected {
		t.Errorf("connected: %v", err)
	}
	if n := h.Network().ListenAddresses(); len(n) != 1 || n[0].String() != "/p2p-circuit" {
		t.Errorf("listens on %v", n)
	}
}

// What one attempt costs the monitor.
func BenchmarkAttempt(b *testing.B) {
	ca := newAuthority(b)
	r := newRelay(b, ca.leaf(b, nil), true, resources(func(r *relayv2.Resources) {
		r.MaxReservations, r.MaxReservationsPerIP = 1<<20, 1<<20
	}))
	b.ReportAllocs()
	for b.Loop() {
		if a := Run(b.Context(), r.Target, ca.options()); a.Level != evidence.LevelEchoed {
			b.Fatalf("level %d: %+v", a.Level, a.Rungs)
		}
	}
}
