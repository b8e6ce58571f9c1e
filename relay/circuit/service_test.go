package circuit

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func startWithClub(t testing.TB, c config.Config) (*running, *relaytest.Club) {
	t.Helper()
	r := start(t, c)
	members := &relaytest.Club{}
	r.service.SetMembership(members)
	return r, members
}

// A thousand peers that come, reserve and go leave nothing behind.
func TestReservationsComeBack(t *testing.T) {
	t.Parallel()
	c := relaytest.LimitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 40, 40
	r := start(t, c)
	relay := r.info()
	clients, rounds := 40, 25
	if testing.Short() {
		rounds = 5
	}
	var wg sync.WaitGroup
	hosts := make([]host.Host, clients)
	for i := range hosts {
		hosts[i] = relaytest.NewPeerAt(t, fmt.Sprintf("127.0.1.%d", i+1))
		wg.Go(func() {
			for range rounds {
				if _, err := client.Reserve(relaytest.Context(t), hosts[i], relay); err != nil {
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
	relaytest.Eventually(t, "all places are free", func() bool {
		members, guests := r.service.Reservations()
		return members+guests == 0
	})
	for _, h := range hosts {
		if r.host.ConnManager().IsProtected(h.ID(), reservedTag) {
			t.Error("a peer without a reservation is still protected")
		}
		wg.Go(func() {
			if _, err := client.Reserve(relaytest.Context(t), h, relay); err != nil {
				t.Errorf("a freed place is not to be had: %v", err)
			}
		})
	}
	wg.Wait()
	if s := r.Status().Reservations; s.Guests != clients {
		t.Errorf("reservations %+v, want %d guests", s, clients)
	}
}

func TestGuestsNeverTakeMembersReservations(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 5, 2
	r, members := startWithClub(t, c)
	noMinimum := r.config().Limits
	noMinimum.GuestReservationTime = 0
	r.service.Change(noMinimum)
	relay := r.info()
	newPeer := func() host.Host { return relaytest.NewPeerAt(t, "127.0.1.1") }

	guests := []host.Host{newPeer(), newPeer(), newPeer()}
	for i, h := range guests {
		if _, err := relaytest.Reserve(t, h, relay); err != nil {
			t.Fatalf("guest %d: %v", i, err)
		}
	}
	// The third guest got the first one's reservation, and the first one was told.
	relaytest.Eventually(t, "the oldest guest is gone", func() bool {
		return guests[0].Network().Connectedness(relay.ID) != network.Connected
	})
	if s := r.Status().Reservations; s.Guests != 2 || s.Members != 0 {
		t.Fatalf("reservations %+v, want 2 guests", s)
	}
	if m := relaytest.ConnectStatus(t, newPeer(), relay, guests[0].ID()); m.GetStatus() != pbv2.Status_NO_RESERVATION {
		t.Errorf("a circuit to the guest that gave way: %s", m.GetStatus())
	}

	// A guest in a circuit does not give way: the other one does, and then nobody.
	relaytest.Must(t, relaytest.Echo(t, newPeer(), guests[1], relay, 16))
	fourth := newPeer()
	if _, err := relaytest.Reserve(t, fourth, relay); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "the idle guest is gone", func() bool {
		return guests[2].Network().Connectedness(relay.ID) != network.Connected
	})
	relaytest.Must(t, relaytest.Echo(t, newPeer(), fourth, relay, 16))
	_, err := relaytest.Reserve(t, newPeer(), relay)
	relaytest.WantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)

	// The members' reservations are all there.
	for range 3 {
		h := newPeer()
		members.Admit(h.ID())
		if _, err := relaytest.Reserve(t, h, relay); err != nil {
			t.Fatalf("a member: %v", err)
		}
	}
	h := newPeer()
	members.Admit(h.ID())
	_, err = relaytest.Reserve(t, h, relay)
	relaytest.WantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	if s := r.Status().Reservations; s.Guests != 2 || s.Members != 3 {
		t.Errorf("reservations %+v, want 2 guests and 3 members", s)
	}
}

// Guests are told of their limit and held to it; a member at either end lifts it.
func TestGuestLimit(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.GuestCircuitData = 64 << 10
	r, members := startWithClub(t, c)
	relay := r.info()
	guest, member := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2")
	members.Admit(member.ID())

	rsvp, err := relaytest.Reserve(t, guest, relay)
	relaytest.Must(t, err)
	if rsvp.LimitData != 64<<10 || rsvp.LimitDuration != 2*time.Minute {
		t.Errorf("a guest was promised %d bytes, %s", rsvp.LimitData, rsvp.LimitDuration)
	}
	rsvp, err = relaytest.Reserve(t, member, relay)
	relaytest.Must(t, err)
	if rsvp.LimitData != 0 || rsvp.LimitDuration != 0 {
		t.Errorf("a member was limited to %d bytes, %s", rsvp.LimitData, rsvp.LimitDuration)
	}

	if err := relaytest.Echo(t, relaytest.NewPeerAt(t, "127.0.1.3"), guest, relay, 4096); err != nil {
		t.Errorf("guest to guest, 4 KiB: %v", err)
	}
	if err := relaytest.Echo(t, relaytest.NewPeerAt(t, "127.0.1.3"), guest, relay, 80<<10); err == nil {
		t.Error("guest to guest: 80 KiB came through a limit of 64 KiB")
	}
	wantEnded(t, r, refusal.EndedData)
	if err := relaytest.Echo(t, relaytest.NewPeerAt(t, "127.0.1.3"), member, relay, 1<<20); err != nil {
		t.Errorf("guest to member, 1 MiB: %v", err)
	}
	another := relaytest.NewPeerAt(t, "127.0.1.4")
	members.Admit(another.ID())
	if err := relaytest.Echo(t, another, guest, relay, 1<<20); err != nil {
		t.Errorf("member to guest, 1 MiB: %v", err)
	}
	conn := another.Network().ConnsToPeer(guest.ID())[0]
	if conn.Stat().Limited {
		t.Error("a member's circuit is marked as limited")
	}
	// Ended circuits are forgotten.
	relaytest.Must(t, another.Network().ClosePeer(guest.ID()))
	relaytest.Must(t, guest.Close())
	relaytest.Must(t, member.Close())
	relaytest.Eventually(t, "all circuits have ended", func() bool {
		members, guests := r.service.Count()
		r.service.mu.Lock()
		defer r.service.mu.Unlock()
		return members+guests+len(r.service.perPeer) == 0
	})
}

// Guests do not take the members' circuits either, nor one address everybody's.
func TestCircuitShares(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.Circuits, c.Limits.GuestCircuits, c.Limits.CircuitsPerIP = 4, 1, 2
	r, members := startWithClub(t, c)
	relay := r.info()
	guest, member := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2")
	members.Admit(member.ID())
	for _, h := range []host.Host{guest, member} {
		_, err := relaytest.Reserve(t, h, relay)
		relaytest.Must(t, err)
	}
	refused := func(from string, to host.Host) {
		t.Helper()
		if m := relaytest.ConnectStatus(t, relaytest.NewPeerAt(t, from), relay, to.ID()); m.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
			t.Errorf("one more: %s", m.GetStatus())
		}
	}
	relaytest.Must(t, relaytest.Echo(t, relaytest.NewPeerAt(t, "127.0.1.3"), guest, relay, 16))
	refused("127.0.1.4", guest)
	relaytest.Must(t, relaytest.Echo(t, relaytest.NewPeerAt(t, "127.0.1.3"), member, relay, 16))
	refused("127.0.1.3", member)
	relaytest.Must(t, relaytest.Echo(t, relaytest.NewPeerAt(t, "127.0.1.4"), member, relay, 16))
	last := relaytest.NewPeerAt(t, "127.0.1.5")
	relaytest.Must(t, relaytest.Echo(t, last, member, relay, 16))
	refused("127.0.1.6", member)
	if s := r.Status().Circuits; s.Guests != 1 || s.Members != 3 {
		t.Errorf("circuits %+v, want 1 of guests and 3 of members", s)
	}
	relaytest.Must(t, last.Network().ClosePeer(member.ID()))
	relaytest.Eventually(t, "a circuit that ended leaves room", func() bool { return r.Status().Circuits.Members == 2 })
	relaytest.Must(t, relaytest.Echo(t, relaytest.NewPeerAt(t, "127.0.1.6"), member, relay, 16))
}

// wantEnded wants one ending that is counted under this word.
func wantEnded(t *testing.T, r *running, word string) {
	t.Helper()
	if got := r.tally.Endings(); got[word] != 1 {
		t.Errorf("ended %v, want one for %s", got, word)
	}
	if !slices.Contains(refusal.EndReasons, word) {
		t.Errorf("the metrics leave %s out", word)
	}
}

func TestGuestTime(t *testing.T) {
	c := relaytest.LimitConfig(t)
	r, _ := startWithClub(t, c)
	l := r.config().Limits
	l.GuestCircuitTime = time.Second
	r.service.Change(l)
	relay := r.info()
	to, from := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2")
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	relaytest.AcceptRaw(to, func(network.Stream) {})
	relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
	if _, err := relaytest.MustOpenRaw(t, from, relay.ID, to.ID()).Read(make([]byte, 1)); err == nil {
		t.Error("something came through a circuit in which nobody speaks")
	}
	wantEnded(t, r, refusal.EndedTime)
}

// A thousand clients behind one address, when the operator allows for it; and no
// more than allowed.
func TestManyBehindOneAddress(t *testing.T) {
	t.Parallel()
	n := 1000
	if testing.Short() {
		n = 150
	}
	c := relaytest.LimitConfig(t)
	c.Limits.Reservations, c.Limits.GuestReservations = 2*n, 2*n
	c.Limits.ReservationsPerIP, c.Limits.ConnectionsPerIP = n, n+10
	c.Limits.Connections = 2*n + 100
	r := start(t, c)
	relay := r.info()
	var wg sync.WaitGroup
	room := make(chan struct{}, 8)
	for range n {
		h := relaytest.NewPeerAt(t, "127.0.1.1")
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			if _, err := client.Reserve(relaytest.Context(t), h, relay); err != nil {
				t.Errorf("one of a thousand: %v", err)
			}
		})
	}
	wg.Wait()
	if s := r.Status().Reservations; s.Guests != n {
		t.Errorf("%d reservations, want %d", s.Guests, n)
	}
	_, err := relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.1"), relay)
	relaytest.WantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	if _, err := relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.2"), relay); err != nil {
		t.Errorf("another address: %v", err)
	}
}

