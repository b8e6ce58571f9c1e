package monitor

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/tiles/tileserver"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// World is what a monitor cannot tell from the real one: another time, and another
// network. What the monitor does in it is the same.
type World struct {
	// Now is the wall clock. It never steps.
	Now func() time.Time
	// Climb makes an attempt in place of the probe, in no time; without a key it makes no
	// reservation. It returns the leaf certificates to which the attempt refers, too.
	Climb func(t probe.Target, key crypto.PrivKey) (evidence.Attempt, [][]byte)
	// Salt is what makes the identity for a relay and an hour: 32 bytes. nil: random ones.
	Salt func(relay string, hour evidence.Hour) []byte
	// HTTP carries what the monitor asks of witnesses.
	HTTP http.RoundTripper
}

// OpenIn is [Open] in another world. It is refused on the real network, where evidence
// is of the real one.
func OpenIn(w World, cfg Config, log *slog.Logger) (*Monitor, error) {
	if cfg.Network != evidence.Lab {
		return nil, errors.New("only a monitor of a lab can be simulated")
	}
	start := w.Now()
	m := &Monitor{
		cfg: cfg, log: log, seen: map[string]*evidence.Attempt{}, latest: map[string]*evidence.Attempt{}, world: &w,
		climb: func(_ context.Context, t probe.Target, _ *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
			return w.Climb(t, key)
		},
		machine: schedule.Machine{
			Now: func() schedule.Moment {
				now := w.Now()
				return schedule.Moment{Wall: now.Round(0), Steady: now.Sub(start)}
			},
			Kept: func() bool { return true },
			Boot: start.UTC().Format(time.RFC3339),
		},
	}
	return m.open()
}

// now is the wall clock.
func (m *Monitor) now() time.Time { return m.machine.Now().Wall }

// The moments in an hour at which Run seals, and at which it asks witnesses when there
// is something to ask: those of its cron jobs.
const (
	SealsAt = evidence.CloseAfter + 20*time.Second
	AsksAt  = evidence.CloseAfter + 30*time.Second
	// asksFirst is soon after a start: nothing is signed before the witnesses were asked.
	asksFirst = 10 * time.Second
	looksAt   = 40 * time.Second // at the clock, every ten minutes
)

// Pass does what Run does at this moment of the monitor's world, and returns when it is
// done. It is called at each moment that [Monitor.Next] names, and not beside Run.
func (m *Monitor) Pass(ctx context.Context) error {
	now := m.machine.Now()
	m.tick(ctx, now)
	m.running.Wait()
	into := now.Wall.Sub(evidence.HourOf(now.Wall).Start())
	if into%(10*time.Minute) == looksAt {
		m.noteClock()
	}
	switch into {
	case SealsAt:
		m.seal(now.Wall)
	case AsksAt, asksFirst:
		m.askWitnesses(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}

// Next is when there is something to do after now.
func (m *Monitor) Next() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.machine.Now()
	h := evidence.HourOf(now.Wall)
	next := m.planner.Soonest(now, m.basis().targets(h))
	for _, into := range []time.Duration{asksFirst, SealsAt, AsksAt, time.Hour} {
		next = schedule.Sooner(now.Wall, next, h.Start().Add(into))
	}
	for into := looksAt; into < time.Hour; into += 10 * time.Minute {
		next = schedule.Sooner(now.Wall, next, h.Start().Add(into))
	}
	return next
}

// Pages are the status pages, as of the time in the monitor's world, and the log to which
// they link.
func (m *Monitor) Pages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", m.pages())
	mux.Handle("/log/", http.StripPrefix("/log", tileserver.Handler(m.store, m.log)))
	return mux
}

// Cosigning answers who asks this monitor's witness, by the clock of its world.
func (m *Monitor) Cosigning() http.Handler {
	return witness.HandlerAt(m.witness, m.cosigned, m.log, m.now)
}
