package circuit

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// A peer's path breaks: nothing arrives on it any more, and nobody is told. The peer comes
// back on another path and reserves. It is reached there at once; and when the relay notices
// that the old connection is dead, the reservation stays.
func TestReservationOutlivesADeadConnection(t *testing.T) {
	t.Parallel()
	need.Tools(t, "nft")
	if !relaytest.Isolated(t) {
		return
	}
	relaytest.Run(t, "nft", "add table inet test; add chain inet test in { type filter hook input priority 0; }")
	for n, kind := range []string{"tcp", "quic"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := relaytest.LimitConfig(t)
			c.Listen.QUIC = relaytest.Multiaddrs(t, "/ip4/127.0.0.2/udp/0/quic-v1")
			r := start(t, c)
			relay := r.byTransport()[kind]
			key, _, err := crypto.GenerateEd25519Key(nil)
			relaytest.Must(t, err)
			from := func(last int) host.Host {
				return relaytest.NewPeerAt(t, fmt.Sprintf("127.0.%d.%d", n+1, last), libp2p.Identity(key), libp2p.Transport(quic.NewTransport))
			}
			before := from(1)
			_, err = relaytest.Reserve(t, before, relay)
			relaytest.Must(t, err)
			relaytest.AcceptRaw(before, relaytest.SendBack)
			for range 2 { // the old connection has more streams
				h := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.%d.4", n+1))
				relaytest.Must(t, h.Connect(relaytest.Context(t), r.byTransport()["tcp"]))
				relaytest.Must(t, relaytest.Talk(relaytest.MustOpenRaw(t, h, relay.ID, before.ID())))
			}
			dead := r.service.reservations.conn(before.ID(), time.Now())
			proto, hostPort, err := manet.DialArgs(dead.RemoteMultiaddr())
			relaytest.Must(t, err)
			_, port, err := net.SplitHostPort(hostPort)
			relaytest.Must(t, err)
			proto = proto[:3] // without the version of IP
			relaytest.Run(t, "nft", fmt.Sprintf("add rule inet test in %[1]s sport %[2]s drop; add rule inet test in %[1]s dport %[2]s drop", proto, port))

			after := from(2)
			came := make(chan struct{}, 2)
			relaytest.AcceptRaw(after, func(s network.Stream) { came <- struct{}{}; relaytest.SendBack(s) })
			_, err = relaytest.Reserve(t, after, relay)
			relaytest.Must(t, err)
			asker := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.%d.3", n+1))
			relaytest.Must(t, asker.Connect(relaytest.Context(t), r.byTransport()["tcp"]))
			talk := func() {
				relaytest.Must(t, relaytest.Talk(relaytest.MustOpenRaw(t, asker, relay.ID, after.ID())))
				<-came
			}
			if dead.IsClosed() {
				t.Fatal("the relay was told of the broken path")
			}
			talk()
			relaytest.Eventually(t, "the relay notices the broken path", dead.IsClosed)
			relaytest.Eventually(t, "one connection is left", func() bool { return len(r.host.Network().ConnsToPeer(after.ID())) == 1 })
			talk()
			relaytest.Must(t, after.Close())
			relaytest.Eventually(t, "the reservation ends with its connection", func() bool { return !r.service.reservations.has(after.ID()) })
		})
	}
}

// A reservation whose connection ends is reached over another one of the peer's.
func TestReservationMovesToAnotherConnection(t *testing.T) {
	c := relaytest.LimitConfig(t)
	r := start(t, c)
	relay := r.info()
	h := relaytest.NewPeerAt(t, "127.0.1.1")
	_, err := relaytest.Reserve(t, h, relay)
	relaytest.Must(t, err)
	key := h.Peerstore().PrivKey(h.ID())
	second := relaytest.NewPeer(t, nil, libp2p.Identity(key))
	relaytest.Must(t, second.Connect(relaytest.Context(t), relay))
	relaytest.Eventually(t, "both are connected", func() bool { return len(r.host.Network().ConnsToPeer(h.ID())) == 2 })
	relaytest.Must(t, h.Close())
	relaytest.Eventually(t, "the reservation has moved", func() bool {
		conns := r.host.Network().ConnsToPeer(h.ID())
		return len(conns) == 1 && r.service.reservations.conn(h.ID(), time.Now()) == conns[0]
	})
	relaytest.AcceptRaw(second, relaytest.SendBack)
	from := relaytest.NewPeerAt(t, "127.0.1.3")
	relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
	relaytest.Must(t, relaytest.Talk(relaytest.MustOpenRaw(t, from, relay.ID, second.ID())))
}

// A ban of one address takes the reservations made from there, and no others of peers
// that come from there, too.
func TestBanTakesTheConnection(t *testing.T) {
	r := start(t, relaytest.LimitConfig(t))
	relay := r.info()
	key, _, err := crypto.GenerateEd25519Key(nil)
	relaytest.Must(t, err)
	bad := relaytest.NewPeer(t, nil, libp2p.Identity(key))
	relaytest.Must(t, bad.Connect(relaytest.Context(t), relay))
	good := relaytest.NewPeerAt(t, "127.0.1.7", libp2p.Identity(key))
	_, err = relaytest.Reserve(t, good, relay)
	relaytest.Must(t, err)
	relaytest.Eventually(t, "both are connected", func() bool { return len(r.host.Network().ConnsToPeer(good.ID())) == 2 })
	relaytest.Must(t, Ban(r.cfg.DataDir, "127.0.0.1"))
	relaytest.Eventually(t, "the banned connection is closed", func() bool { return len(r.host.Network().ConnsToPeer(good.ID())) == 1 })
	if !r.service.reservations.has(good.ID()) {
		t.Error("the reservation from an address that is not banned is gone")
	}
}

