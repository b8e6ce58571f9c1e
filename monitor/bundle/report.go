package bundle

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

//go:embed VERIFY.md
var verifyText string

//go:embed report.html
var htmlText string

var htmlReport = template.Must(template.New("report.html").Funcs(template.FuncMap{
	"css": func(v any) string {
		return strings.NewReplacer(" ", "-", "_", "-").Replace(strings.ToLower(fmt.Sprint(v)))
	},
	"ms":      func(us int64) string { return fmt.Sprintf("%.1f ms", float64(us)/1000) },
	"utc":     func(t evidence.Time) string { return t.Format("2006-01-02 15:04:05 UTC") },
	"span":    func(s bounty.Span) string { return s.String() },
	"outcome": Mark,
	"short":   short,
	"plan":    scheduleWords,
	"unknown": func() string { return bounty.Unknown.Meaning(nil) },
	"busy":    func() string { return bounty.Busy.Meaning(nil) },
}).Parse(htmlText + chart.HTML))

// page is what the template sees.
type page struct {
	*bounty.Verdict
	Answers []Answer
	Caution string
	Box     string // the colour of the verdict
	Heat    chart.Heatmap
	Latency chart.Latency
	Certs   chart.Bars
	Votes   Votes
	Map     chart.Map
	OffMap  []string
	// Unknown and Busy say that there are such hours or votes: the page explains them.
	Unknown, Busy bool
}

// HTML draws the report: one file, no script, nothing loaded from anywhere.
func HTML(v *bounty.Verdict) ([]byte, error) {
	var b bytes.Buffer
	answers := Summary(v)
	p := page{Verdict: v, Answers: answers, Caution: Caution(answers), Box: boxOf(v, answers), Heat: Heatmap(v, nil), Latency: latencyChartOf(v), Certs: certChartOf(v), Votes: VotesOf(v), Map: mapOf(v), OffMap: offMap(v)}
	p.Unknown, p.Busy = v.Hours.Unknown > 0, v.Hours.Busy > 0
	for _, m := range v.Monitors {
		p.Unknown, p.Busy = p.Unknown || m.Votes[bounty.Unknown] > 0, p.Busy || m.Votes[bounty.Busy] > 0
	}
	if err := htmlReport.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("draw the report: %w", err)
	}
	return b.Bytes(), nil
}

// boxOf is the class of style of the verdict. Green is for what needs no second look:
// nothing is marked, and nothing can change.
func boxOf(v *bounty.Verdict, answers []Answer) string {
	switch {
	case v.Result == bounty.NotEligible:
		return "not-eligible"
	case v.Result == bounty.Eligible && v.Final && Caution(answers) == "":
		return "eligible"
	}
	return ""
}

// Mark tells outcomes apart without colour.
func Mark(o bounty.Outcome) string {
	switch o {
	case bounty.Pass:
		return "✓"
	case bounty.Warn:
		return "!"
	case bounty.Fail:
		return "✗"
	default:
		return "?"
	}
}

func short(s string) string {
	if len(s) > 16 {
		return s[:16] + "…"
	}
	return s
}

