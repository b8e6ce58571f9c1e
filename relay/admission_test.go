package relay

import (
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

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// loggedAt is a relay of which a test reads the log.
func loggedAt(t testing.TB, c Config, level slog.Level) (*running, *club, *page) {
	t.Helper()
	log := &page{}
	r := startLogging(t, c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})))
	members := &club{}
	r.gate.know(members)
	return r, members, log
}

// talk sends a few bytes through a raw circuit whose other end sends them back.
func talk(s network.Stream) error {
	const word = "still here"
	_ = s.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(s, got); err != nil {
		return err
	}
	if string(got) != word {
		return fmt.Errorf("got %q, want %q", got, word)
	}
	return nil
}

func sendBack(s network.Stream) { _, _ = io.Copy(s, s); _ = s.Close() }

// Peers at the ends of circuits stay when connections run short. Of the idle ones as
// many go as must, and the operator is told.
func TestTrimmingTakesIdleConnectionsOnly(t *testing.T) {
	c := limitConfig(t)
	c.Limits.Connections, c.Limits.Reservations, c.Limits.GuestReservations, c.Limits.CircuitsPerPeer = 100, 60, 60, 200
	c.Limits.GuestCircuitTime = time.Hour
	r, members, log := loggedAt(t, c, slog.LevelInfo)
	relay := dialable(t, r.Relay)["tcp"]
	n := 0
	next := func() host.Host {
		n++
		h := newClientAt(t, fmt.Sprintf("127.0.1.%d", n))
		must(t, h.Connect(testContext(t), relay))
		return h
	}
	var busy, idle []host.Host
	var circuits []network.Stream
	for range 4 { // holders, and 19 others that have a circuit to each
		holder := next()
		_, err := reserve(t, holder, relay)
		must(t, err)
		acceptRaw(holder, sendBack)
		busy = append(busy, holder)
		for range 19 {
			h := next()
			circuits = append(circuits, mustOpenRaw(t, h, relay.ID, holder.ID()))
			busy = append(busy, h)
		}
	}
	for range 12 {
		idle = append(idle, next())
	}
	member := idle[0]
	members.admit(member.ID())
	trimmer := r.host.ConnManager().(*trimmer)

	// Newcomers have a moment to become of use.
	if picked := trimmer.pick(r.host.Network().Conns(), r.gate.member, time.Now()); len(picked) > 0 {
		t.Errorf("picked %d newcomers, want none", len(picked))
	}
	// 92 connections are two more than nine tenths.
	picked := trimmer.pick(r.host.Network().Conns(), r.gate.member, time.Now().Add(time.Hour))
	if len(picked) != 2 {
		t.Fatalf("picked %d connections, want 2", len(picked))
	}
	r.gate.close(picked)
	connected := func(hosts []host.Host) (n int) {
		for _, h := range hosts {
			if r.host.Network().Connectedness(h.ID()) == network.Connected {
				n++
			}
		}
		return n
	}
	eventually(t, "two idle connections are closed", func() bool { return connected(idle) == 10 })
	if got := connected(busy); got != len(busy) {
		t.Errorf("of %d peers with circuits %d are connected", len(busy), got)
	}
	if connected([]host.Host{member}) != 1 {
		t.Error("a member went before the strangers")
	}
	for i, s := range circuits {
		if err := talk(s); err != nil {
			t.Errorf("circuit %d: %v", i, err)
		}
	}
	if got := r.gate.endings()[endedIdle]; got != 2 {
		t.Errorf("the metric counts %d, want 2", got)
	}
	if !strings.Contains(log.String(), "idle connections are closed") || !strings.Contains(log.String(), "limits.connections ") {
		t.Errorf("the log does not tell: %s", log)
	}
	if picked := trimmer.pick(r.host.Network().Conns(), r.gate.member, time.Now().Add(time.Hour)); len(picked) > 0 {
		t.Errorf("picked %d more, want none", len(picked))
	}

	// With the circuits the protection ends.
	for _, s := range circuits {
		must(t, s.Reset())
	}
	eventually(t, "nobody is protected but the holders", func() bool {
		protected := 0
		for _, h := range busy {
			if trimmer.IsProtected(h.ID(), "") {
				protected++
			}
		}
		return protected == 4
	})
}

