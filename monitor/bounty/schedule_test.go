package bounty

import (
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A clock that was set excuses a first attempt by as much as it moved, and by no more: else
// a monitor could choose its moments and write a small step into each header.
func TestEarlyByAMovedClock(t *testing.T) {
	rules, roster := Defaults(), &Roster{Network: evidence.PSF}
	due := evidence.HourOf(time.Date(2026, 11, 1, 5, 0, 0, 0, time.UTC)).Start().Add(30 * time.Minute)
	for name, tc := range map[string]struct {
		clock evidence.Clock
		off   time.Duration
		want  Why
		is    ScheduleReport
	}{
		"on time":                        {evidence.Clock{}, 0, None, ScheduleReport{Checked: 1}},
		"a drift that is trusted":        {evidence.Clock{DriftMS: 1999}, -1999 * time.Millisecond, None, ScheduleReport{Checked: 1}},
		"early":                          {evidence.Clock{DriftMS: 1999}, -2 * time.Second, Early, ScheduleReport{Checked: 1, Early: 1}},
		"a small step, a little early":   {evidence.Clock{DriftMS: 3000}, -4 * time.Second, None, ScheduleReport{Checked: 1, Moved: 1}},
		"a small step, much too early":   {evidence.Clock{DriftMS: 3000}, -5 * time.Second, Early, ScheduleReport{Checked: 1, Early: 1, Moved: 1}},
		"many steps":                     {evidence.Clock{DriftMS: 1000, Steps: make([]evidence.ClockStep, evidence.MaxSteps)}, -10 * time.Minute, Early, ScheduleReport{Checked: 1, Early: 1, Moved: 1}},
		"a large step":                   {evidence.Clock{DriftMS: 900_000}, -10 * time.Minute, None, ScheduleReport{Checked: 1, Moved: 1}},
		"late":                           {evidence.Clock{}, rules.AttemptClose + time.Second, None, ScheduleReport{Checked: 1, Late: 1}},
		"late, by less than it was set":  {evidence.Clock{DriftMS: 3000}, rules.AttemptClose + time.Second, None, ScheduleReport{Checked: 1, Moved: 1}},
		"a step of more than can be":     {evidence.Clock{DriftMS: 1 << 62}, -time.Hour, None, ScheduleReport{Checked: 1, Moved: 1}},
		"late, by a day beyond its step": {evidence.Clock{DriftMS: 1 << 62}, 48 * time.Hour, None, ScheduleReport{Checked: 1, Late: 1, Moved: 1}},
	} {
		vh := &evidence.VerifiedHour{Due: due, Header: evidence.Header{Clock: tc.clock},
			Record: &evidence.Record{Attempts: []evidence.Attempt{{Started: evidence.TimeOf(due.Add(tc.off))}}}}
		off := rules.OffPlan(roster, vh)
		var is ScheduleReport
		is.add(rules, vh, off)
		if off != tc.want || is != tc.is {
			t.Errorf("%s: got %s and %+v, want %s and %+v", name, off, is, tc.want, tc.is)
		}
	}
}
