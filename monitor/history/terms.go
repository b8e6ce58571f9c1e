package history

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// Term is a word or a rule of the bounty, and what it means.
type Term struct {
	Word  string `json:"word"` // such as "busy" or "R6"
	Means string `json:"means"`
}

// Named finds the terms in a sentence.
var Named = regexp.MustCompile(`(?i)\b(unknown|busy|blind|skipped|rungs?|components?|controls|vouchers?|witness(?:es)?|sealed|bundle)\b|\bR[0-9]+\b`)

// TermOf is the word under which a term stands, of one that was found in a sentence.
func TermOf(found string) string {
	if found[0] == 'R' && strings.ContainsAny(found, "0123456789") {
		return found
	}
	word := strings.ToLower(found)
	switch word {
	case "witnesses":
		return "witness"
	case "rungs", "components", "vouchers":
		return strings.TrimSuffix(word, "s")
	}
	return word
}

// explained says whether a term is explained wherever it stands, in explanations, too.
func explained(word string) bool {
	return word[0] == 'R' || slices.Contains([]string{"unknown", "busy", "blind"}, word)
}

// Leads says whether a term that was found in a sentence is to lead to what it means.
func (s *Story) Leads(found string) bool {
	word := TermOf(found)
	return explained(word) && slices.ContainsFunc(s.Terms, func(t Term) bool { return t.Word == word })
}

// terms explains what the sentences name.
func (s *Story) terms(f Facts) {
	all := allTerms(f)
	named := map[string]bool{}
	note := func(text string) {
		for _, found := range Named.FindAllString(text, -1) {
			named[TermOf(found)] = true
		}
	}
	note(s.Vote.String())
	for _, p := range s.Parts() {
		for _, words := range p.Words {
			note(words)
		}
	}
	for _, a := range s.Attempts {
		for _, r := range a.Rungs {
			note(string(r.Outcome))
		}
	}
	for before := -1; before != len(named); { // an explanation may name another
		before = len(named)
		for _, t := range all {
			for _, found := range Named.FindAllString(t.Means, -1) {
				if word := TermOf(found); named[t.Word] && explained(word) {
					named[word] = true
				}
			}
		}
	}
	s.Terms = []Term{}
	for _, t := range all {
		if named[t.Word] {
			s.Terms = append(s.Terms, t)
		}
	}
}

// allTerms are the words first, then the rules, which are titled as in BOUNTY.md.
func allTerms(f Facts) []Term {
	r := f.Rules
	return []Term{
		{"unknown", bounty.Unknown.Meaning(r)},
		{"busy", bounty.Busy.Meaning(r)},
		{"blind", "Something failed, and it is not shown that the monitor's own line worked then. That is held against nobody (R5)."},
		{"skipped", "It was not tried, since something that it stands on had failed."},
		{"rung", "A step of an attempt. The steps are tcp4, identify, wss, reserve and circuit, in this order."},
		{"component", "One of the three things that the bounty requires of a relay: tcp4, wss and relay (R3)."},
		{"controls", "Hosts of others that are known to be up. The monitor tries them near an attempt that failed, to see whether its own line works."},
		{"voucher", "The relay's signature for one reservation. It shows that the relay itself answered."},
		{"witness", "A program of another operator. It signs that it has seen the sealed hour, so that nobody can write it anew later."},
		{"sealed", "Signed by the monitor. Nothing can be added to the hour, or taken from it."},
		{"bundle", "One file with all that the monitors recorded and signed of a relay's month, with the rules and the roster."},
		{"R1", "Hours. A month has all its hours, in UTC. An attempt belongs to the hour in which the first attempt began."},
		{"R2", fmt.Sprintf("Hours. Each monitor tries each relay once an hour, at a second that nobody can predict, and up to two times more if something failed. Retries may start until %.0f minutes after the hour's end.", r.AttemptClose.Minutes())},
		{"R3", "What is tried. tcp4: the address answers with the relay's own key. wss: the domain does, as it would to a browser. relay: one peer reserves a place, another one reaches it through the relay, and the test bytes come back equal."},
		{"R4", "What is tried. A relay that says it is full is busy, not down. One that refuses permission is not public, and fails."},
		{"R5", fmt.Sprintf("Whose fault was it? A failure counts only if %s of the controls answered within %.0f seconds after it, and no more than %d %% of the packets to them were sent again. Of a name that does not lead to the relay a second resolver must say the same.", r.ControlShare, r.ControlWithin.Seconds(), r.LineLoss)},
		{"R6", fmt.Sprintf("One monitor's vote. Up, if one attempt was good and the relay signed a voucher for this hour. Down, if at least %d attempts failed that started at least %.0f minutes apart. Busy, if the relay only refused for want of room. Else unknown.", r.DownAttempts, r.DownSpacing.Minutes())},
		{"R7", "Several monitors. The majority of all monitors on the roster decides, whether they answered or not. No monitor judges a relay of its own operator."},
		{"R8", fmt.Sprintf("Busy hours. The first %d of a month count as up. Later ones count as down if most monitors were refused or found nobody, and else as unknown.", r.BusyCap)},
		{"R9", fmt.Sprintf("When it was written. A vote counts only if enough witnesses cosigned the hour within %.0f minutes after its end, and the monitor's clock was right. Where the clock was set by %.0f seconds or more, only up counts, by an attempt during which it was not set.", r.SealWithin.Minutes(), r.ClockDrift.Seconds())},
		{"R10", fmt.Sprintf("The month. %d hours must be up. Nothing is estimated. Hours before the enrolment count for nothing.", r.HoursRequired)},
		{"R16", fmt.Sprintf("The verdict. It is provisional until %.0f hours after the month's end, for late evidence. Where a rule says REVIEW, the committee decides.", r.FinalAfter.Hours())},
		{"R21", fmt.Sprintf("Who is due? Where at least %d monitors may judge a relay, the hour's drand round chooses %d of distinct operators, one of them the committee's. The majority of these decides.", r.DueFrom, r.MonitorsDue)},
	}
}
