package probe

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func TestGoodRelay(t *testing.T) {
	ca := newAuthority(t)
	r := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr})
	o := ca.options()
	id, key := newID(t)
	o.ProbeKey = key
	a := Run(within(t), r.Target, o)
	for _, rung := range a.Rungs {
		t.Logf("%+v", rung)
		if rung.Outcome != evidence.OK || rung.Class != "" || rung.Detail != "" || rung.DurationUS <= 0 {
			t.Errorf("rung %s: %+v", rung.Name, rung)
		}
	}
	t.Logf("%+v", a.Facts)
	if a.Level != evidence.LevelEchoed {
		t.Errorf("level %d, want %d", a.Level, evidence.LevelEchoed)
	}
	if got, err := peer.Decode(a.Facts.Reservation.Peer); err != nil || got != id {
		t.Errorf("reserving peer %v, want %v", got, id)
	}
}
