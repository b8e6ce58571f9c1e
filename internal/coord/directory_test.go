package coord

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func heardOf(id, via peer.ID, at time.Time) Heard {
	return Heard{Announcement: Announcement{PeerID: id, BroadcastedAt: at}, At: at, Via: via}
}

func TestMembership(t *testing.T) {
	d := newDirectory()
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	is := func(id peer.ID, at time.Duration) bool {
		d.expire(start.Add(at))
		e, ok := d.get(id)
		return ok && e.member(start.Add(at))
	}

	d.subscribe("silent", Topic, start)
	if !is("silent", newcomerTime) || is("silent", newcomerTime+time.Second) {
		t.Error("a peer on the topic is not a member for just its first ten minutes")
	}
	d.subscribe("silent", Topic, start.Add(time.Hour))
	if is("silent", time.Hour) {
		t.Error("subscribed twice, and new again")
	}

	d.subscribe("speaks", Topic, start)
	d.announce(heardOf("speaks", "speaks", start.Add(20*time.Minute)))
	if !is("speaks", 20*time.Minute+MaxAge) || is("speaks", 20*time.Minute+MaxAge+time.Second) {
		t.Error("a peer that announced itself is not a member for just MaxAge")
	}

	d.announce(heardOf("distant", "speaks", start.Add(time.Hour)))
	replay := heardOf("distant", "speaks", start.Add(time.Hour))
	replay.At = start.Add(time.Hour + MaxAge)
	d.announce(replay)
	if !is("distant", time.Hour+MaxAge) || is("distant", time.Hour+MaxAge+time.Second) {
		t.Error("a replayed announcement counts")
	}
	if _, ok := d.get("distant"); ok {
		t.Error("not forgotten")
	}

	d.leave("silent", Topic)
	if _, ok := d.get("silent"); ok {
		t.Error("left, and not forgotten")
	}
}

// One neighbour's inventions neither fill the directory nor take a place from a
// peer that is there.
func TestDirectoryIsBounded(t *testing.T) {
	d := newDirectory()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	n := 0
	invent := func(via peer.ID, count int) {
		for range count {
			n++
			now = now.Add(time.Millisecond)
			d.announce(heardOf(peer.ID(fmt.Sprint("invented ", n)), via, now))
		}
	}
	invent("liar", 10000)
	if got := len(d.peers); got != maxDistantThrough {
		t.Fatalf("one neighbour filled %d places, want %d", got, maxDistantThrough)
	}
	for i := range 12 {
		invent(peer.ID(fmt.Sprint("liar ", i)), 300)
	}
	if got := len(d.peers); got != maxDistant {
		t.Fatalf("many neighbours filled %d places, want %d", got, maxDistant)
	}
	for i := range maxPeers + 10 {
		d.subscribe(peer.ID(fmt.Sprint("neighbour ", i)), Topic, now)
	}
	if got := len(d.peers); got != maxPeers {
		t.Fatalf("%d peers, want %d", got, maxPeers)
	}
	near, distant := d.members(now)
	if len(near) != maxPeers || len(distant) != 0 {
		t.Fatalf("%d neighbours and %d distant peers", len(near), len(distant))
	}
	// Neighbours that leave make room again, and no more than there is.
	for i := range maxPeers {
		d.leave(peer.ID(fmt.Sprint("neighbour ", i)), Topic)
	}
	if got := len(d.peers); got != 0 {
		t.Fatalf("%d peers left", got)
	}
}

// A neighbour on both coordination topics is one until it has left both.
func TestNeighbourOnTwoTopics(t *testing.T) {
	d, now := newDirectory(), time.Now()
	d.subscribe("both", Topic, now)
	d.subscribe("both", OldTopic, now.Add(time.Second))
	d.leave("both", Topic)
	if e, ok := d.get("both"); !ok || !e.near() || !e.subscribed.Equal(now) {
		t.Errorf("left one of two topics: %+v, %v", e, ok)
	}
	d.leave("both", OldTopic)
	if _, ok := d.get("both"); ok {
		t.Error("left both, and is not forgotten")
	}
}
