package coord

import (
	"context"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// PubSub is gossipsub with bounds.
type PubSub struct {
	*pubsub.PubSub
	guard   *guard
	streams *streams
}

// Dropped is what was not passed on since the start, by reason.
func (p *PubSub) Dropped() map[string]Dropped { return p.guard.drops.counts() }

// NewPubSub starts gossipsub as the network's JavaScript peers run it, with the
// bounds of a public router. opts come last, so that they can change anything.
//
// Sequence numbers are left to the library, whose counter starts at the clock's
// nanoseconds: helia-coord drops a message whose number was among the last 100
// of any peer, so that small numbers or a counter that starts at one would make
// peers deaf to one another.
func NewPubSub(ctx context.Context, h host.Host, opts ...pubsub.Option) (*PubSub, error) {
	return newPubSub(ctx, h, newGuard(h), opts...)
}

func newPubSub(ctx context.Context, h host.Host, g *guard, opts ...pubsub.Option) (*PubSub, error) {
	params := pubsub.DefaultGossipSubParams()
	// A relay is often the only router of its peers, and a private message that
	// its reader misses is never sent again: a wider mesh than the library's.
	params.D, params.Dlo, params.Dhi, params.Dscore, params.Dout = 10, 6, 24, 6, 2
	params.GossipFactor = 0.5
	// What one peer can make us keep between two heartbeats.
	params.MaxIDontWantMessages = 64

	streams := newStreams(h, g)
	g.looked = streams.inspected
	ps, err := pubsub.NewGossipSub(ctx, routerHost{h, streams}, append([]pubsub.Option{
		pubsub.WithGossipSubParams(params),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithMessageIdFn(messageID),
		// Upstream floods what it publishes. Here every peer subscribes to every
		// private topic, so that a router which answers each of them by flooding
		// would send the square of their number: the wider mesh does instead.
		pubsub.WithFloodPublish(false),
		// One step of relaying private topics must fit, or each of its
		// subscriptions waits in a goroutine of its own.
		pubsub.WithPeerOutboundQueueSize(4 * topicsBurst),
		pubsub.WithMaxMessageSize(MaxMessage),
		pubsub.WithMaxControlMessageSize(maxControl),
		pubsub.WithValidateQueueSize(256),
		pubsub.WithValidateThrottle(256),
		pubsub.WithSeenMessagesTTL(2 * time.Minute),
		pubsub.WithSubscriptionFilter(g),
		pubsub.WithAppSpecificRpcInspector(g.inspect),
		pubsub.WithRawTracer(queues{g.drops}),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("start gossipsub: %w", err)
	}
	return &PubSub{ps, g, streams}, nil
}

// messageID names a message as js-libp2p does, by the author's public key and
// the sequence number; go-libp2p's own default uses the peer ID. Routers that
// disagree cannot tell one another what they hold: JavaScript peers then count
// our gossip as broken promises and stop listening to us.
func messageID(m *pb.Message) string {
	key := m.GetKey()
	if id, err := peer.IDFromBytes(m.GetFrom()); err == nil {
		if pub, err := id.ExtractPublicKey(); err == nil {
			if b, err := crypto.MarshalPublicKey(pub); err == nil {
				key = b
			}
		}
	}
	return string(key) + string(m.GetSeqno())
}
