package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A log that is missing or ends early is asked for by name, unless it is waived; what
// is not missing cannot be waived.
func TestWithout(t *testing.T) {
	ends := evidence.HourOf(time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC))
	res := bundle.Result{
		Verdict: &bounty.Verdict{Headline: "ELIGIBLE", Absent: []bounty.Absence{{Monitor: "m2"}, {Monitor: "m3", Ends: &ends}}},
		Case:    bounty.Case{Roster: &bounty.Roster{Monitors: []bounty.Monitor{{Name: "m1"}, {Name: "m2"}, {Name: "m3"}}}},
	}
	for _, tc := range []struct {
		without []string
		want    []string
		faults  []string
	}{
		{nil, []string{"the log of m2 is missing", "the log of m3 ends at 2026-11-03T14:00:00Z"}, nil},
		{[]string{"m3"}, []string{"the log of m2 is missing"}, nil},
		{[]string{"m2", "m3"}, nil, nil},
		{[]string{"m1", "m2", "m4"}, []string{"the log of m3 ends at 2026-11-03T14:00:00Z"}, []string{"--without \"m1\": its log is there and whole", "--without \"m4\": no monitor"}},
	} {
		c := verifyCmd{waiver: waiver{Without: tc.without}}
		got, err := c.missing(res)
		if !slices.Equal(got, tc.want) || (err != nil) != (tc.faults != nil) {
			t.Errorf("without %q: %q, %v", tc.without, got, err)
		}
		for _, want := range tc.faults {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("without %q: %v, want %q", tc.without, err, want)
			}
		}
	}
	var b bytes.Buffer
	c := verifyCmd{waiver: waiver{Without: []string{"m2"}}}
	if err := c.print(&b, res); err != nil || !strings.Contains(b.String(), "The verdict is without m2, by your word.\n") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
