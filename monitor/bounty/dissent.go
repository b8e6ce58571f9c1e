package bounty

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Dissent is a monitor that voted against what hours count as: a down vote in an hour
// that does not count down, or an up vote in one that does.
type Dissent struct {
	Monitor   string `json:"monitor"`
	Operator  string `json:"operator"`
	Committee bool   `json:"committee"`
	// Vote is what it said, Against what the hours count as instead.
	Vote    Value  `json:"vote"`
	Against State  `json:"against"`
	Hours   int    `json:"hours"`
	Spans   []Span `json:"spans"`
}

// dissents collects them; each monitor's hours come in order.
type dissents []Dissent

func (d *dissents) add(m *Monitor, v Value, against State, h evidence.Hour) {
	i := slices.IndexFunc(*d, func(o Dissent) bool {
		return o.Monitor == m.Name && o.Operator == m.Operator && o.Vote == v && o.Against == against
	})
	if i < 0 {
		i = len(*d)
		*d = append(*d, Dissent{Monitor: m.Name, Operator: m.Operator, Committee: m.Committee, Vote: v, Against: against})
	}
	o := &(*d)[i]
	o.Committee = o.Committee || m.Committee
	o.Hours++
	o.Spans = addHour(o.Spans, h)
}

// sorted puts the committee's first, then whoever dissented most.
func (d dissents) sorted() []Dissent {
	slices.SortStableFunc(d, func(a, b Dissent) int {
		switch {
		case a.Committee != b.Committee:
			if a.Committee {
				return -1
			}
			return 1
		case a.Hours != b.Hours:
			return b.Hours - a.Hours
		}
		return cmp.Or(compare(a.Monitor, b.Monitor), cmp.Compare(a.Against, b.Against))
	})
	return notNil(d)
}

// judgeDissent applies rule R20. Hours are those that count up although a monitor of
// the committee's voted down, undecided those that are unknown although it did.
func judgeDissent(rules *Rules, hours, undecided []Span) Finding {
	f := Finding{Rule: "R20", Subject: "dissent", Hours: hours}
	switch n := count(hours); {
	case n > rules.CommitteeDissent:
		f.note(Review, "%d h count up although the committee's monitor voted down, more than %d: %s", n, rules.CommitteeDissent, words(hours, 6))
	case n > 0:
		f.note(Warn, "%d h count up although the committee's monitor voted down, no more than %d: %s", n, rules.CommitteeDissent, words(hours, 6))
	default:
		f.note(Pass, "in no hour that counts up did the committee's monitor vote down")
	}
	if n := count(undecided); n > 0 {
		f.Reasons = append(f.Reasons, fmt.Sprintf("%d h are unknown although the committee's monitor voted down: %s", n, words(undecided, 6)))
	}
	return f
}
