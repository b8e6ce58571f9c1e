package circuit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

func TestLedgerMonth(t *testing.T) {
	dir := t.TempDir()
	march := time.Date(2026, 3, 31, 23, 59, 0, 0, time.UTC)
	l := config.Limits{Month: 1000, CircuitsPerIP: 9}
	c := &testClock{wall: march, kept: true}
	b := c.open(t, dir, l)
	bill, err := b.open("a", ipOf(1), march)
	relaytest.Must(t, err)
	if err := bill.charge(900); err != nil {
		t.Errorf("within the budget: %v", err)
	}
	relaytest.Must(t, b.Tend(march))
	if !b.warned {
		t.Error("no warning at 90 %")
	}
	if err := bill.charge(100); !errors.Is(err, refusal.MonthSpent) {
		t.Errorf("the budget is spent: %v", err)
	}
	bill.done()
	if err := b.admit("b", ipOf(2), march); !errors.Is(err, refusal.MonthSpent) {
		t.Errorf("another peer: %v", err)
	}
	relaytest.Must(t, b.Tend(march))

	// After a restart in the same month it is still spent, in the next it is not.
	b = c.open(t, dir, l)
	if err := b.admit("b", ipOf(2), march); !errors.Is(err, refusal.MonthSpent) {
		t.Errorf("after a restart: %v", err)
	}
	bill, err = b.open("b", ipOf(2), march)
	relaytest.Must(t, err)
	if err := bill.charge(7); !errors.Is(err, refusal.MonthSpent) {
		t.Errorf("after a restart: got %v, want the budget spent", err)
	}
	bill.done()
	c.run(time.Hour)
	relaytest.Must(t, b.Tend(c.wall))
	if got := b.Carried(); got != 7 {
		t.Errorf("got %d bytes carried since the restart, want 7, whatever month it is", got)
	}
	if s := b.State(); s.Month != "2026-04" || s.Bytes != 0 {
		t.Errorf("in April %+v", s)
	}
	if err := b.admit("b", ipOf(2), march.Add(time.Hour)); err != nil {
		t.Errorf("in April: %v", err)
	}
	if s := c.open(t, dir, l).State(); s.Bytes != 0 {
		t.Errorf("April's count on disk: %+v", s)
	}
}

// A count that cannot be read does not keep the relay from serving.
func TestLedgerDamaged(t *testing.T) {
	for _, text := range []string{"", "{", `{"month":"2026-03","bytes":-5}`, `[]`, `{"month":"x","bytes":5}`,
		`{"month":"2026-03","bytes":5,"unsure":6}`, `{"month":"2026-03","bytes":5,"before":5,"moved":1}`} {
		dir, start := t.TempDir(), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		relaytest.Must(t, os.WriteFile(filepath.Join(dir, trafficFile), []byte(text), 0o600))
		b := OpenBudget(dir, config.Limits{Month: 1000, CircuitsPerIP: 9}, start, relaytest.Log(t))
		if s := b.State(); s.Bytes != 0 {
			t.Errorf("%q: %+v", text, s)
		}
		// That something is missing in the count is known until the month is over.
		relaytest.Must(t, b.Tend(start))
		b = OpenBudget(dir, config.Limits{Month: 1000, CircuitsPerIP: 9}, start.Add(time.Hour), relaytest.Log(t))
		if s := b.State(); !s.Lost.Equal(start) {
			t.Errorf("%q: after a restart: %+v", text, s)
		}
		b.months.move("2026-04", start.AddDate(0, 1, 0))
		if s := b.State(); !s.Lost.IsZero() {
			t.Errorf("%q: in the next month: %+v", text, s)
		}
	}
}

