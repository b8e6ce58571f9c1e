package monitor

import (
	"maps"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// choice is for which relays others were chosen in an hour (rule R21), as far as somebody
// asked: it takes some microseconds a relay.
type choice struct {
	basis  *basis
	spared map[string]bool
}

// round is the beacon by which the monitors of an hour are chosen; nil: it is not at
// hand, or none are chosen.
func (m *Monitor) round(h evidence.Hour) []byte {
	b := m.basis()
	if m.beacons == nil || !b.rulesOf(h.Month()).Chooses(b.roster, h) {
		return nil
	}
	return m.beacons.Of(h)
}

// spared says whether others were chosen for a job. A monitor that is not in the roster
// looks at all relays. The caller holds the lock.
func (m *Monitor) spared(j schedule.Job) bool {
	b := m.basis()
	c := m.choices[j.Hour]
	if c == nil || c.basis != b {
		if m.round(j.Hour) == nil || b.roster.Monitor(m.cfg.Name, j.Hour) == nil {
			return false
		}
		maps.DeleteFunc(m.choices, func(h evidence.Hour, _ *choice) bool { return h < j.Hour-1 })
		c = &choice{b, map[string]bool{}}
		m.choices[j.Hour] = c
	}
	spared, known := c.spared[j.Relay]
	if !known {
		relay := b.roster.Relay(j.Relay)
		spared = relay != nil && b.rulesOf(j.Hour.Month()).Spared(b.roster, relay, j.Hour, m.round(j.Hour), m.cfg.Name)
		c.spared[j.Relay] = spared
	}
	return spared
}
