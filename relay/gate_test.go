package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// limitConfig is a relay whose limits hold on loopback too, outside the PSF
// network.
func limitConfig(t testing.TB) Config {
	c := labConfig(t)
	c.PSF.Enabled = false
	c.loopbackCounts = true
	c.newcomerTime = 1          // nobody is a newcomer
	c.strangerStays = time.Hour // however long the others take to come
	return c
}

// newClientAt is a small host that dials from the given loopback address.
func newClientAt(t testing.TB, ip string, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.DisableMetrics(), libp2p.Ping(false),
		libp2p.DisableIdentifyAddressDiscovery(), libp2p.ResourceManager(&network.NullResourceManager{}), patientDials,
		libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) {
			return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}, nil
		})),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// club is a membership that a test decides about.
type club struct {
	mu      sync.Mutex
	members map[peer.ID]bool
}

func (c *club) IsMember(p peer.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[p]
}

func (c *club) admit(ids ...peer.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members == nil {
		c.members = map[peer.ID]bool{}
	}
	for _, id := range ids {
		c.members[id] = true
	}
}

func startWithClub(t testing.TB, c Config) (*running, *club) {
	t.Helper()
	r := start(t, c)
	members := &club{}
	r.gate.know(members)
	return r, members
}

// wantStatus checks the status with which a relay refused.
func wantStatus(t testing.TB, err error, want pbv2.Status) {
	t.Helper()
	var refused *client.ReservationError
	if re := (client.ReservationError{}); errors.As(err, &re) {
		refused = &re
	} else if !errors.As(err, &refused) {
		t.Fatalf("got %v, want status %s", err, want)
	}
	if refused.Status != want {
		t.Fatalf("got status %s, want %s", refused.Status, want)
	}
}

// connectStatus asks a relay for a circuit and returns its answer as it came.
func connectStatus(t testing.TB, h host.Host, relay peer.AddrInfo, dest peer.ID) *pbv2.HopMessage {
	t.Helper()
	ctx := testContext(t)
	must(t, h.Connect(ctx, relay))
	s, err := h.NewStream(ctx, relay.ID, proto.ProtoIDv2Hop)
	must(t, err)
	defer s.Reset()
	deadline, _ := ctx.Deadline()
	must(t, s.SetDeadline(deadline))
	must(t, util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{
		Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(dest)},
	}))
	var m pbv2.HopMessage
	rd := util.NewDelimitedReader(s, maxFrame)
	defer rd.Close()
	must(t, rd.ReadMsg(&m))
	return &m
}

