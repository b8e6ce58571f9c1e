package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"html/template"
	"io"
	"strings"
	"testing"
	"time"
)

var first = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

var templates = template.Must(template.New("").Parse(HTML))

// draw executes a template and makes sure that it is well-formed.
func draw(t *testing.T, name string, data any) string {
	t.Helper()
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader("<all>" + b.String() + "</all>"))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return b.String()
		} else if err != nil {
			t.Fatalf("%v in %s", err, b.String())
		}
	}
}

func TestHeatmap(t *testing.T) {
	cells := make([]Cell, 48)
	for i := range cells {
		cells[i] = Cell{Letter: ".", Class: "todo"}
	}
	cells[1] = Cell{Letter: "X", Class: "down", Title: `01:00 <down> "hard"`, Href: "../hour/1"}
	m := NewHeatmap(first, cells, []Cell{{Letter: "X", Class: "down", Title: "down"}})
	if len(m.Days) != 2 || len(m.Days[0].Runs) != 3 || len(m.Days[1].Runs) != 1 || m.Days[1].Runs[0].W != 24*cellW || m.Days[1].Label != "2026-11-02" {
		t.Errorf("%+v", m.Days)
	}
	svg := draw(t, "heatmap", m)
	for _, want := range []string{">.X......................<", `href="../hour/1"`, "&lt;down&gt;", `class="cell down"`, `role="group"`, "</code> down"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in %s", want, svg)
		}
	}
	// Hours that say the same and lead to one place are one, but for the night between two days.
	for i := 20; i < 30; i++ {
		cells[i] = Cell{Letter: "U", Class: "up", Title: "20:00 to 06:00", Href: "#h20"}
	}
	if svg := draw(t, "heatmap", NewHeatmap(first, cells, nil)); strings.Count(svg, `href="#h20"`) != 2 || strings.Count(svg, `class="cell up"`) != 2 {
		t.Error(svg)
	}
	// Without links it is one picture, and a script in an address is none.
	cells = cells[:24]
	cells[1].Href, cells[20].Href, cells[21].Href, cells[22].Href, cells[23].Href = "", "", "", "", ""
	if svg := draw(t, "heatmap", NewHeatmap(first, cells, nil)); strings.Contains(svg, "<a ") || !strings.Contains(svg, `role="img"`) {
		t.Error(svg)
	}
	cells[1].Href = "javascript:alert(1)"
	if svg := draw(t, "heatmap", NewHeatmap(first, cells, nil)); strings.Contains(svg, "javascript:") {
		t.Error(svg)
	}
}

func TestLatency(t *testing.T) {
	if c := NewLatency(first, 30, Series{Kind: "a", US: make([]int64, 30)}, Series{Kind: "b"}); !c.Empty || len(c.Dots) != 0 {
		t.Errorf("%+v", c)
	}
	c := NewLatency(first, 30, Series{Kind: "a", Words: "ping", US: []int64{2000, 0, 100_000}})
	if c.Empty || len(c.Dots) != 2 || c.Dots[0].Y <= c.Dots[1].Y || c.Dots[0].X >= c.Dots[1].X || c.Dots[1].Y < 0 || c.Dots[0].Y > chartH {
		t.Errorf("%+v", c.Dots)
	}
	if c.Dots[1].Title != "2026-11-03: ping 100.0 ms" {
		t.Errorf("%q", c.Dots[1].Title)
	}
	if svg := draw(t, "latency", c); !strings.Contains(svg, `<polyline class="la"`) || !strings.Contains(svg, "110.0 ms") {
		t.Error(svg)
	}
}

// Spans that reach beyond the month are cut, and none is too short to be seen.
func TestBars(t *testing.T) {
	c := NewBars("words", 720, []Span{{Label: "a", From: -100, Until: 2000}, {Label: "b", From: 10, Until: 10, Bad: "refused"}})
	if c.Bars[0].X != chartX || c.Bars[0].W != chartW || c.Bars[1].W < 3 || c.Bars[1].Y <= c.Bars[0].Y {
		t.Errorf("%+v", c.Bars)
	}
	if svg := draw(t, "bars", c); strings.Count(svg, "<rect") != 2 || strings.Count(svg, "bar bad") != 1 || !strings.Contains(svg, ">refused<") {
		t.Error(svg)
	}
}