// Whoever asks too often is told so, and nobody else notices.
func TestRequestRate(t *testing.T) {
	r := start(t, relaytest.LimitConfig(t))
	relay := r.info()
	hog := relaytest.NewPeerAt(t, "127.0.1.1")
	var err error
	for range 4 * peerRequests {
		if _, err = relaytest.Reserve(t, hog, relay); err != nil {
			break
		}
		r.budget.mu.Lock()
		r.budget.peers[hog.ID()].requests.SetLimit(0) // nothing is refilled while it asks
		r.budget.mu.Unlock()
	}
	relaytest.WantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	if m := relaytest.ConnectStatus(t, hog, relay, hog.ID()); m.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("a circuit: %s", m.GetStatus())
	}
	if _, err := relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.1"), relay); err != nil {
		t.Errorf("a neighbour: %v", err)
	}
}

// The month's budget ends circuits, and refuses with what a monitor reads as busy.
func TestMonthBudget(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.Month = 256 << 10
	r, members := startWithClub(t, c)
	relay := r.info()
	to, from := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2")
	members.Admit(to.ID()) // members too
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	relaytest.Must(t, relaytest.Echo(t, from, to, relay, 4096))
	if err := relaytest.Echo(t, from, to, relay, 1<<20); err == nil {
		t.Fatal("1 MiB came through a budget of 256 KiB")
	}
	wantEnded(t, r, "month_budget")
	_, err = relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.3"), relay)
	relaytest.WantStatus(t, err, pbv2.Status_RESERVATION_REFUSED)
	if m := relaytest.ConnectStatus(t, from, relay, to.ID()); m.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("a circuit: %s", m.GetStatus())
	}

	// The count outlives the relay.
	relaytest.Must(t, r.stop())
	used := r.Status().Traffic.Bytes // all is counted: the circuit's two directions do not end at once
	if used < 256<<10 || used > 400<<10 {
		t.Errorf("counted %d bytes", used)
	}
	again := start(t, c)
	if got := again.Status().Traffic.Bytes; got != used {
		t.Errorf("counted %d bytes after a restart, want %d", got, used)
	}
	// And a new month begins, on a machine whose clock a time service keeps.
	again.budget.mu.Lock()
	again.budget.clock.Kept = func() bool { return true }
	again.budget.mu.Unlock()
	relaytest.Must(t, again.budget.Tend(time.Now().AddDate(0, 1, 0)))
	if _, err := relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.3"), again.info()); err != nil {
		t.Errorf("in the next month: %v", err)
	}
}

