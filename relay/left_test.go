package relay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
)

// leaving is one of two connections of a peer that end at the same time.
type leaving struct {
	network.Conn
	id    peer.ID
	ended bool
	asked func() // what happens after the first question whether it has ended
}

func (c *leaving) RemotePeer() peer.ID     { return c.id }
func (c *leaving) Stat() network.ConnStats { return network.ConnStats{} }

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
// one ends. No place stays that nobody would take back for an hour.
func TestPlaceGoesWithBothConnections(t *testing.T) {
	table := newTable(Limits{Reservations: 4, GuestReservations: 4, ReservationsPerIP: 4})
	id := peerOf(t)
	net := &netOf{}
	g := &gate{Host: hostOf{net: net}, places: table.places}
	first, second := &leaving{id: id, ended: true}, &leaving{id: id}
	net.conns = append(net.conns, second)
	second.asked = func() {
		second.ended, net.conns = true, nil
		g.left(second)
	}
	if _, _, err := table.places.take(id, first, netip.MustParsePrefix("192.0.2.1/32"), time.Now()); err != nil {
		t.Fatal(err)
	}
	g.left(first)
	if table.places.has(id) {
		t.Error("a peer without a connection keeps its place")
	}
}

// The library resets a stream that it has no room for, or that has ended, without an
// answer. The place that was taken for it comes back.
func TestPlaceComesBackWithoutAnAnswer(t *testing.T) {
	r := start(t, limitConfig(t))
	relay := dialable(t, r.Relay)["tcp"]
	done := make(chan struct{})
	r.host.SetStreamHandler("/test", func(s network.Stream) {
		r.gate.serveHop(s, func(s network.Stream) { _ = s.Reset() })
		close(done)
	})
	h := newClientAt(t, "127.0.1.1")
	must(t, h.Connect(testContext(t), relay))
	s, err := h.NewStream(testContext(t), relay.ID, "/test")
	must(t, err)
	must(t, util.NewDelimitedWriter(s).WriteMsg(&pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()}))
	<-done
	if r.gate.places.has(h.ID()) {
		t.Error("a peer that was told of no reservation holds a place")
	}
}
