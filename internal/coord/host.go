package coord

import (
	"context"
	"sync"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// routerHost is a host as gossipsub gets to see it.
type routerHost struct {
	host.Host
	streams *streams
}

// SetStreamHandler puts a bound of memory before gossipsub.
func (h routerHost) SetStreamHandler(p protocol.ID, read network.StreamHandler) {
	h.Host.SetStreamHandler(p, func(s network.Stream) { h.streams.serve(s, read) })
}

// NewStream puts one behind it.
func (h routerHost) NewStream(ctx context.Context, p peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	return h.streams.open(ctx, p, protocols)
}

// ConnManager keeps gossipsub from the connection manager: it would protect every
// peer of every mesh from trimming, and any stranger can enter a mesh. Whom to
// keep is for the host's owner to say.
func (routerHost) ConnManager() connmgr.ConnManager { return connmgr.NullConnMgr{} }

// EventBus keeps from gossipsub the signed addresses that peers send in identify. It
// would put them into an address book of its own, for the exchange of peers, which we
// do not take part in, and never take them out again: the entry of a peer that was
// connected is not among those the book looks through for expired ones (go-libp2p
// v0.51.0, pstoremem: UpdateAddrs leaves it out of the heap). That is about 1 KiB for
// ever for each peer ID that ever came, and a peer ID costs nothing to make.
func (h routerHost) EventBus() event.Bus { return recordless{h.Host.EventBus()} }

// recordless is a bus without signed peer records.
type recordless struct{ event.Bus }

func (b recordless) Subscribe(types any, opts ...event.SubscriptionOpt) (event.Subscription, error) {
	sub, err := b.Bus.Subscribe(types, opts...)
	if err != nil {
		return nil, err
	}
	s := &subscription{Subscription: sub, out: make(chan any), done: make(chan struct{})}
	go s.forward()
	return s, nil
}

type subscription struct {
	event.Subscription
	out  chan any
	done chan struct{}
	once sync.Once
}

func (s *subscription) Out() <-chan any { return s.out }

func (s *subscription) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.Subscription.Close()
}

func (s *subscription) forward() {
	defer close(s.out)
	for e := range s.Subscription.Out() {
		if said, ok := e.(event.EvtPeerIdentificationCompleted); ok {
			said.SignedPeerRecord = nil
			e = said
		}
		select {
		case s.out <- e:
		case <-s.done:
			return
		}
	}
}