// What one peer spent is not another's loss.
func TestPeerBudget(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.PeerDay, c.Limits.IPDay = 128<<10, 1<<30
	r, members := startWithClub(t, c)
	relay := r.info()
	to, hog, other := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2"), relaytest.NewPeerAt(t, "127.0.1.2")
	members.Admit(to.ID(), hog.ID())
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	if err := relaytest.Echo(t, hog, to, relay, 1<<20); err == nil {
		t.Fatal("1 MiB came through a budget of 128 KiB")
	}
	wantEnded(t, r, "peer_budget")
	if m := relaytest.ConnectStatus(t, hog, relay, to.ID()); m.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("the peer that spent its budget: %s", m.GetStatus())
	}
	if err := relaytest.Echo(t, other, to, relay, 4096); err != nil {
		t.Errorf("another peer: %v", err)
	}
}

// Only who is banned is denied permission; a ban works while the relay runs.
func TestBan(t *testing.T) {
	r := start(t, relaytest.LimitConfig(t))
	relay := r.info()
	dir := r.cfg.DataDir
	to, bad := relaytest.NewPeerAt(t, "127.0.1.1"), relaytest.NewPeerAt(t, "127.0.1.2")
	for _, h := range []host.Host{to, bad} {
		_, err := relaytest.Reserve(t, h, relay)
		relaytest.Must(t, err)
	}
	relaytest.Must(t, Ban(dir, "127.0.1.64/26"))
	relaytest.Must(t, Ban(dir, bad.ID().String())) // last: when its connection ends, the relay has read both
	relaytest.Eventually(t, "the banned peer is thrown out", func() bool { return bad.Network().Connectedness(relay.ID) != network.Connected })
	wantEnded(t, r, refusal.EndedBanned)
	if r.service.reservations.has(bad.ID()) {
		t.Error("the banned peer still has its place")
	}
	_, err := relaytest.Reserve(t, bad, relay)
	relaytest.WantStatus(t, err, pbv2.Status_PERMISSION_DENIED)
	if m := relaytest.ConnectStatus(t, bad, relay, to.ID()); m.GetStatus() != pbv2.Status_PERMISSION_DENIED {
		t.Errorf("a circuit from the banned peer: %s", m.GetStatus())
	}
	_, err = relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.100"), relay)
	relaytest.WantStatus(t, err, pbv2.Status_PERMISSION_DENIED)
	if _, err := relaytest.Reserve(t, to, relay); err != nil {
		t.Errorf("a peer that is not banned: %v", err)
	}
	relaytest.Must(t, Unban(dir, "127.0.1.64/26"))
	relaytest.Eventually(t, "the ban is lifted", func() bool { return !r.banned.bans("", relaytest.Multiaddrs(t, "/ip4/127.0.1.100")[0]) })
	if _, err := relaytest.Reserve(t, relaytest.NewPeerAt(t, "127.0.1.100"), relay); err != nil {
		t.Errorf("a peer that is no longer banned: %v", err)
	}
}

