package relay

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// What peers say of where they can be reached is not kept, neither while they are
// here nor afterwards; whom the relay itself calls it reaches.
func TestAddressesOfPeersAreNotKept(t *testing.T) {
	r := start(t, relaytest.LabConfig(t))
	h := relaytest.NewPeer(t, nil, libp2p.ListenAddrStrings("/ip4/127.0.0.3/tcp/0"))
	here := r.host
	identified, err := here.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	relaytest.Must(t, err)
	defer identified.Close()
	known := func() peer.IDSlice {
		return slices.DeleteFunc(here.Peerstore().PeersWithAddrs(), func(p peer.ID) bool { return p == here.ID() })
	}

	relaytest.Must(t, here.Connect(relaytest.Context(t), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}))
	e := (<-identified.Out()).(event.EvtPeerIdentificationCompleted)
	if e.Peer != h.ID() || len(e.ListenAddrs) == 0 {
		t.Fatalf("%s said that it is at %v", e.Peer, e.ListenAddrs)
	}
	if p := known(); len(p) > 0 {
		t.Errorf("while it is here, the addresses of %v are kept", p)
	}
	relaytest.Must(t, h.Close())
	relaytest.Eventually(t, "the peer leaves", func() bool { return here.Network().Connectedness(h.ID()) == network.NotConnected })
	if p := known(); len(p) > 0 {
		t.Errorf("after it left, the addresses of %v are kept", p)
	}
	if len(here.Peerstore().Addrs(here.ID())) == 0 {
		t.Error("the relay's own addresses are not kept")
	}
}
