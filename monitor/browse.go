package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/browser"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

const (
	// browseEvery is how often a real browser looks at each relay (rule R15), and
	// browseAgain how soon after a look that was not good: several fit into the
	// day in which a success makes up for a failure.
	browseEvery = 7 * 24 * time.Hour
	browseAgain = 6 * time.Hour
	// browseTimeout bounds one look, with the browser's start.
	browseTimeout = 90 * time.Second
)

// looker tries one relay through a real browser.
type looker func(ctx context.Context, wss string) evidence.Rung

// browsing knows when a relay is to be looked at through a browser.
type browsing struct {
	look looker
	mu   sync.Mutex
	next map[string]time.Time // by relay; absent: at once
	// failed holds, by relay, the first look that counts as not good and that no good one
	// followed; the zero look: the last one was good; absent: nothing is known.
	failed map[string]failedLook
	busy   bool // a browser runs; it takes more memory than all the rest
}

// failedLook is a look through a browser that rule R15 wants repeated.
type failedLook struct {
	at    evidence.Time
	class evidence.Class
}

// newBrowsing is nil where there is no browser, or none is wanted.
func newBrowsing(cfg Config, log *slog.Logger) (*browsing, error) {
	if cfg.Browser == "none" {
		return nil, nil
	}
	o := browser.Options{Program: cfg.Browser, Resolve: cfg.Lab.Resolve}
	if cfg.Browser == "auto" {
		o.Program = ""
	}
	program, err := browser.Find(o.Program)
	switch {
	case err != nil && cfg.Browser != "auto":
		return nil, fmt.Errorf("browser: %w", err)
	case err != nil:
		log.Info("no look through a real browser: no Chromium is installed")
		return nil, nil
	}
	o.Program = program
	if cfg.Lab.CA != "" {
		if o.RootsPEM, err = os.ReadFile(cfg.Lab.CA); err != nil {
			return nil, fmt.Errorf("read the lab's CA: %w", err)
		}
	}
	return browsingBy(func(ctx context.Context, wss string) evidence.Rung { return browser.Look(ctx, o, wss) }), nil
}

func browsingBy(look looker) *browsing {
	return &browsing{next: map[string]time.Time{}, failed: map[string]failedLook{}, look: look}
}

// restore takes over what the log knows, so that a restart repeats nothing.
func (b *browsing) restore(by *basis, records func(evidence.Hour) ([]evidence.Record, error), now time.Time) error {
	this := evidence.HourOf(now)
	for h := evidence.HourOf(now.Add(-browseEvery)); h <= this; h++ {
		all, err := records(h)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, r := range all {
			for i := range r.Attempts {
				b.note(by, h, &r.Attempts[i])
			}
		}
	}
	return nil
}

// note remembers the look that an attempt in hour h holds, if it holds one. What the
// verdict does not count neither begins a warning nor ends one.
func (b *browsing) note(by *basis, h evidence.Hour, a *evidence.Attempt) {
	if b == nil {
		return
	}
	relay := by.roster.Relay(a.PeerID)
	for _, r := range a.Rungs {
		if r.Name != browser.RungName {
			continue
		}
		wait := browseAgain
		if r.Outcome == evidence.OK {
			wait = browseEvery
		}
		b.mu.Lock()
		b.next[a.PeerID] = a.Started.Add(wait)
		if relay != nil {
			at, counts := by.rulesOf(h.Month()).BrowserCounts(by.roster, relay, h, a, r)
			if counts && r.Outcome == evidence.OK {
				b.failed[a.PeerID] = failedLook{}
			} else if counts && b.failed[a.PeerID] == (failedLook{}) {
				b.failed[a.PeerID] = failedLook{at, r.Class}
			}
		}
		b.mu.Unlock()
	}
}

// unrepeated is the relay's failed look that no good one followed; false: there is none.
func (b *browsing) unrepeated(relay string) (failedLook, bool) {
	if b == nil {
		return failedLook{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	look := b.failed[relay]
	return look, look != failedLook{}
}

// knows says whether a look at the relay is known that counts.
func (b *browsing) knows(relay string) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known := b.failed[relay]
	return known
}

// begin says whether the relay is to be looked at now; then end must follow.
func (b *browsing) begin(relay string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	// One that is due later than ever was planned is of a clock that was set back since.
	if wait := b.next[relay].Sub(now); b.busy || 0 < wait && wait <= browseEvery {
		return false
	}
	b.busy = true
	return true
}

func (b *browsing) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
}

// browse adds a look through a real browser to an attempt, where one is due and
// can add something: a relay without wss is known to be of no use to browsers.
func (m *Monitor) browse(ctx context.Context, j schedule.Job, look *lookout, a *evidence.Attempt) {
	now := time.Now()
	if m.browsing == nil || a.Results[evidence.WSS].Outcome != evidence.OK || evidence.HourOf(now) != j.Hour ||
		!m.browsing.begin(j.Relay, now) {
		return
	}
	defer m.browsing.end()
	looking, cancel := context.WithTimeout(ctx, browseTimeout)
	defer cancel()
	var w *watch
	if look != nil && m.ladder != nil {
		w = look.watch(m.ladder.try)
		w.rung(evidence.Rung{Component: evidence.WSS})
	}
	rung := m.browsing.look(looking, a.WSSAddr)
	rung.OffsetUS, rung.DurationUS = max(0, now.Sub(a.Started.Time)).Microseconds(), time.Since(now).Microseconds()
	a.Rungs = append(a.Rungs, rung)
	if w != nil {
		w.rung(evidence.Rung{Component: evidence.WSS, Outcome: rung.Outcome})
		if rung.Outcome == evidence.Fail {
			a.Controls = append(a.Controls, w.controls(looking, evidence.WSS)...)
		}
	}
	m.log.Info("browser", "relay", j.Relay, "outcome", rung.Outcome, "class", rung.Class, "detail", rung.Detail)
}
