package bounty

import (
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Unrecorded says why nothing is known of a relay of which a block holds no record.
func Unrecorded(head evidence.Header) Why {
	switch {
	case head.State == evidence.StateGap:
		return Missing
	case head.Missed > 0:
		return Overloaded
	}
	return Missed
}

// Overload gives a vote its true reason where it lacks the retries for which the
// monitor had no place.
func (v Vote) Overload(rules *Rules, head evidence.Header, attempts int) Vote {
	if v.Why == OneFailure && head.Missed > 0 && attempts < rules.DownAttempts {
		v.Why = Overloaded
	}
	return v
}
