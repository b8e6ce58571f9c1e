package monitor

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// A machine that starts with a clock in the future, which is set right later, loses
// no hour that is still to come.
func TestAWrongClockSealsNothing(t *testing.T) {
	h := newHouse(t, 1)
	m := h.spots[0].m
	up, kept := time.Duration(0), false
	m.clock = &wallclock.Clock{Kept: func() bool { return kept }, Uptime: func() time.Duration { return up }}
	now := h.first.Start().Add(10 * time.Minute)
	m.seal(now.AddDate(0, 1, 0))
	if n := m.store.Size(); n != 0 {
		t.Fatalf("%d hours are sealed by a clock that is a month ahead", n)
	}
	up, now = up+time.Minute, now.Add(time.Minute)
	m.seal(now)
	if err := m.store.Begin(h.first, now, "test"); err != nil {
		t.Errorf("the hour that is under way: %v", err)
	}
	m.seal(now.Add(2 * time.Hour)) // an hour that has closed is sealed, kept clock or not
	if n := m.store.Size(); n != 1 {
		t.Errorf("%d hours are sealed, want 1", n)
	}
	// After a time off the hours are sealed once a time service has the clock.
	now = h.first.Start().Add(50 * time.Hour)
	m.seal(now)
	if n := m.store.Size(); n != 1 {
		t.Errorf("%d hours are sealed, want 1", n)
	}
	kept = true
	m.seal(now)
	if n := m.store.First() + evidence.Hour(m.store.Size()); n != evidence.HourOf(now)-1 {
		t.Errorf("sealed up to %s", n)
	}
}

// A machine that starts in 1970, or far ahead, probes nothing by that clock and writes
// nothing into the hour that it names; set right, it goes on. A lab, and a machine that
// no time service keeps, are of use all the same.
func TestAWrongClockProbesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		network evidence.Network
		set     time.Duration
		kept    bool
		settled bool   // the clock has run evenly for longer than wallclock.Settle
		want    string // a part of the fault; empty: it probes
	}{
		"right, kept":            {evidence.PSF, 0, true, false, ""},
		"right, not kept":        {evidence.PSF, 0, false, false, ""},
		"an hour ahead":          {evidence.PSF, time.Hour, false, false, ""},
		"a month ahead":          {evidence.PSF, 30 * 24 * time.Hour, false, false, "ahead of the log"},
		"a month ahead, settled": {evidence.PSF, 30 * 24 * time.Hour, false, true, ""},
		"off for a month, kept":  {evidence.PSF, 30 * 24 * time.Hour, true, false, ""},
		"a lab, off for a month": {evidence.Lab, 30 * 24 * time.Hour, false, false, ""},
		"in the past":            {evidence.PSF, -30 * 24 * time.Hour, false, false, "which is sealed"},
		"in the past, kept":      {evidence.PSF, -30 * 24 * time.Hour, true, true, "which is sealed"},
		"in the past, in a lab":  {evidence.Lab, -30 * 24 * time.Hour, false, false, "which is sealed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeNet{outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
				m, _ := newTestMonitor(t, f, 1, 1)
				m.cfg.Network = c.network
				m.machine.Kept = func() bool { return c.kept }
				m.clock = &wallclock.Clock{Kept: m.machine.Kept, Uptime: func() time.Duration { return m.machine.Now().Steady }}
				tick := func() {
					t.Helper()
					time.Sleep(time.Second)
					m.tick(t.Context(), m.machine.Now())
				}
				f.set = c.set
				if c.settled {
					m.clock.Doubt(m.machine.Now().Wall)
					time.Sleep(wallclock.Settle)
				}
				tick()
				if got := m.fault; (got == nil) != (c.want == "") || got != nil && !strings.Contains(got.Error(), c.want) {
					t.Fatalf("got fault %v, want %q", got, c.want)
				}
				wrong := evidence.HourOf(m.machine.Now().Wall)
				if open := m.store.Unsealed(); (len(open) == 0) != (c.want != "") {
					t.Errorf("hours %v were begun at %s", open, wrong)
				}
				if c.want == "" {
					return
				}
				f.set = 0
				tick()
				right := evidence.HourOf(m.machine.Now().Wall)
				if open := m.store.Unsealed(); m.fault != nil || len(open) != 1 || open[0] != right {
					t.Errorf("set right: fault %v, hours %v, want none and %s", m.fault, open, right)
				}
			})
		})
	}
}

