package bounty

import (
	"slices"
	"strings"
)

// Grade says how much stands behind an hour that counts up.
type Grade string

// The grades.
const (
	GradeA Grade = "A" // assured (rule R19): the relay signed for the committee's monitor and for another operator's
	GradeB Grade = "B" // the relay signed for monitors of two operators or more
	GradeC Grade = "C" // it signed for one operator's monitors, or for nobody, since it was busy
)

// assurance collects over the month what rule R19 asks for.
type assurance struct {
	up          int             // hours that count up
	assured     int             // of them those of grade A
	operators   map[string]bool // whose votes stand behind the assured hours
	noCommittee int             // hours up for which the relay signed for no monitor of the committee's
	alone       int             // ... for the committee's, and for no other operator's
	unwitnessed int             // ... for enough, but who was not cosigned in time by another operator
}

// add grades an hour that counts up by those who voted up in it.
func (a *assurance) add(rules *Rules, voters []voter) Grade {
	a.up++
	all, sealed := operatorsOf(voters, false), operatorsOf(voters, true)
	suffice := func(o map[string]bool, committee bool) bool { return committee && len(o) >= rules.AssuredOperators }
	switch {
	case suffice(sealed, hasCommittee(voters, true)):
		a.assured++
		if a.operators == nil {
			a.operators = map[string]bool{}
		}
		for o := range sealed {
			a.operators[o] = true
		}
		return GradeA
	case !hasCommittee(voters, false):
		a.noCommittee++
	case len(all) < rules.AssuredOperators:
		a.alone++
	default:
		a.unwitnessed++
	}
	if len(all) >= 2 {
		return GradeB
	}
	return GradeC
}

// voter is a monitor that voted up in an hour.
type voter struct {
	*Monitor
	witnessed bool // somebody of another operator cosigned it in time
}

func operatorsOf(voters []voter, witnessed bool) map[string]bool {
	out := map[string]bool{}
	for _, v := range voters {
		if v.witnessed || !witnessed {
			out[operatorOf(v.Monitor)] = true
		}
	}
	return out
}

func hasCommittee(voters []voter, witnessed bool) bool {
	return slices.ContainsFunc(voters, func(v voter) bool { return v.Committee && (v.witnessed || !witnessed) })
}

// judgeAssurance applies rule R19.
func judgeAssurance(rules *Rules, roster *Roster, relay *Relay, a *assurance) Finding {
	f := Finding{Rule: "R19", Subject: "assurance"}
	if a.assured < rules.HoursRequired {
		f.note(Review, "%d of the %d hours that count up are assured: monitors of %d operators or more, the committee's among them, voted up in them by the relay's signature; %d are required",
			a.assured, a.up, rules.AssuredOperators, rules.HoursRequired)
		because := func(n int, why string) {
			if n > 0 {
				f.note(Review, "in %d h %s", n, why)
			}
		}
		because(a.noCommittee, "no monitor of the committee's voted up")
		because(a.alone, "too few other operators' monitors voted up")
		because(a.unwitnessed, "no witness of another operator cosigned in time, so nothing shows when they were written")
	}
	if !roster.hasControls(relay) {
		f.note(Review, "no controls: failures could count nowhere, so an outage may have gone unseen")
	}
	if f.Outcome == "" {
		f.note(Pass, "%d hours up are assured: the relay signed in each for the committee's monitor and for one of another operator at least (%s), witnessed and with controls",
			a.assured, strings.Join(sortedKeys(a.operators), ", "))
	}
	return f
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
