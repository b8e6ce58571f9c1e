package bounty

import (
	"fmt"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Outcome is what a rule says of the month.
type Outcome string

// The outcomes. A warning counts as a pass and is shown.
const (
	Pass         Outcome = "PASS"
	Warn         Outcome = "WARN"
	Fail         Outcome = "FAIL"
	Inconclusive Outcome = "INCONCLUSIVE"
	Review       Outcome = "REVIEW"
)

// Sheet holds the votes on one relay in one month: a row for each name of a
// monitor, a column for each hour. What nobody set is unknown (missing).
type Sheet struct {
	Month   evidence.Month
	rows    map[string][]Vote
	beacons map[evidence.Hour][]byte
}

// NewSheet is a sheet without votes.
func NewSheet(m evidence.Month) *Sheet {
	return &Sheet{Month: m, rows: map[string][]Vote{}, beacons: map[evidence.Hour][]byte{}}
}

// Set notes the monitor's vote for an hour of the month.
func (s *Sheet) Set(monitor string, h evidence.Hour, v Vote) {
	row := s.rows[monitor]
	if row == nil {
		row = make([]Vote, s.Month.Hours())
		for i := range row {
			row[i].Why = Missing
		}
		s.rows[monitor] = row
	}
	row[h-s.Month.First()] = v
}

// Vote is the monitor's vote for an hour of the month.
func (s *Sheet) Vote(monitor string, h evidence.Hour) Vote {
	if row := s.rows[monitor]; row != nil {
		return row[h-s.Month.First()]
	}
	return Vote{Why: Missing}
}

// Choose notes the beacon of an hour, which was verified: it says who was due (rule R21).
func (s *Sheet) Choose(h evidence.Hour, beacon []byte) { s.beacons[h] = beacon }

// State is what an hour counts as in the month (rule R10).
type State uint8

// The states.
const (
	StateUnknown State = iota
	StateUp
	StateDown
	NotEnrolled
	Remaining // it has not ended yet
)

var stateNames = [...]string{"unknown", "up", "down", "not enrolled", "remaining"}

func (s State) String() string { return stateNames[s] }

// MarshalText writes the words.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the words.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames {
		if name == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("no state of an hour: %q", b)
}

// HourCount is an hour of the month as it counts.
type HourCount struct {
	Hour  evidence.Hour
	State State
	Busy  bool // busy before rule R8 made it up or down
	Tally Tally
}

// Hours sums a month up: Up+Down+Unknown+NotEnrolled+Remaining = Total. Busy
// overlaps Up, Down and Unknown: it counts the BUSY hours that rule R8 put there.
type Hours struct {
	Total       int `json:"total"`
	Up          int `json:"up"`
	Down        int `json:"down"`
	Busy        int `json:"busy"`
	Unknown     int `json:"unknown"`
	NotEnrolled int `json:"not_enrolled"`
	Remaining   int `json:"remaining"`
}

// Uptime is the month as the hours alone tell it.
type Uptime struct {
	Outcome Outcome
	// Final: nothing that comes later changes it (rule R16).
	Final   bool
	Hours   Hours
	Reasons []string
	Counts  []HourCount
}

// CountUptime applies rules R7, R8 and R10 to the votes on one relay, as of now.
func CountUptime(rules *Rules, roster *Roster, relay *Relay, votes *Sheet, now time.Time) Uptime {
	month := votes.Month
	u := Uptime{Counts: make([]HourCount, 0, month.Hours())}
	u.Hours.Total = month.Hours()
	for h := month.First(); h < month.End(); h++ {
		c := HourCount{Hour: h}
		switch {
		case !relay.EnrolledAt(h):
			c.State = NotEnrolled
			u.Hours.NotEnrolled++
		case h.End().After(now):
			c.State = Remaining
			u.Hours.Remaining++
		default:
			c.Tally = tallyOf(rules, roster, relay, votes, h)
			u.count(rules, &c)
		}
		u.Counts = append(u.Counts, c)
	}
	hrs := u.Hours
	switch {
	case hrs.Up >= rules.HoursRequired:
		u.Outcome = Pass
	case hrs.Up+hrs.Unknown+hrs.Remaining < rules.HoursRequired:
		u.Outcome = Fail
	default:
		u.Outcome = Inconclusive
	}
	u.Final = u.Outcome == Fail || !now.Before(month.End().Start().Add(rules.FinalAfter))
	u.Reasons = u.reasons(rules)
	return u
}

func tallyOf(rules *Rules, roster *Roster, relay *Relay, votes *Sheet, h evidence.Hour) Tally {
	due := rules.Due(roster, relay, h, votes.beacons[h])
	t := Tally{Bench: len(due)}
	if rules.MonitorsDue > 0 {
		if bench := len(roster.Bench(relay, h)); bench > t.Bench {
			t.Of = bench
		}
	}
	for _, m := range due {
		t.Add(votes.Vote(m.Name, h).Value)
	}
	return t
}

