package monitor

import (
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
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
