package monitor

import (
	"errors"
	"fmt"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// watchClock notes in the log when the clock was set since the last look, be it by
// another process: in every hour that was begun and in which something can still
// happen, by the clock before or by the one after. The caller holds the lock.
func (m *Monitor) watchClock(now schedule.Moment) error {
	last := m.looked
	m.looked = now
	if last != (schedule.Moment{}) && now.Stepped(last) {
		m.steps++
		m.log.Warn("the clock was set: hours in which it was count only where a relay is up", "by", now.Wall.Sub(last.Wall)-(now.Steady-last.Steady), "clock", now.Wall.UTC().Format(time.RFC3339))
	}
	sample := m.machine.Sample(now)
	for _, h := range m.store.Unsealed() {
		if last != (schedule.Moment{}) && isClosed(h, last.Wall) && isClosed(h, now.Wall) {
			continue
		}
		if len(m.store.Clock(h, sample).Steps) == len(m.store.Clock(h).Steps) {
			continue
		}
		if err := m.store.Mark(h, evidence.Mark{Clock: &sample}); err != nil && !errors.Is(err, store.ErrSealed) {
			return err
		}
	}
	return nil
}

// isClosed says whether nothing more can happen in an hour.
func isClosed(h evidence.Hour, wall time.Time) bool { return h.Closed(wall) }

// noteClock takes one of the hour's samples.
func (m *Monitor) noteClock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun.IsZero() {
		return
	}
	if err := m.sampleInto(evidence.HourOf(m.begun)); err != nil {
		m.interrupt(err)
	}
}

func (m *Monitor) sampleInto(h evidence.Hour) error {
	sample := m.machine.Sample(m.machine.Now())
	return m.store.Mark(h, evidence.Mark{Clock: &sample})
}

// leapHours is by how many hours the clock may be ahead of the log and is believed in
// any case: one is under way, and one may not be closed yet.
const leapHours = 2

// leaps says by how many hours the clock is ahead of the log, and why it is not to be
// believed that it is; empty: it is. Sealing by such a clock would close hours that
// are still to come, and an attempt would stand in one of them. The caller holds the lock.
func (m *Monitor) leaps(wall time.Time) (ahead evidence.Hour, why string) {
	if m.clock == nil {
		return 0, "" // a test's own time
	}
	why = m.clock.Doubt(wall)
	if ahead = evidence.HourOf(wall) - m.store.First() - evidence.Hour(m.store.Size()); ahead <= leapHours {
		return ahead, ""
	}
	return ahead, why
}

// misnamedNow is whether [Monitor.misnamed] says anything.
func (m *Monitor) misnamedNow(wall time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.misnamed(wall) != nil
}

// misnamed says why the clock names an hour that it cannot be; nil: it may be. A lab's
// hours are worth nothing, and it may have no time service. The caller holds the lock.
func (m *Monitor) misnamed(wall time.Time) error {
	ahead, why := m.leaps(wall)
	// By the hour: the words stay the same from one look to the next, and are said once.
	at := evidence.HourOf(wall)
	for _, h := range m.store.Unsealed() {
		// An hour that is still to come vouches for nothing: a wrong clock has named it.
		if d := at - h; d >= 0 && d <= leapHours {
			why = "" // it goes on from an hour that was begun
		}
	}
	switch {
	case ahead < 0:
		return fmt.Errorf("the clock names the hour %s, which is sealed: the clock is behind, or was set back; see that a time service keeps it (timedatectl set-ntp true)", at)
	case why != "" && m.cfg.Network != evidence.Lab:
		return fmt.Errorf("the clock names the hour %s, %d hours ahead of the log, and may be wrong: %s; switch a time service on (timedatectl set-ntp true)", at, ahead, why)
	}
	return nil
}
