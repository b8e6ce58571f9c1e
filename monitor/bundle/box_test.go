package bundle

import (
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// A verdict is green only if no line speaks against an easy decision and nothing can change.
func TestBox(t *testing.T) {
	signed := bounty.Input{SHA256: "00", SignedBy: []string{"committee"}}
	good := bounty.Verdict{
		Result: bounty.Eligible, Final: true, Inputs: bounty.Inputs{Rules: signed, Roster: signed},
		Relay: bounty.RelayReport{Payout: "bitcoincash:q", PayoutSigned: true},
	}
	for name, tc := range map[string]struct {
		change func(*bounty.Verdict)
		want   string
	}{
		"nothing against it": {func(*bounty.Verdict) {}, "eligible"},
		"provisional":        {func(v *bounty.Verdict) { v.Final = false }, ""},
		"review":             {func(v *bounty.Verdict) { v.Result = bounty.ForReview }, ""},
		"lab":                {func(v *bounty.Verdict) { v.Result = bounty.LabResult }, ""},
		"dissent": {func(v *bounty.Verdict) {
			v.Dissent = []bounty.Dissent{{Monitor: "m1", Vote: bounty.Down, Against: bounty.StateUnknown, Hours: 1}}
		}, ""},
		"a missing log":      {func(v *bounty.Verdict) { v.Absent = []bounty.Absence{{Monitor: "m1", Hours: 1}} }, ""},
		"nobody's signature": {func(v *bounty.Verdict) { v.Inputs.Rules.SignedBy = nil }, ""},
		"an unsigned payout": {func(v *bounty.Verdict) { v.Relay.PayoutSigned = false }, ""},
		"fewer signed hours": {func(v *bounty.Verdict) { v.Hours.Up = 1 }, ""},
		"not eligible":       {func(v *bounty.Verdict) { v.Result = bounty.NotEligible }, "not-eligible"},
	} {
		v := good
		tc.change(&v)
		if got := boxOf(&v, Summary(&v)); got != tc.want {
			t.Errorf("%s: box %q, want %q", name, got, tc.want)
		}
	}
}
