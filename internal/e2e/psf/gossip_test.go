package psf

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/coord"
)

// gossip is what a peer of js/gossip.mjs knows.
type gossip struct {
	ID    string
	Open  bool // it still has its one connection to the relay
	Near  map[string][]string
	Inbox []struct {
		Topic, From, Announced string
		Bytes                  int
	}
}

func (p *peer) gossip() (g gossip) {
	p.t.Helper()
	if err := p.call("state", nil, &g); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return g
}

func (p *peer) do(cmd, topic string, bytes int) {
	p.t.Helper()
	if err := p.call(cmd, map[string]any{"topic": topic, "bytes": bytes}, nil); err != nil {
		p.t.Fatalf("%s: %s: %v", p.name, cmd, err)
	}
}

// got says whether a message of a peer arrived, or its announcement where bytes is 0.
func (g gossip) got(topic string, from *peer, bytes int) bool {
	return slices.ContainsFunc(g.Inbox, func(m struct {
		Topic, From, Announced string
		Bytes                  int
	}) bool {
		return m.Topic == topic && m.From == from.id && (m.Bytes == bytes || bytes == 0 && m.Announced == from.id)
	})
}

// newGossips starts a relay and peers that are connected to it alone.
func newGossips(t *testing.T, topics []string, names ...string) (*relay, []*peer) {
	t.Helper()
	r := newRelay(t, map[string]any{
		"listen": listen(byTCP, []string{}),
		"psf":    map[string]any{"bootstrap": []string{nobody}, "bootstrap_list": ""},
	})
	r.start()
	peers := make([]*peer, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			peers[i] = newPeer(t, peerConfig{Name: name, Script: "gossip.mjs", Via: byTCP[0] + "/p2p/" + r.id, Topics: topics})
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, p := range peers {
		until(t, 2*time.Minute, p.name+" and the relay are neighbours", func() bool { return slices.Contains(p.gossip().Near[topics[0]], r.id) })
	}
	return r, peers
}

// said has a peer publish until the others have it: the first messages may come
// before the relay has the others in its mesh.
func said(t *testing.T, topic string, bytes int, from *peer, others ...*peer) {
	t.Helper()
	var last time.Time
	until(t, 2*time.Minute, "a message of "+from.name+" is read by all", func() bool {
		if time.Since(last) > 5*time.Second {
			from.do("publish", topic, bytes)
			last = time.Now()
		}
		return !slices.ContainsFunc(others, func(p *peer) bool { return !p.gossip().got(topic, from, bytes) })
	})
}

// Large messages of real js peers pass through the relay; one that is too large is
// passed over; and a stream that was reset comes back. After each of these everybody is
// heard by everybody.
func TestLargeMessages(t *testing.T) {
	if !isolated(t) {
		return
	}
	topic := coord.ChatTopic
	_, peers := newGossips(t, []string{topic, coord.Topic}, "alice", "bob", "carol", "stranger")
	alice, bob, carol, stranger := peers[0], peers[1], peers[2], peers[3]
	small := 100
	allHear := func(what string) {
		t.Helper()
		t.Log("            ", what)
		small++
		for _, from := range peers {
			said(t, topic, small, from, slices.DeleteFunc(slices.Clone(peers), func(p *peer) bool { return p == from })...)
		}
	}
	allHear("at first")
	for _, bytes := range []int{300 << 10, 1000 << 10, 3900 << 10} {
		said(t, topic, bytes, alice, bob, carol)
	}
	allHear("after large messages")
	said(t, topic, 300<<10, stranger, alice, bob, carol)
	stranger.do("publish", coord.Topic, 300<<10)
	stranger.do("publish", topic, 5<<20)
	allHear("after what a stranger may try")
	bob.do("reset", "", 0)
	allHear("after bob's stream was reset")
	for _, p := range peers {
		if !p.gossip().Open {
			t.Errorf("%s has another connection than at first", p.name)
		}
	}
}

// Peers on ipfs-coord's topic alone hear the relay and one another through it, also in
// private.
func TestIPFSCoord(t *testing.T) {
	if !isolated(t) {
		return
	}
	r, peers := newGossips(t, []string{coord.OldTopic}, "alice", "bob")
	alice, bob := peers[0], peers[1]
	relayPeer := &peer{id: r.id}
	for _, p := range peers {
		until(t, 3*time.Minute, p.name+" hears the relay", func() bool { return p.gossip().got(coord.OldTopic, relayPeer, 0) })
	}
	for from, to := range map[*peer]*peer{alice: bob, bob: alice} {
		var last time.Time
		until(t, 2*time.Minute, to.name+" hears "+from.name, func() bool {
			if time.Since(last) > 5*time.Second {
				from.do("announce", coord.OldTopic, 0)
				last = time.Now()
			}
			return to.gossip().got(coord.OldTopic, from, 0)
		})
	}
	bob.do("subscribe", alice.id, 0)
	until(t, 2*time.Minute, "the relay is on alice's private topic", func() bool { return slices.Contains(bob.gossip().Near[alice.id], r.id) })
	said(t, alice.id, 700, bob, alice)
}