// One address that nearly has all its connections loses strangers' idle ones, so that
// somebody new behind it, such as a monitor, finds room.
func TestTrimmingOfOneAddress(t *testing.T) {
	c := limitConfig(t)
	c.Limits.ConnectionsPerIP = 16 // nine tenths are 14
	r, members, _ := loggedAt(t, c, slog.LevelInfo)
	relay := dialable(t, r.Relay)["tcp"]
	var hosts []host.Host
	for range 15 {
		h := newClientAt(t, "127.0.1.1")
		must(t, h.Connect(testContext(t), relay))
		hosts = append(hosts, h)
	}
	for _, h := range hosts[:4] {
		_, err := reserve(t, h, relay)
		must(t, err)
	}
	members.admit(hosts[4].ID(), hosts[5].ID())
	other := newClientAt(t, "127.0.1.2")
	must(t, other.Connect(testContext(t), relay))
	trimmer := r.host.ConnManager().(*trimmer)
	eventually(t, "all are counted", func() bool { _, ofIP := trimmer.excess(); return len(ofIP) == 1 })
	if !trimmer.crowded() {
		t.Error("not crowded")
	}
	picked := trimmer.pick(r.host.Network().Conns(), r.gate.member, time.Now().Add(time.Hour))
	if len(picked) != 1 || picked[0].reason != endedIdleForIP {
		t.Fatalf("picked %+v, want one for its address", picked)
	}
	for _, h := range append(hosts[:6:6], other) {
		if h.ID() == picked[0].conn.RemotePeer() {
			t.Errorf("picked a peer with a reservation, a member, or one of another address")
		}
	}
	r.gate.close(picked)
	eventually(t, "there is room again", func() bool { return !trimmer.crowded() })
	must(t, newClientAt(t, "127.0.1.1").Connect(testContext(t), relay))
}

// More guests than places: those who have one keep it, the others are told so, and it
// stays like that.
func TestGuestsShareSettles(t *testing.T) {
	c := limitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 20, 4
	r, _, log := loggedAt(t, c, slog.LevelDebug)
	relay := dialable(t, r.Relay)["tcp"]
	var hosts []host.Host
	for i := range 6 {
		hosts = append(hosts, newClientAt(t, fmt.Sprintf("127.0.1.%d", i+1)))
	}
	for range 5 {
		for i, h := range hosts {
			_, err := reserve(t, h, relay)
			if i < 4 {
				must(t, err)
			} else {
				wantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
			}
		}
	}
	for i, h := range hosts[:4] {
		if r.host.Network().Connectedness(h.ID()) != network.Connected || !r.gate.places.has(h.ID()) {
			t.Errorf("holder %d lost its place", i)
		}
	}
	refused := refusedBy{"RESERVATION_REFUSED", "guest_reservations"}
	if got := r.gate.refusals()[refused]; got != 10 {
		t.Errorf("counted %d refusals, want 10: %v", got, r.gate.refusals())
	}
	if got := r.gate.endings(); len(got) != 0 {
		t.Errorf("ended %v, want nothing", got)
	}
	if got := strings.Count(log.String(), "limits.guest_reservations"); got != 1 {
		t.Errorf("%d warnings in the log, want 1", got)
	}
	if got := strings.Count(log.String(), "reason=guest_reservations"); got != 10 {
		t.Errorf("%d lines at level debug have the metric's word, want 10", got)
	}

	// After the time a guest gives way, and is told by the code.
	l := r.config().Limits
	l.GuestReservationTime = 0
	r.gate.change(l)
	_, err := reserve(t, hosts[4], relay)
	must(t, err)
	eventually(t, "the oldest guest is gone", func() bool { return hosts[0].Network().Connectedness(relay.ID) != network.Connected })
	if got := r.gate.endings()[endedGuest]; got != 1 {
		t.Errorf("counted %d that gave way, want 1", got)
	}
}

