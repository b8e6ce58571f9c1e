package monitor

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/checkpage"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The monitor's check page offers the relays under judgement, where they are now.
func TestCheckPage(t *testing.T) {
	this := evidence.HourOf(time.Now())
	before := this - 1
	m := &Monitor{log: slog.New(slog.DiscardHandler), roster: &bounty.Roster{Relays: []bounty.Relay{
		{PeerID: "here", Enrolled: before, Address: bounty.Address{Domain: "old.test"},
			Moves: []bounty.Move{{From: before, Address: bounty.Address{Domain: "new.test", WSSPort: 4443}}}},
		{PeerID: "gone", Enrolled: before - 1, Until: &before, Address: bounty.Address{Domain: "gone.test"}},
	}}}
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
