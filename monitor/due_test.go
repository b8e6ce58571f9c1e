package monitor

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/beacon/beacontest"
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
	spared[schedule.Job{Relay: "a", Hour: h + 1}] = true
	if !p.Idle(schedule.Job{Relay: "a", Hour: h}, now) {
		t.Error("a relay that is left to others is not idle: a visitor could not have it probed")
	}
	if p.Idle(schedule.Job{Relay: "c", Hour: h}, now) {
		t.Error("a relay whose first attempt is to come is idle")
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

// TestRunDue runs one of twenty monitors by cron's own ticks. It asks the relays for which
// the hour's round chose it and no others, its headers hold the rounds, and a verifier finds
// them good. When no server gives a round, it asks all relays.
func TestRunDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hours, silent = 6, 4 // from hour 4 on there is no round
		d := beacontest.New(t, time.Now().Add(-90*24*time.Hour))
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 30, 8)
		first := evidence.HourOf(time.Now())
		roster := m.basis().roster
		for i := range 20 {
			roster.Monitors = append(roster.Monitors, bounty.Monitor{Name: fmt.Sprintf("m%d", i), Operator: fmt.Sprintf("o%d", i), Committee: i == 0, Term: bounty.Term{From: 1}})
		}
		client := &http.Client{Transport: inBubble{"drand": func() http.Handler {
			if evidence.HourOf(time.Now()) >= first+silent {
				return http.NotFoundHandler()
			}
			return d
		}}}
		m.beacons = schedule.NewBeacons(d.Chain, []string{"http://drand/api/"}, client, m.log)
		m.store.Round = m.round
		ctx, cancel := context.WithTimeout(t.Context(), hours*time.Hour+evidence.CloseAfter+5*time.Minute)
		defer cancel()
		must(t, m.Run(ctx))
		export, err := m.store.Month(first.Month(), ids[0], time.Now())
		must(t, err)
		good, err := evidence.VerifyMonth(export, evidence.Keys{Log: m.store.Key(), Beacon: d})
		must(t, err)
		forger := beacontest.New(t, time.Now().Add(-120*24*time.Hour))
		bad, err := evidence.VerifyMonth(export, evidence.Keys{Log: m.store.Key(), Beacon: forger})
		must(t, err)
		if len(good.Hours) != hours {
			t.Fatalf("got %d hours, want %d", len(good.Hours), hours)
		}
		spared := 0
		for i, vh := range good.Hours {
			h := vh.Header.Hour
			if has := vh.Round != nil; has != (i < silent) || !bytes.Equal(vh.Round, vh.Header.Round) {
				t.Errorf("hour %d: got a round of %d bytes, the header's has %d, want one up to hour %d", i, len(vh.Round), len(vh.Header.Round), silent-1)
			}
			if bad.Hours[i].Round != nil {
				t.Errorf("hour %d: got a round by another chain, want none", i)
			}
			records, err := m.store.Records(h)
			must(t, err)
			for j := range roster.Relays {
				relay := &roster.Relays[j]
				k := slices.IndexFunc(records, func(r evidence.Record) bool { return r.PeerID == relay.PeerID })
				switch left := m.basis().rules.Spared(roster, relay, h, vh.Round, "m1"); {
				case !left && k < 0:
					t.Errorf("hour %d: relay %d: got no attempt, want one: the monitor was due", i, j)
				case left && k >= 0 && records[k].Attempts[0].Started.Sub(h.Start()) > 10*time.Second:
					t.Errorf("hour %d: relay %d: got an attempt at %s, want none: others were chosen", i, j, records[k].Attempts[0].Started)
				case left:
					spared++
				}
			}
		}
		if spared < 30 {
			t.Errorf("got %d relays' hours left to others in %d hours, want about two thirds of %d", spared, silent, silent*30)
		}
	})
}
