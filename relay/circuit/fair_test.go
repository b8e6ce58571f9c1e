package circuit

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// One address cannot hold all circuits, nor all those between guests or to one peer: another one gets as
// many as leave it less than eight behind, and costs the first one its oldest.
func TestCircuitsOfManyGiveWay(t *testing.T) {
	const circuits = 2*fairGap + 4
	t.Run("of all", func(t *testing.T) {
		c := relaytest.LimitConfig(t)
		c.Limits.Circuits, c.Limits.GuestCircuits = circuits, 1
		r, club := startWithClub(t, c)
		shareOut(t, r, club, circuits, refusal.EndedCircuits)
	})
	t.Run("to one peer", func(t *testing.T) {
		c := relaytest.LimitConfig(t)
		c.Limits.CircuitsPerPeer = circuits
		shareOut(t, start(t, c), &relaytest.Club{}, circuits, refusal.EndedPeerCircuits)
	})
	t.Run("of guests", func(t *testing.T) {
		c := relaytest.LimitConfig(t)
		c.Limits.GuestCircuits = circuits
		shareOut(t, start(t, c), &relaytest.Club{}, circuits, refusal.EndedGuestCircuits)
	})
}

func shareOut(t *testing.T, r *running, club *relaytest.Club, circuits int, why string) {
	relay := r.info()
	holder := relaytest.NewPeerAt(t, "127.0.2.1")
	club.Admit(holder.ID())
	_, err := relaytest.Reserve(t, holder, relay)
	relaytest.Must(t, err)
	relaytest.AcceptRaw(holder, relaytest.SendBack)
	hog, other := relaytest.NewPeerAt(t, "127.0.2.2"), relaytest.NewPeerAt(t, "127.0.2.3")
	relaytest.Must(t, hog.Connect(relaytest.Context(t), relay))
	relaytest.Must(t, other.Connect(relaytest.Context(t), relay))
	var hogs, others []network.Stream
	for range circuits {
		hogs = append(hogs, relaytest.MustOpenRaw(t, hog, relay.ID, holder.ID()))
	}
	refused := func(from string, s network.Stream, err error) {
		t.Helper()
		if err == nil {
			_ = s.Reset()
			t.Errorf("%s got a circuit more", from)
		}
	}
	s, err := relaytest.OpenRaw(relaytest.Context(t), hog, relay.ID, holder.ID())
	refused("the hog", s, err)
	const fair = 7 // 13 and 7: less than eight apart
	for range fair {
		others = append(others, relaytest.MustOpenRaw(t, other, relay.ID, holder.ID()))
	}
	s, err = relaytest.OpenRaw(relaytest.Context(t), other, relay.ID, holder.ID())
	refused("the other", s, err)
	for i, s := range append(hogs, others...) {
		if i < fair {
			// It is cut beside the request that it gives way to, which does not wait for that.
			relaytest.Eventually(t, fmt.Sprintf("circuit %d gives way", i), func() bool { return relaytest.Talk(s) != nil })
		} else if err := relaytest.Talk(s); err != nil {
			t.Errorf("circuit %d: %v", i, err)
		}
	}
	if n := r.tally.Endings()[why]; n != fair {
		t.Errorf("%d circuits were counted that gave way, want %d", n, fair)
	}
	if members, guests := r.service.Count(); members+guests != circuits {
		t.Errorf("%d and %d circuits are open, want %d", members, guests, circuits)
	}
	for _, s := range append(hogs, others...) {
		_ = s.Reset()
	}
	r.wantNothingOpen(t)
}
