package coord

import (
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

// jsLike is a peer that opens its stream to a router as gossipsub 9 to 17 of js-libp2p
// does: when the router's own stream comes, and only if it has forgotten the router
// before, which it does when that stream ends with an error.
func jsLike(t testing.TB, router host.Host) host.Host {
	t.Helper()
	h := newHost(t)
	known := make(chan struct{}, 1)
	h.SetStreamHandler(pubsub.GossipSubID_v11, func(s network.Stream) {
		known <- struct{}{} // the one before has ended, and so is forgotten
		if out, err := h.NewStream(t.Context(), router.ID(), pubsub.GossipSubID_v11); err == nil {
			_, _ = out.Write(subscribing(t, Topic))
		}
		for buf := make([]byte, 1024); ; {
			if _, err := s.Read(buf); err != nil {
				<-known
				return
			}
		}
	})
	connect(t, h, router)
	return h
}

// A peer whose stream was reset, while the connection lives, is a neighbour again, on
// the same connection; one that resets its own each time is left alone in the end.
func TestStreamThatWasResetIsMended(t *testing.T) {
	relay := newRouter(t)
	s := relay.streams()
	s.mu.Lock()
	s.mendAfter, s.mendAgain = 50*time.Millisecond, time.Hour
	s.mu.Unlock()
	peer := jsLike(t, relay.host)
	neighbour := func() bool { return relay.subscriber(peer.ID()) }
	conns := relay.host.Network().ConnsToPeer(peer.ID())
	eventually(t, "a neighbour", neighbour)
	stream := func() network.Stream {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.from[peer.ID()]
	}
	for range mostMends {
		// For a moment it is no neighbour. On a busy machine the test may miss that moment.
		before := stream()
		_ = before.Reset()
		eventually(t, "a neighbour again", func() bool {
			now := stream()
			return now != nil && now != before && neighbour()
		})
	}
	if now := relay.host.Network().ConnsToPeer(peer.ID()); len(now) != 1 || now[0] != conns[0] {
		t.Errorf("its connections are %v, want the one it had", now)
	}
	s.mu.Lock()
	from, to := s.from[peer.ID()], s.to[peer.ID()]
	s.mu.Unlock()
	_ = from.Reset()
	eventually(t, "none any more", func() bool { return !neighbour() })
	s.mend(peer.ID())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to[peer.ID()] != to || s.mends[peer.ID()].n != mostMends {
		t.Errorf("mended for the %dth time", s.mends[peer.ID()].n)
	}
}

// A relay that peers are connected to, and that hears none of them, says so; and it
// goes on announcing, without claiming that it was heard.
func TestSilentRelay(t *testing.T) {
	relay := newRouter(t)
	eventually(t, "it looked", func() bool { return relay.Stats().Speakers == 0 })
	if s := relay.Stats(); !s.Silent.IsZero() {
		t.Errorf("a relay that nobody is connected to: %+v", s)
	}
	relay.Ready()
	eventually(t, "announced, and not heard", func() bool { return !relay.Stats().Unheard.IsZero() })
	stranger, _ := newNode(t) // speaks gossipsub, and is on no topic
	connect(t, stranger, relay.host)
	eventually(t, "silent", func() bool { s := relay.Stats(); return s.Speakers == 1 && !s.Silent.IsZero() })
	if s := relay.Stats(); !s.LastAnnounced.IsZero() || s.Most != 0 {
		t.Errorf("heard by nobody: %+v", s)
	}
	alice := newClient(t)
	connect(t, alice, relay.host)
	alice.heardOf(relay.host.ID())
	eventually(t, "not silent, and heard", func() bool {
		s := relay.Stats()
		return s.Silent.IsZero() && s.Unheard.IsZero() && !s.LastAnnounced.IsZero() && s.Most == 1
	})
}

// Peers on ipfs-coord's topic alone hear the relay and one another there, and have
// their private topics relayed; what is said on one topic is not copied to the other.
func TestOldTopic(t *testing.T) {
	relay := newRouter(t)
	relay.Ready()
	alice, bob := newClientOn(t, OldTopic), newClientOn(t, OldTopic)
	other := newClient(t)
	for _, c := range []*node{alice, bob, other} { // the next announcement is for all of them
		connect(t, c, relay.host)
	}
	for _, c := range []*node{alice, bob, other} {
		c.heardOf(relay.host.ID())
	}
	alice.announce()
	bob.heardOf(alice.ID())
	bob.announce()
	alice.heardOf(bob.ID())
	eventually(t, "members", func() bool { return relay.IsMember(alice.ID()) && relay.IsMember(bob.ID()) })
	eventually(t, "private topics", func() bool { return relay.Stats().PrivateTopics == 3 })
	bob.send(alice.ID(), relay.host.ID(), []byte(`"a word"`))
	if m, err := alice.inbox.Next(testContext(t)); err != nil || string(m.GetData()) != `"a word"` {
		t.Errorf("a private message: %v", err)
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	for _, a := range other.heard {
		if a.PeerID != relay.host.ID() {
			t.Errorf("%s is heard on the other topic", a.PeerID)
		}
	}
}
