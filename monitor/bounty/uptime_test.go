package bounty

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func month(t testing.TB, s string) evidence.Month {
	t.Helper()
	m, err := evidence.ParseMonth(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func hour(t testing.TB, s string) evidence.Hour {
	t.Helper()
	h, err := evidence.ParseHour(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// bench is a roster of n monitors m1, m2, ... in force since long ago, and one
// relay enrolled since then.
func bench(n int) *Roster {
	r := &Roster{Version: 1, Network: evidence.PSF, Relays: []Relay{{PeerID: "relay", Enrolled: 1}}}
	for i := range n {
		r.Monitors = append(r.Monitors, Monitor{Name: fmt.Sprintf("m%d", i+1), Term: Term{From: 1}})
	}
	return r
}

// run is so many hours in a row in which the monitors vote so: "UD?" has m1 vote
// up, m2 down and m3 unknown.
type run struct {
	hours int
	votes string
}

var letters = map[byte]Vote{'U': {Value: Up}, 'D': {Value: Down}, 'B': {Value: Busy}, '?': {Why: OneFailure}}

func sheet(m evidence.Month, runs []run) *Sheet {
	s := NewSheet(m)
	h := m.First()
	for _, r := range runs {
		for range r.hours {
			for i := range r.votes {
				s.Set(fmt.Sprintf("m%d", i+1), h, letters[r.votes[i]])
			}
			h++
		}
	}
	return s
}

func TestFleet(t *testing.T) {
	for votes, want := range map[string]Value{
		"": Unknown, "U": Up, "D": Down, "B": Busy, "?": Unknown,
		"UU": Up, "UD": Unknown, "DD": Down, "UB": Busy, "BB": Busy, "DB": Unknown, "U?": Unknown, "D?": Unknown,
		"UUD": Up, "UD?": Unknown, "DD?": Down, "UBB": Busy, "UUB": Up, "DDB": Down, "DBB": Busy, "U??": Unknown, "B??": Unknown, "UDB": Busy, "???": Unknown,
		"UUDD": Unknown, "UUUD": Up, "UUBD": Busy, "DDD?": Down, "UU??": Unknown,
		"UUUDD": Up, "UUDDD": Down, "UU?DD": Unknown, "UUBDD": Busy, "U?B?B": Busy,
	} {
		tally := Tally{Bench: len(votes)}
		for i := range votes {
			tally.Add(letters[votes[i]].Value)
		}
		if got := Fleet(tally); got != want {
			t.Errorf("votes %q: got %s, want %s", votes, got, want)
		}
	}
}

// TestMonth holds the cases that settle arguments.
func TestMonth(t *testing.T) {
	const day7 = "2026-11-07T00:00:00Z"
	for _, tc := range []struct {
		name     string
		month    string
		monitors int
		runs     []run
		enrolled string
		want     Outcome
		hours    Hours
	}{
		{"600 up", "2026-11", 1, []run{{600, "U"}, {120, "D"}}, "", Pass, Hours{720, 600, 120, 0, 0, 0, 0}},
		{"599 up", "2026-11", 1, []run{{599, "U"}, {121, "D"}}, "", Fail, Hours{720, 599, 121, 0, 0, 0, 0}},
		{"599 up and one unknown", "2026-11", 1, []run{{599, "U"}, {120, "D"}, {1, "?"}}, "", Inconclusive, Hours{720, 599, 120, 0, 1, 0, 0}},
		{"the only monitor dead for 96 h", "2026-11", 1, []run{{300, "U"}, {96, ""}, {324, "U"}}, "", Pass, Hours{720, 624, 0, 0, 96, 0, 0}},
		{"the only monitor dead for 144 h", "2026-11", 1, []run{{300, "U"}, {144, ""}, {276, "U"}}, "", Inconclusive, Hours{720, 576, 0, 0, 144, 0, 0}},
		{"enrolled on day 7, all up", "2026-11", 1, []run{{720, "U"}}, day7, Fail, Hours{720, 576, 0, 0, 0, 144, 0}},
		{"enrolled on day 6, all up", "2026-11", 1, []run{{720, "U"}}, "2026-11-06T00:00:00Z", Pass, Hours{720, 600, 0, 0, 0, 120, 0}},
		{"enrolled an hour later", "2026-11", 1, []run{{720, "U"}}, "2026-11-06T01:00:00Z", Fail, Hours{720, 599, 0, 0, 0, 121, 0}},
		{"no vote at all", "2026-11", 3, nil, "", Inconclusive, Hours{720, 0, 0, 0, 720, 0, 0}},
		{"no monitors", "2026-11", 0, nil, "", Inconclusive, Hours{720, 0, 0, 0, 720, 0, 0}},
		{"February", "2026-02", 1, []run{{600, "U"}, {72, "D"}}, "", Pass, Hours{672, 600, 72, 0, 0, 0, 0}},
		{"February, one short", "2026-02", 1, []run{{599, "U"}, {73, "D"}}, "", Fail, Hours{672, 599, 73, 0, 0, 0, 0}},
		{"February of a leap year", "2028-02", 1, []run{{600, "U"}, {96, "D"}}, "", Pass, Hours{696, 600, 96, 0, 0, 0, 0}},
		{"2100 is no leap year", "2100-02", 1, []run{{600, "U"}, {72, "?"}}, "", Pass, Hours{672, 600, 0, 0, 72, 0, 0}},
		{"31 days", "2026-12", 1, []run{{600, "U"}, {144, "D"}}, "", Pass, Hours{744, 600, 144, 0, 0, 0, 0}},
		{"clocks go back in Europe", "2026-10", 1, []run{{744, "U"}}, "", Pass, Hours{744, 744, 0, 0, 0, 0, 0}},
		{"clocks go forward in Europe", "2026-03", 1, []run{{744, "U"}}, "", Pass, Hours{744, 744, 0, 0, 0, 0, 0}},
		{"72 busy hours count as up", "2026-11", 1, []run{{72, "B"}, {528, "U"}, {120, "D"}}, "", Pass, Hours{720, 600, 120, 72, 0, 0, 0}},
		{"the 73rd counts as down", "2026-11", 1, []run{{73, "B"}, {527, "U"}, {120, "D"}}, "", Fail, Hours{720, 599, 121, 73, 0, 0, 0}},
		{"all busy", "2026-11", 1, []run{{720, "B"}}, "", Fail, Hours{720, 72, 648, 720, 0, 0, 0}},
		{"three monitors, each dead for a third", "2026-11", 3, []run{{240, "?UU"}, {240, "U?U"}, {240, "UU?"}}, "", Pass, Hours{720, 720, 0, 0, 0, 0, 0}},
		{"three monitors disagree", "2026-11", 3, []run{{600, "UUD"}, {119, "UD?"}, {1, "DD?"}}, "", Pass, Hours{720, 600, 1, 0, 119, 0, 0}},
		{"two monitors disagree all month", "2026-11", 2, []run{{720, "UD"}}, "", Inconclusive, Hours{720, 0, 0, 0, 720, 0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			roster := bench(tc.monitors)
			if tc.enrolled != "" {
				roster.Relays[0].Enrolled = hour(t, tc.enrolled)
			}
			m := month(t, tc.month)
			u := CountUptime(Defaults(), roster, &roster.Relays[0], sheet(m, tc.runs), m.End().Start().Add(72*time.Hour))
			if u.Outcome != tc.want || u.Hours != tc.hours || !u.Final {
				t.Errorf("got %s, final %v, %+v; want %s, %+v", u.Outcome, u.Final, u.Hours, tc.want, tc.hours)
			}
			h := u.Hours
			if h.Up+h.Down+h.Unknown+h.NotEnrolled+h.Remaining != h.Total {
				t.Errorf("the sums do not add up: %+v", h)
			}
			if len(u.Reasons) == 0 || !strings.Contains(u.Reasons[0], "R10") {
				t.Errorf("reasons: %q", u.Reasons)
			}
			if len(u.Counts) != h.Total {
				t.Errorf("%d hours counted of %d", len(u.Counts), h.Total)
			}
		})
	}
}

func TestBusyInTimeOrder(t *testing.T) {
	roster, m := bench(1), month(t, "2026-11")
	u := CountUptime(Defaults(), roster, &roster.Relays[0], sheet(m, []run{{10, "U"}, {70, "B"}, {10, "D"}, {5, "B"}, {625, "U"}}), m.End().Start())
	at := func(i int) HourCount { return u.Counts[i] }
	for i, want := range map[int]State{10: StateUp, 79: StateUp, 90: StateUp, 91: StateUp, 92: StateDown, 94: StateDown, 95: StateUp} {
		if at(i).State != want {
			t.Errorf("hour %d: got %s, want %s", i, at(i).State, want)
		}
	}
	if !at(92).Busy || at(95).Busy || u.Hours.Busy != 75 {
		t.Errorf("busy: %+v, %+v, %d in all", at(92), at(95), u.Hours.Busy)
	}
	// A busy hour that nobody is enrolled for or that is to come uses nothing of the cap.
	roster.Relays[0].Enrolled = m.First() + 20
	u = CountUptime(Defaults(), roster, &roster.Relays[0], sheet(m, []run{{100, "B"}, {620, "U"}}), m.End().Start())
	if u.Hours.Busy != 80 || u.Hours.Down != 8 || u.Hours.NotEnrolled != 20 {
		t.Errorf("got %+v", u.Hours)
	}
}

func TestProvisionalAndFinal(t *testing.T) {
	m := month(t, "2026-11")
	end := m.End().Start()
	for _, tc := range []struct {
		name  string
		now   time.Time
		runs  []run
		want  Outcome
		final bool
		left  int
	}{
		{"before the month", m.First().Start().Add(-time.Hour), nil, Inconclusive, false, 720},
		{"in the middle of an hour", m.First().Start().Add(90 * time.Minute), []run{{720, "U"}}, Inconclusive, false, 719},
		{"at the end of an hour", m.First().Start().Add(2 * time.Hour), []run{{720, "U"}}, Inconclusive, false, 718},
		{"a nanosecond before", m.First().Start().Add(2*time.Hour - 1), []run{{720, "U"}}, Inconclusive, false, 719},
		{"won already", m.First().Start().Add(600 * time.Hour), []run{{720, "U"}}, Pass, false, 120},
		{"won by an hour", m.First().Start().Add(599 * time.Hour), []run{{720, "U"}}, Inconclusive, false, 121},
		{"cannot be won any more", m.First().Start().Add(121 * time.Hour), []run{{720, "D"}}, Fail, true, 599},
		{"can just be won", m.First().Start().Add(120 * time.Hour), []run{{720, "D"}}, Inconclusive, false, 600},
		{"at the month's end", end, []run{{720, "U"}}, Pass, false, 0},
		{"at the month's end, lost", end, []run{{720, "D"}}, Fail, true, 0},
		{"a second before it is final", end.Add(72*time.Hour - time.Second), []run{{720, "U"}}, Pass, false, 0},
		{"final", end.Add(72 * time.Hour), []run{{720, "U"}}, Pass, true, 0},
		{"final and unknown", end.Add(72 * time.Hour), nil, Inconclusive, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			roster := bench(1)
			u := CountUptime(Defaults(), roster, &roster.Relays[0], sheet(m, tc.runs), tc.now)
			if u.Outcome != tc.want || u.Final != tc.final || u.Hours.Remaining != tc.left {
				t.Errorf("got %s, final %v, %d to come; want %s, %v, %d", u.Outcome, u.Final, u.Hours.Remaining, tc.want, tc.final, tc.left)
			}
		})
	}
}

func TestJoinAndLeave(t *testing.T) {
	m := month(t, "2026-11")
	h := m.First()
	until := func(h evidence.Hour) *evidence.Hour { return &h }
	roster := bench(0)
	roster.Monitors = []Monitor{
		{Name: "m1", Term: Term{From: 1, Until: until(h + 10)}},
		{Name: "m2", Term: Term{From: h + 5}},
		{Name: "m3", Term: Term{From: h + 8, Until: until(h + 9)}},
		{Name: "m1", Term: Term{From: h + 12}}, // comes back with a new key
		{Name: "m4", Operator: "alice", Term: Term{From: 1}},
	}
	roster.Relays[0].Operator = "alice" // m4 never judges it
	s := NewSheet(m)
	for i := range evidence.Hour(14) {
		for _, name := range []string{"m1", "m2", "m3"} {
			s.Set(name, h+i, Vote{Value: Up}) // also outside their terms: must not count
		}
		s.Set("m4", h+i, Vote{Value: Down})
	}
	u := CountUptime(Defaults(), roster, &roster.Relays[0], s, m.End().Start())
	for i, want := range []int{1, 1, 1, 1, 1, 2, 2, 2, 3, 2, 1, 1, 2, 2} {
		c := u.Counts[i]
		if c.Tally.Bench != want || c.Tally.Up != want || c.Tally.Down != 0 || c.State != StateUp {
			t.Errorf("hour %d: %+v, want a bench of %d", i, c, want)
		}
	}
	// Nobody but the recused one: nobody knows.
	roster.Monitors = roster.Monitors[4:]
	u = CountUptime(Defaults(), roster, &roster.Relays[0], s, m.End().Start())
	if u.Counts[0].State != StateUnknown || u.Counts[0].Tally.Bench != 0 || !strings.Contains(strings.Join(u.Reasons, " "), "no monitor") {
		t.Errorf("got %+v, %q", u.Counts[0], u.Reasons)
	}
}

func TestRelayLeaves(t *testing.T) {
	roster, m := bench(1), month(t, "2026-11")
	leaves := m.First() + 610
	roster.Relays[0].Until = &leaves
	u := CountUptime(Defaults(), roster, &roster.Relays[0], sheet(m, []run{{720, "U"}}), m.First().Start())
	if u.Hours.NotEnrolled != 110 || u.Hours.Remaining != 610 {
		t.Errorf("an hour after the relay left is not one to come: %+v", u.Hours)
	}
}

func TestCoverage(t *testing.T) {
	roster, m := bench(1), month(t, "2026-11")
	for unknown, want := range map[int]bool{72: false, 73: true} {
		u := CountUptime(Defaults(), roster, &roster.Relays[0], sheet(m, []run{{unknown, "?"}, {720 - unknown, "U"}}), m.End().Start())
		if got := strings.Contains(strings.Join(u.Reasons, " "), "coverage"); got != want {
			t.Errorf("%d h unknown: flagged %v (%d %%), want %v", unknown, got, u.Hours.Coverage(), want)
		}
	}
}

func TestSpansInWords(t *testing.T) {
	h := hour(t, "2026-11-03T23:00:00Z")
	for want, s := range map[string]Span{
		"2026-11-03T23:00Z":                              {h, h + 1},
		"2026-11-03T23:00Z to 2026-11-04T01:00Z (2 h)":   {h, h + 2},
		"2026-11-03T23:00Z to 2026-12-03T23:00Z (720 h)": {h, h + 720},
	} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := words([]Span{{h, h + 1}, {h + 2, h + 3}, {h + 4, h + 5}}, 1); got != "2026-11-03T23:00Z, and 2 more" {
		t.Errorf("got %q", got)
	}
}

// BenchmarkMonth judges a thousand relays by five monitors.
func BenchmarkMonth(b *testing.B) {
	rules, roster, m := Defaults(), bench(5), month(b, "2026-12")
	var sheets []*Sheet
	for i := range 1000 {
		sheets = append(sheets, sheet(m, []run{{100 + i%50, "UUU?D"}, {300, "UUUUU"}, {72, "BBU?D"}, {200, "UUUU?"}}))
	}
	now := m.End().Start().Add(72 * time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range sheets {
			CountUptime(rules, roster, &roster.Relays[0], s, now)
		}
	}
}
