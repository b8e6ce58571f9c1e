package coord

import (
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

func joined(t testing.TB, ps *PubSub, name string) *pubsub.Topic {
	t.Helper()
	topic, err := ps.Join(name)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func subscribed(t testing.TB, topic *pubsub.Topic, by peer.ID) {
	t.Helper()
	eventually(t, "subscription to "+topic.String(), func() bool {
		for _, id := range topic.ListPeers() {
			if id == by {
				return true
			}
		}
		return false
	})
}

func TestHear(t *testing.T) {
	relay, relayPS := newNode(t)
	monitor, monitorPS := newNode(t)
	connect(t, monitor, relay)
	topic := joined(t, relayPS, Topic)

	type result struct {
		h   Heard
		err error
	}
	got := make(chan result, 1)
	go func() {
		h, err := Hear(testContext(t), monitorPS, relay.ID())
		got <- result{h, err}
	}()
	subscribed(t, topic, monitor.ID())

	publish := func(a Announcement) {
		t.Helper()
		b, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := topic.Publish(testContext(t), b); err != nil {
			t.Fatal(err)
		}
	}
	stolen := sample(monitor.ID()) // signed by the relay, in another's name
	stolen.BroadcastedAt = time.Now()
	publish(stolen)
	old := sample(relay.ID())
	old.BroadcastedAt = time.Now().Add(-MaxAge - time.Minute)
	publish(old)
	good := sample(relay.ID())
	good.BroadcastedAt = time.Now()
	if err := topic.Publish(testContext(t), []byte(`{"not":"an announcement"}`)); err != nil {
		t.Fatal(err)
	}
	publish(good)

	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	if r.h.PeerID != relay.ID() || r.h.Via != relay.ID() || r.h.JSONLD.Name != "my-relay" {
		t.Fatalf("heard %+v", r.h)
	}
	if want := good.BroadcastedAt.UTC().Truncate(time.Millisecond); !r.h.BroadcastedAt.Equal(want) {
		t.Fatalf("heard the announcement of %v, want that of %v", r.h.BroadcastedAt, want)
	}
	if r.h.At.IsZero() {
		t.Fatal("no time of arrival")
	}
	// The topic is free again.
	l, err := Listen(monitorPS, func(Heard) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(monitorPS, func(Heard) {}); err == nil {
		t.Fatal("two listeners on one pubsub")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// The id of js-libp2p's gossipsub (msgId of @libp2p/pubsub): the protobuf of the
// author's public key, here Ed25519, then the sequence number.
func TestMessageID(t *testing.T) {
	h, ps := newNode(t)
	topic := joined(t, ps, Topic)
	sub, err := topic.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if err := topic.Publish(testContext(t), []byte("x")); err != nil {
		t.Fatal(err)
	}
	m, err := sub.Next(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := h.ID().ExtractPublicKey()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := pub.Raw()
	if err != nil {
		t.Fatal(err)
	}
	want := string([]byte{8, 1, 18, 32}) + string(raw) + string(m.GetSeqno())
	if m.ID != want || len(m.ID) != 44 {
		t.Fatalf("message id %x, want %x", m.ID, want)
	}
}