// A thousand peers that come, reserve and go leave nothing behind.
func TestPlacesComeBack(t *testing.T) {
	c := limitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 40, 40
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	const clients, rounds = 40, 25
	var wg sync.WaitGroup
	hosts := make([]host.Host, clients)
	for i := range hosts {
		hosts[i] = newClientAt(t, fmt.Sprintf("127.0.1.%d", i+1))
		wg.Go(func() {
			for range rounds {
				if _, err := client.Reserve(testContext(t), hosts[i], relay); err != nil {
					t.Error(err)
					return
				}
				if err := hosts[i].Network().ClosePeer(relay.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	eventually(t, "all places are free", func() bool {
		members, guests := r.gate.places.count()
		return members+guests == 0
	})
	for _, h := range hosts {
		if r.host.ConnManager().IsProtected(h.ID(), reservedTag) {
			t.Error("a peer without a reservation is still protected")
		}
		wg.Go(func() {
			if _, err := client.Reserve(testContext(t), h, relay); err != nil {
				t.Errorf("a freed place is not to be had: %v", err)
			}
		})
	}
	wg.Wait()
	if s := r.Status().Reservations; s.Guests != clients {
		t.Errorf("reservations %+v, want %d guests", s, clients)
	}
}

func TestGuestsNeverTakeMembersPlaces(t *testing.T) {
	c := limitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 5, 2
	r, members := startWithClub(t, c)
	noMinimum := r.config().Limits
	noMinimum.GuestReservationTime = 0
	r.gate.change(noMinimum)
	relay := dialable(t, r.Relay)["tcp"]
	newPeer := func() host.Host { return newClientAt(t, "127.0.1.1") }

	guests := []host.Host{newPeer(), newPeer(), newPeer()}
	for i, h := range guests {
		if _, err := reserve(t, h, relay); err != nil {
			t.Fatalf("guest %d: %v", i, err)
		}
	}
	// The third guest got the first one's place, and the first one was told.
	eventually(t, "the oldest guest is gone", func() bool {
		return guests[0].Network().Connectedness(relay.ID) != network.Connected
	})
	if s := r.Status().Reservations; s.Guests != 2 || s.Members != 0 {
		t.Fatalf("reservations %+v, want 2 guests", s)
	}
	if m := connectStatus(t, newPeer(), relay, guests[0].ID()); m.GetStatus() != pbv2.Status_NO_RESERVATION {
		t.Errorf("a circuit to the guest that gave way: %s", m.GetStatus())
	}

	// A guest in a circuit does not give way: the other one does, and then nobody.
	must(t, echo(t, newPeer(), guests[1], relay, 16))
	fourth := newPeer()
	if _, err := reserve(t, fourth, relay); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the idle guest is gone", func() bool {
		return guests[2].Network().Connectedness(relay.ID) != network.Connected
	})
	must(t, echo(t, newPeer(), fourth, relay, 16))
	_, err := reserve(t, newPeer(), relay)
	wantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)

	// The members' places are all there.
	for range 3 {
		h := newPeer()
		members.admit(h.ID())
		if _, err := reserve(t, h, relay); err != nil {
			t.Fatalf("a member: %v", err)
		}
	}
	h := newPeer()
	members.admit(h.ID())
	_, err = reserve(t, h, relay)
	wantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	if s := r.Status().Reservations; s.Guests != 2 || s.Members != 3 {
		t.Errorf("reservations %+v, want 2 guests and 3 members", s)
	}
}

// Guests are told of their limit and held to it; a member at either end lifts it.
func TestGuestLimit(t *testing.T) {
	c := limitConfig(t)
	c.Limits.GuestCircuitData = 64 << 10
	r, members := startWithClub(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	guest, member := newClientAt(t, "127.0.1.1"), newClientAt(t, "127.0.1.2")
	members.admit(member.ID())

	rsvp, err := reserve(t, guest, relay)
	must(t, err)
	if rsvp.LimitData != 64<<10 || rsvp.LimitDuration != 2*time.Minute {
		t.Errorf("a guest was promised %d bytes, %s", rsvp.LimitData, rsvp.LimitDuration)
	}
	rsvp, err = reserve(t, member, relay)
	must(t, err)
	if rsvp.LimitData != 0 || rsvp.LimitDuration != 0 {
		t.Errorf("a member was limited to %d bytes, %s", rsvp.LimitData, rsvp.LimitDuration)
	}

	if err := echo(t, newClientAt(t, "127.0.1.3"), guest, relay, 4096); err != nil {
		t.Errorf("guest to guest, 4 KiB: %v", err)
	}
	if err := echo(t, newClientAt(t, "127.0.1.3"), guest, relay, 80<<10); err == nil {
		t.Error("guest to guest: 80 KiB came through a limit of 64 KiB")
	}
	wantEnded(t, r, endedData)
	if err := echo(t, newClientAt(t, "127.0.1.3"), member, relay, 1<<20); err != nil {
		t.Errorf("guest to member, 1 MiB: %v", err)
	}
	another := newClientAt(t, "127.0.1.4")
	members.admit(another.ID())
	if err := echo(t, another, guest, relay, 1<<20); err != nil {
		t.Errorf("member to guest, 1 MiB: %v", err)
	}
	conn := another.Network().ConnsToPeer(guest.ID())[0]
	if conn.Stat().Limited {
		t.Error("a member's circuit is marked as limited")
	}
	// Ended circuits are forgotten.
	must(t, another.Network().ClosePeer(guest.ID()))
	must(t, guest.Close())
	must(t, member.Close())
	eventually(t, "all circuits have ended", func() bool {
		members, guests := r.gate.count()
		r.gate.mu.Lock()
		defer r.gate.mu.Unlock()
		return members+guests+len(r.gate.perPeer)+len(r.gate.awaiting) == 0
	})
}

// Guests do not take the members' circuits either, nor one address everybody's.
func TestCircuitShares(t *testing.T) {
	c := limitConfig(t)
	c.Limits.Circuits, c.Limits.GuestCircuits, c.Limits.CircuitsPerIP = 4, 1, 2
	r, members := startWithClub(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	guest, member := newClientAt(t, "127.0.1.1"), newClientAt(t, "127.0.1.2")
	members.admit(member.ID())
	for _, h := range []host.Host{guest, member} {
		_, err := reserve(t, h, relay)
		must(t, err)
	}
	refused := func(from string, to host.Host) {
		t.Helper()
		if m := connectStatus(t, newClientAt(t, from), relay, to.ID()); m.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
			t.Errorf("one more: %s", m.GetStatus())
		}
	}
	must(t, echo(t, newClientAt(t, "127.0.1.3"), guest, relay, 16))
	refused("127.0.1.4", guest)
	must(t, echo(t, newClientAt(t, "127.0.1.3"), member, relay, 16))
	refused("127.0.1.3", member)
	must(t, echo(t, newClientAt(t, "127.0.1.4"), member, relay, 16))
	last := newClientAt(t, "127.0.1.5")
	must(t, echo(t, last, member, relay, 16))
	refused("127.0.1.6", member)
	if s := r.Status().Circuits; s.Guests != 1 || s.Members != 3 {
		t.Errorf("circuits %+v, want 1 of guests and 3 of members", s)
	}
	must(t, last.Network().ClosePeer(member.ID()))
	eventually(t, "a circuit that ended leaves room", func() bool { return r.Status().Circuits.Members == 2 })
	must(t, echo(t, newClientAt(t, "127.0.1.6"), member, relay, 16))
}

// wantEnded wants one ending that is counted under this word.
func wantEnded(t *testing.T, r *running, word string) {
	t.Helper()
	if got := r.tally.endings(); got[word] != 1 {
		t.Errorf("ended %v, want one for %s", got, word)
	}
	if !slices.Contains(endedReasons, word) {
		t.Errorf("the metrics leave %s out", word)
	}
}

func TestGuestTime(t *testing.T) {
	c := limitConfig(t)
	r, _ := startWithClub(t, c)
	l := r.config().Limits
	l.GuestCircuitTime = time.Second
	r.gate.change(l)
	relay := dialable(t, r.Relay)["tcp"]
	to, from := newClientAt(t, "127.0.1.1"), newClientAt(t, "127.0.1.2")
	_, err := reserve(t, to, relay)
	must(t, err)
	acceptRaw(to, func(network.Stream) {})
	must(t, from.Connect(testContext(t), relay))
	if _, err := mustOpenRaw(t, from, relay.ID, to.ID()).Read(make([]byte, 1)); err == nil {
		t.Error("something came through a circuit in which nobody speaks")
	}
	wantEnded(t, r, endedTime)
}

// A thousand clients behind one address, when the operator allows for it; and no
// more than allowed.
func TestManyBehindOneAddress(t *testing.T) {
	const n = 1000
	c := limitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 2*n, 2*n
	c.Limits.ReservationsPerIP, c.Limits.ConnectionsPerIP = n, n+10
	c.Limits.Connections = 2*n + 100
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	var wg sync.WaitGroup
	room := make(chan struct{}, 8)
	for range n {
		h := newClientAt(t, "127.0.1.1")
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			if _, err := client.Reserve(testContext(t), h, relay); err != nil {
				t.Errorf("one of a thousand: %v", err)
			}
		})
	}
	wg.Wait()
	if s := r.Status().Reservations; s.Guests != n {
		t.Errorf("%d reservations, want %d", s.Guests, n)
	}
	_, err := reserve(t, newClientAt(t, "127.0.1.1"), relay)
	wantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	if _, err := reserve(t, newClientAt(t, "127.0.1.2"), relay); err != nil {
		t.Errorf("another address: %v", err)
	}
}

// Whoever asks too often is told so, and nobody else notices.
func TestRequestRate(t *testing.T) {
	r := start(t, limitConfig(t))
	relay := dialable(t, r.Relay)["tcp"]
	hog := newClientAt(t, "127.0.1.1")
	var err error
	for range 4 * peerRequests {
		if _, err = reserve(t, hog, relay); err != nil {
			break
		}
		r.ledger.mu.Lock()
		r.ledger.peers[hog.ID()].requests.SetLimit(0) // nothing is refilled while it asks
		r.ledger.mu.Unlock()
	}
	wantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	if m := connectStatus(t, hog, relay, hog.ID()); m.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("a circuit: %s", m.GetStatus())
	}
	if _, err := reserve(t, newClientAt(t, "127.0.1.1"), relay); err != nil {
		t.Errorf("a neighbour: %v", err)
	}
}

