package monitor

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/internal/checkpage"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// The monitor's check page offers the relays under judgement, where they are now.
func TestCheckPage(t *testing.T) {
	this := evidence.HourOf(time.Now())
	before := this - 1
	m := &Monitor{log: slog.New(slog.DiscardHandler), machine: schedule.ThisMachine()}
	m.inForce.Store(&basis{roster: &bounty.Roster{Relays: []bounty.Relay{
		{PeerID: "here", Enrolled: before, Address: bounty.Address{Domain: "old.test"},
			Moves: []bounty.Move{{From: before, Address: bounty.Address{Domain: "new.test", WSSPort: 4443}}}},
		{PeerID: "gone", Enrolled: before - 1, Until: &before, Address: bounty.Address{Domain: "gone.test"}},
	}}})
	w := httptest.NewRecorder()
	m.pages().ServeHTTP(w, httptest.NewRequest("GET", "/check/", nil))
	page := w.Body.String()
	if w.Code != 200 || w.Header().Get("Content-Security-Policy") != checkpage.Policy {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if !strings.Contains(page, ">/dns4/new.test/tcp/4443/wss/p2p/here</textarea>") {
		t.Errorf("the page does not offer just the one relay:\n%s", page)
	}
}

// A visitor's browser is not sent to a thousand relays.
func TestCheckPageOfALargeRoster(t *testing.T) {
	m := &Monitor{log: slog.New(slog.DiscardHandler), machine: schedule.ThisMachine()}
	m.inForce.Store(&basis{roster: &bounty.Roster{}})
	for i := range 1000 {
		m.basis().roster.Relays = append(m.basis().roster.Relays, bounty.Relay{PeerID: fmt.Sprint(i), Enrolled: 1, Address: bounty.Address{Domain: "r.test"}})
	}
	w := httptest.NewRecorder()
	m.pages().ServeHTTP(w, httptest.NewRequest("GET", "/check/", nil))
	if n := strings.Count(w.Body.String(), "/dns4/r.test/"); n != mostChecked {
		t.Errorf("the page offers %d relays, want %d", n, mostChecked)
	}
}

// A month is shown from the relay's enrolment on, and none that is to come.
func TestMonthsThatAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 2, 8)
		this := evidence.MonthOf(time.Now())
		m.basis().roster.Relays[1].Enrolled = (this + 1).First() + 5
		m.basis().roster.Monitors = []bounty.Monitor{{Name: "m1", Operator: "another"}}
		later := (this + 1).First().Start().Add(10 * time.Hour)
		for _, c := range []struct {
			id    string
			month evidence.Month
			shown bool
		}{{ids[0], this - 1, false}, {ids[0], this, true}, {ids[0], this + 1, true}, {ids[0], this + 2, false}, {ids[1], this, false}, {ids[1], this + 1, true}, {"nobody", this, false}} {
			got, err := m.month(c.id, c.month, later)
			if c.shown != (err == nil) || err != nil && !errors.Is(err, web.ErrNotFound) {
				t.Errorf("%s %s: %v", c.id, c.month, err)
			}
			if err != nil {
				continue
			}
			if v := got.Vantages; len(v) != 1 || v[0].Monitor != "m1" || v[0].Operator != "another" || !v[0].Own || v[0].Place != nil {
				t.Errorf("%s %s: got vantages %+v, want this monitor's own", c.id, c.month, v)
			}
			if (got.Previous != nil) != (c.id == ids[0] && c.month > this) || (got.Next != nil) != (c.month == this) || !got.Recused || len(got.Hours) != c.month.Hours() {
				t.Errorf("%s %s: before %v, after %v, recused %v", c.id, c.month, got.Previous, got.Next, got.Recused)
			}
		}
		got, err := m.month(ids[1], this+1, later)
		if err != nil || got.Count.NotEnrolled != 5 || got.Count.Unknown != 5 || got.Hours[0].State != bounty.NotEnrolled {
			t.Errorf("%+v, %v", got.Count, err)
		}
		// Round trips are this monitor's own, places those of the roster at the time.
		this = evidence.MonthOf(time.Now())
		roster := &bounty.Roster{Monitors: []bounty.Monitor{
			{Name: "m2", Operator: "others", Place: &bounty.Place{Lat: 1, Lon: 2}}, {Name: "m3", Term: bounty.Term{From: this.End()}}, {Name: m.cfg.Name, Operator: "us", Committee: true},
		}}
		known := &history.Relay{Hours: []history.Hour{{}, {PingUS: 3000}, {PingUS: 2000}}}
		want := []web.Vantage{{Monitor: m.cfg.Name, Operator: "us", Committee: true, PingUS: 2000, Own: true}, {Monitor: "m2", Operator: "others", Place: roster.Monitors[0].Place}}
		if got := m.vantages(roster, this.First(), known); !slices.Equal(got, want) {
			t.Errorf("got vantages %+v, want %+v", got, want)
		}
		for hour, shown := range map[evidence.Hour]bool{m.store.First() - 1: false, m.store.First(): true, evidence.HourOf(later) + 1: false} {
			if _, err := m.story(ids[0], hour, later); shown != (err == nil) {
				t.Errorf("%s: %v", hour, err)
			}
		}
	})
}

// What an hour costs is the same on its page and on the command line.
func TestExplainCostsAsThePage(t *testing.T) {
	m, month, _ := published(t)
	id := m.basis().roster.Relays[0].PeerID
	now := (month.First() + 30).Start()
	page, err := m.story(id, month.First(), now)
	must(t, err)
	told, err := Explain(m.cfg, id, month.First(), now)
	must(t, err)
	last := told.Cost[len(told.Cost)-1]
	if !slices.Equal(page.Cost, told.Cost) || !strings.Contains(last, "September may lose 120 hours. By this monitor's votes the month has lost 0 so far; unknown hours: 30.") {
		t.Errorf("got\n%q\nwant as on the page, with what the month may lose\n%q", told.Cost, page.Cost)
	}
}