// The other limits settle as well: those who have something keep it, those who come
// later are refused, however often they ask.
func TestOverCapacitySettles(t *testing.T) {
	for _, tc := range []struct {
		limit  string
		change func(*Limits)
		member bool
		refuse pbv2.Status
		same   bool // all come from one address
		ask    func(t *testing.T, h host.Host, relay peer.AddrInfo, holder host.Host) pbv2.Status
	}{
		{"reservations", func(l *Limits) { l.Reservations, l.GuestReservations = 4, 1 }, true, pbv2.Status_RESERVATION_REFUSED, false, askReserve},
		{"reservations_per_ip", func(l *Limits) { l.ReservationsPerIP = 3 }, false, pbv2.Status_RESERVATION_REFUSED, true, askReserve},
		{"circuits", func(l *Limits) { l.Circuits, l.GuestCircuits = 3, 1 }, true, pbv2.Status_RESOURCE_LIMIT_EXCEEDED, false, askConnect},
		{"guest_circuits", func(l *Limits) { l.GuestCircuits = 3 }, false, pbv2.Status_RESOURCE_LIMIT_EXCEEDED, false, askConnect},
		{"circuits_per_peer", func(l *Limits) { l.CircuitsPerPeer = 3 }, false, pbv2.Status_RESOURCE_LIMIT_EXCEEDED, false, askConnect},
		{"circuits_per_ip", func(l *Limits) { l.CircuitsPerIP = 3 }, false, pbv2.Status_RESOURCE_LIMIT_EXCEEDED, true, askConnect},
	} {
		t.Run(tc.limit, func(t *testing.T) {
			c := limitConfig(t)
			tc.change(&c.Limits)
			r, members, _ := loggedAt(t, c, slog.LevelInfo)
			relay := dialable(t, r.Relay)["tcp"]
			holder := newClientAt(t, "127.0.2.1")
			acceptRaw(holder, sendBack)
			if strings.Contains(tc.limit, "circuits") {
				if tc.member {
					members.admit(holder.ID())
				}
				_, err := reserve(t, holder, relay)
				must(t, err)
			}
			var askers []host.Host
			for i := range 5 {
				ip := "127.0.1.1"
				if !tc.same {
					ip = fmt.Sprintf("127.0.1.%d", i+1)
				}
				h := newClientAt(t, ip)
				if tc.member {
					members.admit(h.ID())
				}
				must(t, h.Connect(testContext(t), relay))
				askers = append(askers, h)
			}
			has := map[int]bool{}
			for range 4 {
				for i, h := range askers {
					if has[i] && strings.Contains(tc.limit, "circuits") {
						continue // a second circuit would be one more
					}
					got, want := tc.ask(t, h, relay, holder), pbv2.Status_OK
					if i >= 3 {
						want = tc.refuse
					}
					if got != want {
						t.Fatalf("asker %d: got %s, want %s", i, got, want)
					}
					has[i] = got == pbv2.Status_OK
				}
			}
			for i, h := range askers {
				if r.host.Network().Connectedness(h.ID()) != network.Connected {
					t.Errorf("asker %d is no longer connected", i)
				}
			}
			if got := r.gate.refusals()[refusedBy{tc.refuse.String(), tc.limit}]; got != 8 {
				t.Errorf("counted %v, want 8 for %s", r.gate.refusals(), tc.limit)
			}
			if got := r.gate.endings(); len(got) != 0 {
				t.Errorf("ended %v, want nothing", got)
			}
		})
	}
}

func askReserve(t *testing.T, h host.Host, relay peer.AddrInfo, _ host.Host) pbv2.Status {
	_, err := reserve(t, h, relay)
	var refused client.ReservationError
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if err == nil {
		return pbv2.Status_OK
	}
	return refused.Status
}