// count puts an hour that has ended into its sum; BUSY hours by rule R8, in time order.
func (u *Uptime) count(rules *Rules, c *HourCount) {
	v := Fleet(c.Tally)
	if v == Busy {
		c.Busy = true
		u.Hours.Busy++
		switch {
		case u.Hours.Busy <= rules.BusyCap:
			v = Up
		case c.Tally.Refused():
			v = Down
		default:
			// Some came through: the word of a few that they did not makes no hour down.
			v = Unknown
		}
	}
	switch v {
	case Up:
		c.State = StateUp
		u.Hours.Up++
	case Down:
		c.State = StateDown
		u.Hours.Down++
	default:
		u.Hours.Unknown++
	}
}

// Coverage is (U+D)/(N-X) in percent, rounded down; hours to come do not count
// against it.
func (h Hours) Coverage() int {
	due := h.Total - h.NotEnrolled - h.Remaining
	if due <= 0 {
		return 100
	}
	return 100 * (h.Up + h.Down) / due
}

func (u *Uptime) reasons(rules *Rules) []string {
	h := u.Hours
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch u.Outcome {
	case Pass:
		say("%d hours up, %d are required (R10)", h.Up, rules.HoursRequired)
	case Fail:
		say("%d hours up, %d unknown and %d to come make %d, fewer than the %d required (R10)",
			h.Up, h.Unknown, h.Remaining, h.Up+h.Unknown+h.Remaining, rules.HoursRequired)
	default:
		say("%d hours up, %d required: the %d unknown and the %d to come decide (R10)",
			h.Up, rules.HoursRequired, h.Unknown, h.Remaining)
	}
	list := func(what string, n int, state func(HourCount) bool) {
		if n > 0 {
			say("%d h %s: %s", n, what, words(u.Spans(state), 6))
		}
	}
	list("down", h.Down, func(c HourCount) bool { return c.State == StateDown })
	list("unknown", h.Unknown, func(c HourCount) bool { return c.State == StateUnknown })
	list("not enrolled", h.NotEnrolled, func(c HourCount) bool { return c.State == NotEnrolled })
	if h.Busy > 0 {
		say("%d h busy, of which the first %d of the month count as up, and later ones as down or unknown (R8): %s",
			h.Busy, min(h.Busy, rules.BusyCap), words(u.Spans(func(c HourCount) bool { return c.Busy }), 6))
	}
	list("of these unknown, since most monitors were not refused", count(u.Spans(busyUnknown)), busyUnknown)
	alone := u.Spans(func(c HourCount) bool { return c.State == StateUnknown && c.Tally.Bench == 0 })
	if len(alone) > 0 {
		say("no monitor in force that may judge this relay (R7): %s", words(alone, 6))
	}
	if chosen := u.Spans(func(c HourCount) bool { return c.Tally.Of > 0 }); len(chosen) > 0 {
		say("in %d h %d monitors were due of those that may judge this relay, chosen by the hour's drand round (R21)", count(chosen), rules.MonitorsDue)
	}
	everybody := u.Spans(func(c HourCount) bool { return c.Tally.Of == 0 && rules.chooses(c.Tally.Bench) })
	if len(everybody) > 0 {
		say("in %d h all were due, since no log holds the hour's drand round (R21): %s", count(everybody), words(everybody, 6))
	}
	if cov := h.Coverage(); cov < rules.CoverageFlag {
		say("coverage %d %%, below %d %%: much of the time nobody can tell (R10)", cov, rules.CoverageFlag)
	}
	return out
}

func busyUnknown(c HourCount) bool { return c.Busy && c.State == StateUnknown }

// Spans are the runs of hours for which f holds.
func (u *Uptime) Spans(f func(HourCount) bool) []Span {
	var out []Span
	for _, c := range u.Counts {
		if !f(c) {
			continue
		}
		out = addHour(out, c.Hour)
	}
	return out
}

// Span is a run of hours: From inclusive, Until exclusive.
type Span struct {
	From  evidence.Hour `json:"from"`
	Until evidence.Hour `json:"until"`
}

// addHour lengthens the last span or begins one; hours come in order.
func addHour(spans []Span, h evidence.Hour) []Span {
	if n := len(spans); n > 0 && spans[n-1].Until == h {
		spans[n-1].Until++
		return spans
	}
	return append(spans, Span{h, h + 1})
}

func (s Span) String() string {
	const short = "2006-01-02T15:04Z"
	from := s.From.Start().Format(short)
	if s.Until == s.From+1 {
		return from
	}
	return fmt.Sprintf("%s to %s (%d h)", from, s.Until.Start().Format(short), s.Until-s.From)
}

// words lists spans, the first most of them.
func words(spans []Span, most int) string {
	var out []string
	for i, s := range spans {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(spans)-most))
			break
		}
		out = append(out, s.String())
	}
	return strings.Join(out, ", ")
}
