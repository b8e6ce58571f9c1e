package site

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
	"github.com/psf-relay/relay-appliance/monitor/committee"
	"github.com/psf-relay/relay-appliance/monitor/decision"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/page"
)

// standing is how a relay's month stands.
type standing string

const (
	eligible    = standing(bounty.Eligible)
	review      = standing(bounty.ForReview)
	notEligible = standing(bounty.NotEligible)
	possible    = standing("POSSIBLE")
	lab         = standing(bounty.LabResult)
	outOfReach  = standing("OUT_OF_REACH")
)

func standingOf(r *committee.Row) standing {
	switch {
	case r.Result == bounty.NotEligible:
		return notEligible
	case r.Left < 0: // a lab's: else it would not be eligible
		return outOfReach
	case r.Final:
		return standing(r.Result)
	}
	return possible
}

// look is how a standing is shown: a sign that tells it apart without colour, words, a class
// of style and a badge's colour.
type look struct{ Sign, Words, Class, Colour string }

var looks = map[standing]look{
	eligible:    {"✓", "ELIGIBLE", "up", page.Good},
	review:      {"?", "REVIEW", "busy", page.Caution},
	notEligible: {"✗", "NOT_ELIGIBLE", "down", page.Bad},
	possible:    {"…", "still possible", "soft", page.Plain},
	lab:         {"·", "LAB", "soft", page.Plain},
	outOfReach:  {"✗", "out of reach", "down", page.Bad},
}

// Look is how it is shown.
func (s standing) Look() look {
	if l, ok := looks[s]; ok {
		return l
	}
	return look{"·", plain(string(s), mostName), "soft", page.Plain}
}

// row is a relay's line in a month.
type row struct {
	committee.Row
	Standing standing
	// Needs says why somebody should look at it; the first of urgencies is the most urgent.
	Needs   urgency
	Decided *decision.Month // nil: there is no log of decisions
}

// urgency is why somebody should look at a relay's month.
type urgency string

const (
	appealOpen urgency = "an appeal is open"
	toReview   urgency = "a person must decide"
	toPay      urgency = "to be paid"
	atRisk     urgency = "at risk"
)

// order is how the relays of a month come: those first that somebody should look at.
func (r *row) order() int {
	switch {
	case r.Needs != "":
		return slices.Index([]urgency{appealOpen, toReview, toPay, atRisk}, r.Needs)
	case r.Standing == possible:
		return 4
	case r.Standing == eligible || r.Standing == review || r.Standing == lab:
		return 5
	}
	return 6
}

func needsOf(r *row) urgency {
	undecided := r.Decided == nil || r.Decided.Standing() == nil
	switch {
	case r.Decided != nil && len(r.Decided.Open()) > 0:
		return appealOpen
	case r.Standing == review && undecided:
		return toReview
	case r.Standing == eligible && r.Decided != nil && undecided:
		return toPay
	case r.Standing == possible && (!r.RunsOut.IsZero() || 2*r.Left < r.slack()):
		return atRisk
	}
	return ""
}

// slack is how many hours of the month may be lost in all.
func (r *row) slack() int { return r.Hours.Total - r.Hours.NotEnrolled - r.Required }

// Linked says whether the relay has a page of its own.
func (r *row) Linked() bool { return isID(r.Relay) }

// Name is what the relay is called on a page.
func (r *row) Name() string { return cmp.Or(r.Domain, short(r.Relay)) }

// Outlook draws the hours.
func (r *row) Outlook() chart.Outlook {
	h := r.Hours
	return chart.NewOutlook(h.Total-h.NotEnrolled, h.Up, h.Unknown, h.Down, r.Required)
}

// Forecast says in a sentence how many hours may still be lost.
func (r *row) Forecast() string {
	s := ""
	switch {
	case r.slack() < 0:
		s = fmt.Sprintf("The relay is enrolled for too few hours of the month to reach %d.", r.Required)
	case r.Left < 0:
		s = fmt.Sprintf("%d hours are out of reach: %d are down, and %d could be lost.", r.Required, r.Hours.Down, r.slack())
	case r.Hours.Up >= r.Required:
		s = fmt.Sprintf("The %d hours that the month needs are there.", r.Required)
	default:
		s = fmt.Sprintf("%d hours must be up. %d hours could be lost, %d are, %d still may be.", r.Required, r.slack(), r.Hours.Down, r.Left)
	}
	if !r.RunsOut.IsZero() {
		s += " At the pace of the last days the month is lost on " + r.RunsOut.UTC().Format(time.DateOnly) + "."
	}
	return s
}

