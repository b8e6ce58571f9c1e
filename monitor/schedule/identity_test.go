package schedule

import (
	"bytes"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// newRelay is a relay's peer ID.
func newRelay(t *testing.T) string {
	t.Helper()
	_, key, err := crypto.GenerateEd25519Key(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// An identity stays the same for its hour, over a restart, too: it takes one place. One
// that holds nothing new is made anew once there is something, and then stays.
func TestIdentityOfAnHour(t *testing.T) {
	relay := newRelay(t)
	h := hourly("2026-11-03T14:00:00Z")
	s := NewIdentities("m1+0+key")
	of := func(hour evidence.Hour, now News, replace bool) Identity {
		t.Helper()
		id, err := s.Of(relay, hour, now, replace)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	restart := func(id Identity, hour evidence.Hour) {
		a := evidence.Attempt{Facts: evidence.Facts{Reservation: &evidence.Reservation{}}}
		id.Sign(&a)
		s = NewIdentities("m1+0+key")
		s.Restore(evidence.Record{PeerID: relay, Hour: hour, Attempts: []evidence.Attempt{a}})
	}
	beacon, cosigned := News{Beacon: []byte("round")}, News{Cosigned: "note"}

	stale := of(h, News{}, true)
	if again := of(h, News{}, true); !again.Key.Equals(stale.Key) {
		t.Error("another identity with nothing new, either")
	}
	if again := of(h, cosigned, false); !again.Key.Equals(stale.Key) || len(s.Stale(h)) != 1 {
		t.Error("it was replaced where it must not be")
	}
	restart(stale, h)
	if again := of(h, News{}, true); !again.Key.Equals(stale.Key) || len(s.Stale(h)) != 1 {
		t.Error("another identity after a restart")
	}
	fresh := of(h, cosigned, true)
	if fresh.Key.Equals(stale.Key) || fresh.Cosigned != "note" || len(s.Stale(h)) != 0 {
		t.Error("it was not replaced")
	}
	for _, later := range []News{beacon, {Cosigned: "a newer note"}, {}} {
		if again := of(h, later, true); !again.Key.Equals(fresh.Key) {
			t.Error("it takes a third place")
		}
		restart(fresh, h)
	}
	if other := of(h+1, cosigned, true); other.Key.Equals(fresh.Key) {
		t.Error("the same identity for another hour")
	}
	if of(h+4, beacon, true); len(s.known) != 1 {
		t.Errorf("%d identities are kept", len(s.known))
	}
}