// askConnect keeps the circuit that it gets.
func askConnect(t *testing.T, h host.Host, relay peer.AddrInfo, holder host.Host) pbv2.Status {
	_, err := openRaw(testContext(t), h, relay.ID, holder.ID())
	var answer relayAnswer
	if err != nil && !errors.As(err, &answer) {
		t.Fatal(err)
	}
	if err == nil {
		return pbv2.Status_OK
	}
	return pbv2.Status(answer)
}

// lateClub knows a peer as a member only when it is asked for the third time.
type lateClub struct{ asked atomic.Int32 }

func (c *lateClub) IsMember(peer.ID) bool { return c.asked.Add(1) > 3 }

// A member whose RESERVE comes before its subscription gets a member's place though
// the guests' places are taken.
func TestNewcomerIsWaitedFor(t *testing.T) {
	c := limitConfig(t)
	c.newcomerTime = patience
	c.Limits.Reservations, c.Limits.GuestReservations = 4, 1
	r, _, _ := loggedAt(t, c, slog.LevelInfo)
	relay := dialable(t, r.Relay)["tcp"]
	_, err := reserve(t, newClientAt(t, "127.0.1.1"), relay)
	must(t, err)
	_, err = reserve(t, newClientAt(t, "127.0.1.2"), relay) // waits, and is none
	wantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	r.gate.know(&lateClub{})
	_, err = reserve(t, newClientAt(t, "127.0.1.3"), relay)
	must(t, err)
}

// A circuit that is opened before its peers are known as members has no limit, which
// both ends would go by for its life. Strangers get no more out of that than their
// share.
func TestNewcomersCircuits(t *testing.T) {
	c := limitConfig(t)
	c.newcomerTime = time.Hour
	c.Limits.GuestCircuitData, c.Limits.GuestCircuits = 16<<10, 80 // of them 20 for newcomers
	r, members, _ := loggedAt(t, c, slog.LevelInfo)
	relay := dialable(t, r.Relay)["tcp"]
	to, from := newClientAt(t, "127.0.1.1"), newClientAt(t, "127.0.1.2")
	_, err := reserve(t, to, relay)
	must(t, err)
	must(t, echo(t, from, to, relay, 100<<10))
	if from.Network().ConnsToPeer(to.ID())[0].Stat().Limited {
		t.Error("a newcomer's circuit is limited")
	}

	// The share of one address, and of all.
	acceptRaw(to, sendBack)
	unlimited := func(ip string) bool {
		h := newClientAt(t, ip)
		return connectStatus(t, h, relay, to.ID()).GetLimit() == nil
	}
	ofOne := 0
	for range ipNewcomers + 2 {
		if unlimited("127.0.1.3") {
			ofOne++
		}
	}
	if ofOne != ipNewcomers {
		t.Errorf("one address got %d circuits without a limit, want %d", ofOne, ipNewcomers)
	}
	if unlimited("127.0.1.3") {
		t.Error("one more for an address that had its share")
	}
	eventually(t, "those that are over have given their share back", func() bool {
		r.gate.mu.Lock()
		defer r.gate.mu.Unlock()
		return r.gate.newcomers == 1
	})
	var open []network.Stream
	for i := range 20 {
		h := newClientAt(t, fmt.Sprintf("127.0.1.%d", 10+i))
		must(t, h.Connect(testContext(t), relay))
		open = append(open, mustOpenRaw(t, h, relay.ID, to.ID()))
	}
	if unlimited("127.0.1.40") {
		t.Error("one more when the share of newcomers was taken")
	}

	// When the time is over, circuits of members stay and all others end.
	members.admit(open[5].Conn().LocalPeer())
	r.gate.mu.Lock()
	var circuits []*circuit
	for c := range r.gate.circuits {
		circuits = append(circuits, c)
	}
	r.gate.mu.Unlock()
	for _, c := range circuits {
		c.settle()
	}
	eventually(t, "all circuits but the member's have ended", func() bool {
		m, g := r.gate.count()
		return m == 1 && g == 0
	})
	must(t, talk(open[5]))
	if r.gate.endings()[endedNewcomer] == 0 {
		t.Error("not counted")
	}
}

