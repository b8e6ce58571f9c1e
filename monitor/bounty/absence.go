package bounty

import (
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Absence is a monitor of the roster whose log the case lacks, or whose log ends
// before it tells all of the month. What it would have said is not known, and it may
// have been left out for that: the committee asks for it, or waives it by name.
type Absence struct {
	Monitor   string `json:"monitor"`
	Operator  string `json:"operator"`
	Committee bool   `json:"committee"`
	// Ends is the first hour that the log does not show; absent: there is no log.
	Ends *evidence.Hour `json:"ends,omitempty"`
	// Hours are those of the month that it should show and does not.
	Hours int `json:"hours"`
}

// reach is how far a log tells, by the monitor's own blocks and by the clocks of
// witnesses of other operators: neither alone can put it off or bring it forward. Where
// no such witness is in the roster, the monitor's own word is all there is.
type reach struct {
	at      time.Time
	roster  *Roster
	monitor *Monitor
	foreign bool // there is such a witness
}

func (c *Case) reachOf(m *Monitor) *reach {
	r := &reach{roster: c.Roster, monitor: m}
	for h := c.Month.First(); h < c.Month.End() && !r.foreign; h++ {
		r.foreign = len(c.Roster.witnessesFor(m, h)) > 0
	}
	return r
}

// add takes in that blocks up to end were cosigned.
func (r *reach) add(by []evidence.Cosigned, end evidence.Hour) {
	if end == 0 {
		return
	}
	if !r.foreign && end.Start().After(r.at) {
		r.at = end.Start()
	}
	for _, w := range by {
		if !r.roster.foreign(w.Witness, r.monitor, evidence.HourOf(w.At)) {
			continue
		}
		at := w.At
		if at.After(end.Start()) {
			at = end.Start()
		}
		if at.After(r.at) {
			r.at = at
		}
	}
}

// absent lists the monitors that may judge the relay and of whose hours some are not
// shown. Whoever is in force after the month shows that much longer as cosignatures may
// take; in a month that is not over, a log may be that much shorter than the longest.
func (s *survey) absent(c *Case, relay *Relay) []Absence {
	out := []Absence{}
	tail := evidence.Hour((c.Rules.SealWithin + time.Hour - 1) / time.Hour)
	last := min(c.Month.End()+tail, evidence.HourOf(s.asOf)-tail)
	for i, m := range s.members {
		if m.Recused(relay) {
			continue
		}
		need := last
		if m.Until != nil {
			need = min(need, *m.Until)
		}
		if relay.Until != nil {
			need = min(need, *relay.Until+tail)
		}
		first := max(m.From, c.Month.First(), relay.Enrolled)
		end := min(need, c.Month.End())
		if relay.Until != nil {
			end = min(end, *relay.Until)
		}
		a := Absence{Monitor: m.Name, Operator: m.Operator, Committee: m.Committee}
		switch report := &s.monitors[i]; {
		case !report.Log && end > first:
			a.Hours = int(end - first)
		case report.Log && report.ends < need && end > first:
			a.Ends = ptr(report.ends)
			a.Hours = int(max(0, end-max(first, report.ends)))
		default:
			continue
		}
		out = append(out, a)
	}
	return out
}