// leaving is one of two connections of a peer that end at the same time.
type leaving struct {
	network.Conn
	id    peer.ID
	ended bool
	asked func() // what happens after the first question whether it has ended

	closing chan struct{} // until when its closing takes
}

func (c *leaving) CloseWithError(network.ConnErrorCode) error { <-c.closing; return nil }

func (c *leaving) RemotePeer() peer.ID           { return c.id }
func (c *leaving) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast("/ip4/192.0.2.1/tcp/4001") }
func (c *leaving) Stat() network.ConnStats       { return network.ConnStats{} }

func (c *leaving) IsClosed() bool {
	was := c.ended
	if f := c.asked; f != nil {
		c.asked = nil
		f()
	}
	return was
}

type netOf struct {
	network.Network
	conns []network.Conn
}

func (n *netOf) Conns() []network.Conn              { return n.conns }
func (n *netOf) ConnsToPeer(peer.ID) []network.Conn { return n.conns }

type hostOf struct {
	host.Host
	net *netOf
}

func (h hostOf) Network() network.Network { return h.net }

// Two connections of a peer end at once: while the first one's end is noted, the second
// one ends. No reservation stays that nobody would take back for an hour.
func TestReservationEndsWithBothConnections(t *testing.T) {
	table := tableFor(config.Limits{Reservations: 4, GuestReservations: 4, ReservationsPerIP: 4})
	id := peerOf(t)
	net := &netOf{}
	svc := &Service{host: hostOf{net: net}, reservations: table.table, banned: &Bans{list: &BanList{}}}
	first, second := &leaving{id: id, ended: true}, &leaving{id: id}
	net.conns = append(net.conns, second)
	second.asked = func() {
		second.ended, net.conns = true, nil
		svc.left(second)
	}
	if _, err := table.table.take(id, first, netip.MustParsePrefix("192.0.2.1/32"), time.Now()); err != nil {
		t.Fatal(err)
	}
	svc.left(first)
	if table.table.has(id) {
		t.Error("a peer without a connection keeps its reservation")
	}
}

// The reservation comes back that was taken for a peer which then takes no answer.
func TestReservationComesBackWithoutAnAnswer(t *testing.T) {
	r := start(t, relaytest.LimitConfig(t))
	s := &saidStream{
		conn: &leaving{id: peerOf(t)}, deaf: true,
		in: bytes.NewReader(relaytest.Frame(t, &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()})),
	}
	r.service.serve(s)
	if s.ends != 1 {
		t.Errorf("the stream was ended %d times, want once", s.ends)
	}
	if r.service.reservations.has(s.conn.id) {
		t.Error("a peer that was told of no reservation holds one")
	}
}

// An answer does not get through on a connection; meanwhile the peer has prolonged its
// reservation on another one, and was told so. It keeps it.
func TestFailedAnswerTakesBackOnlyItsOwn(t *testing.T) {
	table := tableFor(config.Limits{Reservations: 4, GuestReservations: 4, ReservationsPerIP: 4})
	id, now := peerOf(t), time.Now()
	first, second := &leaving{id: id}, &leaving{id: id}
	lost, err := table.table.take(id, first, ipOf(1), now)
	relaytest.Must(t, err)
	_, err = table.table.take(id, second, ipOf(1), now.Add(time.Second))
	relaytest.Must(t, err)
	table.free(id, lost.until)
	if table.conn(id, now) != second {
		t.Error("the reservation is gone")
	}
}

// A reservation does not move to a connection from an address that is banned.
func TestReservationMovesToNoBannedAddress(t *testing.T) {
	table := tableFor(config.Limits{Reservations: 4, GuestReservations: 4, ReservationsPerIP: 4})
	id := peerOf(t)
	first, second := &leaving{id: id, ended: true}, &leaving{id: id}
	ban := &BanList{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	svc := &Service{host: hostOf{net: &netOf{conns: []network.Conn{second}}}, reservations: table.table, banned: &Bans{list: ban}}
	_, err := table.table.take(id, first, ipOf(1), time.Now())
	relaytest.Must(t, err)
	svc.left(first)
	if table.table.has(id) {
		t.Error("a circuit would go over a banned connection")
	}
}

// A banned peer that does not read does not keep the relay from its other chores.
func TestBanWaitsForNobody(t *testing.T) {
	r := start(t, relaytest.LimitConfig(t))
	never := make(chan struct{})
	defer close(never)
	conn := &leaving{id: peerOf(t), closing: never}
	svc := &Service{host: hostOf{net: &netOf{conns: []network.Conn{conn}}}, reservations: r.service.reservations,
		Tally: r.tally, banned: &Bans{list: &BanList{Peers: []peer.ID{conn.id}}}}
	svc.EnforceBans() // or the test ends by its time
	if n := r.tally.Endings()["banned"]; n != 1 {
		t.Errorf("ended %d, want 1", n)
	}
}
