package bounty

import (
	"fmt"
	"slices"
	"time"
)

// Finding is what one rule says of the month: an outcome, the reasons in words
// and the hours behind them.
type Finding struct {
	Rule    string   `json:"rule"`
	Subject string   `json:"subject"`
	Outcome Outcome  `json:"outcome"`
	Reasons []string `json:"reasons"`
	Hours   []Span   `json:"hours,omitempty"`
}

// severity orders outcomes; the worst one of a finding stands.
var severity = map[Outcome]int{"": 0, Pass: 1, Warn: 2, Inconclusive: 3, Review: 4, Fail: 5}

// note adds a reason and makes the outcome at least as bad as o.
func (f *Finding) note(o Outcome, format string, args ...any) {
	f.Reasons = append(f.Reasons, fmt.Sprintf(format, args...))
	if severity[o] > severity[f.Outcome] {
		f.Outcome = o
	}
}

// is sets the outcome and its reasons.
func (f Finding) is(o Outcome, reasons ...string) Finding {
	f.Outcome, f.Reasons = o, reasons
	return f
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

func count(spans []Span) int {
	n := 0
	for _, s := range spans {
		n += int(s.Until - s.From)
	}
	return n
}

// hoursWords writes whole hours as "72 h", all else as Go does.
func hoursWords(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return d.String()
}