// guest_circuit_data: 0 lifts the guests' limit, and no budget.
func TestGuestsWithoutLimit(t *testing.T) {
	c := limitConfig(t)
	c.Limits.GuestCircuitData = 0
	c.Limits.PeerDay = 4 << 20
	must(t, c.Validate())
	r, _, _ := loggedAt(t, c, slog.LevelInfo)
	relay := dialable(t, r.Relay)["tcp"]
	to, from := newClientAt(t, "127.0.1.1"), newClientAt(t, "127.0.1.2")
	rsvp, err := reserve(t, to, relay)
	must(t, err)
	if rsvp.LimitData != 0 || rsvp.LimitDuration != 0 {
		t.Errorf("a guest is told of a limit: %d bytes, %s", rsvp.LimitData, rsvp.LimitDuration)
	}
	must(t, echo(t, from, to, relay, 1<<20))
	if from.Network().ConnsToPeer(to.ID())[0].Stat().Limited {
		t.Error("the connection is marked as limited")
	}
	if s := r.Status().Circuits; s.Guests != 1 || s.Members != 0 {
		t.Errorf("circuits %+v, want one of guests", s)
	}
	if err := echo(t, from, to, relay, 8<<20); err == nil {
		t.Error("8 MiB came through a budget of 4 MiB")
	}
}

// line is a way to the relay that a test can cut without anybody being told.
type line struct {
	addr ma.Multiaddr
	dead atomic.Bool
}

// newLine leads to a TCP or QUIC address of the relay.
func newLine(t testing.TB, to ma.Multiaddr) *line {
	t.Helper()
	p := &line{}
	network, hostPort, err := manet.DialArgs(to)
	must(t, err)
	if strings.HasPrefix(network, "udp") {
		addr, err := net.ResolveUDPAddr(network, hostPort)
		must(t, err)
		p.addr = p.forwardUDP(t, addr)
	} else {
		p.addr = p.forwardTCP(t, hostPort)
	}
	return p
}

func (p *line) forwardTCP(t testing.TB, to string) ma.Multiaddr {
	l, err := net.Listen("tcp", "127.0.0.3:0")
	must(t, err)
	var mu sync.Mutex
	all := []io.Closer{l}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range all {
			c.Close()
		}
	})
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			all = append(all, in, out)
			mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					buf := make([]byte, 32<<10)
					for {
						n, err := pair[0].Read(buf)
						if p.dead.Load() {
							return // without closing anything
						}
						if err != nil {
							pair[1].Close()
							return
						}
						if _, err := pair[1].Write(buf[:n]); err != nil {
							return
						}
					}
				}()
			}
		}
	}()
	return multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.3/tcp/%d", l.Addr().(*net.TCPAddr).Port))[0]
}

// forwardUDP serves one client.
func (p *line) forwardUDP(t testing.TB, to *net.UDPAddr) ma.Multiaddr {
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 3)})
	must(t, err)
	out, err := net.DialUDP("udp4", nil, to)
	must(t, err)
	t.Cleanup(func() { in.Close(); out.Close() })
	var client atomic.Pointer[net.UDPAddr]
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := in.ReadFromUDP(buf)
			if err != nil {
				return
			}
			client.Store(from)
			if !p.dead.Load() {
				_, _ = out.Write(buf[:n])
			}
		}
	}()
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			if to := client.Load(); to != nil && !p.dead.Load() {
				_, _ = in.WriteToUDP(buf[:n], to)
			}
		}
	}()
	return multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.3/udp/%d/quic-v1", in.LocalAddr().(*net.UDPAddr).Port))[0]
}

