package schedule

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func hourly(s string) evidence.Hour {
	h, err := evidence.ParseHour(s)
	if err != nil {
		panic(err)
	}
	return h
}

// testOffset is the plan of these tests: spread over the hour, and always the same.
func testOffset(j Job) time.Duration {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(j.Relay), uint64(j.Hour)))
	return time.Duration(binary.BigEndian.Uint16(sum[:])%3600) * time.Second
}

func newTestPlanner() *Planner { return NewPlanner(testOffset, 0) }

func attempt(at time.Time, outcome evidence.Outcome) evidence.Attempt {
	results := map[evidence.Component]evidence.Result{}
	for _, c := range evidence.Components {
		results[c] = evidence.Result{Outcome: outcome}
	}
	return evidence.Attempt{Started: evidence.TimeOf(at), Results: results}
}

// at is a moment by clocks that were never set.
func at(wall time.Time) Moment { return Moment{wall, wall.Sub(time.Unix(0, 0))} }

// play walks a planner through time, second by second; outcome says what each
// attempt comes to. It returns the starts.
func play(p *Planner, from, to time.Time, took time.Duration, outcome func(n int) evidence.Outcome) (starts []time.Time, jobs []Job) {
	type running struct {
		j    Job
		a    evidence.Attempt
		from Moment
		ends time.Time
	}
	var under []running
	for now := from; now.Before(to); now = now.Add(time.Second) {
		rest := under[:0]
		for _, r := range under {
			if now.Before(r.ends) {
				rest = append(rest, r)
				continue
			}
			p.End(r.j, &r.a, r.from.Steady)
		}
		under = rest
		for _, j := range p.Due(at(now), []string{"relay"}) {
			under = append(under, running{j, attempt(now, outcome(len(starts))), at(now), now.Add(took)})
			starts, jobs = append(starts, now), append(jobs, j)
		}
	}
	return starts, jobs
}

func TestOneAttemptAnHourWhileAllIsWell(t *testing.T) {
	h := hourly("2026-11-03T00:00:00Z")
	p := newTestPlanner()
	starts, jobs := play(p, h.Start(), (h + 24).Start(), 5*time.Second, func(int) evidence.Outcome { return evidence.OK })
	if len(starts) != 24 {
		t.Fatalf("%d attempts in 24 hours", len(starts))
	}
	for i, at := range starts {
		if jobs[i].Hour != h+evidence.Hour(i) || at.Sub(jobs[i].Hour.Start()) != testOffset(jobs[i]) {
			t.Errorf("attempt %d at %v for hour %v", i, at, jobs[i].Hour)
		}
	}
	if len(p.hours) > 4 {
		t.Errorf("the planner remembers %d hours", len(p.hours))
	}
}

func TestRetriesAfterFailureOnly(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	for _, c := range []struct {
		name     string
		outcomes []evidence.Outcome
		want     []time.Duration // from the first
	}{
		{"ok", []evidence.Outcome{evidence.OK}, []time.Duration{0}},
		{"fail, ok", []evidence.Outcome{evidence.Fail, evidence.OK}, []time.Duration{0, 6 * time.Minute}},
		{"fail, busy, fail", []evidence.Outcome{evidence.Fail, evidence.Busy, evidence.Fail}, []time.Duration{0, 6 * time.Minute, 13 * time.Minute}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTestPlanner()
			first := h.Start().Add(testOffset(Job{"relay", h}))
			// Up to the closing of the hour, leaving the next hour's attempts out.
			starts, jobs := play(p, h.Start(), h.End().Add(evidence.CloseAfter), time.Second, func(n int) evidence.Outcome {
				return c.outcomes[min(n, len(c.outcomes)-1)]
			})
			var got []time.Duration
			for i, at := range starts {
				if jobs[i].Hour == h {
					got = append(got, at.Sub(first))
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("attempts at %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("attempts at %v, want %v", got, c.want)
				}
			}
		})
	}
}

// An attempt that begins in the last second belongs to its hour, and so do its
// retries in the next one.
func TestRetriesRunPastTheHour(t *testing.T) {
	h := hourly("2026-11-03T13:00:00Z")
	p := newTestPlanner()
	first := h.End().Add(-2 * time.Second)
	p.note(Job{"relay", h}, attempt(first, evidence.Fail), at(first).Steady)
	starts, jobs := play(p, first.Add(time.Second), h.End().Add(evidence.CloseAfter), time.Second, func(int) evidence.Outcome { return evidence.Fail })
	var past int
	for i, j := range jobs {
		if j.Hour == h {
			past++
			if starts[i].Add(AttemptTimeout).After(h.End().Add(evidence.CloseAfter)) {
				t.Errorf("a retry at %v may end after the hour has closed", starts[i])
			}
		}
	}
	if past != 2 {
		t.Errorf("%d retries, want 2", past)
	}
}

func TestMissedFirstAttempt(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	due := h.Start().Add(testOffset(Job{"relay", h}))
	p := newTestPlanner()
	// Awake again with ten seconds of the hour left: at once.
	if late := h.End().Add(-10 * time.Second); late.After(due) {
		if jobs := p.Due(at(late), []string{"relay"}); len(jobs) != 1 || jobs[0].Hour != h {
			t.Errorf("jobs %v, want one for %v", jobs, h)
		}
	}
	// Awake again in the next hour: the hour is lost, nothing is invented for it.
	p = newTestPlanner()
	for _, j := range p.Due(at(h.End()), []string{"relay"}) {
		if j.Hour == h {
			t.Errorf("an attempt for %v at %v", h, h.End())
		}
	}
}

// A clock that steps back into an hour already probed makes no second attempt.
func TestClockStepsBack(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	p := newTestPlanner()
	play(p, h.Start(), h.End(), time.Second, func(int) evidence.Outcome { return evidence.OK })
	starts, _ := play(p, h.Start(), h.End(), time.Second, func(int) evidence.Outcome { return evidence.OK })
	if len(starts) != 0 {
		t.Errorf("%d attempts a second time", len(starts))
	}
}

func TestOneAttemptAtATime(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	p := newTestPlanner()
	first := h.Start().Add(testOffset(Job{"relay", h}))
	if jobs := p.Due(at(first), []string{"relay"}); len(jobs) != 1 {
		t.Fatalf("jobs %v", jobs)
	}
	for _, later := range []time.Duration{0, time.Minute, 10 * time.Minute, time.Hour} {
		if jobs := p.Due(at(first.Add(later)), []string{"relay"}); len(jobs) != 0 {
			t.Errorf("while one is under way: %v", jobs)
		}
	}
}

func TestRestoreMakesNoAttemptTwice(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	first := h.Start().Add(time.Minute)
	p := newTestPlanner()
	p.Restore(evidence.Record{PeerID: "relay", Hour: h, Attempts: []evidence.Attempt{attempt(first, evidence.OK)}}, at(first), true)
	if starts, _ := play(p, first, h.End(), time.Second, func(int) evidence.Outcome { return evidence.OK }); len(starts) != 0 {
		t.Errorf("%d attempts after the restart", len(starts))
	}
}
