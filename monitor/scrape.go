package monitor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// A Prometheus on this machine reads /metrics, and may ask for a probe of one
// relay by /probe?target=PEER-ID as it does with blackbox_exporter. Neither is
// served to anybody else: a probe makes this monitor dial.

// askedEvery is between two dials to a relay, planned ones included, for whoever
// asks: in between the last attempt is the answer. A scrape every 15 seconds must
// not become the relay's load.
const askedEvery = 5 * time.Minute

// local is what is served besides on an address that only this machine reaches.
func (m *Monitor) local(public http.Handler) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(numbers{m}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), alert.Metrics("relaymon", func() (*alert.Keeper, string) { return m.alerts, m.notTold }))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 25 * time.Second}))
	mux.Handle("GET /probe", &asked{m: m, last: map[string]*evidence.Attempt{}, next: map[string]time.Duration{}})
	mux.Handle("/", public)
	return mux
}

// asked answers /probe. What it sees is in no log and part of no vote.
type asked struct {
	m    *Monitor
	mu   sync.Mutex
	last map[string]*evidence.Attempt // by peer ID: the last attempt made here
	next map[string]time.Duration     // by peer ID: not before, by the steady clock
}

var (
	errNotEnrolled = errors.New("target: want the peer ID of a relay that is enrolled in the roster now; nothing else is probed for others")
	errNotNow      = errors.New("the relay is being probed, or is about to be, and nothing is known of it yet: ask again in a few minutes")
)

func (q *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A relay that does not answer takes longer than a page may.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(schedule.AttemptTimeout + controlsTimeout))
	a, err := q.answer(r.Context(), r.URL.Query().Get("target"))
	switch {
	case errors.Is(err, errNotEnrolled):
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(seen{a})
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// seen is one attempt as metrics.
type seen struct{ *evidence.Attempt }

// Describe implements prometheus.Collector.
func (seen) Describe(out chan<- *prometheus.Desc) {
	for _, d := range probeDescs.all() {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s seen) Collect(out chan<- prometheus.Metric) { probeDescs.collect(out, s.Attempt) }

// answer is an attempt that is recent enough, or a new one if that disturbs
// neither the relay nor the plan, or else the last one.
func (q *asked) answer(ctx context.Context, id string) (*evidence.Attempt, error) {
	m := q.m
	now := m.machine.Now()
	j := schedule.Job{Relay: id, Hour: evidence.HourOf(now.Wall)}
	b := m.basis()
	if relay := b.roster.Relay(id); relay == nil || !relay.EnrolledAt(j.Hour) {
		return nil, errNotEnrolled
	}
	last, free := q.begin(j, now)
	if !free {
		if last == nil {
			return nil, errNotNow
		}
		return last, nil
	}
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.planner.Release(id)
	}()
	a, err := m.peek(ctx, b, j)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last[id] = a
	return a, nil
}

// peek makes an attempt that goes nowhere. It reserves with the identity that
// the hour's attempt has used, and so takes no second place.
func (m *Monitor) peek(ctx context.Context, b *basis, j schedule.Job) (*evidence.Attempt, error) {
	e, err := m.equip(b, j)
	if err != nil {
		return nil, err
	}
	climbing, cancel := context.WithTimeout(ctx, schedule.AttemptTimeout)
	defer cancel()
	a, _ := m.climb(climbing, e.target, e.lookout, e.identity.Key)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("the probe was given up: allow it a longer time: %w", err)
	}
	return &a, nil
}

// begin gives the newest attempt there is, and says whether a new one may be made
// now. If so, the relay is marked busy and a place is taken.
func (q *asked) begin(j schedule.Job, now schedule.Moment) (last *evidence.Attempt, free bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := q.m
	m.mu.Lock()
	defer m.mu.Unlock()
	last = m.latest[j.Relay]
	if mine := q.last[j.Relay]; mine != nil && (last == nil || last.Started.Before(mine.Started.Time)) {
		last = mine
	}
	if now.Steady < q.next[j.Relay] || last != nil && now.Wall.Sub(last.Started.Time).Abs() < askedEvery || !m.planner.Idle(j, now) {
		return last, false
	}
	if !m.planner.Take(j.Relay) {
		return last, false // the places are for planned attempts
	}
	q.next[j.Relay] = now.Steady + askedEvery
	return last, true
}

// loopback says whether only this machine reaches an address.
func loopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().IsLoopback()
}
