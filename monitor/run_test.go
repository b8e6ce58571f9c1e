package monitor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// fakeNet answers probes in place of the network, in the bubble's time.
type fakeNet struct {
	mu      sync.Mutex
	outcome func(relay string, at time.Time) evidence.Outcome
	took    time.Duration
	set     time.Duration // how far the wall clock was set ...
	slept   time.Duration // ... and for how long the machine has slept
	boots   int
	takes   func(relay string, at time.Time) time.Duration // nil: took
	climbs  int
	running int
	most    int // probes at the same time
}

func (f *fakeNet) climb(ctx context.Context, t probe.Target, _ *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
	f.mu.Lock()
	f.climbs++
	f.running++
	f.most = max(f.most, f.running)
	start := time.Now().Add(f.slept + f.set)
	f.mu.Unlock()
	took := f.took
	if f.takes != nil {
		took = f.takes(t.PeerID.String(), start)
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running--
	a := attempt(start, f.outcome(t.PeerID.String(), start))
	a.PeerID = t.PeerID.String()
	a.Rungs = []evidence.Rung{}
	if key != nil && a.Results[evidence.Relay].Outcome == evidence.OK {
		a.Facts.Reservation = grant(a.PeerID, key, start, time.Hour)
	}
	return a, nil
}

// signers are the keys of the relays in place of the network, by their peer IDs.
var signers sync.Map

// newSigner is one more of them.
func newSigner(t testing.TB, random io.Reader) string {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(random)
	must(t, err)
	id, err := peer.IDFromPrivateKey(key)
	must(t, err)
	signers.Store(id.String(), key)
	return id.String()
}

// grant is what such a relay grants an identity.
func grant(relay string, key crypto.PrivKey, at time.Time, ttl time.Duration) *evidence.Reservation {
	signer, ok := signers.Load(relay)
	if !ok {
		return nil
	}
	id, err := peer.Decode(relay)
	if err != nil {
		panic(err)
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		panic(err)
	}
	e, err := record.Seal(&relayv2.ReservationVoucher{Relay: id, Peer: self, Expiration: at.Add(ttl)}, signer.(crypto.PrivKey))
	if err != nil {
		panic(err)
	}
	voucher, err := e.Marshal()
	if err != nil {
		panic(err)
	}
	return &evidence.Reservation{Peer: self.String(), Voucher: voucher, Expires: evidence.TimeOf(at.Add(ttl))}
}

// vouch adds to an attempt of hour h what the relay grants for it.
func vouch(t testing.TB, m *Monitor, h evidence.Hour, a *evidence.Attempt) {
	t.Helper()
	id, err := m.identities.Of(a.PeerID, h, schedule.News{}, false)
	must(t, err)
	a.Facts.Reservation = grant(a.PeerID, id.Key, a.Started.Time, time.Hour)
	id.Sign(a)
}

// machine has clocks that go by the bubble's time, with the wall's set. It is as if
// made in the last boot.
func (f *fakeNet) machine() schedule.Machine {
	start := time.Now()
	f.mu.Lock()
	start = start.Add(f.slept)
	f.mu.Unlock()
	return schedule.Machine{
		Now: func() schedule.Moment {
			f.mu.Lock()
			defer f.mu.Unlock()
			now := time.Now().Add(f.slept)
			return schedule.Moment{Wall: now.Add(f.set).Round(0), Steady: now.Sub(start)}
		},
		Kept: func() bool { return true },
		Boot: fmt.Sprint("boot ", f.boots),
	}
}

// newTestMonitor makes a monitor of n relays with a real log on disk.
func newTestMonitor(t testing.TB, f *fakeNet, n, concurrency int) (*Monitor, []string) {
	t.Helper()
	roster := &bounty.Roster{Network: evidence.Lab}
	var ids []string
	for i := range n {
		id := newSigner(t, deterministic(i))
		ids = append(ids, id)
		roster.Relays = append(roster.Relays, bounty.Relay{
			PeerID: id, Operator: "another",
			Address:  bounty.Address{IPv4: "127.0.0.2", TCPPort: 4001, Domain: "relay.test", WSSPort: 443},
			Enrolled: evidence.HourOf(time.Now()),
		})
	}
	dir := t.TempDir()
	// The plan is always the same. One in a thousand random ones has an attempt before
	// the first tick, or in the same second as a retry.
	plan, err := bls.KeyGen(bytes.Repeat([]byte{1}, bls.SecretKeySize))
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "log"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "log", "plan.key"), []byte(plan.Text()+"\n"), 0o600))
	store, err := store.Create(filepath.Join(dir, "log"), store.Options{Name: "m1", Network: evidence.Lab, First: evidence.HourOf(time.Now())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	m := &Monitor{
		cfg:     Config{Name: "m1", Network: evidence.Lab, DataDir: dir, Concurrency: concurrency},
		log:     slog.New(slog.DiscardHandler),
		store:   store,
		climb:   f.climb,
		seen:    map[string]*evidence.Attempt{},
		latest:  map[string]*evidence.Attempt{},
		machine: f.machine(),
	}
	goBy(m, bounty.Defaults(), roster)
	if err := m.follow(); err != nil {
		t.Fatal(err)
	}
	m.planner = m.newPlanner()
	m.identities = schedule.NewIdentities(store.Key())
	return m, ids
}

// goBy puts rules and a roster in force that are in no file.
func goBy(m *Monitor, rules *bounty.Rules, roster *bounty.Roster) {
	m.inForce.Store(&basis{rules: rules, roster: roster, history: history.New(m.store, rules, roster, nil)})
}

// deterministic is a source of bytes for test keys.
type deterministic int

func (d deterministic) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(int(d) + i)
	}
	b[0] ^= byte(d >> 8)
	return len(b), nil
}

