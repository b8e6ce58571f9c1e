package circuit

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// leaving is one of two connections of a peer that end at the same time.
type leaving struct {
	network.Conn
	id    peer.ID
	ended bool
	asked func() // what happens after the first question whether it has ended
}

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

func (n *netOf) ConnsToPeer(peer.ID) []network.Conn { return n.conns }

type hostOf struct {
	host.Host
	net *netOf
}

func (h hostOf) Network() network.Network { return h.net }

// Two connections of a peer end at once: while the first one's end is noted, the second
// one ends. No reservation stays that nobody would take back for an hour.
func TestPlaceGoesWithBothConnections(t *testing.T) {
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
		t.Error("a peer without a connection keeps its place")
	}
}

// The reservation comes back that was taken for a peer which then takes no answer.
func TestPlaceComesBackWithoutAnAnswer(t *testing.T) {
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
		t.Error("a peer that was told of no reservation holds a place")
	}
}
