package coord

import (
	"fmt"
	"log/slog"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// How many private topics are relayed, how many of them for peers that are not
// connected to us, and how fast new ones are taken: each costs a message to
// every neighbour.
const (
	maxTopics        = 512
	maxDistantTopics = 128
	topicsPerSecond  = 4
	topicsBurst      = 16
)

// topics are the private topics that are relayed for others. Gossipsub forwards
// only what the router itself takes part in, and peers behind NAT reach one
// another's topics through nobody else.
type topics struct {
	ps      *pubsub.PubSub
	log     *slog.Logger
	limit   *rate.Limiter
	relayed map[peer.ID]relayedTopic
}

type relayedTopic struct {
	*pubsub.Topic
	stop func()
}

func newTopics(ps *pubsub.PubSub, log *slog.Logger) *topics {
	return &topics{ps: ps, log: log, limit: rate.NewLimiter(topicsPerSecond, topicsBurst), relayed: make(map[peer.ID]relayedTopic)}
}

// relay takes the topics of those who should have one, as many as fit, and
// leaves the others'. Called again, it goes on where the rate stopped it.
func (t *topics) relay(near, distant []peer.ID, now time.Time) {
	want := make(map[peer.ID]bool, maxTopics)
	take := func(ids []peer.ID, room int) {
		for _, held := range []bool{true, false} { // a topic that is there stays there
			for _, id := range ids {
				if _, ok := t.relayed[id]; ok == held && room > 0 {
					want[id] = true
					room--
				}
			}
		}
	}
	take(near, maxTopics)
	take(distant, min(maxDistantTopics, maxTopics-len(want)))

	for id := range t.relayed {
		if !want[id] {
			t.leave(id)
		}
	}
	for _, ids := range [][]peer.ID{near, distant} {
		for _, id := range ids {
			if _, ok := t.relayed[id]; ok || !want[id] {
				continue
			}
			if !t.limit.AllowN(now, 1) {
				return
			}
			if err := t.join(id); err != nil {
				t.log.Warn("could not relay a private topic", "peer", id.String(), "error", err)
			}
		}
	}
}

func (t *topics) join(id peer.ID) error {
	topic, err := t.ps.Join(id.String())
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	stop, err := topic.Relay()
	if err != nil {
		_ = topic.Close()
		return fmt.Errorf("relay: %w", err)
	}
	t.relayed[id] = relayedTopic{topic, stop}
	return nil
}

func (t *topics) leave(id peer.ID) {
	r := t.relayed[id]
	delete(t.relayed, id)
	r.stop()
	if err := r.Close(); err != nil {
		t.log.Warn("could not leave a private topic", "peer", id.String(), "error", err)
	}
}

func (t *topics) leaveAll() {
	for id := range t.relayed {
		t.leave(id)
	}
}
