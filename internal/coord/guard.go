package coord

import (
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// The budgets of a neighbour, and of all of them together. An honest peer
// sends one announcement in two minutes, and the private messages of its user. A
// service (ipfs-service-provider, a P2WDB, a bch-consumer's provider) answers with
// the JSON of an RPC, encrypted and in hex, which doubles it: mostly some KiB, at
// times 100 to 1,000 KiB, and a page that loads asks for twenty at once. A
// neighbouring relay forwards what its own peers send. Every burst has room for two
// of the largest messages.
const (
	peerMessages, peerMessagesBurst = 50, 500
	peerBytes, peerBytesBurst       = 256 << 10, 2 * MaxMessage
	allMessages, allMessagesBurst   = 300, 4000
	allBytes, allBytesBurst         = 1 << 20, 4 * MaxMessage
	// Messages that a neighbour signs itself are not for others to crowd out: so many
	// are taken whatever the others send, if they are no larger than an announcement.
	ownMessages, ownMessagesBurst = 0.2, 20
	ownLargest                    = MaxAnnouncement + 512
	// What frames name, and the frames: gossipsub looks at all of it in one loop, and at
	// nothing else meanwhile. A peer that sends more waits. In IHAVE alone js-libp2p may
	// name 5,000 a second; two full frames may come at once.
	peerNames, peerNamesBurst = 5000, 2 * (maxEntries + 2)
)

// How many subscriptions of others are remembered. A helia-coord node subscribes
// to the private topic of every peer that it ever heard of.
const (
	peerSubscriptions = 256
	allSubscriptions  = 32 << 10
)

// guard bounds what gossipsub takes from others before it spends anything on it:
// messages and bytes by a token bucket for each neighbour and one for all, and
// subscriptions by kind of topic and number.
type guard struct {
	net    network.Network
	now    func() time.Time
	drops  *drops
	looked func(from peer.ID) // an RPC came to inspect
	mu     sync.Mutex
	all    budget
	peers  map[peer.ID]*neighbour
	subs   int // over all peers
}

type neighbour struct {
	budget
	own    *rate.Limiter
	names  *rate.Limiter
	topics map[string]struct{}
}

type budget struct{ messages, bytes *rate.Limiter }

func newGuard(h host.Host) *guard {
	g := &guard{
		net:    h.Network(),
		now:    clock,
		drops:  newDrops(),
		looked: func(peer.ID) {},
		all:    budget{rate.NewLimiter(allMessages, allMessagesBurst), rate.NewLimiter(allBytes, allBytesBurst)},
		peers:  make(map[peer.ID]*neighbour),
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
		n = newNeighbour()
		g.peers[id] = n
	}
	return n
}

func newNeighbour() *neighbour {
	return &neighbour{
		budget: budget{rate.NewLimiter(peerMessages, peerMessagesBurst), rate.NewLimiter(peerBytes, peerBytesBurst)},
		own:    rate.NewLimiter(ownMessages, ownMessagesBurst),
		names:  rate.NewLimiter(peerNames, peerNamesBurst),
		topics: make(map[string]struct{}),
	}
}

func (g *guard) forget(id peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.peers[id]; n != nil {
		g.subs -= len(n.topics)
		delete(g.peers, id)
	}
}

// affords says whether a neighbour may send so much now, before anything is kept of it.
func (g *guard) affords(from peer.ID, size int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.neighbour(from)
	return n != nil && n.bytes.TokensAt(g.now()) >= float64(size)
}

// handles notes that a neighbour sent something that names so many things, and says how
// long it has to wait before the next is read: as long as one full frame costs at most.
func (g *guard) handles(from peer.ID, names int) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.neighbour(from)
	if n == nil {
		return 0
	}
	now := g.now()
	return n.names.ReserveN(now, names).DelayFrom(now)
}

// inspect takes the messages out of an RPC that exceed the budget. What else the
// RPC holds stays: a flooded peer must still learn who subscribes and who leaves.
func (g *guard) inspect(from peer.ID, rpc *pubsub.RPC) error {
	g.looked(from)
	g.mu.Lock()
	defer g.mu.Unlock()
	n, now := g.neighbour(from), g.now()
	kept := rpc.Publish[:0]
	for _, m := range rpc.Publish {
		size := len(m.GetData()) + len(m.GetTopic()) + len(m.GetKey()) + len(m.GetFrom())
		// The neighbour's budget first, or one flood would spend everybody's. The
		// author is not verified yet, but a forger spends its own budget only.
		if n == nil || !n.take(now, size) {
			g.drops.count(dropPeerBudget, size)
			continue
		}
		own := peer.ID(m.GetFrom()) == from && size <= ownLargest && n.own.AllowN(now, 1)
		if !own && !g.all.take(now, size) {
			g.drops.count(dropAllBudget, size)
			continue
		}
		kept = append(kept, m)
	}
	clear(rpc.Publish[len(kept):])
	rpc.Publish = kept
	return nil
}

func (b budget) take(now time.Time, size int) bool {
	return b.messages.AllowN(now, 1) && b.bytes.AllowN(now, size)
}

// common says whether a topic is everybody's.
func common(topic string) bool {
	switch topic {
	case Topic, OldTopic, ChatTopic, CoinJoinTopic:
		return true
	}
	return false
}

// CanSubscribe says whether a topic is of this network.
func (g *guard) CanSubscribe(topic string) bool {
	if common(topic) {
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
		case common(topic) || topic == own:
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
