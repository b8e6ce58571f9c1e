package relay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestLedgerMonth(t *testing.T) {
	dir := t.TempDir()
	march := time.Date(2026, 3, 31, 23, 59, 0, 0, time.UTC)
	l := Limits{Month: 1000, CircuitsPerIP: 9}
	c := &testClock{wall: march, kept: true}
	b := c.open(t, dir, l)
	tab, err := b.open("a", ipOf(1), march)
	must(t, err)
	if err := tab.charge(900); err != nil {
		t.Errorf("within the budget: %v", err)
	}
	must(t, b.tend(march))
	if !b.warned {
		t.Error("no warning at 90 %")
	}
	if err := tab.charge(100); !errors.Is(err, errMonthSpent) {
		t.Errorf("the budget is spent: %v", err)
	}
	tab.done()
	if err := b.admit("b", ipOf(2), march); !errors.Is(err, errMonthSpent) {
		t.Errorf("another peer: %v", err)
	}
	must(t, b.tend(march))

	// After a restart in the same month it is still spent, in the next it is not.
	b = c.open(t, dir, l)
	if err := b.admit("b", ipOf(2), march); !errors.Is(err, errMonthSpent) {
		t.Errorf("after a restart: %v", err)
	}
	c.run(time.Hour)
	must(t, b.tend(c.wall))
	if s := b.state(); s.Month != "2026-04" || s.Bytes != 0 {
		t.Errorf("in April %+v", s)
	}
	if err := b.admit("b", ipOf(2), march.Add(time.Hour)); err != nil {
		t.Errorf("in April: %v", err)
	}
	if s := c.open(t, dir, l).state(); s.Bytes != 0 {
		t.Errorf("April's count on disk: %+v", s)
	}
}

// A count that cannot be read does not keep the relay from serving.
func TestLedgerDamaged(t *testing.T) {
	for _, text := range []string{"", "{", `{"month":"2026-03","bytes":-5}`, `[]`, `{"month":"x","bytes":5}`,
		`{"month":"2026-03","bytes":5,"unsure":6}`, `{"month":"2026-03","bytes":5,"before":5,"moved":1}`} {
		dir, start := t.TempDir(), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		must(t, os.WriteFile(filepath.Join(dir, trafficFile), []byte(text), 0o600))
		b := openLedger(dir, Limits{Month: 1000, CircuitsPerIP: 9}, start, testLog(t))
		if s := b.state(); s.Bytes != 0 {
			t.Errorf("%q: %+v", text, s)
		}
		// That something is missing in the count is known until the month is over.
		must(t, b.tend(start))
		b = openLedger(dir, Limits{Month: 1000, CircuitsPerIP: 9}, start.Add(time.Hour), testLog(t))
		if s := b.state(); !s.Lost.Equal(start) {
			t.Errorf("%q: after a restart: %+v", text, s)
		}
		b.months.move("2026-04", start.AddDate(0, 1, 0))
		if s := b.state(); !s.Lost.IsZero() {
			t.Errorf("%q: in the next month: %+v", text, s)
		}
	}
}

func TestLedgerRefills(t *testing.T) {
	now := time.Now()
	b := openLedger(t.TempDir(), Limits{PeerDay: 24 << 10, IPDay: 240 << 10, CircuitsPerIP: 9}, now, testLog(t))
	tab, err := b.open("a", ipOf(1), now)
	must(t, err)
	if err := tab.charge(100 << 10); !errors.Is(err, errPeerSpent) {
		t.Errorf("four days' worth at once: %v", err)
	}
	tab.done()
	if _, err := b.open("a", ipOf(1), now.Add(time.Hour)); !errors.Is(err, errPeerSpent) {
		t.Errorf("an hour later: %v", err)
	}
	if _, err := b.open("a", ipOf(1), now.Add(80*time.Hour)); err != nil {
		t.Errorf("when the debt is paid off: %v", err)
	}

	// Many peers behind one address have its budget together.
	var spent error
	for n := range 20 {
		p := peer.ID(fmt.Sprint(n))
		tab, err := b.open(p, ipOf(2), now)
		if err != nil {
			spent = err
			break
		}
		_ = tab.charge(23 << 10) // says at its end what the next one is told
		tab.done()
	}
	if !errors.Is(spent, errIPSpent) {
		t.Errorf("twenty peers behind one address: %v", spent)
	}
}

// Peers that come by once do not stay in memory.
func TestLedgerForgets(t *testing.T) {
	now := time.Now()
	b := openLedger(t.TempDir(), Limits{PeerDay: 1 << 30, IPDay: 1 << 30, CircuitsPerIP: 9}, now, testLog(t))
	for n := range 10000 {
		p := peer.ID(fmt.Sprint(n))
		must(t, b.admit(p, ipOf(n), now))
	}
	tab, err := b.open("open", ipOf(1), now)
	must(t, err)
	must(t, tab.charge(1<<20))
	must(t, b.tend(now.Add(time.Hour)))
	if len(b.peers) != 1 || len(b.ips) != 1 {
		t.Errorf("%d peers, %d addresses, want those of the open circuit", len(b.peers), len(b.ips))
	}
	tab.done()
	must(t, b.tend(now.Add(48*time.Hour)))
	if len(b.peers)+len(b.ips) != 0 {
		t.Errorf("%d peers, %d addresses", len(b.peers), len(b.ips))
	}
}

// New budgets hold at once, for those already known too.
func TestLedgerChange(t *testing.T) {
	now := time.Now()
	b := openLedger(t.TempDir(), Limits{PeerDay: 1000, CircuitsPerIP: 9}, now, testLog(t))
	tab, err := b.open("a", ipOf(1), now)
	must(t, err)
	if err := tab.charge(1000); !errors.Is(err, errPeerSpent) {
		t.Fatal(err)
	}
	b.change(Limits{PeerDay: 2000, IPDay: 1500, Month: 10000})
	if err := tab.charge(500); err != nil {
		t.Errorf("with a new budget: %v", err)
	}
	if err := tab.charge(1000); !errors.Is(err, errIPSpent) {
		t.Errorf("the address: %v", err)
	}
	b.change(Limits{Month: 100})
	if err := tab.charge(1); !errors.Is(err, errMonthSpent) {
		t.Errorf("the month: %v", err)
	}
}