// The mark of the hours required is drawn only where they can be reached.
func TestOutlook(t *testing.T) {
	svg := draw(t, "outlook", NewOutlook(720, 400, 5, 20, 600))
	for _, want := range []string{`class="cell down" x="700" width="20"`, `class="cell unknown" x="400" width="5"`, `x1="600"`, "of 720 hours 400 are up, 5 unknown, 20 down and 295 to come; 600 must be up"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in %s", want, svg)
		}
	}
	if svg := draw(t, "outlook", NewOutlook(500, 0, 0, 0, 600)); strings.Contains(svg, "goal") {
		t.Errorf("got a mark beyond the hours: %s", svg)
	}
	if svg := draw(t, "outlook", NewOutlook(0, 0, 0, 0, 600)); svg != "" {
		t.Errorf("got %s, want nothing of no hours", svg)
	}
}

// Each kind of vote has its own place, and runs of hours are one box.
func TestVotes(t *testing.T) {
	v := Votes{Name: "m<1>", Role: "committee", Note: "dissents", Words: `"all" words`}
	v.Draw([]Vote{{Class: "up"}, {Class: "up"}, {Class: "down", Against: true}, {Class: "none"}, {Class: "missing"}})
	svg := draw(t, "votes", []Votes{v})
	for _, want := range []string{`viewBox="0 0 5 24"`, `class="vup" d="M0 2H2V12H0z"`, `class="vdown" d="M2 12H3V22H2z"`, `class="vmissing" d="M4 1H5V23H4z"`, `class="vagainst" d="M2 0H3V24H2z"`, "m&lt;1&gt;", "! dissents", "&#34;all&#34; words"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in %s", want, svg)
		}
	}
	if strings.Contains(svg, "vnone") || strings.Contains(svg, "vbusy") {
		t.Errorf("got a box for what is not there: %s", svg)
	}
}

// Labels stand beside their spots, cover no spot and no other label, and stay on the map.
func TestMap(t *testing.T) {
	places := []Vantage{
		{Name: "here", Lat: 1.35, Lon: 103.8, US: 20_100, Km: 2000, Note: "this monitor"},
		{Name: "near", Lat: 1.4, Lon: 103.9, US: 300}, {Name: "edge", Lat: -41, Lon: 179, US: 250_000},
		{Name: "silent", Lat: 52, Lon: 13},
	}
	m := NewMap(places)
	var boxes []box
	for i, s := range m.Spots {
		if s.Label == nil {
			t.Fatalf("%s has no label, want one: there is room", s.Name)
		}
		b := box{s.Label.X, s.Label.Y - letterH/2, letterW * len(s.Label.Text), letterH}
		if s.Label.Anchor == "end" {
			b.x -= b.w
		}
		if b.meetsAny(boxes) || b.x < 0 || b.x+b.w > mapW {
			t.Errorf("the label of %s covers another one, or leaves the map: %+v", s.Name, b)
		}
		boxes = append(boxes, b)
		if !strings.HasPrefix(s.Label.Text, string(rune('1'+i))) {
			t.Errorf("spot %d is labelled %q", i+1, s.Label.Text)
		}
	}
	svg := draw(t, "map", m)
	for _, want := range []string{">1: 20.1 ms<", "<li>here: 20.1 ms, this monitor</li>", "spot silent", ">4<", `class="disk"`} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in %s", want, strings.ReplaceAll(svg, land, "(land)"))
		}
	}
	// Where many stand in one place, the list has those that the map has no room for.
	crowd := NewMap(make([]Vantage, mostSpots+3))
	if len(crowd.Spots) != mostSpots || crowd.More != 3 || crowd.Spots[mostSpots-1].Label != nil {
		t.Errorf("got %d spots, %d more, the last labelled %v; want %d, 3 and no label", len(crowd.Spots), crowd.More, crowd.Spots[mostSpots-1].Label, mostSpots)
	}
}
