package bundle

import (
	"fmt"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
)

// Heatmap draws the hours of a month. lead says where those lead that were judged, and in
// which words; nil: nowhere.
func Heatmap(v *bounty.Verdict, lead func(bounty.HourReport) (href, words string)) chart.Heatmap {
	var cells, words []chart.Cell
	for _, h := range v.EveryHour() {
		l := letter(h)
		c := chart.Cell{Letter: l, Class: letterClass[l], Title: hourTitle(h)}
		if c.Title != "" && lead != nil {
			c.Href, c.Title = lead(h)
		}
		cells = append(cells, c)
	}
	for _, part := range strings.Split(legend, "   ") {
		l, meaning, _ := strings.Cut(part, " ")
		words = append(words, chart.Cell{Class: letterClass[l], Letter: l, Title: meaning})
	}
	return chart.NewHeatmap(v.Month.First().Start(), cells, words)
}

var letterClass = map[string]string{"U": "up", "u": "against", "X": "down", "?": "unknown", "b": "busyup", "B": "busydown", "-": "none", ".": "todo"}

// hourTitle is what a pointer over a judged hour shows.
func hourTitle(h bounty.HourReport) string {
	if h.State == bounty.NotEnrolled || h.State == bounty.Remaining {
		return ""
	}
	return h.Hour.String() + " " + HourWords(h)
}

// HourWords say what a judged hour counts as, and why.
func HourWords(h bounty.HourReport) string {
	var b strings.Builder
	b.WriteString(h.State.String())
	if h.Busy {
		b.WriteString(" (busy)")
	}
	if h.Disputed {
		b.WriteString(" (disputed)")
	}
	if h.Grade != "" {
		fmt.Fprintf(&b, ", grade %s", h.Grade)
	}
	t := h.Tally
	fmt.Fprintf(&b, ": %d up, %d down, %d busy of %d", t.Up, t.Down, t.Busy, t.Bench)
	if len(h.Causes) > 0 {
		fmt.Fprintf(&b, "; %s", strings.Join(h.Causes, ", "))
	}
	return b.String()
}

func latencyChartOf(v *bounty.Verdict) chart.Latency {
	days := v.Month.Hours() / 24
	ping, ladder := make([]int64, days), make([]int64, days)
	for _, d := range v.Latency {
		if t, err := time.Parse(time.DateOnly, d.Day); err == nil {
			ping[t.Day()-1], ladder[t.Day()-1] = d.PingUS, d.LadderUS
		}
	}
	return chart.NewLatency(v.Month.First().Start(), days,
		chart.Series{Kind: "ping", Words: "ping", US: ping}, chart.Series{Kind: "ladder", Words: "whole ladder", US: ladder})
}

// certChartOf has a bar for each certificate: when it was shown.
func certChartOf(v *bounty.Verdict) chart.Bars {
	first := v.Month.First()
	var spans []chart.Span
	for _, s := range v.Certificates {
		bad := ""
		if !s.Accepted {
			bad = "refused"
		}
		spans = append(spans, chart.Span{
			Label: s.SHA256[:min(10, len(s.SHA256))], From: int(s.First - first), Until: int(s.Last + 1 - first), Bad: bad,
			Title: fmt.Sprintf("%s, issued by %s, valid %s to %s, shown %s to %s", s.SHA256, s.Issuer, s.NotBefore, s.NotAfter, s.First, s.Last),
		})
	}
	return chart.NewBars("certificates and when they were shown", v.Month.Hours(), spans)
}