// The last two days of a month, by cron's own ticks, in no time: one attempt an
// hour and relay, each in its hour, none twice, all sealed; and whoever holds the
// month's export can tell that each was made when it was due.
func TestRunTwoDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: 5 * time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		time.Sleep(29 * 24 * time.Hour) // the bubble begins with a month of 31 days
		m, ids := newTestMonitor(t, f, 3, 8)
		first := evidence.HourOf(time.Now())
		ctx, cancel := context.WithTimeout(t.Context(), 48*time.Hour+evidence.CloseAfter+5*time.Minute)
		defer cancel()
		if err := m.Run(ctx); err != nil {
			t.Fatal(err)
		}
		for h := first; h < first+48; h++ {
			records, err := m.store.Records(h)
			if err != nil {
				t.Fatal(err)
			}
			if len(records) != len(ids) {
				t.Fatalf("%s: %d records, want %d", h, len(records), len(ids))
			}
			for _, r := range records {
				if len(r.Attempts) != 1 || evidence.HourOf(r.Attempts[0].Started.Time) != h {
					t.Errorf("%s: attempts %v", h, r.Attempts)
				}
			}
		}
		if got := m.store.Size(); got != 48 {
			t.Errorf("%d sealed hours, want 48", got)
		}
		for _, id := range ids {
			export, err := m.store.Month(first.Month(), id, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			v, err := evidence.VerifyMonth(export, evidence.Keys{Log: m.store.Key(), Plan: m.store.PlanKey()})
			if err != nil || len(v.Hours) != 48 || !v.Month.Contains(first+47) || v.Month.Contains(first+48) {
				t.Fatalf("%d hours of %s: %v", len(v.Hours), v.Month, err)
			}
			for _, h := range v.Hours {
				if !h.Due.Equal(h.Record.Attempts[0].Started.Time) {
					t.Errorf("%s: the attempt of %s was due at %s", h.Header.Hour, h.Record.Attempts[0].Started, h.Due)
				}
			}
		}
	})
}

