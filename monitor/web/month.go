package web

import (
	"fmt"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
)

// monthPage is what the month's template sees.
type monthPage struct {
	Month
	Outlook chart.Outlook
	Heat    chart.Heatmap
	Chart   chart.Latency
	Certs   chart.Bars
	Lines   []lineWords
	Map     chart.Map
	OffMap  []Vantage // without a registered place
}

// lineWords explain a line of the latency chart.
type lineWords struct {
	Kind, Words string
	Median      int64
}

// Words are those that the month's hours show.
func (p monthPage) Words() wordsShown {
	w := wordsShown{Rules: p.Rules}
	for _, h := range p.Hours {
		soFar := h.State == bounty.Remaining && h.Attempts > 0
		w.Unknown = w.Unknown || h.State == bounty.StateUnknown || soFar && h.Vote == bounty.Unknown
		w.Busy = w.Busy || h.Busy || soFar && h.Vote == bounty.Busy
	}
	return w
}

func monthView(m Month, root string) view {
	month := m.Count.Month
	p := monthPage{Month: m, Outlook: m.Count.outlook()}
	cells := make([]chart.Cell, len(m.Hours))
	for i, h := range m.Hours {
		k := kindOf(h)
		cells[i] = chart.Cell{Letter: k.letter, Class: k.class}
		if h.Open || h.Attempts > 0 || h.State == bounty.StateUp || h.State == bounty.StateDown || h.State == bounty.StateUnknown && h.Why != "" {
			cells[i].Title = hourTitle(h, k)
			cells[i].Href = root + "relay/" + m.PeerID + "/hour/" + h.Hour.Hour.Start().Format(hourLayout)
		}
	}
	var legend []chart.Cell
	for _, k := range kinds {
		legend = append(legend, chart.Cell{Letter: k.letter, Class: k.class, Title: k.words})
	}
	p.Heat = chart.NewHeatmap(month.First().Start(), cells, legend)
	p.latency()
	p.vantages()
	var spans []chart.Span
	for _, c := range m.Certificates {
		s := chart.Span{
			Label: c.SHA256[:min(10, len(c.SHA256))], From: int(c.First - month.First()), Until: int(c.Last + 1 - month.First()),
			Title: fmt.Sprintf("%s, issued by %s, valid %s to %s, shown %s to %s", c.SHA256, c.Issuer, c.NotBefore, c.NotAfter, c.First, c.Last),
		}
		if !c.Accepted {
			s.Bad = "refused"
		}
		spans = append(spans, s)
	}
	p.Certs = chart.NewBars("certificates and when they were shown", month.Hours(), spans)
	return view{root, title(m.Network, fmt.Sprintf("%s, relay %s, %s", m.Operator, short(m.PeerID), month)), p}
}

// kind is a look of an hour.
type kind struct{ letter, class, words string }

// kinds are all looks, in the legend's order.
var kinds = []kind{
	{"U", "up", "up"}, {"X", "down", "down"}, {"?", "unknown", "unknown"}, {"b", "busyup", "busy, counts up"},
	{"B", "busydown", "busy, counts down"}, {"-", "none", "not enrolled"}, {".", "todo", "to come"},
}

func kindOf(h MonthHour) kind {
	i := 2
	switch {
	case h.State == bounty.StateUp && h.Busy:
		i = 3
	case h.State == bounty.StateDown && h.Busy:
		i = 4
	case h.State == bounty.StateUp:
		i = 0
	case h.State == bounty.StateDown:
		i = 1
	case h.State == bounty.NotEnrolled:
		i = 5
	case h.State == bounty.Remaining:
		i = 6
	}
	return kinds[i]
}

func hourTitle(h MonthHour, k kind) string {
	s := h.Hour.Hour.Start().Format("2006-01-02 15:00 UTC") + ": " + k.words
	if h.State == bounty.Remaining && h.Attempts > 0 {
		s += ", so far " + h.Vote.String()
	}
	if h.Why != "" {
		s += " (" + h.Why + ")"
	}
	if h.Open {
		s += ", not sealed yet"
	}
	return s
}

// latency draws the medians of each day, and sums them up.
func (p *monthPage) latency() {
	first := p.Count.Month.First().Start()
	days := p.Count.Month.Hours() / 24
	series := []chart.Series{{Kind: "ping", Words: "ping"}, {Kind: "tcp4", Words: "tcp4"}, {Kind: "wss", Words: "wss"}, {Kind: "relay", Words: "relay"}}
	for i := range series {
		series[i].US = make([]int64, days)
	}
	for d := range days {
		if d >= len(p.Latency) {
			break
		}
		l := p.Latency[d]
		for i, us := range []int64{l.PingUS, l.TCP4US, l.WSSUS, l.RelayUS} {
			series[i].US[d] = us
		}
	}
	p.Chart = chart.NewLatency(first, days, series...)
	for _, s := range series {
		p.Lines = append(p.Lines, lineWords{s.Kind, s.Words, Median(s.US)})
	}
}

// vantages draws from where the relay is tried.
func (p *monthPage) vantages() {
	var placed []chart.Vantage
	for _, v := range p.Vantages {
		if v.Place == nil {
			p.OffMap = append(p.OffMap, v)
			continue
		}
		placed = append(placed, chart.Vantage{Name: v.Monitor, Note: v.Words(), Lat: v.Place.Lat, Lon: v.Place.Lon, US: v.PingUS})
	}
	p.Map = chart.NewMap(placed)
}

// Words say who a monitor is.
func (v Vantage) Words() string {
	s := "run by " + v.Operator
	if v.Operator == "" {
		s = "not in the roster at this time"
	}
	if v.Committee {
		s = "the committee's monitor, " + s
	}
	if v.Own {
		s = "this monitor, " + s
	}
	return s
}
