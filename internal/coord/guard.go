package coord

import (
	"fmt"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// What a neighbour may send, and what all of them may together. An honest peer
// sends one announcement in two minutes, and the private messages of its user;
// a neighbouring relay forwards what its own peers send.
const (
	peerMessages, peerMessagesBurst = 50, 500
	peerBytes, peerBytesBurst       = 64 << 10, 4 * MaxMessage
	allMessages, allMessagesBurst   = 300, 4000
	allBytes, allBytesBurst         = 1 << 20, 4 << 20
	// What a neighbour signs itself is not for others to crowd out: so much of it
	// is taken whatever the others send.
	ownMessages, ownMessagesBurst = 0.2, 20
)

// How many subscriptions of others are remembered. A helia-coord node subscribes
// to the private topic of every peer that it ever heard of.
const (
	peerSubscriptions   = 256
	allSubscriptions    = 32 << 10
	subscriptionsPerRPC = 4096
)

// guard bounds what gossipsub takes from others before it spends anything on it:
// messages and bytes by a token bucket for each neighbour and one for all, and
// subscriptions by kind of topic and number.
type guard struct {
	net   network.Network
	now   func() time.Time
	mu    sync.Mutex
	all   budget
	peers map[peer.ID]*neighbour
	subs  int // over all peers
}

type neighbour struct {
	budget
	own    *rate.Limiter
	topics map[string]struct{}
}

type budget struct{ messages, bytes *rate.Limiter }

func newGuard(h host.Host) *guard {
	g := &guard{
		net:   h.Network(),
		now:   clock,
		all:   budget{rate.NewLimiter(allMessages, allMessagesBurst), rate.NewLimiter(allBytes, allBytesBurst)},
		peers: make(map[peer.ID]*neighbour),
	}
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if n.Connectedness(c.RemotePeer()) != network.Connected {
			g.forget(c.RemotePeer())
		}
	}})
	return g
}

// neighbour is nil for a peer that is gone: nothing would forget its entry again.
func (g *guard) neighbour(id peer.ID) *neighbour {
	n := g.peers[id]
	if n == nil && g.net.Connectedness(id) == network.Connected {
		n = &neighbour{
			budget: budget{rate.NewLimiter(peerMessages, peerMessagesBurst), rate.NewLimiter(peerBytes, peerBytesBurst)},
			own:    rate.NewLimiter(ownMessages, ownMessagesBurst),
			topics: make(map[string]struct{}),
		}
		g.peers[id] = n
	}
	return n
}

func (g *guard) forget(id peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.peers[id]; n != nil {
		g.subs -= len(n.topics)
		delete(g.peers, id)
	}
}

// inspect takes the messages out of an RPC that exceed the budget. What else the
// RPC holds stays: a flooded peer must still learn who subscribes and who leaves.
func (g *guard) inspect(from peer.ID, rpc *pubsub.RPC) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, now := g.neighbour(from), g.now()
	kept := rpc.Publish[:0]
	for _, m := range rpc.Publish {
		size := len(m.GetData()) + len(m.GetTopic()) + len(m.GetKey()) + len(m.GetFrom())
		// The neighbour's budget first, or one flood would spend everybody's. The
		// author is not verified yet, but a forger spends its own budget only.
		if n == nil || !n.take(now, size) {
			continue
		}
		if peer.ID(m.GetFrom()) == from && n.own.AllowN(now, 1) || g.all.take(now, size) {
			kept = append(kept, m)
		}
	}
	clear(rpc.Publish[len(kept):])
	rpc.Publish = kept
	return nil
}

func (b budget) take(now time.Time, size int) bool {
	return b.messages.AllowN(now, 1) && b.bytes.AllowN(now, size)
}

// CanSubscribe says whether a topic is of this network.
func (g *guard) CanSubscribe(topic string) bool {
	switch topic {
	case Topic, ChatTopic, CoinJoinTopic:
		return true
	}
	if len(topic) > 64 {
		return false
	}
	id, err := peer.Decode(topic)
	return err == nil && id.String() == topic
}

// FilterIncomingSubscriptions keeps the network's own topics and the peer's
// private topic always, and others' private topics as long as there is room.
func (g *guard) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	if len(subs) > subscriptionsPerRPC {
		return nil, fmt.Errorf("%d subscriptions at once: %w", len(subs), pubsub.ErrTooManySubscriptions)
	}
	subs = pubsub.FilterSubscriptions(subs, g.CanSubscribe)
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.neighbour(from)
	if n == nil {
		return nil, nil
	}
	own := from.String()
	kept := subs[:0]
	for _, s := range subs {
		topic := s.GetTopicid()
		switch {
		case topic == Topic || topic == ChatTopic || topic == CoinJoinTopic || topic == own:
		case !s.GetSubscribe():
			if _, ok := n.topics[topic]; ok {
				delete(n.topics, topic)
				g.subs--
			}
		default:
			if _, ok := n.topics[topic]; !ok {
				if len(n.topics) >= peerSubscriptions || g.subs >= allSubscriptions {
					continue
				}
				n.topics[topic] = struct{}{}
				g.subs++
			}
		}
		kept = append(kept, s)
	}
	return kept, nil
}
