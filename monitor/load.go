package monitor

import (
	"errors"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// noteLoad writes into the log what was missed for want of a place, and says once that
// the monitor does not keep up. The caller holds the lock.
func (m *Monitor) noteLoad(now schedule.Moment) {
	err := m.planner.TakeMissed(func(h evidence.Hour, n int) error {
		if err := m.store.Mark(h, evidence.Mark{Missed: int64(n)}); !errors.Is(err, store.ErrSealed) {
			return err
		}
		return nil
	})
	if err != nil {
		m.interrupt(err) // the next tick tries the log again
		return
	}
	why := m.planner.Overload(now)
	switch {
	case why != "" && !m.overloaded:
		m.log.Warn("this monitor cannot keep up with its roster", "why", why)
	case why == "" && m.overloaded:
		m.log.Info("this monitor keeps up again")
	}
	m.overloaded = why != ""
}
