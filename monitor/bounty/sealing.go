package bounty

import (
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Sealing is when an hour of a monitor's log was known to others.
type Sealing struct {
	// Why is [Late] or [Clock] if a vote of this hour does not count.
	Why Why
	// Witnesses are those of the roster, of other operators than the monitor's, that
	// cosigned in time, and not before the monitor had sealed.
	Witnesses []string

	clock evidence.Clock
}

// Of is what becomes of the monitor's vote on a relay's hour.
func (s Sealing) Of(rules *Rules, b Ballot) Vote {
	if s.Why != None && b.Value != Unknown {
		return Vote{Why: s.Why}
	}
	return rules.ByClock(s.clock, b)
}

// ByClock is what becomes of a vote under what the hour's clock did (rule R9).
//
// If the clock was set, nobody can tell from the log how far two attempts are apart.
// So the vote is unknown, but for up: that takes one attempt, and [VoteOf] counts none
// during which the clock was set. The same holds for a failure that only the
// monitor's clock shows, such as a certificate that has expired, if the clock was not
// synchronised; that matters where no witness is asked.
func (r *Rules) ByClock(c evidence.Clock, b Ballot) Vote {
	switch {
	case b.Value == Up || b.Value == Unknown && b.Why != OneFailure:
		return b.Vote
	case c.Moved(r.ClockDrift), astray(c) && slices.ContainsFunc(b.Causes, seenByClock):
		return Vote{Why: Clock}
	}
	return b.Vote
}

// astray says whether nobody knows that the clock was right.
func astray(c evidence.Clock) bool { return c.Samples == 0 || !c.Synchronised }

// seenByClock says whether a cause, a component and a class, is one that a monitor
// finds as well whose own clock is wrong.
func seenByClock(cause string) bool {
	_, class, _ := strings.Cut(cause, " ")
	switch evidence.Class(class) {
	case evidence.CertExpired, evidence.CertNotYetValid, evidence.ReserveExpired, evidence.VoucherInvalid:
		return true
	}
	return false
}

// Sealed applies rule R9 to an hour of a monitor's log; n is the number of
// monitors of the hour. Where the roster has no witness of another operator than the
// monitor's, the rule is off: the votes count, and the report is labelled "unwitnessed"; a clock
// that was set counts all the same.
//
// A witness that cosigned before the monitor says it sealed shows that one of the
// two clocks is wrong, not which: it counts as silent, and the monitor's clock is
// at fault if such witnesses are the majority. Else one witness with a wrong clock
// could make every hour of every monitor unknown.
func Sealed(rules *Rules, roster *Roster, monitor *Monitor, n int, hour *evidence.VerifiedHour) Sealing {
	h := hour.Header.Hour
	s := Sealing{clock: hour.Header.Clock}
	others := roster.witnessesFor(monitor, h)
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
	switch {
	case before > after:
		s.Why = Clock
	case len(s.Witnesses) < rules.WitnessesRequired.Of(n):
		s.Why = Late
	case astray(s.clock):
		s.Why = Clock
	}
	return s
}