// A job that waits by the wall clock is told when that was set.
func TestBeatTellsOfSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{}
		m, _ := newTestMonitor(t, f, 1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ticks, steps := 0, 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.beat(ctx, func() { ticks++ }, func() { steps++ })
		}()
		for _, by := range []time.Duration{0, -time.Hour, 500 * time.Millisecond, 24 * time.Hour} {
			time.Sleep(10*time.Second + 500*time.Millisecond)
			f.mu.Lock()
			f.set += by
			f.mu.Unlock()
		}
		time.Sleep(10 * time.Second)
		f.mu.Lock()
		f.slept = time.Hour // no step
		f.mu.Unlock()
		time.Sleep(10 * time.Second)
		cancel()
		<-done
		if ticks != 62 || steps != 2 {
			t.Errorf("%d ticks and %d steps in 62 s with 2 steps", ticks, steps)
		}
	})
}

// An attempt that waits for a place while the clock is set back does not begin before
// it is due, and is made when it is.
func TestNoAttemptIsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 1, 1)
		h := evidence.HourOf(time.Now())
		due := h.Start().Add(m.store.Offset(ids[0], h))
		m.planner.Take("another") // all places are taken
		time.Sleep(time.Until(due))
		m.tick(t.Context(), m.machine.Now())
		f.set = -2 * time.Second
		m.planner.Release("another")
		m.tick(t.Context(), m.machine.Now())
		m.running.Wait()
		if f.climbs != 0 {
			t.Fatalf("got %d attempts before %s, want none", f.climbs, due)
		}
		time.Sleep(2 * time.Second)
		m.tick(t.Context(), m.machine.Now())
		m.running.Wait()
		if f.climbs != 1 {
			t.Errorf("got %d attempts when it was due, want 1", f.climbs)
		}
	})
}

// What a machine sees that sleeps meanwhile is no attempt: its connections are dead when
// it wakes, and the time of the rungs has stood still.
func TestAttemptOfAMachineThatSlept(t *testing.T) {
	for slept, want := range map[time.Duration]bool{0: false, evidence.MinStep: true, time.Hour: true} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.Fail }}
			m, ids := newTestMonitor(t, f, 1, 1)
			m.climb = func(ctx context.Context, to probe.Target, look *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
				a, certs := f.climb(ctx, to, look, key)
				f.mu.Lock()
				defer f.mu.Unlock()
				f.slept += slept
				return a, certs
			}
			now := m.machine.Now().Wall
			m.mu.Lock()
			err := m.begin(evidence.HourOf(now), now)
			m.mu.Unlock()
			must(t, err)
			a, err := m.observe(t.Context(), schedule.Job{Relay: ids[0], Hour: evidence.HourOf(now)}, func(context.Context, schedule.Job, *lookout, *evidence.Attempt) {})
			if slept < time.Hour {
				must(t, err) // else it is of another hour
			}
			if a == nil || a.Stepped != want {
				t.Errorf("slept %v: got %+v, want stepped %v", slept, a, want)
			}
		})
	}
}

// A clock that is set to where it cannot be, and back within a minute, was set twice:
// the header of the hour tells of both, an attempt that it fell into is marked, and
// that nothing is judged is said once.
func TestThereAndBack(t *testing.T) {
	for name, set := range map[string]time.Duration{"into the past": -30 * 24 * time.Hour, "far ahead": 30 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeNet{outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
				m, _ := newTestMonitor(t, f, 1, 1)
				m.cfg.Network = evidence.PSF
				m.machine.Kept = func() bool { return false }
				m.clock = &wallclock.Clock{Kept: m.machine.Kept, Uptime: func() time.Duration { return m.machine.Now().Steady }}
				said := map[string]bool{}
				tick := func() {
					t.Helper()
					time.Sleep(time.Second)
					m.tick(t.Context(), m.machine.Now())
					if m.fault != nil {
						said[m.fault.Error()] = true
					}
				}
				tick()
				h := evidence.HourOf(m.machine.Now().Wall)
				_, before := m.look()
				f.set = set
				for range 20 {
					tick()
				}
				f.set = 0
				tick()
				if _, steps := m.look(); steps-before != 2 {
					t.Errorf("got %d steps, want 2", steps-before)
				}
				if got := m.store.Clock(h).Steps; len(got) != 2 {
					t.Errorf("the header of %s would tell of the steps %v, want both", h, got)
				}
				if len(said) != 1 {
					t.Errorf("got %d faults, want one: %v", len(said), said)
				}
				m.running.Wait()
			})
		})
	}
}
