package coord

import (
	"context"
	"fmt"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// clock is the wall clock; limits and ages are measured by it.
var clock = time.Now

// Heard is an announcement as it arrived: its peer ID is that of the peer that
// signed it, and it was not older than MaxAge.
type Heard struct {
	Announcement
	At  time.Time // when it arrived
	Via peer.ID   // the neighbour that handed it over; may be the author
}

// Listener is on the coordination topic and hands out what is announced there.
type Listener struct {
	ps    *pubsub.PubSub
	name  string // of the topic
	topic *pubsub.Topic
	sub   *pubsub.Subscription
	stop  context.CancelFunc
	done  chan struct{}
	once  sync.Once
}

// Listen joins the coordination topic of ps and calls heard for each valid
// announcement, one after the other, until Close. What is published through ps
// itself is heard too. A pubsub has room for one Listener or one Member.
func Listen(ps *PubSub, heard func(Heard)) (*Listener, error) {
	return listen(ps.PubSub, Topic, heard)
}

func listen(ps *pubsub.PubSub, topic string, heard func(Heard)) (*Listener, error) {
	if err := ps.RegisterTopicValidator(topic, validate, pubsub.WithValidatorInline(true)); err != nil {
		return nil, fmt.Errorf("listen on the coordination topic: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Listener{ps: ps, name: topic, stop: stop, done: make(chan struct{})}
	if err := l.join(); err != nil {
		stop()
		_ = ps.UnregisterTopicValidator(topic)
		return nil, fmt.Errorf("listen on the coordination topic: %w", err)
	}
	go l.loop(ctx, heard)
	return l, nil
}

func (l *Listener) join() (err error) {
	if l.topic, err = l.ps.Join(l.name); err != nil {
		return err
	}
	// The queue is bounded by number, so that what waits in it is below 2 MiB.
	if l.sub, err = l.topic.Subscribe(pubsub.WithBufferSize(128)); err != nil {
		_ = l.topic.Close()
	}
	return err
}

func (l *Listener) loop(ctx context.Context, heard func(Heard)) {
	defer close(l.done)
	for {
		m, err := l.sub.Next(ctx)
		if err != nil {
			return
		}
		if a, ok := m.ValidatorData.(Announcement); ok {
			heard(Heard{Announcement: a, At: clock(), Via: m.ReceivedFrom})
		}
	}
}

// Close leaves the topic; heard is not called after it returned.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		// Not by Cancel alone: a pubsub that has ended answers no more.
		l.stop()
		<-l.done
		l.sub.Cancel()
		_ = l.ps.UnregisterTopicValidator(l.name)
		if err = l.topic.Close(); err != nil {
			err = fmt.Errorf("leave the coordination topic: %w", err)
		}
	})
	return err
}

// validate decides what is handed to us and passed on to others. Nothing is
// rejected, only ignored: the neighbour that forwards a bad announcement did not
// write it.
func validate(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	a, err := ParseAnnouncement(m.GetData())
	if err != nil || a.PeerID != m.GetFrom() || clock().Sub(a.BroadcastedAt) > MaxAge {
		return pubsub.ValidationIgnore
	}
	m.ValidatorData = a
	return pubsub.ValidationAccept
}

// Hear waits on ps for the next announcement of one peer.
func Hear(ctx context.Context, ps *PubSub, of peer.ID) (Heard, error) {
	found := make(chan Heard, 1)
	l, err := Listen(ps, func(h Heard) {
		if h.PeerID == of {
			select {
			case found <- h:
			default:
			}
		}
	})
	if err != nil {
		return Heard{}, err
	}
	defer l.Close()
	select {
	case h := <-found:
		return h, nil
	case <-ctx.Done():
		return Heard{}, fmt.Errorf("hear the announcement of %s: %w", of, ctx.Err())
	}
}
