package monitor

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd, if it started the monitor, what state the monitor is in.
func (m *Monitor) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		m.log.Warn("could not tell systemd", "state", state, "err", err)
	}
}

// watchdog assures systemd that the monitor works, as often as it wants to hear
// it, until ctx ends. A monitor that is stuck cannot, and is started again.
func (m *Monitor) watchdog(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if m.works(time.Now()) {
				m.notify(daemon.SdNotifyWatchdog)
			}
		}
	}
}

// works says whether the planner was awake of late. One that waits for a log that
// cannot be written is: a restart would not mend the disk.
func (m *Monitor) works(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault != nil || now.Sub(m.lastly) <= asleep
}