// The month's budget ends circuits, and refuses with what a monitor reads as busy.
func TestMonthBudget(t *testing.T) {
	c := limitConfig(t)
	c.Limits.Month = 256 << 10
	r, members := startWithClub(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	to, from := newClientAt(t, "127.0.1.1"), newClientAt(t, "127.0.1.2")
	members.admit(to.ID()) // members too
	_, err := reserve(t, to, relay)
	must(t, err)
	must(t, echo(t, from, to, relay, 4096))
	if err := echo(t, from, to, relay, 1<<20); err == nil {
		t.Fatal("1 MiB came through a budget of 256 KiB")
	}
	wantEnded(t, r, "month_budget")
	_, err = reserve(t, newClientAt(t, "127.0.1.3"), relay)
	wantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	if m := connectStatus(t, from, relay, to.ID()); m.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("a circuit: %s", m.GetStatus())
	}

	// The count outlives the relay.
	must(t, r.stop())
	used := r.Status().Traffic.Bytes // all is counted: the circuit's two directions do not end at once
	if used < 256<<10 || used > 400<<10 {
		t.Errorf("counted %d bytes", used)
	}
	again := start(t, c)
	if got := again.Status().Traffic.Bytes; got != used {
		t.Errorf("counted %d bytes after a restart, want %d", got, used)
	}
	// And a new month begins, on a machine whose clock a time service keeps.
	again.ledger.mu.Lock()
	again.ledger.clock.Kept = func() bool { return true }
	again.ledger.mu.Unlock()
	must(t, again.ledger.tend(time.Now().AddDate(0, 1, 0)))
	if _, err := reserve(t, newClientAt(t, "127.0.1.3"), dialable(t, again.Relay)["tcp"]); err != nil {
		t.Errorf("in the next month: %v", err)
	}
}

