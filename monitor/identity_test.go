package monitor

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// jsPlaces is how many places a js-libp2p relay has.
const jsPlaces = 15

// bench is n monitors, of which so many, in between, are the committee's.
func bench(n, committee int) []*bounty.Monitor {
	list := make([]*bounty.Monitor, n)
	for i := range list {
		list[i] = &bounty.Monitor{Name: fmt.Sprint("m", i)}
	}
	for i := range committee {
		list[n-1-i*(n/committee)].Committee = true
	}
	return list
}

// A relay with 15 places that keeps each for two hours and frees none: whenever in the
// hour the monitors come, and whatever they try again past its end, three are left for
// users, at any minute, by any number of monitors.
func TestFrugalMonitorsHoldFewPlaces(t *testing.T) {
	const keeps = 2 * time.Hour
	random := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 15; n++ {
		for committee := 1; committee <= min(n, 5); committee++ {
			list := bench(n, committee)
			for name, when := range map[string]func() (offset time.Duration, retries int){
				"any time":         func() (time.Duration, int) { return time.Duration(random.IntN(3600)) * time.Second, random.IntN(3) },
				"late and again":   func() (time.Duration, int) { return 59*time.Minute + time.Duration(random.IntN(60))*time.Second, 2 },
				"late, then early": func() (time.Duration, int) { return time.Duration(random.IntN(2)) * 3599 * time.Second, 2 },
				"at once":          func() (time.Duration, int) { return 0, 0 },
			} {
				first := hourly("2026-11-03T00:00:00Z")
				type place struct{ from, until time.Time }
				held := make([]map[evidence.Hour]place, n) // of each monitor, by the identity's hour
				most := 0
				planners := make([]*planner, n)
				for i := range list {
					held[i] = map[evidence.Hour]place{}
					planners[i] = newPlanner(nil)
				}
				for h := first; h < first+30; h++ {
					for i := range list {
						if !(seat{list, i, n, true}).reserves(h, false) {
							continue
						}
						offset, again := when()
						j := job{"relay", h}
						from := h.Start().Add(max(offset, planners[i].held[j]))
						if !from.Before(h.End()) {
							t.Fatalf("monitor %d begins in %s only at %s", i, h, from)
						}
						last := from
						for _, after := range retries[:again] {
							if at := from.Add(after); (seat{list, i, n, true}).reserves(h, !at.Before(h.End())) {
								last = at
							}
						}
						held[i][h] = place{from, last.Add(keeps)}
						planners[i].hold(j, evidence.Attempt{Facts: evidence.Facts{Reservation: &evidence.Reservation{Expires: evidence.TimeOf(last.Add(keeps))}}})
					}
				}
				for at := first.Start(); at.Before((first + 30).Start()); at = at.Add(time.Minute) {
					now := 0
					for i := range held {
						for _, p := range held[i] {
							if !at.Before(p.from) && at.Before(p.until) {
								now++
							}
						}
					}
					most = max(most, now)
				}
				if most > jsPlaces-3 {
					t.Errorf("%d monitors, %d of the committee, %s: %d places are held", n, committee, name, most)
				}
			}
		}
	}
}

// The first attempt of an hour waits while a place of the third hour before is held,
// over a restart, too; a relay's own word cannot hold it up for longer than retries do.
func TestFirstAttemptWaitsForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, ids := newTestMonitor(t, &fakeNet{}, 1, 8)
		h := evidence.HourOf(time.Now())
		must(t, m.store.Begin(h, h.Start(), "test"))
		third := (h + heldHours).Start()
		for _, c := range []struct{ expires, waits time.Duration }{
			{-time.Minute, 0}, {8 * time.Minute, 8 * time.Minute}, {evidence.CloseAfter + time.Second, 0}, {time.Hour, 0},
		} {
			a := attempt(h.Start(), evidence.OK)
			a.PeerID, a.Rungs = ids[0], []evidence.Rung{}
			a.Facts.Reservation = &evidence.Reservation{Expires: evidence.TimeOf(third.Add(c.expires))}
			m.planner = newPlanner(m.secrets.of)
			m.planner.note(job{ids[0], h}, a, 0)
			if got := m.planner.held[job{ids[0], h + heldHours}]; got != c.waits {
				t.Errorf("held until %s: it waits for %s", c.expires, got)
			}
			if c.waits > 0 {
				must(t, m.store.Append(h, a))
			}
		}
		m.planner = newPlanner(func(evidence.Hour) []byte { return make([]byte, secretSize) })
		time.Sleep(time.Until(third))
		must(t, m.recall(m.machine.now()))
		j := job{ids[0], h + heldHours}
		m.planner.offsets[j] = time.Minute
		for now := third; ; now = now.Add(time.Second) {
			if due := m.planner.due(at(now), ids); len(due) > 0 {
				if due[0] != j || !now.Equal(third.Add(8*time.Minute)) {
					t.Errorf("%v begins at %s, want %v 8 minutes after %s", due[0], now, j, third)
				}
				break
			}
		}
	})
}