// What a peer sends instead of a request is answered, or cut, and the relay goes on.
func TestMalformedRequests(t *testing.T) {
	r := start(t, relaytest.LimitConfig(t))
	relay := r.info()
	h := relaytest.NewPeerAt(t, "127.0.1.1")
	relaytest.Must(t, h.Connect(relaytest.Context(t), relay))
	for name, raw := range map[string][]byte{
		"not protobuf":    {3, 0xff, 0xff, 0xff},
		"too long":        {0xff, 0xff, 0xff, 0xff, 0x0f},
		"no destination":  relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum()}),
		"odd destination": relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte("x")}}),
		"no type":         relaytest.Frame(t, &pbv2.HopMessage{Peer: &pbv2.Peer{Id: []byte(h.ID())}}),
		"cut off":         {100, 8, 0},
		"nothing":         {},
		"no length's end": bytes.Repeat([]byte{0x80}, 20),
		"4097 bytes":      append(binary.AppendUvarint(nil, maxMessage+1), make([]byte, maxMessage+1)...),
		"an unknown type": relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_Type(7).Enum()}),
		"a type too many": append([]byte{4}, 8, 0, 8, 9), // the last one counts
		"too long by one": binary.AppendUvarint(nil, maxMessage+1),
		"a status":        relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum()}),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
		s, err := h.NewStream(ctx, relay.ID, proto.ProtoIDv2Hop)
		relaytest.Must(t, err)
		relaytest.Must(t, s.SetDeadline(time.Now().Add(relaytest.Patience)))
		_, err = s.Write(raw)
		relaytest.Must(t, err)
		relaytest.Must(t, s.CloseWrite())
		var m pbv2.HopMessage
		rd := util.NewDelimitedReader(s, maxMessage)
		if err := rd.ReadMsg(&m); err != nil || m.GetStatus() != pbv2.Status_MALFORMED_MESSAGE {
			t.Errorf("%s: %v, %v", name, &m, err)
		}
		rd.Close()
		_ = s.Reset()
		cancel()
	}
	if _, err := relaytest.Reserve(t, h, relay); err != nil {
		t.Error(err)
	}
}