// What one peer spent is not another's loss.
func TestPeerBudget(t *testing.T) {
	c := limitConfig(t)
	c.Limits.PeerDay, c.Limits.IPDay = 128<<10, 1<<30
	r, members := startWithClub(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	to, hog, other := newClientAt(t, "127.0.1.1"), newClientAt(t, "127.0.1.2"), newClientAt(t, "127.0.1.2")
	members.admit(to.ID(), hog.ID())
	_, err := reserve(t, to, relay)
	must(t, err)
	if err := echo(t, hog, to, relay, 1<<20); err == nil {
		t.Fatal("1 MiB came through a budget of 128 KiB")
	}
	wantEnded(t, r, "peer_budget")
	if m := connectStatus(t, hog, relay, to.ID()); m.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("the peer that spent its budget: %s", m.GetStatus())
	}
	if err := echo(t, other, to, relay, 4096); err != nil {
		t.Errorf("another peer: %v", err)
	}
}

// Only who is banned is denied permission; a ban works while the relay runs.
func TestBan(t *testing.T) {
	r := start(t, limitConfig(t))
	relay := dialable(t, r.Relay)["tcp"]
	dir := r.cfg.DataDir
	to, bad := newClientAt(t, "127.0.1.1"), newClientAt(t, "127.0.1.2")
	for _, h := range []host.Host{to, bad} {
		_, err := reserve(t, h, relay)
		must(t, err)
	}
	must(t, Ban(dir, "127.0.1.64/26"))
	must(t, Ban(dir, bad.ID().String())) // last: when its connection ends, the relay has read both
	eventually(t, "the banned peer is thrown out", func() bool { return bad.Network().Connectedness(relay.ID) != network.Connected })
	wantEnded(t, r, endedBanned)
	if r.gate.places.has(bad.ID()) {
		t.Error("the banned peer still has its place")
	}
	_, err := reserve(t, bad, relay)
	wantStatus(t, err, pbv2.Status_PERMISSION_DENIED)
	if m := connectStatus(t, bad, relay, to.ID()); m.GetStatus() != pbv2.Status_PERMISSION_DENIED {
		t.Errorf("a circuit from the banned peer: %s", m.GetStatus())
	}
	_, err = reserve(t, newClientAt(t, "127.0.1.100"), relay)
	wantStatus(t, err, pbv2.Status_PERMISSION_DENIED)
	if _, err := reserve(t, to, relay); err != nil {
		t.Errorf("a peer that is not banned: %v", err)
	}
	must(t, Unban(dir, "127.0.1.64/26"))
	eventually(t, "the ban is lifted", func() bool { return r.gate.AllowReserve("", multiaddrs(t, "/ip4/127.0.1.100")[0]) })
	if _, err := reserve(t, newClientAt(t, "127.0.1.100"), relay); err != nil {
		t.Errorf("a peer that is no longer banned: %v", err)
	}
}

