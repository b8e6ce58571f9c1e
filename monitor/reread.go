package monitor

import (
	"bytes"
	"errors"
	"os"
	"time"
)

// ErrChanged is what [Monitor.Run] ends with when the committee's files are no
// longer those that were read. Whoever runs a monitor then opens it anew: between
// two attempts that costs nothing.
var ErrChanged = errors.New("the committee's files have changed")

// reread looks for a new roster or new rules, and calls end when they are good
// and no probe is under way. Those that are not good change nothing: a monitor goes
// on with what it has, and says so.
func (m *Monitor) reread(now time.Time, end func()) {
	if isStill(m.cfg.Rules, m.files.rules) && isStill(m.cfg.Roster, m.files.roster) {
		m.refused = ""
		return
	}
	next := &Monitor{cfg: m.cfg, log: m.log, store: m.store}
	err := errors.Join(next.readRules(), next.readRoster())
	if err == nil {
		err = next.checkPlace(now)
	}
	if err != nil {
		if m.refused != err.Error() {
			m.refused = err.Error()
			m.log.Error("the committee's files have changed and are not used: going on with those read before", "err", err)
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.planner.busy) > 0 {
		return // in half a minute again
	}
	m.log.Info("the committee's files have changed: reading them anew")
	end()
}

// isStill says whether a file holds what was read from it; without a name it is
// the program's own and does not change.
func isStill(name string, read []byte) bool {
	if name == "" {
		return true
	}
	now, err := os.ReadFile(name)
	return err == nil && bytes.Equal(now, read)
}
