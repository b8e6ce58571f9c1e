package circuit

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// One address cannot hold all circuits between guests: another one gets as many as leave it
// less than eight behind, and costs the first one its oldest.
func TestGuestCircuitsOfManyGiveWay(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.GuestCircuits = 2*fairGap + 4
	r := start(t, c)
	relay := r.info()
	holder := relaytest.NewPeerAt(t, "127.0.2.1")
	_, err := relaytest.Reserve(t, holder, relay)
	relaytest.Must(t, err)
	relaytest.AcceptRaw(holder, relaytest.SendBack)
	hog, other := relaytest.NewPeerAt(t, "127.0.2.2"), relaytest.NewPeerAt(t, "127.0.2.3")
	relaytest.Must(t, hog.Connect(relaytest.Context(t), relay))
	relaytest.Must(t, other.Connect(relaytest.Context(t), relay))
	var hogs, others []network.Stream
	for range c.Limits.GuestCircuits {
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
		if err := relaytest.Talk(s); (err == nil) != (i >= fair) {
			t.Errorf("circuit %d: %v", i, err)
		}
	}
	if n := r.tally.Endings()[refusal.EndedGuestsMost]; n != fair {
		t.Errorf("%d circuits were counted that gave way, want %d", n, fair)
	}
	if _, guests := r.service.Count(); guests != c.Limits.GuestCircuits {
		t.Errorf("%d circuits are open between guests, want %d", guests, c.Limits.GuestCircuits)
	}
	for _, s := range append(hogs, others...) {
		_ = s.Reset()
	}
	r.wantNothingOpen(t)
}
