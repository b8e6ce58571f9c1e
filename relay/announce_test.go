package relay

import (
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// The first announcement that a newcomer hears must be all it needs.
func TestAnnouncement(t *testing.T) {
	t.Parallel() // the second announcement comes ten seconds after the first
	r := start(t, relaytest.LabConfig(t))
	h := relaytest.NewPeer(t, nil)
	ps, err := coord.NewPubSub(t.Context(), h, pubsub.WithFloodPublish(true))
	if err != nil {
		t.Fatal(err)
	}
	ctx := relaytest.Context(t)
	heard := make(chan coord.Heard, 1)
	go func() {
		a, err := coord.Hear(ctx, ps, r.ID())
		if err != nil {
			t.Error(err)
		}
		heard <- a
	}()
	relaytest.Eventually(t, "the listener subscribes", func() bool { return len(ps.GetTopics()) == 1 })
	if err := h.Connect(ctx, dialable(t, r.Relay)["tcp"]); err != nil {
		t.Fatal(err)
	}
	// Being on the topic is enough for a newcomer to count as a member; being
	// connected is not.
	relaytest.Eventually(t, "the listener counts as a member", func() bool { return r.service.Member(h.ID()) })
	stranger := relaytest.NewPeer(t, nil)
	if err := stranger.Connect(ctx, dialable(t, r.Relay)["tcp"]); err != nil {
		t.Fatal(err)
	}
	if r.service.Member(stranger.ID()) {
		t.Error("a stranger counts as a member")
	}
	a := <-heard
	addr := r.Addrs()[0].String()
	if !a.IsCircuitRelay || len(a.Multiaddrs) != 1 || a.Multiaddrs[0] != addr ||
		a.CircuitRelayInfo.IP4 != "127.0.0.2" || a.CircuitRelayInfo.TCPPort == 0 {
		t.Errorf("announced %+v, want the address %s", a, addr)
	}
}
