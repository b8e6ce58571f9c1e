package monitor

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// TestPlannerSpares wants no attempt to be due where others were chosen, and the choice to
// be followed as soon as it is known.
func TestPlannerSpares(t *testing.T) {
	spared := map[schedule.Job]bool{}
	p := schedule.NewPlanner(func(schedule.Job) time.Duration { return time.Minute }, 0)
	p.Spared = func(j schedule.Job) bool { return spared[j] }
	h := evidence.HourOf(time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC))
	now := schedule.Moment{Wall: h.Start().Add(2 * time.Minute), Steady: time.Hour}
	spared[schedule.Job{Relay: "a", Hour: h}], spared[schedule.Job{Relay: "a", Hour: h - 1}], spared[schedule.Job{Relay: "b", Hour: h - 1}] = true, true, true
	if got, want := p.Due(now, []string{"a", "b"}), []schedule.Job{{Relay: "b", Hour: h}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := p.Soonest(schedule.Moment{Wall: h.Start(), Steady: time.Hour}, []string{"a"}); !got.IsZero() {
		t.Errorf("of a relay that is left to others: got an attempt at %s, want none", got)
	}
	delete(spared, schedule.Job{Relay: "a", Hour: h})
	if got, want := p.Due(now, []string{"a"}), []schedule.Job{{Relay: "a", Hour: h}}; !slices.Equal(got, want) {
		t.Errorf("when the round is not known: got %v, want %v", got, want)
	}
}

// TestHourNotDue wants pages to say of an hour in which others were chosen that this
// monitor was not due, not that it missed an attempt.
func TestHourNotDue(t *testing.T) {
	h := evidence.HourOf(time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC))
	roster := &bounty.Roster{Network: evidence.PSF, Relays: []bounty.Relay{{PeerID: "relay", Operator: "somebody", Enrolled: 1}}}
	for i := range 20 {
		roster.Monitors = append(roster.Monitors, bounty.Monitor{Name: fmt.Sprintf("m%d", i), Operator: fmt.Sprintf("o%d", i), Committee: i == 0, Term: bounty.Term{From: 1}})
	}
	b := &basis{rules: bounty.Defaults(), roster: roster}
	relay, round := &roster.Relays[0], []byte("a round")
	due := b.rules.Due(roster, relay, h, round)
	for i := range roster.Monitors {
		x := &roster.Monitors[i]
		m := &Monitor{cfg: Config{Name: x.Name}}
		want := bounty.NotDue.String()
		if slices.Contains(due, x) {
			want = bounty.Missed.String()
		}
		if got := m.hourShown(b, relay, h, history.Hour{Kind: history.Sealed, Why: bounty.Missed}, round).Why; got != want {
			t.Errorf("%s: got %q, want %q", x.Name, got, want)
		}
	}
}
