package bundle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// Answer is one line of the first screen of a report: what somebody asks who must
// decide about money, and what the evidence says.
type Answer struct {
	Question string   // for a person
	Word     string   // the same in one word, for a terminal
	Says     []string // one thought each, at least one
	Mark     bool     // it speaks against an easy decision
}

// Summary answers what a committee asks first, in its order: what the verdict rests
// on, who dissented, who is missing, for how many hours the relay signed, whom to pay,
// and by which rules and roster.
func Summary(v *bounty.Verdict) []Answer {
	return []Answer{restsOn(v), dissent(v), missing(v), signed(v), payment(v), judgedBy("rules", v.Inputs.Rules), judgedBy("roster", v.Inputs.Roster)}
}

// Caution names the answers that are marked, for the verdict to carry; empty: none is.
func Caution(answers []Answer) string {
	var marked []string
	for _, a := range answers {
		if a.Mark {
			marked = append(marked, a.Question)
		}
	}
	if len(marked) == 0 {
		return ""
	}
	return "read before you decide, marked below: " + strings.Join(marked, " ")
}

func restsOn(v *bounty.Verdict) Answer {
	h := v.Hours
	judged := h.Up + h.Down + h.Unknown
	a := Answer{Question: "What does it rest on?", Word: "rests on", Says: []string{
		fmt.Sprintf("%d of the %s that were judged count up, %d down, %d are unknown.", h.Up, hours(judged), h.Down, h.Unknown),
		fmt.Sprintf("%d of the hours up are assured: the relay signed in them for the committee's monitor and for another operator's (R19).", v.Assured),
	}}
	if h.Remaining > 0 || h.NotEnrolled > 0 {
		a.Says = append(a.Says, fmt.Sprintf("Of the %d hours of the month %d are to come, and in %d the relay was not enrolled.", h.Total, h.Remaining, h.NotEnrolled))
	}
	if h.Busy > 0 {
		a.Says = append(a.Says, fmt.Sprintf("In %s the relay was busy; nobody's signature stands behind that.", hours(h.Busy)))
	}
	return a
}

func dissent(v *bounty.Verdict) Answer {
	a := Answer{Question: "Who dissented?", Word: "dissent"}
	for _, d := range v.Dissent {
		s := ""
		if d.Hours == 1 {
			s = "s"
		}
		what := "count" + s + " " + d.Against.String()
		if d.Against == bounty.StateUnknown {
			what = "stay" + s + " unknown"
		}
		a.Says = append(a.Says, fmt.Sprintf("%s voted %s in %s that %s: %s.", who(d.Monitor, d.Operator, d.Committee), d.Vote, hours(d.Hours), what, spanWords(d.Spans, 4)))
		a.Mark = true
	}
	if len(a.Says) == 0 {
		a.Says = []string{"Nobody: no monitor voted down in an hour that does not count down, or up in one that does."}
	}
	return a
}

func missing(v *bounty.Verdict) Answer {
	a := Answer{Question: "Who is missing?", Word: "missing"}
	for _, m := range v.Absent {
		if m.Ends == nil {
			a.Says = append(a.Says, fmt.Sprintf("The log of %s is not in the bundle: its word is not known in %s.", who(m.Monitor, m.Operator, m.Committee), hours(m.Hours)))
		} else {
			a.Says = append(a.Says, fmt.Sprintf("The log of %s ends at %s: its word is not known in %s.", who(m.Monitor, m.Operator, m.Committee), *m.Ends, hours(m.Hours)))
		}
	}
	for _, m := range v.Monitors {
		unknown, all := m.Votes[bounty.Unknown], 0
		for _, n := range m.Votes {
			all += n
		}
		switch {
		case m.Recused || !m.Log:
		case m.Void != "":
			a.Says = append(a.Says, fmt.Sprintf("Nothing of %s counts: %s.", who(m.Name, m.Operator, m.Committee), m.Void))
		case unknown > 0 && unknown == all:
			a.Says = append(a.Says, fmt.Sprintf("No word of %s counts in any hour: %s.", who(m.Name, m.Operator, m.Committee), whyUnknown(v, m.Name)))
		case 2*unknown > all:
			a.Says = append(a.Says, fmt.Sprintf("No word of %s counts in %d of %s: %s.", who(m.Name, m.Operator, m.Committee), unknown, hours(all), whyUnknown(v, m.Name)))
		}
	}
	for _, m := range v.Monitors {
		if m.Recused {
			continue
		}
		for _, why := range slices.Sorted(maps.Keys(m.Voided)) {
			said, advice := m.Voided[why], ""
			if why == bounty.Late {
				advice = " If it left cosignatures out, its witnesses or an older bundle may still have them."
			}
			a.Says = append(a.Says, fmt.Sprintf("What %s wrote in %s counts nowhere (%s): up in %d, down in %d, busy in %d. The reason: %s.%s",
				who(m.Name, m.Operator, m.Committee), hours(said[bounty.Up]+said[bounty.Down]+said[bounty.Busy]), why, said[bounty.Up], said[bounty.Down], said[bounty.Busy], why.Meaning(), advice))
		}
	}
	a.Mark = len(a.Says) > 0
	if len(a.Says) == 0 {
		a.Says = []string{"Nobody: every monitor of the roster that may judge this relay shows its log."}
	}
	return a
}