// A relay that is dead is asked three times an hour and no more; a live one
// beside it once.
func TestRunRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead string
		f := &fakeNet{took: time.Second, outcome: func(relay string, _ time.Time) evidence.Outcome {
			if relay == dead {
				return evidence.Fail
			}
			return evidence.OK
		}}
		m, ids := newTestMonitor(t, f, 2, 8)
		dead = ids[0]
		first := evidence.HourOf(time.Now())
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		if err := m.Run(ctx); err != nil {
			t.Fatal(err)
		}
		for h := first; h < first+2; h++ {
			records, err := m.store.Records(h)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				want := 1
				if r.PeerID == dead {
					want = 3
				}
				if len(r.Attempts) != want {
					t.Errorf("%s %s: %d attempts, want %d", h, r.PeerID, len(r.Attempts), want)
				}
			}
		}
	})
}

// Slow probes of many relays never run more than the bound at the same time, and
// what found no place in its hour is missing, not moved.
func TestRunIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: 100 * time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, _ := newTestMonitor(t, f, 60, 1)
		first := evidence.HourOf(time.Now())
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Hour)
		defer cancel()
		if err := m.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if f.most != 1 {
			t.Errorf("%d probes at the same time, want 1", f.most)
		}
		for h := first; h < first+4; h++ {
			records, err := m.store.Records(h)
			if err != nil {
				t.Fatal(err)
			}
			// 3600 s / 100 s
			if len(records) > 36 {
				t.Errorf("%s: %d records by one prober of 100 s each", h, len(records))
			}
			for _, r := range records {
				if len(r.Attempts) != 1 || evidence.HourOf(r.Attempts[0].Started.Time) != h {
					t.Errorf("%s: attempts %+v", h, r.Attempts)
				}
			}
		}
	})
}

// A monitor that was stopped goes on where it was: nothing is probed twice in an
// hour, and the hours between are gaps.
func TestRunAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, ids := newTestMonitor(t, f, 1, 8)
		first := evidence.HourOf(time.Now())
		run := func(d time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			if err := m.Run(ctx); err != nil {
				t.Fatal(err)
			}
		}
		run(2*time.Hour + 30*time.Minute)
		if err := m.store.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		// As a new process does: it knows only what the log holds.
		store, err := store.Open(filepath.Join(m.cfg.DataDir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		m.store, m.begun, m.lastly = store, time.Time{}, time.Time{}
		m.planner = m.newPlanner()
		if err := m.recall(m.machine.Now()); err != nil {
			t.Fatal(err)
		}
		run(90 * time.Minute)
		var states []evidence.State
		for h := first; h < first+6; h++ {
			header, err := store.Header(h)
			if err != nil {
				t.Fatalf("%s: %v", h, err)
			}
			records, err := store.Records(h)
			if err != nil {
				t.Fatal(err)
			}
			states = append(states, header.State)
			if len(records) > 1 || len(records) == 1 && (records[0].PeerID != ids[0] || len(records[0].Attempts) != 1) {
				t.Errorf("%s: %+v", h, records)
			}
			if want := h < first+2; want && len(records) != 1 || header.State == evidence.StateGap && len(records) != 0 {
				t.Errorf("%s: %d records in an hour that is %s", h, len(records), header.State)
			}
		}
		want := []evidence.State{"ok", "ok", "ok", "gap", "gap", "ok"}
		if !slices.Equal(states, want) {
			t.Errorf("hours are %q, want %q", states, want)
		}
	})
}

// While the log cannot be written nothing is probed, and it is said.
func TestRunWithoutALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.OK }}
		m, _ := newTestMonitor(t, f, 1, 8)
		if err := m.store.Close(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		if err := m.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if f.climbs != 0 {
			t.Errorf("%d probes whose results could not be kept", f.climbs)
		}
		if m.fault == nil {
			t.Error("no fault is shown")
		}
	})
}
