// Package chart draws a month as inline SVG: its hours, who voted what on them, how long
// things took, which certificates were shown, and from where a relay was tried. Everything is computed here and written by the
// templates of [HTML], so that a page needs no script.
package chart

import (
	_ "embed"
	"fmt"
	"strings"
	"time"
)

// HTML defines the templates "heatmap", "latency", "bars", "outlook", "map" and, without its list, "world"; each takes
// the type of its name, and "votes" several of its type; "votekey" explains these. The pages bring the style for their classes.
//
//go:embed chart.html
var HTML string

// Cell is an hour of a heatmap.
type Cell struct {
	Letter string // tells it apart without colour
	Class  string // of style: "up", "down"
	Title  string // what a pointer over it shows; hours with the same look, words and link are drawn in runs
	Href   string // where it leads; empty: nowhere
}

// Heatmap is a month, a row a day, a column an hour.
type Heatmap struct {
	Width, Height int
	Linked        bool // some hour leads somewhere
	Days          []day
	Columns       []tick
	Xs            string // of the 24 letters of a day
	Legend        []Cell
}

// day is a row: its hours in runs that look the same, over them a letter an hour.
type day struct {
	Label   string
	Y       int
	Runs    []run
	Letters string
}

type run struct {
	X, W int
	Cell
}

type tick struct {
	At    int
	Label string
}

const (
	cellW = 24
	cellH = 16
	gridX = 84
	gridY = 18
)

// NewHeatmap draws cells, one an hour, from first on, which begins a day (UTC).
func NewHeatmap(first time.Time, cells, legend []Cell) Heatmap {
	m := Heatmap{Width: gridX + 24*cellW + 2, Height: gridY + len(cells)/24*cellH + 2, Legend: legend}
	for h := range 24 {
		if h%3 == 0 {
			m.Columns = append(m.Columns, tick{gridX + h*cellW + cellW/2, fmt.Sprintf("%02d", h)})
		}
		m.Xs += fmt.Sprintf("%d ", gridX+h*cellW+cellW/2)
	}
	m.Xs = strings.TrimSpace(m.Xs)
	for i, c := range cells {
		if i%24 == 0 {
			m.Days = append(m.Days, day{Label: first.AddDate(0, 0, i/24).Format(time.DateOnly), Y: gridY + i/24*cellH})
		}
		d := &m.Days[len(m.Days)-1]
		d.Letters += c.Letter
		m.Linked = m.Linked || c.Href != ""
		r := run{X: gridX + i%24*cellW, W: cellW, Cell: c}
		if n := len(d.Runs); n > 0 && d.Runs[n-1].Class == c.Class && d.Runs[n-1].Title == c.Title && d.Runs[n-1].Href == c.Href {
			d.Runs[n-1].W += cellW
			continue
		}
		d.Runs = append(d.Runs, r)
	}
	return m
}

// Series is how long one thing took: microseconds by day of the month, 0 where
// nothing is known.
type Series struct {
	Kind  string // of style: the line has class "l"+Kind, its dots "d"+Kind
	Words string
	US    []int64
}

// Latency has a line for each series.
type Latency struct {
	Empty         bool
	Width, Height int
	Lines         []line
	Dots          []dot
	Y             []tick
	X             []tick
}

type line struct {
	Kind   string
	Points string // of a polyline
}

type dot struct {
	X, Y  int
	Kind  string
	Title string
}

const (
	chartX = 84
	chartW = 24 * cellW
	chartH = 140
)

// NewLatency draws the series of a month of so many days.
func NewLatency(first time.Time, days int, series ...Series) Latency {
	c := Latency{Width: chartX + chartW + 2, Height: chartH + 30, Empty: true}
	var most int64 = 1000
	for _, s := range series {
		for _, us := range s.US {
			most = max(most, us)
		}
	}
	most += most / 10
	y := func(us int64) int { return chartH - int(us*(chartH-10)/most) }
	c.Lines = make([]line, len(series))
	for d := range days {
		x := chartX + (2*d+1)*chartW/(2*days)
		for i, s := range series {
			c.Lines[i].Kind = s.Kind
			if d >= len(s.US) || s.US[d] == 0 {
				continue
			}
			us := s.US[d]
			c.Empty = false
			c.Lines[i].Points += fmt.Sprintf("%d,%d ", x, y(us))
			c.Dots = append(c.Dots, dot{x, y(us), s.Kind,
				fmt.Sprintf("%s: %s %.1f ms", first.AddDate(0, 0, d).Format(time.DateOnly), s.Words, float64(us)/1000)})
		}
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

// Bars has a row for each span of a month.
type Bars struct {
	Words         string // what is drawn, for those who cannot see it
	Width, Height int
	Bars          []bar
	X             []tick
}

// Span is what a row shows: From and Until are hours of the month, counted from
// its first.
type Span struct {
	Label, Title string
	From, Until  int
	Bad          string // a word if something is wrong with it
}

type bar struct {
	Y, X, W int
	Span
}

// NewBars draws spans of a month of so many hours.
func NewBars(words string, hours int, spans []Span) Bars {
	c := Bars{Words: words, Width: chartX + chartW + 2, Height: 24*len(spans) + 24, X: dayTicks(hours / 24)}
	x := func(h int) int { return chartX + h*chartW/hours }
	for i, s := range spans {
		from, until := max(s.From, 0), min(s.Until, hours)
		c.Bars = append(c.Bars, bar{Y: 24 * i, X: x(from), W: max(3, x(until)-x(from)), Span: s})
	}
	return c
}
