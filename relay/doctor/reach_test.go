package doctor

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// One relay that dials back serves another that asks, at the address it comes
// from and nowhere else.
func TestReach(t *testing.T) {
	c := relaytest.LabConfig(t)
	asked := relaytest.NewPeer(t, nil, libp2p.ListenAddrStrings("/ip4/127.0.0.2/tcp/0"))
	helper, err := newReach(asked, c)
	relaytest.Must(t, err)
	defer helper.close()
	asker := relaytest.NewPeer(t, nil, libp2p.ListenAddrStrings("/ip4/127.0.0.5/tcp/0"))
	r, err := newReach(asker, c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if r.ask(relaytest.Context(t), asker.Addrs()) {
		t.Error("nobody is there to ask")
	}
	if err := asker.Connect(relaytest.Context(t), *host.InfoFromHost(asked)); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "reached", func() bool {
		r.ask(relaytest.Context(t), asker.Addrs())
		s := r.state(time.Now())
		return len(s) == 1 && s[0].Outcome == status.Met
	})
	if s := r.state(time.Now().Add(25 * time.Hour)); s[0].Outcome != status.Unknown {
		t.Errorf("a day later: %+v", s)
	}
	// What is no longer announced is forgotten.
	r.next(relaytest.Multiaddrs(t, "/ip4/127.0.0.6/tcp/1"))
	if s := r.state(time.Now()); len(s) != 1 || s[0].Addr != "/ip4/127.0.0.6/tcp/1" || s[0].Outcome != status.Unknown {
		t.Errorf("after a change: %+v", s)
	}
}