// Markdown is the report for terminals, mails and issue trackers.
func Markdown(v *bounty.Verdict) []byte {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("# %s\n", v.Headline)
	say("Relay `%s`, month %s (UTC), as of %s, network %s.\n", v.Relay.PeerID, v.Month, v.AsOf, v.Network)
	for _, r := range v.Reasons {
		say("- %s", md(r))
	}
	answers := Summary(v)
	if c := Caution(answers); c != "" {
		say("- **!** %s", c)
	}
	say("")
	for _, a := range answers {
		mark := ""
		if a.Mark {
			mark = "! "
		}
		say("**%s%s** %s\n", mark, a.Question, md(strings.Join(a.Says, " ")))
	}
	say("| rule | subject | outcome | reasons |\n|---|---|---|---|")
	for _, f := range v.Findings {
		say("| %s | %s | %s | %s |", f.Rule, f.Subject, f.Outcome, md(strings.Join(f.Reasons, "; ")))
	}
	h := v.Hours
	say("\n| hours | up | down | busy (in up and down) | unknown | not enrolled | remaining | coverage |\n|---|---|---|---|---|---|---|---|")
	say("| %d | %d | %d | %d | %d | %d | %d | %d %% |", h.Total, h.Up, h.Down, h.Busy, h.Unknown, h.NotEnrolled, h.Remaining, v.Coverage)
	say("\n- operator: %s\n- addresses: `%s`, `%s`", md(v.Relay.Operator), v.Relay.TCP4, v.Relay.WSS)
	say("- labels: %s", strings.Join(v.Labels, ", "))
	say("\n| monitor | operator | committee | up | down | busy | unknown | vouchers | note |\n|---|---|---|---|---|---|---|---|---|")
	for _, m := range v.Monitors {
		say("| %s | %s | %s | %d | %d | %d | %d | %d | %s |", m.Name, md(m.Operator), yes(m.Committee),
			m.Votes[bounty.Up], m.Votes[bounty.Down], m.Votes[bounty.Busy], m.Votes[bounty.Unknown], m.Vouchers, md(MonitorNote(m)))
	}
	say("\n```\n%s```", heatText(v))
	return []byte(b.String())
}

// MonitorNote says why a monitor's word does not count, or how it kept to its plan.
func MonitorNote(m bounty.MonitorReport) string {
	switch {
	case m.Recused:
		return "recused: it is run by the relay's operator"
	case m.Void != "":
		return "void: " + m.Void
	case !m.Log:
		return "its log is not part of the evidence"
	}
	words := scheduleWords(m.Schedule)
	if m.NotDue > 0 {
		words = strings.TrimPrefix(fmt.Sprintf("%s; %d hours were others' to probe (R21)", words, m.NotDue), "; ")
	}
	return words
}

// scheduleWords say how a monitor kept to its plan (rule R2).
func scheduleWords(s *bounty.ScheduleReport) string {
	if s == nil {
		return ""
	}
	words := fmt.Sprintf("of %d hours with a plan %d began early and %d late", s.Checked, s.Early, s.Late)
	if s.Moved > 0 {
		words += fmt.Sprintf("; in %d of them its clock was set", s.Moved)
	}
	if s.Unplanned > 0 {
		words += fmt.Sprintf("; %d have no good plan", s.Unplanned)
	}
	return words
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// md keeps text that others wrote from becoming markup or breaking a table.
func md(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", "[", "\\[", "`", "\\`", "*", "\\*").Replace(s)
}

// heatText draws the month with one letter an hour.
func heatText(v *bounty.Verdict) string {
	var b strings.Builder
	b.WriteString("hour       0     6     12    18\n")
	for i, h := range v.EveryHour() {
		if i%24 == 0 {
			b.WriteString(h.Hour.Start().Format(time.DateOnly) + " ")
		}
		b.WriteString(letter(h))
		if i%24 == 23 {
			b.WriteByte('\n')
		}
	}
	b.WriteString(legend + "\n")
	return b.String()
}

const legend = "U up   u up, though a monitor voted down   X down   ? unknown   b busy, counts up   B busy, counts down   - not enrolled   . to come"

// letter tells the states of an hour apart.
func letter(h bounty.HourReport) string {
	switch {
	case h.State == bounty.StateUp && h.Busy:
		return "b"
	case h.State == bounty.StateDown && h.Busy:
		return "B"
	case h.State == bounty.StateUp && h.Tally.Down > 0:
		return "u"
	case h.State == bounty.StateUp:
		return "U"
	case h.State == bounty.StateDown:
		return "X"
	case h.State == bounty.NotEnrolled:
		return "-"
	case h.State == bounty.Remaining:
		return "."
	}
	return "?"
}