// Whatever bytes come, they are answered with one message, and none behind the first
// request is read.
func FuzzRequest(f *testing.F) {
	r := start(f, relaytest.LimitConfig(f))
	f.Add(relaytest.Frame(f, &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()}))
	connect := relaytest.Frame(f, &pbv2.HopMessage{Type: pbv2.HopMessage_CONNECT.Enum(), Peer: &pbv2.Peer{Id: []byte(r.ID())}})
	f.Add(connect)
	f.Add(append(connect, connect...))
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &saidStream{conn: &leaving{id: peerOf(t)}, in: bytes.NewReader(data)}
		r.service.serve(s)
		var m pbv2.HopMessage
		rd := util.NewDelimitedReader(&s.out, maxMessage)
		defer rd.Close()
		if err := rd.ReadMsg(&m); err != nil || m.GetType() != pbv2.HopMessage_STATUS || s.out.Len() > 0 || s.ends != 1 {
			t.Fatalf("%x is answered with %v, %v, %d bytes more, and ended %d times", data, &m, err, s.out.Len(), s.ends)
		}
		size, n := binary.Uvarint(data)
		if m.GetStatus() != pbv2.Status_MALFORMED_MESSAGE && s.in.Len() != len(data)-n-int(size) {
			t.Errorf("of %x %d bytes are left", data, s.in.Len())
		}
		r.service.left(s.conn)
	})
}

// saidStream is a stream on which all has been said.
type saidStream struct {
	network.Stream
	conn *leaving
	in   *bytes.Reader
	out  bytes.Buffer
	deaf bool
	ends int
}

func (s *saidStream) Conn() network.Conn                           { return s.conn }
func (s *saidStream) Scope() network.StreamScope                   { return &network.NullScope{} }
func (s *saidStream) SetReadDeadline(time.Time) error              { return nil }
func (s *saidStream) SetWriteDeadline(time.Time) error             { return nil }
func (s *saidStream) Read(p []byte) (int, error)                   { return s.in.Read(p) }
func (s *saidStream) Close() error                                 { s.ends++; return nil }
func (s *saidStream) Reset() error                                 { s.ends++; return nil }
func (s *saidStream) ResetWithError(network.StreamErrorCode) error { s.ends++; return nil }

func (s *saidStream) Write(p []byte) (int, error) {
	if s.deaf {
		return 0, io.ErrClosedPipe
	}
	return s.out.Write(p)
}

// resetStream is a stream that notes how it was reset, and does something when it is.
type resetStream struct {
	network.Stream
	codes  []network.StreamErrorCode
	during func()
}

func (s *resetStream) ResetWithError(code network.StreamErrorCode) error {
	s.codes = append(s.codes, code)
	if len(s.codes) == 1 {
		s.during()
	}
	return nil
}

// A reset of one end ends the reads of the other direction, too, which knows no code: that of
// the one that was there first reaches both ends.
func TestFirstResetCounts(t *testing.T) {
	c := &circuit{}
	second := make(chan struct{})
	hop := &resetStream{during: func() {
		go func() {
			c.reset(network.StreamNoError)
			close(second)
		}()
	}}
	stop := &resetStream{during: func() {}}
	c.hop, c.stop = hop, stop
	c.reset(78)
	<-second
	if want := []network.StreamErrorCode{78}; !slices.Equal(hop.codes, want) || !slices.Equal(stop.codes, want) {
		t.Errorf("the ends were reset with %v and %v, want 78 once", hop.codes, stop.codes)
	}
}
