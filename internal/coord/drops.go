package coord

import (
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// drop is why something was not passed on. The words are for metrics.
type drop string

const (
	dropPeerBudget drop = "peer_budget" // the neighbour sent more than one may
	dropAllBudget  drop = "all_budget"  // all of them together did
	dropOversize   drop = "oversize"    // a frame above MaxMessage
	dropControl    drop = "control"     // a frame with too much in it beside messages, or that cannot be read
	dropReading    drop = "reading"     // no memory for what arrives
	dropSending    drop = "sending"     // no memory for what is sent: the neighbour is slow
	dropQueue      drop = "queue"       // a queue of gossipsub was full
)

// Dropped is how much was not passed on for one reason since the start: messages,
// or whole frames where those were not looked into.
type Dropped struct {
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

type drops struct {
	mu  sync.Mutex
	all map[drop]Dropped
}

func newDrops() *drops {
	d := &drops{all: make(map[drop]Dropped)}
	for _, why := range []drop{dropPeerBudget, dropAllBudget, dropOversize, dropControl, dropReading, dropSending, dropQueue} {
		d.all[why] = Dropped{}
	}
	return d
}

func (d *drops) count(why drop, size int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.all[why]
	n.Messages++
	n.Bytes += uint64(size)
	d.all[why] = n
}

// counts is by reason; every reason is there.
func (d *drops) counts() map[string]Dropped {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]Dropped, len(d.all))
	for why, n := range d.all {
		out[string(why)] = n
	}
	return out
}

// queues counts what gossipsub itself drops.
type queues struct{ *drops }

// RejectMessage implements pubsub.RawTracer.
func (q queues) RejectMessage(m *pubsub.Message, reason string) {
	if reason == pubsub.RejectValidationQueueFull || reason == pubsub.RejectValidationThrottled {
		q.count(dropQueue, len(m.GetData()))
	}
}

// DropRPC implements pubsub.RawTracer.
func (q queues) DropRPC(rpc *pubsub.RPC, _ peer.ID) {
	for _, m := range rpc.GetPublish() {
		q.count(dropQueue, len(m.GetData()))
	}
}

// UndeliverableMessage implements pubsub.RawTracer.
func (q queues) UndeliverableMessage(m *pubsub.Message) { q.count(dropQueue, len(m.GetData())) }

// The rest of pubsub.RawTracer.

func (queues) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (queues) OnClosedOutboundStream(peer.ID)           {}
func (queues) Join(string)                              {}
func (queues) Leave(string)                             {}
func (queues) Graft(peer.ID, string)                    {}
func (queues) Prune(peer.ID, string)                    {}
func (queues) ValidateMessage(*pubsub.Message)          {}
func (queues) DeliverMessage(*pubsub.Message)           {}
func (queues) DuplicateMessage(*pubsub.Message)         {}
func (queues) ThrottlePeer(peer.ID)                     {}
func (queues) RecvRPC(*pubsub.RPC)                      {}
func (queues) SendRPC(*pubsub.RPC, peer.ID)             {}