// Badge is a picture of it.
func (r *row) badge(m evidence.Month) []byte {
	l := r.Standing.Look()
	words := l.Words
	if r.Standing == possible {
		words += fmt.Sprintf(", %d h may be lost", r.Left)
	}
	return page.Badge("relay "+m.String(), words, l.Colour)
}

// counts are how many relays of a month stand how.
type counts struct {
	Relays int
	By     map[standing]int
}

// Of is how many stand so.
func (c counts) Of(s string) int { return c.By[standing(s)] }

// Sums are those that there are, for a page.
func (c counts) Sums() (list []sum) {
	for _, s := range []standing{eligible, review, notEligible, possible, lab, outOfReach} {
		if n := c.By[s]; n > 0 || s != lab && s != outOfReach {
			list = append(list, sum{n, s.Look()})
		}
	}
	return list
}

type sum struct {
	N    int
	Look look
}

// month is all that is known of a month but the verdicts.
type month struct {
	Month  evidence.Month
	Rows   []*row // those first that somebody should look at
	Counts counts
	// Paid, Refused and Open count decisions and open appeals.
	Paid, Refused, Open int
	// Strays are what the log of decisions says of relays that are not in the table.
	Strays []*decision.Month
	Logged bool // there is a log of decisions

	byID map[string]*row
}

func newMonth(m evidence.Month, table []committee.Row, log *decision.Log) *month {
	out := &month{Month: m, Counts: counts{Relays: len(table), By: map[standing]int{}}, byID: map[string]*row{}, Logged: log != nil}
	for i := range table {
		r := &row{Row: cleaned(table[i])}
		r.Operator, r.Domain = cut(r.Operator, mostName), cut(r.Domain, mostName)
		r.Standing = standingOf(&r.Row)
		if log != nil {
			r.Decided = log.Month(r.Relay, m)
		}
		r.Needs = needsOf(r)
		out.Counts.By[r.Standing]++
		out.Rows = append(out.Rows, r)
		out.byID[r.Relay] = r
	}
	slices.SortStableFunc(out.Rows, func(a, b *row) int {
		left := 0
		if a.Standing == possible && b.Standing == possible {
			left = cmp.Compare(a.Left, b.Left)
		}
		return cmp.Or(cmp.Compare(a.order(), b.order()), left, strings.Compare(a.Operator, b.Operator), strings.Compare(a.Relay, b.Relay))
	})
	if log == nil {
		return out
	}
	for _, d := range log.Months() {
		if d.Month != m {
			continue
		}
		out.Open += len(d.Open())
		if s := d.Standing(); s != nil && s.Pay != nil {
			out.Paid++
		} else if s != nil {
			out.Refused++
		}
		if out.byID[d.Relay] == nil {
			out.Strays = append(out.Strays, d)
		}
	}
	return out
}

// find are the rows whose operator, domain or peer ID holds the words.
func (m *month) find(words string) (found []*row) {
	words = strings.ToLower(words)
	for _, r := range m.Rows {
		for _, s := range []string{r.Operator, r.Domain, r.Relay} {
			if strings.Contains(strings.ToLower(s), words) {
				found = append(found, r)
				break
			}
		}
	}
	return found
}

// monitors are those of a month, for a page.
type monitors struct {
	All  []monitor
	More int // that are not shown
	Map  chart.Map
}

type monitor struct {
	committee.Vantage
	Spot int // its number on the map; 0: it is not there
}

// mostMonitors are shown.
const mostMonitors = 200

func monitorsOf(list []committee.Vantage) monitors {
	out := monitors{More: max(0, len(list)-mostMonitors)}
	var placed []chart.Vantage
	for _, v := range list[:len(list)-out.More] {
		m := monitor{Vantage: cleaned(v)}
		m.Monitor, m.Operator = cut(m.Monitor, mostName), cut(m.Operator, mostName)
		if p := v.Place; p != nil && p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180 {
			placed = append(placed, chart.Vantage{Name: m.Monitor, Lat: p.Lat, Lon: p.Lon})
			m.Spot = len(placed)
		}
		out.All = append(out.All, m)
	}
	out.Map = chart.NewMap(placed)
	for i := range out.All {
		if out.All[i].Spot > len(out.Map.Spots) {
			out.All[i].Spot = 0
		}
	}
	out.Map.Words = fmt.Sprintf("map of the world with the places of %d monitors; the table below has all of them", len(placed)-out.Map.More)
	return out
}
