package month

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"golang.org/x/sync/errgroup"

	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// watcher is a monitor with its own clock, which stands still between two moments.
type watcher struct {
	observer
	*monitor.Monitor
	clock atomic.Int64 // nanoseconds since 1970
}

func (w *watcher) now() time.Time  { return time.Unix(0, w.clock.Load()).UTC() }
func (w *watcher) set(t time.Time) { w.clock.Store(t.UnixNano()) }
func (w *watcher) world(n *network, post http.RoundTripper) monitor.World {
	return monitor.World{
		Now: w.now,
		Climb: func(t probe.Target, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
			return n.climb(w.observer, w.now(), t, key)
		},
		Salt: func(relay string, h evidence.Hour) []byte {
			salt := seedOf("salt", w.name, relay, h)
			return salt[:]
		},
		HTTP: post,
	}
}

// found makes the evidence log of a monitor, as "relaymon init" does, but with keys that
// are always the same: a log takes keys that a creation before has left behind.
func (o observer) found(data string, first evidence.Hour) error {
	dir := filepath.Join(data, "log")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	logKey, _ := noteSigner(o.origin(), noteKey)
	witnessKey, _ := noteSigner(o.witnessName(), cosignature)
	for file, key := range map[string]string{"log.key": logKey, "witness.key": witnessKey, "plan.key": o.planKey().Text()} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(key+"\n"), 0o600); err != nil {
			return err
		}
	}
	log, err := store.Create(dir, store.Options{Name: o.name, Network: evidence.Lab, First: first})
	if err != nil {
		return err
	}
	if log.Key() != o.logKey() || log.WitnessKey() != o.witnessKey() || log.PlanKey() != o.planKey().Public().String() {
		return fmt.Errorf("the log of %s has made keys of its own", o.name)
	}
	return log.Close()
}

// post brings a monitor's question to the witness of another, by the host's name, without a
// network in between.
type post map[string]http.Handler

func (p post) RoundTrip(r *http.Request) (*http.Response, error) {
	h, ok := p[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("nobody is called %s here", r.URL.Host)
	}
	rec := httptest.NewRecorder()
	http.StripPrefix("/witness", h).ServeHTTP(rec, r)
	return rec.Result(), nil
}

// simulate lets the monitors live through the month. Each goes from one moment at which
// it has something to do to the next; all meet whenever one may ask another something.
func (l *lab) simulate(ctx context.Context) error {
	net, err := newNetwork(l.plot)
	if err != nil {
		return err
	}
	begin := l.plot.first.Start()
	letters := post{}
	var all []*watcher
	defer func() {
		for _, w := range all {
			_ = w.Close()
		}
	}()
	for _, o := range observers {
		if err := o.found(l.data(o), l.plot.first); err != nil {
			return fmt.Errorf("make the log of %s: %w", o.name, err)
		}
		w := &watcher{observer: o}
		w.set(begin)
		cfg, err := l.config(o)
		if err != nil {
			return err
		}
		if w.Monitor, err = monitor.OpenIn(w.world(net, letters), cfg, quiet); err != nil {
			return fmt.Errorf("open the monitor %s: %w", o.name, err)
		}
		all = append(all, w)
		letters[o.witnessHost()] = w.Cosigning()
	}
	for h := l.plot.first; h.Start().Before(l.plot.ends()); h++ {
		l.progress(h)
		// Whoever asks finds the others at the same moment.
		for _, meet := range []time.Duration{10 * time.Second, monitor.SealsAt, monitor.AsksAt, time.Hour} {
			if err := l.together(ctx, all, h.Start().Add(meet)); err != nil {
				return err
			}
		}
	}
	return nil
}

// together brings all monitors to a moment, and lets each do what it does then.
func (l *lab) together(ctx context.Context, all []*watcher, t time.Time) error {
	for _, step := range []func(*watcher) error{
		func(w *watcher) error { return w.until(ctx, t) },
		func(w *watcher) error { return w.Pass(ctx) },
	} {
		var g errgroup.Group
		for _, w := range all {
			g.Go(func() error {
				if err := step(w); err != nil {
					return fmt.Errorf("%s at %s: %w", w.name, w.now().Format(time.RFC3339), err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// until goes to a moment, which is not passed yet.
func (w *watcher) until(ctx context.Context, t time.Time) error {
	for {
		next := w.Next()
		if !next.Before(t) {
			w.set(t)
			return nil
		}
		w.set(next)
		if err := w.Pass(ctx); err != nil {
			return err
		}
	}
}

// quiet is where monitors say what happens to them: there are 3000 hours of it.
var quiet = slog.New(slog.DiscardHandler)
