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

// planned says whether it shows when the hour's first attempt was due and made. Only a
// lab may choose its moment. A clock that was set may show a retry before the first attempt.
func (r *Rules) planned(roster *Roster, vh *evidence.VerifiedHour) bool {
	return roster.Network != evidence.Lab && !vh.Header.Clock.Moved(r.ClockDrift) && vh.Record != nil && !vh.Due.IsZero()
}

// Early says whether the first attempt of an hour began before it was due, so that a vote
// of it is unknown (rule R2). A clock may have moved in between by as much as one may that
// is trusted.
func (r *Rules) Early(roster *Roster, vh *evidence.VerifiedHour) bool {
	return r.planned(roster, vh) && vh.Record.Attempts[0].Started.Sub(vh.Due) <= -r.ClockDrift
}

// add takes in an hour.
func (s *ScheduleReport) add(rules *Rules, roster *Roster, vh *evidence.VerifiedHour, early bool) {
	if !rules.planned(roster, vh) {
		return
	}
	s.Checked++
	switch {
	case early:
		s.Early++
	case vh.Record.Attempts[0].Started.Sub(vh.Due) > rules.AttemptClose:
		s.Late++
	}
}
