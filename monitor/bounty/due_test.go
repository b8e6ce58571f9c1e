package bounty

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// crowd is a roster of so many monitors, two an operator, of which every tenth is the
// committee's.
func crowd(monitors int) *Roster {
	roster := bench(0)
	roster.Monitors = nil
	for i := range monitors {
		operator := fmt.Sprintf("operator-%d", i/2)
		if i%10 == 0 {
			operator = "committee"
		}
		roster.Monitors = append(roster.Monitors, Monitor{Name: fmt.Sprintf("m%d", i), Operator: operator, Committee: i%10 == 0, Term: Term{From: 1}})
	}
	return roster
}

// beaconOf stands for an hour's round: whoever chooses looks at its bytes only.
func beaconOf(h evidence.Hour) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(h)), make([]byte, 48)...)
}

func names(list []*Monitor) (out []string) {
	for _, m := range list {
		out = append(out, m.Name)
	}
	return out
}

func TestDue(t *testing.T) {
	rules, roster, first := Defaults(), crowd(50), month(t, "2026-11").First()
	relay := &roster.Relays[0]
	relay.Operator = "operator-3" // m6 and m7 are recused
	turns := map[string]int{}
	const hours = 2000
	for i := range evidence.Hour(hours) {
		h := first + i
		due := rules.Due(roster, relay, h, beaconOf(h))
		operators := map[string]bool{}
		committee := 0
		for _, m := range due {
			operators[m.Operator] = true
			turns[m.Operator]++
			if m.Committee {
				committee++
			}
		}
		if len(due) != 7 || len(operators) != 7 || committee != 1 || operators[relay.Operator] {
			t.Fatalf("hour %d: got %v, want 7 of distinct operators, one of them the committee's, none recused", i, names(due))
		}
		if again := rules.Due(roster, relay, h, beaconOf(h)); !slices.Equal(names(due), names(again)) {
			t.Fatalf("hour %d: got %v and %v for the same round", i, names(due), names(again))
		}
	}
	// Of 24 other operators 6 are due: each in a quarter of the hours, whatever the number
	// of its monitors. The numbers follow from the rounds and are the same each time.
	for i := range 25 {
		operator := fmt.Sprintf("operator-%d", i)
		if operator == relay.Operator {
			continue
		}
		if n := turns[operator]; n < hours/4-100 || n > hours/4+100 {
			t.Errorf("%s: due in %d of %d hours, want about a quarter", operator, n, hours)
		}
	}
	// Another order of the roster, another relay and another round.
	h := first
	due := names(rules.Due(roster, relay, h, beaconOf(h)))
	turned := *roster
	turned.Monitors = slices.Clone(roster.Monitors)
	slices.Reverse(turned.Monitors)
	got := names(rules.Due(&turned, relay, h, beaconOf(h)))
	slices.Sort(got)
	want := slices.Clone(due)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the roster turned round: got %v, want %v", got, want)
	}
	other := *relay
	other.PeerID = "another"
	if got := names(rules.Due(roster, &other, h, beaconOf(h))); slices.Equal(got, due) {
		t.Errorf("another relay: got the same monitors, %v", got)
	}
	if got := names(rules.Due(roster, relay, h, beaconOf(h+1))); slices.Equal(got, due) {
		t.Errorf("another round: got the same monitors, %v", got)
	}
}

// TestDueBySize wants all of a small bench to be due, and all of any where the round is
// not known or the rules choose nobody.
func TestDueBySize(t *testing.T) {
	h := month(t, "2026-11").First()
	off := Defaults()
	off.MonitorsDue, off.DueFrom = 0, 0
	for _, c := range []struct {
		name     string
		rules    *Rules
		monitors int
		beacon   []byte
		want     int
	}{
		{"small", Defaults(), 14, beaconOf(h), 14},
		{"large", Defaults(), 15, beaconOf(h), 7},
		{"no round", Defaults(), 50, nil, 50},
		{"off", off, 50, beaconOf(h), 50},
	} {
		roster := crowd(c.monitors)
		if got := c.rules.Due(roster, &roster.Relays[0], h, c.beacon); len(got) != c.want {
			t.Errorf("%s: got %d monitors, want %d", c.name, len(got), c.want)
		}
		if got, want := c.rules.Chooses(roster, h), c.name == "large" || c.name == "no round"; got != want {
			t.Errorf("%s: Chooses: got %t, want %t", c.name, got, want)
		}
	}
	// Fewer operators than are asked for: one monitor of each.
	roster := crowd(20)
	for i := range roster.Monitors {
		roster.Monitors[i].Operator = []string{"committee", "a", "b"}[i%3]
		roster.Monitors[i].Committee = i%3 == 0
	}
	if got := names(Defaults().Due(roster, &roster.Relays[0], h, beaconOf(h))); len(got) != 3 {
		t.Errorf("three operators: got %v, want one monitor of each", got)
	}
	// No monitor of the committee's: seven others.
	roster = crowd(30)
	for i := range roster.Monitors {
		roster.Monitors[i].Committee = false
	}
	if got := names(Defaults().Due(roster, &roster.Relays[0], h, beaconOf(h))); len(got) != 7 {
		t.Errorf("no committee: got %v, want 7", got)
	}
}

// TestVotesOfThoseDue wants the votes of others to count nowhere, and the quorum to be
// that of those who were due.
func TestVotesOfThoseDue(t *testing.T) {
	rules, roster, m := Defaults(), crowd(50), month(t, "2026-11")
	relay := &roster.Relays[0]
	s := NewSheet(m)
	for h := m.First(); h < m.End(); h++ {
		if h != m.First() { // of the first hour nobody has the round
			s.Choose(h, beaconOf(h))
		}
		due := rules.Due(roster, relay, h, s.beacons[h])
		for i := range roster.Monitors {
			x := &roster.Monitors[i]
			v := Down // whoever is not due says that it was down
			if slices.Contains(due, x) {
				v = Up
			}
			s.Set(x.Name, h, Vote{Value: v})
		}
	}
	u := CountUptime(rules, roster, relay, s, m.End().Start())
	if u.Hours.Up != m.Hours() {
		t.Errorf("got %+v, want all hours up", u.Hours)
	}
	if got, want := u.Counts[0].Tally, (Tally{Bench: 50, Up: 50}); got != want {
		t.Errorf("without a round: got %+v, want %+v", got, want)
	}
	if got, want := u.Counts[1].Tally, (Tally{Bench: 7, Of: 50, Up: 7}); got != want {
		t.Errorf("with a round: got %+v, want %+v", got, want)
	}
	for _, want := range []string{"in 719 h 7 monitors were due", "in 1 h all were due, since no log holds the hour's drand round (R21): 2026-11-01T00:00Z"} {
		if all := strings.Join(u.Reasons, "; "); !strings.Contains(all, want) {
			t.Errorf("got %q, want %q in it", all, want)
		}
	}
}
