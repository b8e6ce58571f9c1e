package schedule

import (
	"fmt"
	"math/rand/v2"
	"testing"
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
				planners := make([]*Planner, n)
				for i := range list {
					held[i] = map[evidence.Hour]place{}
					planners[i] = newTestPlanner()
				}
				for h := first; h < first+30; h++ {
					for i := range list {
						if !(Seat{list, i, n, true}).Reserves(h, false) {
							continue
						}
						offset, again := when()
						j := Job{"relay", h}
						from := h.Start().Add(max(offset, planners[i].held[j]))
						if !from.Before(h.End()) {
							t.Fatalf("monitor %d begins in %s only at %s", i, h, from)
						}
						last := from
						for _, after := range Retries[:again] {
							if at := from.Add(after); (Seat{list, i, n, true}).Reserves(h, !at.Before(h.End())) {
								last = at
							}
						}
						held[i][h] = place{from, last.Add(keeps)}
						planners[i].Hold(j, evidence.Attempt{Facts: evidence.Facts{Reservation: &evidence.Reservation{Expires: evidence.TimeOf(last.Add(keeps))}}})
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
					if !(Seat{list, i, n, false}).Reserves(h, true) {
						t.Fatal("it is no frugal relay, and one does not reserve")
					}
					if (Seat{list, i, n, true}).Reserves(h, false) {
						all++
						turns[i]++
						if m.Committee {
							own++
						}
					}
				}
				if all > MostHolders || n <= MostHolders && all != n || committee <= 3 && own != committee ||
					committee < n && n > MostHolders && (all != MostHolders || own == 0 || own == all) {
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
		s := Seat{bench(c.bench, min(c.bench, 1)), -1, c.bench + c.others, true}
		if got := s.Reserves(first, false); got != c.reserves || s.Replaces() != c.replaces {
			t.Errorf("%d who do not judge, beside a bench of %d: reserves %v, replaces %v", c.others, c.bench, got, s.Replaces())
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
		if got := Frugal(c.last); got != c.want {
			t.Errorf("%s: frugal %v", c.name, got)
		}
	}
}
