package monitor

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// jsPlaces is how many places a js-libp2p relay has.
const jsPlaces = 15

func attempt(at time.Time, outcome evidence.Outcome) evidence.Attempt {
	results := map[evidence.Component]evidence.Result{}
	for _, c := range evidence.Components {
		results[c] = evidence.Result{Outcome: outcome}
	}
	return evidence.Attempt{Started: evidence.TimeOf(at), Results: results}
}

// at is a moment by clocks that were never set.
func at(wall time.Time) schedule.Moment {
	return schedule.Moment{Wall: wall, Steady: wall.Sub(time.Unix(0, 0))}
}

// The first attempt of an hour waits while a place of the third hour before is held,
// over a restart, too; a relay's own word cannot hold it up for longer than retries do.
func TestFirstAttemptWaitsForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, ids := newTestMonitor(t, &fakeNet{}, 1, 8)
		h := evidence.HourOf(time.Now())
		must(t, m.store.Begin(h, h.Start(), "test"))
		third := (h + schedule.HeldHours).Start()
		for _, c := range []struct{ expires, waits time.Duration }{
			{-time.Minute, 0}, {8 * time.Minute, 8 * time.Minute}, {evidence.CloseAfter + time.Second, 0}, {time.Hour, 0},
		} {
			a := attempt(h.Start(), evidence.OK)
			a.PeerID, a.Rungs = ids[0], []evidence.Rung{}
			a.Facts.Reservation = &evidence.Reservation{Expires: evidence.TimeOf(third.Add(c.expires))}
			m.planner = m.newPlanner()
			m.planner.Hold(schedule.Job{Relay: ids[0], Hour: h}, a)
			if got := m.planner.Held(schedule.Job{Relay: ids[0], Hour: h + schedule.HeldHours}); got != c.waits {
				t.Errorf("held until %s: it waits for %s", c.expires, got)
			}
			if c.waits > 0 {
				must(t, m.store.Append(h, a))
			}
		}
		m.planner = schedule.NewPlanner(func(schedule.Job) time.Duration { return time.Minute }, 8)
		time.Sleep(time.Until(third))
		must(t, m.recall(m.machine.Now()))
		j := schedule.Job{Relay: ids[0], Hour: h + schedule.HeldHours}
		for now := third; ; now = now.Add(time.Second) {
			if due := m.planner.Due(at(now), ids); len(due) > 0 {
				if due[0] != j || !now.Equal(third.Add(8*time.Minute)) {
					t.Errorf("%v begins at %s, want %v 8 minutes after %s", due[0], now, j, third)
				}
				break
			}
		}
	})
}
