package bundle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
)

// Votes is the picture beneath the verdict: the month as it counts, and under it what
// each monitor said of it.
type Votes struct {
	Days   int
	Month  []chart.Votes // one
	First  []chart.Votes // of the monitors, those that somebody should look at first
	Others []chart.Votes // folded away
	Marked int           // of the others: those with something to look at
	More   int           // monitors that are not drawn
}

const (
	firstVoters = 8
	mostVoters  = 50
)

// VotesOf draws it.
func VotesOf(v *bounty.Verdict) Votes {
	hours := v.EveryHour()
	out := Votes{Days: len(hours) / 24, Month: []chart.Votes{monthVotes(hours)}}
	monitors := slices.Clone(v.Monitors)
	rank := func(m bounty.MonitorReport) int {
		switch {
		case m.Committee:
			return 0
		case voterNote(v, &m) != "":
			return 1
		}
		return 2
	}
	slices.SortStableFunc(monitors, func(a, b bounty.MonitorReport) int { return cmp.Compare(rank(a), rank(b)) })
	out.More = max(0, len(monitors)-mostVoters)
	for i := range monitors[:len(monitors)-out.More] {
		m := votesOf(v, hours, &monitors[i])
		switch {
		case i < firstVoters:
			out.First = append(out.First, m)
		default:
			out.Others = append(out.Others, m)
			if m.Note != "" {
				out.Marked++
			}
		}
	}
	return out
}

// monthVotes are the hours as they count. Marked are those in which a monitor dissented.
func monthVotes(hours []bounty.HourReport) chart.Votes {
	votes, against := make([]chart.Vote, len(hours)), 0
	for i, h := range hours {
		switch h.State {
		case bounty.StateUp, bounty.StateDown, bounty.StateUnknown:
			votes[i].Class = h.State.String()
		}
		for _, words := range h.Votes {
			votes[i].Against = votes[i].Against || dissents(words, h.State)
		}
		if votes[i].Against {
			against++
		}
	}
	out := chart.Votes{Name: "What counts"}
	out.Words = fmt.Sprintf("the hours as they count: %s; in %d a monitor dissented", sumOf(votes), against)
	out.Draw(votes)
	return out
}

// votesOf are the hours as a monitor voted on them.
func votesOf(v *bounty.Verdict, hours []bounty.HourReport, m *bounty.MonitorReport) chart.Votes {
	votes := make([]chart.Vote, len(hours))
	for i, h := range hours {
		words := h.Votes[m.Name]
		value, why, _ := strings.Cut(words, ": ")
		votes[i] = chart.Vote{Class: value, Against: dissents(words, h.State)}
		if why == bounty.Missing.String() {
			votes[i].Class = "missing"
		}
	}
	out := chart.Votes{Name: m.Name, Note: voterNote(v, m)}
	if m.Committee {
		out.Role = "committee"
	}
	out.Words = m.Name + ": " + sumOf(votes)
	if out.Note != "" {
		out.Words += "; " + out.Note
	}
	out.Draw(votes)
	return out
}

// dissents says whether a vote is against what the hour counts as, as in [bounty.Dissent].
func dissents(words string, counts bounty.State) bool {
	return words == bounty.Down.String() && counts != bounty.StateDown || words == bounty.Up.String() && counts == bounty.StateDown
}

// sumOf counts the hours of each kind.
func sumOf(votes []chart.Vote) string {
	n := map[string]int{}
	for _, x := range votes {
		n[x.Class]++
	}
	out := fmt.Sprintf("%d hours up, %d down, %d unknown", n["up"], n["down"], n["unknown"])
	if n["busy"] > 0 {
		out += fmt.Sprintf(", %d busy", n["busy"])
	}
	if n["missing"] > 0 {
		out += fmt.Sprintf(", %d missing", n["missing"])
	}
	return out
}

// voterNote is what somebody should know of a monitor who decides; empty: nothing.
func voterNote(v *bounty.Verdict, m *bounty.MonitorReport) string {
	var out []string
	switch {
	case m.Recused:
		return "recused: it does not vote"
	case m.Void != "":
		out = append(out, "void: nothing of it counts") // why stands below
	case !m.Log:
		out = append(out, "its log is missing")
	}
	for _, a := range v.Absent {
		if a.Monitor == m.Name && a.Operator == m.Operator && a.Ends != nil {
			out = append(out, fmt.Sprintf("its log ends at %s", *a.Ends))
		}
	}
	against := 0
	for _, d := range v.Dissent {
		if d.Monitor == m.Name && d.Operator == m.Operator {
			against += d.Hours
		}
	}
	if against > 0 {
		out = append(out, fmt.Sprintf("dissents in %s", hours(against)))
	}
	return strings.Join(out, "; ")
}