func TestLedgerRefills(t *testing.T) {
	now := time.Now()
	b := OpenBudget(t.TempDir(), config.Limits{PeerDay: 24 << 10, IPDay: 240 << 10, CircuitsPerIP: 9}, now, relaytest.Log(t))
	bill, err := b.open("a", ipOf(1), now)
	relaytest.Must(t, err)
	if err := bill.charge(100 << 10); !errors.Is(err, refusal.PeerSpent) {
		t.Errorf("four days' worth at once: %v", err)
	}
	bill.done()
	if _, err := b.open("a", ipOf(1), now.Add(time.Hour)); !errors.Is(err, refusal.PeerSpent) {
		t.Errorf("an hour later: %v", err)
	}
	if _, err := b.open("a", ipOf(1), now.Add(80*time.Hour)); err != nil {
		t.Errorf("when the debt is paid off: %v", err)
	}

	// Many peers behind one address have its budget together.
	var spent error
	for n := range 20 {
		p := peer.ID(fmt.Sprint(n))
		bill, err := b.open(p, ipOf(2), now)
		if err != nil {
			spent = err
			break
		}
		_ = bill.charge(23 << 10) // says at its end what the next one is told
		bill.done()
	}
	if !errors.Is(spent, refusal.IPSpent) {
		t.Errorf("twenty peers behind one address: %v", spent)
	}
}

// Peers that come by once do not stay in memory.
func TestLedgerForgets(t *testing.T) {
	now := time.Now()
	b := OpenBudget(t.TempDir(), config.Limits{PeerDay: 1 << 30, IPDay: 1 << 30, CircuitsPerIP: 9}, now, relaytest.Log(t))
	for n := range 10000 {
		p := peer.ID(fmt.Sprint(n))
		relaytest.Must(t, b.admit(p, ipOf(n), now))
	}
	bill, err := b.open("open", ipOf(1), now)
	relaytest.Must(t, err)
	relaytest.Must(t, bill.charge(1<<20))
	relaytest.Must(t, b.Tend(now.Add(time.Hour)))
	if len(b.peers) != 1 || len(b.ips) != 1 {
		t.Errorf("%d peers, %d addresses, want those of the open circuit", len(b.peers), len(b.ips))
	}
	bill.done()
	relaytest.Must(t, b.Tend(now.Add(48*time.Hour)))
	if len(b.peers)+len(b.ips) != 0 {
		t.Errorf("%d peers, %d addresses", len(b.peers), len(b.ips))
	}
}

// New budgets hold at once, for those already known too.
func TestLedgerChange(t *testing.T) {
	now := time.Now()
	b := OpenBudget(t.TempDir(), config.Limits{PeerDay: 1000, CircuitsPerIP: 9}, now, relaytest.Log(t))
	bill, err := b.open("a", ipOf(1), now)
	relaytest.Must(t, err)
	if err := bill.charge(1000); !errors.Is(err, refusal.PeerSpent) {
		t.Fatal(err)
	}
	b.Change(config.Limits{PeerDay: 2000, IPDay: 1500, Month: 10000})
	if err := bill.charge(500); err != nil {
		t.Errorf("with a new budget: %v", err)
	}
	if err := bill.charge(1000); !errors.Is(err, refusal.IPSpent) {
		t.Errorf("the address: %v", err)
	}
	b.Change(config.Limits{Month: 100})
	if err := bill.charge(1); !errors.Is(err, refusal.MonthSpent) {
		t.Errorf("the month: %v", err)
	}
}

// While the count is written to a disk that does not answer, requests are charged.
func TestSlowDiskHoldsUpNobody(t *testing.T) {
	b := OpenBudget(t.TempDir(), config.Limits{CircuitsPerIP: 4}, time.Now(), relaytest.Log(t))
	writing, written := make(chan struct{}), make(chan struct{})
	b.replace = func(string, []byte, fs.FileMode) error {
		close(writing)
		<-written
		return nil
	}
	b.used.Store(1)
	tended := make(chan error, 1)
	go func() { tended <- b.Tend(time.Now()) }()
	<-writing
	done := make(chan error, 1)
	go func() { done <- b.admit(peerOf(t), ipOf(1), time.Now()) }()
	select {
	case err := <-done:
		relaytest.Must(t, err)
	case <-time.After(relaytest.Patience):
		t.Error("a request waits for the disk")
	}
	close(written)
	relaytest.Must(t, <-tended)
}