// Connections that never get to a handshake stop nobody else.
func TestHalfOpen(t *testing.T) {
	c := limitConfig(t)
	c.Limits.Connections = 512
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	_, target, err := addrOf(relay.Addrs[0])
	must(t, err)
	for i := range 8 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(i+1))}}
		for range 64 {
			conn, err := d.DialContext(testContext(t), "tcp", target)
			must(t, err)
			t.Cleanup(func() { conn.Close() })
		}
	}
	for i := range 50 {
		if _, err := reserve(t, newClientAt(t, fmt.Sprintf("127.0.1.%d", i+1)), relay); err != nil {
			t.Fatalf("client %d of 50: %v", i+1, err)
		}
	}
}

func addrOf(a ma.Multiaddr) (network, hostPort string, err error) {
	na, err := a.ValueForProtocol(ma.P_TCP)
	if err != nil {
		return "", "", err
	}
	ip, err := a.ValueForProtocol(ma.P_IP4)
	return "tcp", net.JoinHostPort(ip, na), err
}

// What a peer sends instead of a request is answered, or cut, and the relay goes on.
func TestMalformedRequests(t *testing.T) {
	r := start(t, limitConfig(t))
	relay := dialable(t, r.Relay)["tcp"]
	h := newClientAt(t, "127.0.1.1")
	must(t, h.Connect(testContext(t), relay))
	for name, raw := range map[string][]byte{
		"not protobuf":    {3, 0xff, 0xff, 0xff},
		"too long":        {0xff, 0xff, 0xff, 0xff, 0x0f},
		"no destination":  mustFrame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum()}),
		"odd destination": mustFrame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte("x")}}),
		"a status":        mustFrame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum()}),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		s, err := h.NewStream(ctx, relay.ID, proto.ProtoIDv2Hop)
		must(t, err)
		must(t, s.SetDeadline(time.Now().Add(patience)))
		_, err = s.Write(raw)
		must(t, err)
		var m pbv2.HopMessage
		rd := util.NewDelimitedReader(s, maxFrame)
		if err := rd.ReadMsg(&m); err != nil || m.GetStatus() != pbv2.Status_MALFORMED_MESSAGE {
			t.Errorf("%s: %v, %v", name, &m, err)
		}
		rd.Close()
		_ = s.Reset()
		cancel()
	}
	if _, err := reserve(t, h, relay); err != nil {
		t.Error(err)
	}
}

func mustFrame(t testing.TB, m *pbv2.HopMessage) []byte {
	t.Helper()
	raw, err := frame(m)
	must(t, err)
	return raw
}

func TestBanListFaults(t *testing.T) {
	dir := t.TempDir()
	for _, bad := range []string{"", "nobody", "10.0.0.0/33", "fe80::1%eth0"} {
		if err := Ban(dir, bad); err == nil {
			t.Errorf("%q was banned", bad)
		}
	}
	must(t, Ban(dir, "203.0.113.7/24"))
	must(t, Ban(dir, "203.0.113.0/24"))
	must(t, Ban(dir, "2001:db8::1"))
	list, err := ReadBans(dir)
	must(t, err)
	if got := fmt.Sprint(list.Entries()); got != "[203.0.113.0/24 2001:db8::1/128]" {
		t.Errorf("banned %s", got)
	}
	if err := Unban(dir, "198.51.100.1"); err == nil {
		t.Error("unbanned what was not banned")
	}
	if _, err := openBans(filepath.Join(dir, "nowhere")); err != nil {
		t.Errorf("no list: %v", err)
	}
}

// Whatever bytes come, a request is read to its end or refused, and what the
// service reads again is what came.
func FuzzReadFrame(f *testing.F) {
	connect, err := frame(&pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte("peer")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(connect)
	f.Add(append(connect, connect...))
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		var m, again pbv2.HopMessage
		raw, err := readFrame(bytes.NewReader(data), &m)
		if !bytes.HasPrefix(data, raw) || len(raw) > maxFrame+10 {
			t.Fatalf("read %x of %x", raw, data)
		}
		if err == nil && (!whole(raw) || unframe(raw, &again) != nil || again.GetType() != m.GetType()) {
			t.Errorf("%x does not read again", raw)
		}
	})
}