// Four reserve in an hour, the committee's first of all, and of the others each in turn.
func TestTurnsAtAFrugalRelay(t *testing.T) {
	first := hourly("2026-11-03T00:00:00Z")
	for n := 1; n <= 15; n++ {
		for committee := 1; committee <= n; committee++ {
			list := bench(n, committee)
			turns := make([]int, n)
			const hours = 360
			for h := first; h < first+hours; h++ {
				all, own := 0, 0
				for i, m := range list {
					if !(seat{list, i, n, false}).reserves(h, true) {
						t.Fatal("it is no frugal relay, and one does not reserve")
					}
					if (seat{list, i, n, true}).reserves(h, false) {
						all++
						turns[i]++
						if m.Committee {
							own++
						}
					}
				}
				if all > mostHolders || n <= mostHolders && all != n || committee <= 3 && own != committee ||
					committee < n && n > mostHolders && (all != mostHolders || own == 0 || own == all) {
					t.Fatalf("of %d monitors %d reserve in %s, %d of the committee's %d", n, all, h, own, committee)
				}
			}
			for i, m := range list {
				for k, o := range list {
					if d := turns[i] - turns[k]; m.Committee == o.Committee && (d > 4 || d < -4) {
						t.Errorf("of %d monitors %d has %d turns, %d has %d", n, i, turns[i], k, turns[k])
					}
				}
				if turns[i] == 0 {
					t.Errorf("of %d monitors %d has no turn", n, i)
				}
			}
		}
	}
	// Who does not judge the relay takes no place that one who does needs, nor one of users'.
	for _, c := range []struct {
		bench, others      int
		reserves, replaces bool
	}{{0, 1, true, true}, {1, 1, true, true}, {2, 1, true, false}, {3, 1, true, false}, {3, 2, false, false}, {4, 1, false, false}, {0, 5, false, false}} {
		s := seat{bench(c.bench, min(c.bench, 1)), -1, c.bench + c.others, true}
		if got := s.reserves(first, false); got != c.reserves || s.replaces() != c.replaces {
			t.Errorf("%d who do not judge, beside a bench of %d: reserves %v, replaces %v", c.others, c.bench, got, s.replaces())
		}
	}
}

func TestFrugal(t *testing.T) {
	at := hourly("2026-11-03T14:00:00Z").Start()
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

// An identity stays the same for its hour, over a restart, too: it takes one place. One
// that holds nothing new is made anew once there is something, and then stays.
func TestIdentityOfAnHour(t *testing.T) {
	_, ids := newTestMonitor(t, &fakeNet{}, 1, 1)
	h := hourly("2026-11-03T14:00:00Z")
	s := &identities{monitor: "m1+0+key", known: map[job]identity{}}
	of := func(hour evidence.Hour, now news, replace bool) identity {
		t.Helper()
		id, err := s.of(ids[0], hour, now, replace)
		must(t, err)
		return id
	}
	restart := func(id identity, hour evidence.Hour) {
		a := evidence.Attempt{Facts: evidence.Facts{Reservation: &evidence.Reservation{}}}
		id.sign(&a)
		s = &identities{monitor: "m1+0+key", known: map[job]identity{}}
		s.restore(evidence.Record{PeerID: ids[0], Hour: hour, Attempts: []evidence.Attempt{a}})
	}
	beacon, cosigned := news{beacon: []byte("round")}, news{cosigned: "note"}

	stale := of(h, news{}, true)
	if again := of(h, news{}, true); !again.key.Equals(stale.key) {
		t.Error("another identity with nothing new, either")
	}
	if again := of(h, cosigned, false); !again.key.Equals(stale.key) || len(s.stale(h)) != 1 {
		t.Error("it was replaced where it must not be")
	}
	restart(stale, h)
	if again := of(h, news{}, true); !again.key.Equals(stale.key) || len(s.stale(h)) != 1 {
		t.Error("another identity after a restart")
	}
	fresh := of(h, cosigned, true)
	if fresh.key.Equals(stale.key) || fresh.cosigned != "note" || len(s.stale(h)) != 0 {
		t.Error("it was not replaced")
	}
	for _, later := range []news{beacon, {cosigned: "a newer note"}, {}} {
		if again := of(h, later, true); !again.key.Equals(fresh.key) {
			t.Error("it takes a third place")
		}
		restart(fresh, h)
	}
	if other := of(h+1, cosigned, true); other.key.Equals(fresh.key) {
		t.Error("the same identity for another hour")
	}
	if of(h+4, beacon, true); len(s.known) != 1 {
		t.Errorf("%d identities are kept", len(s.known))
	}
}
