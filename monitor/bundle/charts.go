package bundle

import (
	"fmt"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

// The charts are computed here and drawn by the template as inline SVG.

// heatmap is the month, a row a day, a column an hour.
type heatmap struct {
	Width, Height int
	Days          []heatDay
	Columns       []tick
	Xs            string // of the 24 letters of a day
	Legend        []heatRun
}

// heatDay is a row: its hours in runs that look the same, over them a letter an
// hour, so that nobody needs to tell colours apart.
type heatDay struct {
	Label   string
	Y       int
	Runs    []heatRun
	Letters string
}

type heatRun struct {
	X, W   int
	Class  string
	Letter string
	Title  string
}

const (
	cellW = 24
	cellH = 16
	gridX = 84
	gridY = 18
)

func heatmapOf(v *bounty.Verdict) heatmap {
	hours := v.EveryHour()
	m := heatmap{Width: gridX + 24*cellW + 2, Height: gridY + len(hours)/24*cellH + 2}
	for h := range 24 {
		if h%3 == 0 {
			m.Columns = append(m.Columns, tick{gridX + h*cellW + cellW/2, fmt.Sprintf("%02d", h)})
		}
		m.Xs += fmt.Sprintf("%d ", gridX+h*cellW+cellW/2)
	}
	m.Xs = strings.TrimSpace(m.Xs)
	for i, h := range hours {
		if i%24 == 0 {
			m.Days = append(m.Days, heatDay{Label: h.Hour.Start().Format(time.DateOnly), Y: gridY + i/24*cellH})
		}
		day := &m.Days[len(m.Days)-1]
		l := letter(h)
		day.Letters += l
		run := heatRun{X: gridX + i%24*cellW, W: cellW, Class: letterClass[l], Title: hourTitle(h)}
		if n := len(day.Runs); n > 0 && run.Title == "" && day.Runs[n-1].Class == run.Class {
			day.Runs[n-1].W += cellW
			continue
		}
		day.Runs = append(day.Runs, run)
	}
	for _, part := range strings.Split(legend, "   ") {
		l, words, _ := strings.Cut(part, " ")
		m.Legend = append(m.Legend, heatRun{Class: letterClass[l], Letter: l, Title: words})
	}
	return m
}

var letterClass = map[string]string{"U": "up", "X": "down", "?": "unknown", "b": "busyup", "B": "busydown", "-": "none", ".": "todo"}

// hourTitle is what a pointer over a judged hour shows.
func hourTitle(h bounty.HourReport) string {
	if h.State == bounty.NotEnrolled || h.State == bounty.Remaining {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", h.Hour, h.State)
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

// latencyChart has a line for the medians of each day.
type latencyChart struct {
	Empty         bool
	Width, Height int
	Ping, Ladder  string // points of a polyline
	Dots          []dot
	Y             []tick
	X             []tick
}

type dot struct {
	X, Y  int
	Kind  string
	Title string
}

type tick struct {
	At    int
	Label string
}

const (
	chartX = 84
	chartW = 24 * cellW
	chartH = 140
)

func latencyChartOf(v *bounty.Verdict) latencyChart {
	c := latencyChart{Width: chartX + chartW + 2, Height: chartH + 30, Empty: true}
	days := v.Month.Hours() / 24
	var most int64 = 1000
	for _, d := range v.Latency {
		most = max(most, d.LadderUS, d.PingUS)
	}
	most += most / 10
	y := func(us int64) int { return chartH - int(us*(chartH-10)/most) }
	for _, d := range v.Latency {
		t, err := time.Parse(time.DateOnly, d.Day)
		if err != nil {
			continue
		}
		x := chartX + (2*t.Day()-1)*chartW/(2*days)
		add := func(line *string, kind string, us int64, words string) {
			if us == 0 {
				return
			}
			c.Empty = false
			*line += fmt.Sprintf("%d,%d ", x, y(us))
			c.Dots = append(c.Dots, dot{x, y(us), kind, fmt.Sprintf("%s: %s %.1f ms", d.Day, words, float64(us)/1000)})
		}
		add(&c.Ping, "ping", d.PingUS, "ping")
		add(&c.Ladder, "ladder", d.LadderUS, "whole ladder")
	}
	for i := range int64(4) {
		us := most * (i + 1) / 4
		c.Y = append(c.Y, tick{y(us), fmt.Sprintf("%.1f ms", float64(us)/1000)})
	}
	c.X = dayTicks(days)
	return c
}

func dayTicks(days int) []tick {
	var out []tick
	for d := 1; d <= days; d += 5 {
		out = append(out, tick{chartX + (2*d-1)*chartW/(2*days), fmt.Sprintf("%02d", d)})
	}
	return out
}

// certChart has a bar for each certificate: when it was shown, and until when it is valid.
type certChart struct {
	Width, Height int
	Bars          []certBar
	X             []tick
}

type certBar struct {
	Y, X, W   int
	Label     string
	Title     string
	Accepted  bool
	Unbounded bool // valid beyond the month's end
}

func certChartOf(v *bounty.Verdict) certChart {
	first, end := v.Month.First(), v.Month.End()
	c := certChart{Width: chartX + chartW + 2, Height: 24*len(v.Certificates) + 24, X: dayTicks(v.Month.Hours() / 24)}
	x := func(h int64) int { return chartX + int(h)*chartW/v.Month.Hours() }
	for i, s := range v.Certificates {
		from, to := max(s.First, first), min(s.Last+1, end)
		c.Bars = append(c.Bars, certBar{
			Y: 24 * i, X: x(int64(from - first)), W: max(3, x(int64(to-first))-x(int64(from-first))),
			Label: s.SHA256[:min(10, len(s.SHA256))], Accepted: s.Accepted, Unbounded: s.NotAfter.After(end.Start()),
			Title: fmt.Sprintf("%s, issued by %s, valid %s to %s, shown %s to %s", s.SHA256, s.Issuer, s.NotBefore, s.NotAfter, s.First, s.Last),
		})
	}
	return c
}
