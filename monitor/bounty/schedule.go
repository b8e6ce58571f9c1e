package bounty

import (
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// ScheduleReport says how a monitor kept to the plan that nobody could know or choose
// (rule R2), in the hours in which it made an attempt.
type ScheduleReport struct {
	// Checked are the hours whose record proves when the attempt was due.
	Checked int `json:"checked"`
	// Unplanned hours are unknown: their record holds no such proof, or not the monitor's.
	Unplanned int `json:"unplanned"`
	// Early hours are unknown: the first attempt was made before it was due.
	Early int `json:"early"`
	// Late ones count. An attempt that was missed is made up for within its hour,
	// and one may wait for the retries of the hour before, but not longer than
	// these may run; who is late often may have chosen the moment.
	Late int `json:"late"`
	// Moved are those of the hours checked in which the clock was set: early and late are
	// told only beyond what it moved by.
	Moved int `json:"moved,omitempty"`
}

// OffPlan is the reason by rule R2 for which a vote of an hour is unknown: [Unplanned] or
// [Early]; [None]: there is none. Only a lab may choose its moment.
func (r *Rules) OffPlan(roster *Roster, vh *evidence.VerifiedHour) Why {
	switch {
	case roster.Network == evidence.Lab || vh.Record == nil:
		return None
	case vh.Due.IsZero():
		return Unplanned
	case r.early(vh):
		return Early
	}
	return None
}

// early says whether the first attempt began before it was due. A clock may have moved in
// between by as much as one may that is trusted, or by what the header tells; one that was
// set may show a retry before the first attempt.
func (r *Rules) early(vh *evidence.VerifiedHour) bool {
	return vh.Record.Attempts[0].Started.Sub(vh.Due) <= -r.ClockDrift-r.moved(vh)
}

// moved is by how much the clock was set; zero: by no more than one may be that is trusted.
func (r *Rules) moved(vh *evidence.VerifiedHour) time.Duration {
	if c := vh.Header.Clock; c.Moved(r.ClockDrift) {
		return time.Duration(min(c.DriftMS, (24*time.Hour).Milliseconds())) * time.Millisecond
	}
	return 0
}

// add takes in an hour of the real network.
func (s *ScheduleReport) add(rules *Rules, vh *evidence.VerifiedHour, off Why) {
	switch {
	case vh.Record == nil:
		return
	case off == Unplanned:
		s.Unplanned++
		return
	}
	s.Checked++
	if vh.Header.Clock.Moved(rules.ClockDrift) {
		s.Moved++
	}
	switch {
	case off == Early:
		s.Early++
	case vh.Record.Attempts[0].Started.Sub(vh.Due) > rules.AttemptClose+rules.moved(vh):
		s.Late++
	}
}
