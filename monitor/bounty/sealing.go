package bounty

import (
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Sealing is when an hour of a monitor's log was known to others.
type Sealing struct {
	// Why is [Late] or [Clock] if a vote of this hour does not count.
	Why Why
	// Witnesses are those of the roster, other than the monitor, that cosigned in time.
	Witnesses []string
}

// Sealed applies rule R9 to an hour of a monitor's log; n is the number of
// monitors of the hour. Where the roster has no witness but the monitor itself
// the rule is off: the votes count, and the report is labelled "unwitnessed".
func Sealed(rules *Rules, roster *Roster, monitor string, n int, hour *evidence.VerifiedHour) Sealing {
	h := hour.Header.Hour
	var s Sealing
	others := slices.DeleteFunc(roster.witnessesAt(h), func(w witness) bool { return w.name == monitor })
	if len(others) == 0 {
		return s
	}
	deadline := h.End().Add(rules.SealWithin)
	ahead := false
	for _, w := range others {
		for _, c := range hour.Cosigned {
			if c.Witness != w.key {
				continue
			}
			if !c.At.After(deadline) {
				s.Witnesses = append(s.Witnesses, w.name)
			}
			// The monitor sealed before the witness looked, or its clock is ahead.
			if c.At.Before(hour.Header.SealedAt.Add(-rules.ClockAhead)) {
				ahead = true
			}
		}
	}
	slices.Sort(s.Witnesses)
	s.Witnesses = slices.Compact(s.Witnesses)
	switch c := hour.Header.Clock; {
	case len(s.Witnesses) < rules.WitnessesRequired.Of(n):
		s.Why = Late
	case ahead || c.Samples == 0 || !c.Synchronised || time.Duration(abs(c.DriftMS))*time.Millisecond >= rules.ClockDrift:
		s.Why = Clock
	}
	return s
}

func abs(n int64) int64 { return max(n, -n) }
