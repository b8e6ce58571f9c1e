package bounty

import (
	"slices"
	"strings"
)

// Grade says how much stands behind an hour that counts up.
type Grade string

// The grades.
const (
	GradeA Grade = "A" // the relay's own signature for this hour, sealed in time, by a quorum of enough monitors
	GradeB Grade = "B" // a quorum of enough monitors, without that signature
	GradeC Grade = "C" // fewer monitors
)

// assurance collects over the month what rule R19 asks for.
type assurance struct {
	assured     int             // hours up of grade A or B, judged by a bench that suffices
	graded      int             // hours up of grade A or B
	operators   map[string]bool // of monitors whose votes stand behind assured hours
	committee   map[string]bool // names of the committee's among them
	unwitnessed bool            // an hour that counts up was sealed without a witness
	alone       bool            // an hour that counts up had a bench of one
}

// judgeAssurance applies rule R19.
func judgeAssurance(rules *Rules, roster *Roster, relay *Relay, a *assurance) Finding {
	f := Finding{Rule: "R19", Subject: "assurance"}
	if a.assured < rules.HoursRequired {
		switch {
		case a.alone:
			f.note(Review, "single monitor: %d of the hours that count up are judged by at least %d monitors of distinct operators, %d of them the committee's; %d are required", a.assured, rules.MinMonitors, rules.MinCommittee, rules.HoursRequired)
		case a.graded >= rules.HoursRequired:
			f.note(Review, "not independent: only %d of the hours that count up are judged by monitors of at least %d distinct operators, %d of them the committee's; %d are required", a.assured, rules.MinMonitors, rules.MinCommittee, rules.HoursRequired)
		default:
			f.note(Review, "too few hours: %d of the hours that count up are judged by at least %d monitors of distinct operators, %d of them the committee's; %d are required", a.assured, rules.MinMonitors, rules.MinCommittee, rules.HoursRequired)
		}
	} else if len(a.operators) < rules.MinMonitors || len(a.committee) < rules.MinCommittee {
		f.note(Review, "not independent: the votes behind those hours come from %d operators (%s) and %d monitors of the committee; %d and %d are required",
			len(a.operators), strings.Join(sortedKeys(a.operators), ", "), len(a.committee), rules.MinMonitors, rules.MinCommittee)
	}
	if a.unwitnessed {
		f.note(Review, "unwitnessed: hours that count up carry no cosignature of a witness in time, so nothing shows when they were written")
	}
	if !roster.hasControls(relay) {
		f.note(Review, "no controls: failures could count nowhere, so an outage may have gone unseen")
	}
	if f.Outcome == "" {
		f.note(Pass, "%d hours up are each judged by at least %d monitors of distinct operators (%s), the committee's among them, witnessed and with controls",
			a.assured, rules.MinMonitors, strings.Join(sortedKeys(a.operators), ", "))
	}
	return f
}

// suffices says whether a bench is one that rule R19 trusts.
func (r *Rules) suffices(bench []*Monitor) bool {
	operators, committee := map[string]bool{}, 0
	for _, m := range bench {
		operators[operatorOf(m)] = true
		if m.Committee {
			committee++
		}
	}
	return len(operators) >= r.MinMonitors && committee >= r.MinCommittee
}

// operatorOf is who runs a monitor; one that names nobody stands for itself.
func operatorOf(m *Monitor) string {
	if m.Operator == "" {
		return "monitor " + m.Name
	}
	return m.Operator
}

func sortedKeys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