// A peer whose path broke comes back under its key on a new connection and reserves:
// it is reached there, and not on the old connection, which has more streams.
func TestPeerThatComesBack(t *testing.T) {
	for _, kind := range []string{"tcp", "quic"} {
		t.Run(kind, func(t *testing.T) {
			c := limitConfig(t)
			c.Listen.QUIC = multiaddrs(t, "/ip4/127.0.0.2/udp/0/quic-v1")
			r := start(t, c)
			at := dialable(t, r.Relay)
			relay := at[kind]
			way := newLine(t, relay.Addrs[0])
			key, _, err := crypto.GenerateEd25519Key(nil)
			must(t, err)

			before := newPeer(t, nil, libp2p.Identity(key))
			_, err = reserve(t, before, peer.AddrInfo{ID: relay.ID, Addrs: []ma.Multiaddr{way.addr}})
			must(t, err)
			acceptRaw(before, sendBack)
			for i := range 2 {
				h := newClientAt(t, fmt.Sprintf("127.0.1.%d", i+1))
				must(t, h.Connect(testContext(t), at["tcp"]))
				must(t, talk(mustOpenRaw(t, h, relay.ID, before.ID())))
			}
			way.dead.Store(true)

			after := newPeer(t, nil, libp2p.Identity(key))
			_, err = reserve(t, after, relay)
			must(t, err)
			came := make(chan struct{})
			acceptRaw(after, func(s network.Stream) { close(came); sendBack(s) })
			h := newClientAt(t, "127.0.1.3")
			must(t, h.Connect(testContext(t), at["tcp"]))
			must(t, talk(mustOpenRaw(t, h, relay.ID, after.ID())))
			<-came

			// The reservation outlives the dead connection, and ends with its own.
			for _, c := range r.host.Network().ConnsToPeer(after.ID()) {
				if c != r.gate.places.conn(after.ID()) {
					must(t, c.Close())
				}
			}
			eventually(t, "one connection is left", func() bool { return len(r.host.Network().ConnsToPeer(after.ID())) == 1 })
			if !r.gate.places.has(after.ID()) {
				t.Error("the reservation went with a connection that it was not made on")
			}
			must(t, after.Close())
			eventually(t, "the reservation ends with its connection", func() bool { return !r.gate.places.has(after.ID()) })
		})
	}
}

// A reservation whose connection ends is reached over another one of the peer's.
func TestReservationMovesToAnotherConnection(t *testing.T) {
	c := limitConfig(t)
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	h := newClientAt(t, "127.0.1.1")
	_, err := reserve(t, h, relay)
	must(t, err)
	key := h.Peerstore().PrivKey(h.ID())
	second := newPeer(t, nil, libp2p.Identity(key))
	must(t, second.Connect(testContext(t), relay))
	eventually(t, "both are connected", func() bool { return len(r.host.Network().ConnsToPeer(h.ID())) == 2 })
	must(t, h.Close())
	eventually(t, "the reservation has moved", func() bool {
		conns := r.host.Network().ConnsToPeer(h.ID())
		return len(conns) == 1 && r.gate.places.conn(h.ID()) == conns[0]
	})
	acceptRaw(second, sendBack)
	from := newClientAt(t, "127.0.1.3")
	must(t, from.Connect(testContext(t), relay))
	must(t, talk(mustOpenRaw(t, from, relay.ID, second.ID())))
}

// A ban of one address takes the reservations made from there, and no others of peers
// that come from there, too.
func TestBanTakesTheConnection(t *testing.T) {
	r := start(t, limitConfig(t))
	relay := dialable(t, r.Relay)["tcp"]
	key, _, err := crypto.GenerateEd25519Key(nil)
	must(t, err)
	bad := newPeer(t, nil, libp2p.Identity(key))
	must(t, bad.Connect(testContext(t), relay))
	good := newClientAt(t, "127.0.1.7", libp2p.Identity(key))
	_, err = reserve(t, good, relay)
	must(t, err)
	eventually(t, "both are connected", func() bool { return len(r.host.Network().ConnsToPeer(good.ID())) == 2 })
	must(t, Ban(r.cfg.DataDir, "127.0.0.1"))
	eventually(t, "the banned connection is closed", func() bool { return len(r.host.Network().ConnsToPeer(good.ID())) == 1 })
	if !r.gate.places.has(good.ID()) {
		t.Error("the reservation from an address that is not banned is gone")
	}
}
