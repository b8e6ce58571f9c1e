package bounty

import (
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// ScheduleReport says how a monitor kept to the plan that nobody could know
// (rule R2), in the hours in which its log shows the plan and an attempt.
type ScheduleReport struct {
	Checked int `json:"checked"`
	// Early hours are unknown: the first attempt was made before it was due.
	Early int `json:"early"`
	// Late ones count. An attempt that was missed is made up for within its hour,
	// and one may wait for the retries of the hour before, but not longer than
	// these may run; who is late often may have chosen the moment.
	Late int `json:"late"`
}

// early says whether the first attempt of the hour began before it was due. A
// clock may have moved in between by as much as one may that is trusted.
func (r *ScheduleReport) early(rules *Rules, vh *evidence.VerifiedHour) bool {
	if vh.Record == nil || vh.Due.IsZero() {
		return false
	}
	r.Checked++
	switch after := vh.Record.Attempts[0].Started.Sub(vh.Due); {
	case after <= -rules.ClockDrift:
		r.Early++
		return true
	case after > rules.AttemptClose:
		r.Late++
	}
	return false
}
