package month

import (
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The month that is told. It is a fixed one, and long ago: so two runs make the same
// bytes, on whatever day they are, and what a text says of an hour stays true. The pages
// are shown as of its end.
var told = evidence.MonthOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC))

// plot is when what happens. A part of the month has the same story, in fewer hours.
type plot struct {
	first evidence.Hour // of the logs
	from  evidence.Hour // the enrolments
	until evidence.Hour // the month's end
	after time.Duration // the rules' final_after
}

// newPlot tells the last days of the month; 0: all of it.
func newPlot(days int) plot {
	p := plot{from: told.First(), until: told.End(), after: 72 * time.Hour}
	if days > 0 {
		p.from, p.after = p.until-evidence.Hour(24*days), 3*time.Hour
	}
	p.first = p.from - 6
	return p
}

func (p plot) hours() int { return int(p.until - p.from) }

// ends is as of when the bundles are made: the verdicts are final.
func (p plot) ends() time.Time { return p.until.Start().Add(p.after + time.Hour) }

// at is the hour after so much of the story, of 1.
func (p plot) at(share float64) evidence.Hour {
	return p.from + evidence.Hour(share*float64(p.hours()))
}

// What happens once.
func (p plot) dies() evidence.Hour     { return p.at(0.32) }
func (p plot) moves() evidence.Hour    { return p.at(0.55) }
func (p plot) releases() evidence.Hour { return p.at(0.20) } // a new version comes out
func (p plot) updates() evidence.Hour  { return p.at(0.30) } // and is installed
func (p plot) expires() evidence.Hour  { return p.at(0.70) } // flaky's certificate, until renews
func (p plot) renews() evidence.Hour   { return p.expires() + 6 }

// lineBreaks is when the monitor with the broken line sees nothing.
func (p plot) lineBreaks() (from, until evidence.Hour) { return p.at(0.36), p.at(0.44) }

// maintained is steady's announced maintenance.
func (p plot) maintained() (from, until evidence.Hour) { return p.at(0.27), p.at(0.27) + 3 }

// lies says whether the liar calls steady down in this hour: in the evening of every
// third day.
func (p plot) lies(h evidence.Hour) bool {
	t := h.Start()
	return p.from <= h && h < p.until && t.Day()%3 == 0 && (t.Hour() == 20 || t.Hour() == 21)
}

// condition is what whoever dials a relay would find.
type condition int

const (
	up condition = iota
	refusing
	silent
	full    // reservations are refused
	expired // its certificate
)

// of is the condition of a relay at a time.
func (p plot) of(r relay, t time.Time) condition {
	h := evidence.HourOf(t)
	clock := t.Hour()
	switch r.name {
	case steady:
		if from, until := p.maintained(); from <= h && h < until {
			return refusing
		}
	case flaky:
		switch {
		case clock >= 1 && clock < 7:
			return refusing
		case p.expires() <= h && h < p.renews():
			return expired
		case hiccup(h, t):
			return silent
		}
	case busy:
		if clock >= 18 && clock < 21 {
			return full
		}
	case moved:
		if p.moves()-2 <= h && h < p.moves()+2 {
			return silent
		}
	case dead:
		if h >= p.dies() {
			return silent
		}
	}
	return up
}

// hiccup is an outage of four minutes, in every third hour or so.
func hiccup(h evidence.Hour, t time.Time) bool {
	dice := chance("hiccup", h)
	from := h.Start().Add(time.Duration(dice.IntN(56)) * time.Minute)
	return dice.IntN(3) == 0 && !t.Before(from) && t.Before(from.Add(4*time.Minute))
}

// place is where a relay is registered.
func (p plot) place(r relay, h evidence.Hour) place {
	if r.name == moved && h >= p.moves() {
		return melbourne
	}
	return r.place
}

// agent is what the relay's software calls itself; who died was never updated.
func (p plot) agent(r relay, h evidence.Hour) string {
	if h >= p.updates() && r.name != dead {
		return "relayd/1.3.0"
	}
	return "relayd/1.2.0"
}

// events say in a sentence what begins in an hour; empty: nothing does.
func (p plot) events(h evidence.Hour) string {
	from, until := p.lineBreaks()
	maintained, _ := p.maintained()
	switch h {
	case maintained:
		return "steady: three hours of announced maintenance"
	case p.dies():
		return "dead: the machine is gone; its key goes on signing, at home"
	case from:
		return brokenLine + ": its line breaks"
	case until:
		return brokenLine + ": its line is mended"
	case p.moves():
		return "moved: another address, announced two days before"
	case p.expires():
		return "flaky: its certificate has expired, for six hours"
	}
	return ""
}
