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
	// Witnesses are those of the roster, other than the monitor, that cosigned in
	// time, and not before the monitor had sealed.
	Witnesses []string
}

// Sealed applies rule R9 to an hour of a monitor's log; n is the number of
// monitors of the hour. Where the roster has no witness but the monitor itself
// the rule is off: the votes count, and the report is labelled "unwitnessed".
//
// A witness that cosigned before the monitor says it sealed shows that one of the
// two clocks is wrong, not which: it counts as silent, and the monitor's clock is
// at fault if such witnesses are the majority. Else one witness with a wrong clock
// could make every hour of every monitor unknown.
func Sealed(rules *Rules, roster *Roster, monitor string, n int, hour *evidence.VerifiedHour) Sealing {
	h := hour.Header.Hour
	var s Sealing
	others := slices.DeleteFunc(roster.witnessesAt(h), func(w witness) bool { return w.name == monitor })
	if len(others) == 0 {
		return s
	}
	deadline := h.End().Add(rules.SealWithin)
	before, after := 0, 0 // witnesses, by when they cosigned
	for _, w := range others {
		i := slices.IndexFunc(hour.Cosigned, func(c evidence.Cosigned) bool { return c.Witness == w.key })
		switch {
		case i < 0:
		case hour.Cosigned[i].At.Before(hour.Header.SealedAt.Add(-rules.ClockAhead)):
			before++
		default:
			after++
			if !hour.Cosigned[i].At.After(deadline) {
				s.Witnesses = append(s.Witnesses, w.name)
			}
		}
	}
	slices.Sort(s.Witnesses)
	s.Witnesses = slices.Compact(s.Witnesses)
	switch c := hour.Header.Clock; {
	case before > after:
		s.Why = Clock
	case len(s.Witnesses) < rules.WitnessesRequired.Of(n):
		s.Why = Late
	case c.Samples == 0 || !c.Synchronised || time.Duration(abs(c.DriftMS))*time.Millisecond >= rules.ClockDrift:
		s.Why = Clock
	}
	return s
}

func abs(n int64) int64 { return max(n, -n) }