// whyUnknown says why a monitor's votes are unknown, the most frequent reason first.
func whyUnknown(v *bounty.Verdict, name string) string {
	var counts []whyCount
	for _, h := range v.Hourly {
		word, ok := strings.CutPrefix(h.Votes[name], bounty.Unknown.String()+": ")
		var why bounty.Why
		if !ok || why.UnmarshalText([]byte(word)) != nil {
			continue
		}
		i := slices.IndexFunc(counts, func(c whyCount) bool { return c.why == why })
		if i < 0 {
			i, counts = len(counts), append(counts, whyCount{why: why})
		}
		counts[i].hours++
	}
	slices.SortStableFunc(counts, func(a, b whyCount) int { return b.hours - a.hours })
	var out []string
	for _, c := range counts {
		out = append(out, fmt.Sprintf("in %d %s (%s)", c.hours, c.why.Meaning(), c.why))
	}
	return strings.Join(out, "; ")
}

// hours says how many.
func hours(n int) string {
	if n == 1 {
		return "1 hour"
	}
	return fmt.Sprintf("%d hours", n)
}

type whyCount struct {
	why   bounty.Why
	hours int
}

func signed(v *bounty.Verdict) Answer {
	judged := v.Hours.Up + v.Hours.Down + v.Hours.Unknown
	return Answer{Question: "For how many hours did the relay sign?", Word: "signed", Mark: v.Signed < v.Hours.Up, Says: []string{
		fmt.Sprintf("The relay's own key signed for %d of the %s that were judged.", v.Signed, hours(judged)),
	}}
}

func payment(v *bounty.Verdict) Answer {
	a := Answer{Question: "Whom to pay?", Word: "pay"}
	switch r := v.Relay; {
	case r.Payout == "":
		a.Says, a.Mark = []string{"No address is registered."}, true
	case r.PayoutSigned:
		a.Says = []string{r.Payout + ", signed by the relay's own key."}
	default:
		a.Says, a.Mark = []string{r.Payout + ", NOT signed by the relay's own key."}, true
	}
	switch {
	case v.Result == bounty.LabResult:
		a.Says = append(a.Says, "Nothing is owed: a lab's month is never paid.")
	case v.Result == bounty.NotEligible:
		a.Says = append(a.Says, "Nothing is owed for this month.")
	case v.Result == bounty.ForReview:
		a.Says = append(a.Says, "Nothing is owed before the committee has reviewed what is named above.")
	case len(v.Absent) > 0:
		a.Says = append(a.Says, "Nothing is owed before the committee has asked for what is missing, or does without it by name.")
	case !v.Final:
		a.Says = append(a.Says, "Nothing is owed before the verdict is final.")
	}
	return a
}

func judgedBy(word string, in bounty.Input) Answer {
	a := Answer{Question: "By which " + word + "?", Word: word, Says: []string{"SHA-256 " + in.SHA256 + "."}}
	if in.Serial > 0 {
		a.Says[0] = fmt.Sprintf("Serial %d, SHA-256 %s.", in.Serial, in.SHA256)
	}
	if len(in.SignedBy) > 0 {
		a.Says = append(a.Says, "It says that it is signed by "+strings.Join(in.SignedBy, ", ")+".")
	} else {
		a.Says, a.Mark = append(a.Says, "Unsigned: no committee vouches for it."), true
	}
	return a
}

func who(name, operator string, committee bool) string {
	if committee {
		return fmt.Sprintf("%s (the committee's monitor, run by %s)", name, operator)
	}
	return fmt.Sprintf("%s (run by %s)", name, operator)
}

// spanWords lists spans, the first most of them.
func spanWords(spans []bounty.Span, most int) string {
	var out []string
	for i, s := range spans {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more times", len(spans)-most))
			break
		}
		out = append(out, s.String())
	}
	return strings.Join(out, ", ")
}
