package monitor

import (
	"fmt"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Five monitors at a relay that keeps a place for two hours and frees none, over
// four days and for every number of monitors: never more than n + 4 places.
func TestFrugalMonitorsHoldFewPlaces(t *testing.T) {
	const keeps = 2 // hours
	for n := 1; n <= 8; n++ {
		places := map[string]evidence.Hour{} // identity -> hour of its last refresh
		most := 0
		first := hourly("2026-11-03T00:00:00Z")
		for h := first; h < first+96; h++ {
			for i := range n {
				places[fmt.Sprint(i, made(h, i, n, true))] = h
			}
			held := 0
			for id, last := range places {
				// A reservation made late in its hour is still held in the second one after.
				if h-last > keeps {
					delete(places, id)
					continue
				}
				held++
			}
			most = max(most, held)
		}
		if most > n+4 {
			t.Errorf("%d monitors hold %d places, want at most %d", n, most, n+4)
		}
	}
}

// Of more than eight monitors eight reserve in a day, each in turn, and even while
// they change places a relay of 15 has room for others.
func TestMoreThanEightMonitorsTakeTurns(t *testing.T) {
	const keeps = 2 // hours
	first := hourly("2026-11-03T00:00:00Z")
	for n := mostHolders + 1; n <= 24; n++ {
		places := map[string]evidence.Hour{}
		turns := map[int]int{}
		most := 0
		for h := first; h < first+24*evidence.Hour(n); h++ {
			now := 0
			for i := range n {
				if !reserves(h, i, n, true) {
					continue
				}
				now++
				turns[i]++
				places[fmt.Sprint(i, made(h, i, n, true))] = h
			}
			if now > mostHolders+1 {
				t.Fatalf("%d of %d monitors reserve in %s", now, n, h)
			}
			for id, last := range places {
				if h-last > keeps {
					delete(places, id)
				}
			}
			most = max(most, len(places))
		}
		if most > mostHolders+4 {
			t.Errorf("%d monitors hold %d places", n, most)
		}
		if len(turns) != n {
			t.Errorf("of %d monitors %d ever had a turn", n, len(turns))
		}
	}
}

// Every monitor has a fresh identity at least once a day, and none is used for
// longer than a verifier admits.
func TestFrugalIdentitiesAreFreshEnough(t *testing.T) {
	first := hourly("2026-11-03T00:00:00Z")
	for n := 1; n <= 8; n++ {
		for i := range n {
			fresh := 0
			for h := first; h < first+24; h++ {
				m := made(h, i, n, true)
				if m > h || m <= h-24 {
					t.Fatalf("monitor %d of %d uses in %s an identity of %s", i, n, h, m)
				}
				if m == h {
					fresh++
				}
			}
			if fresh < 24/n {
				t.Errorf("monitor %d of %d has %d fresh hours a day", i, n, fresh)
			}
		}
	}
}

func TestFreshEveryHourWhereItDoesNoHarm(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	if made(h, 3, 5, false) != h {
		t.Error("not fresh")
	}
	at := h.Start()
	with := func(agent string, ttl time.Duration) *evidence.Attempt {
		return &evidence.Attempt{Started: evidence.TimeOf(at), Facts: evidence.Facts{
			AgentVersion: agent, Reservation: &evidence.Reservation{Expires: evidence.TimeOf(at.Add(ttl))},
		}}
	}
	for _, c := range []struct {
		name string
		last *evidence.Attempt
		want bool
	}{
		{"unknown", nil, true},
		{"no reservation yet", &evidence.Attempt{}, true},
		{"js", with("js-libp2p/2.7.2", time.Hour), true},
		{"two hours", with("go-libp2p", 2*time.Hour), true},
		{"one hour", with("relayd/1.2.3", time.Hour), false},
	} {
		if got := frugal(c.last); got != c.want {
			t.Errorf("%s: frugal %v", c.name, got)
		}
	}
}

// A restart reserves with the same identity: it finds the salt in the log.
func TestIdentitySurvivesARestart(t *testing.T) {
	_, ids := newTestMonitor(t, &fakeNet{}, 1, 1)
	h := hourly("2026-11-03T14:00:00Z")
	before := &identities{monitor: "m1+0+key", salts: map[job][]byte{}}
	id, err := before.of(ids[0], h-5)
	if err != nil {
		t.Fatal(err)
	}
	a := evidence.Attempt{Facts: evidence.Facts{Reservation: &evidence.Reservation{}}}
	id.sign(&a, h)

	after := &identities{monitor: "m1+0+key", salts: map[job][]byte{}}
	after.restore(evidence.Record{PeerID: ids[0], Hour: h, Attempts: []evidence.Attempt{a}})
	again, err := after.of(ids[0], h-5)
	if err != nil {
		t.Fatal(err)
	}
	if !id.key.Equals(again.key) {
		t.Error("another identity after the restart")
	}
	other, err := after.of(ids[0], h)
	if err != nil {
		t.Fatal(err)
	}
	if id.key.Equals(other.key) {
		t.Error("the same identity for another hour")
	}
}
