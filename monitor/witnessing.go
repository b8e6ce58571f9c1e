package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/web"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// Witnesses keep a log honest, its own monitor included: they remember what it
// signed when its disk does not. So each is asked for that before anything is
// signed, and for a cosignature after every checkpoint (rule R9).

const (
	// askAgain is the first pause after a witness did not answer; it doubles up to
	// askAtLast, which leaves several tries within the 44 minutes that an hour has
	// between its sealing and its deadline.
	askAgain  = 30 * time.Second
	askAtLast = 8 * time.Minute
	// patience is how long a start waits for all witnesses. Then those must do
	// whose cosignatures the rules require: a monitor that is gone for good must
	// not keep the others from going on. A log that came out of a backup waits
	// for all without end: any of them may be the only one that knows of a newer
	// copy. After this time the operator is asked to look.
	patience = 20 * time.Minute
)

// witnessing is a monitor's dealings with its witnesses.
type witnessing struct {
	name  string // the monitor's own: nobody is his own witness
	store *store.Log
	basis func() *basis
	http  *http.Client
	log   *slog.Logger
	quota *quota

	mu    sync.Mutex
	peers []*cosigner // those in force, in the roster's order
	since time.Time   // of the first pass while the log was held
	held  error       // why nothing is signed; nil: it is
	final bool        // held is a verdict: no witness is compared with any more
	stuck bool        // held may not pass by itself: the operator has to look
	older bool        // the log was held before: it came out of a backup
}

// cosigner is a witness of the roster.
type cosigner struct {
	name, url, key string
	world          bool // it is no monitor, and takes a limited number of requests
	client         *witness.Client

	heard bool   // it has told what it remembers, since the start
	last  []byte // that; nil: nothing
	knew  bool   // it has shown that it remembers this log, since the start
	size  int64  // what it cosigned last, as far as is known
	at    time.Time
	err   error // of the last try
	pause time.Duration
	due   time.Time // of the next try after err
}

// newWitnessing makes the log sign nothing until its witnesses were asked.
func newWitnessing(m *Monitor, client *http.Client) *witnessing {
	w := &witnessing{name: m.cfg.Name, store: m.store, basis: m.basis, http: client, log: m.log, older: m.store.Held(),
		quota: readQuota(filepath.Join(m.cfg.DataDir, "witnesses.json"), m.log)}
	if len(w.inForce(m.basis().roster, evidence.HourOf(m.now()))) > 0 {
		w.store.Hold()
	}
	return w
}

// inForce are the witnesses of the roster in hour h that have an address, but for
// this monitor itself.
func (w *witnessing) inForce(roster *bounty.Roster, h evidence.Hour) []*cosigner {
	var out []*cosigner
	for _, m := range roster.Monitors {
		if m.Name != w.name && m.WitnessKey != "" && m.WitnessURL != "" && m.Holds(h) {
			out = append(out, &cosigner{name: m.Name, url: m.WitnessURL, key: m.WitnessKey})
		}
	}
	for _, e := range roster.Witnesses {
		if e.URL != "" && e.Holds(h) {
			out = append(out, &cosigner{name: e.Name, url: e.URL, key: e.Key, world: true})
		}
	}
	return out
}

// update makes peers those in force in hour h; what is known of them stays.
func (w *witnessing) update(h evidence.Hour) []*cosigner {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.inForce(w.basis().roster, h)
	for i, p := range now {
		same := func(o *cosigner) bool { return o.url == p.url && o.key == p.key && o.name == p.name }
		if old := slices.IndexFunc(w.peers, same); old >= 0 {
			now[i] = w.peers[old]
			continue
		}
		p.client, p.err = witness.NewClient(p.url, p.key, w.store.Key(), w.http)
		if p.err != nil {
			w.log.Error("a witness of the roster cannot be asked", "witness", p.name, "err", p.err)
		}
	}
	w.peers = now
	return slices.Clone(now)
}

// pass asks every witness for what it owes, if it is due. It returns when all
// have answered or were given up.
func (w *witnessing) pass(ctx context.Context, now time.Time) {
	peers := w.update(evidence.HourOf(now))
	var wg sync.WaitGroup
	places := make(chan struct{}, 8)
	for _, p := range peers {
		if p.client == nil || now.Before(p.due) {
			continue
		}
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			w.visit(ctx, p, now)
		})
	}
	wg.Wait()
	if ctx.Err() == nil && w.store.Held() {
		w.release(peers, now)
	}
}

// visit brings one witness up to date. Only one visit of a witness is under way
// at a time, so that its fields are locked for the readers' sake alone.
func (w *witnessing) visit(ctx context.Context, p *cosigner, now time.Time) {
	err := w.ask(ctx, p, now)
	if err == nil && !w.store.Held() {
		err = w.submit(ctx, p, now)
	}
	if ctx.Err() != nil {
		return // the monitor stops: that is not the witness's fault
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil && p.err == nil:
		w.log.Warn("a witness did not answer as it should", "witness", p.name, "err", err)
	case err == nil && p.err != nil:
		w.log.Info("a witness answers again", "witness", p.name)
	}
	p.err = err
	if err == nil {
		p.pause = 0
		return
	}
	first, last := askAgain, askAtLast
	if p.world && !unreached(err) {
		first, last = worldPause, worldRest
	}
	p.pause = min(max(2*p.pause, first), last)
	p.due = now.Add(p.pause)
	var spent *spentError
	if errors.As(err, &spent) {
		p.due = spent.until
	}
}

// ask finds out, once after a start, what the witness remembers of this log.
func (w *witnessing) ask(ctx context.Context, p *cosigner, now time.Time) error {
	if p.heard {
		return nil
	}
	last, err := p.client.Latest(ctx)
	if err != nil {
		return err
	}
	if last == nil && w.store.Size() > 0 {
		// It remembers nothing, or is of those that do not tell. What was signed
		// here before can be shown to it: it takes only what goes on where it is.
		if err := w.submit(ctx, p, now); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.heard, p.last = true, last
	p.knew = p.knew || last != nil
	return nil
}

// submit has the last checkpoint cosigned, if the witness has not done so.
func (w *witnessing) submit(ctx context.Context, p *cosigner, now time.Time) error {
	if p.size >= w.store.Size() {
		return nil
	}
	old := p.size
	if p.world && old == 0 { // since the start; each request counts
		old = min(w.quota.size(p.key), w.store.Size())
	}
	err := w.add(ctx, p, old, now)
	var conflict *witness.ConflictError
	if errors.As(err, &conflict) && conflict.Size <= w.store.Size() {
		err = w.add(ctx, p, conflict.Size, now) // it knows best what it has cosigned
	}
	if errors.As(err, &conflict) || errors.Is(err, witness.ErrInconsistent) {
		return w.doubt(ctx, p, err)
	}
	return err
}

// add asks for a cosignature, given that the witness has cosigned the size old.
func (w *witnessing) add(ctx context.Context, p *cosigner, old int64, now time.Time) error {
	r := witness.AddCheckpoint{OldSize: old}
	var err error
	if r.Checkpoint, r.Proof, err = w.store.Extension(old); err != nil {
		return err
	}
	size, err := r.Size()
	if err != nil {
		return err
	}
	if p.world {
		if err := w.quota.begin(p.key, now); err != nil {
			return err
		}
	}
	line, at, err := p.client.Add(ctx, r)
	if p.world {
		w.quota.end(p.key, size, err)
	}
	if err != nil {
		return err
	}
	if err := w.store.AddCosignatures(size, line, p.key); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.size, p.at = size, at
	p.knew = p.knew || old > 0 // it takes no other size than the one that it remembers
	return nil
}

// doubt looks into a witness's word that this log is not as it remembers it. A
// checkpoint that it can show is signed by the log's own key and settles the
// matter. Without one, a log that may still be an older copy had better wait;
// one that was compared before goes on.
func (w *witnessing) doubt(ctx context.Context, p *cosigner, reason error) error {
	last, err := p.client.Latest(ctx)
	if err != nil {
		return errors.Join(reason, err)
	}
	var conflict *witness.ConflictError
	switch {
	case w.store.Held() && last == nil && errors.As(reason, &conflict):
		err = w.store.ConfrontSize(conflict.Size)
	case !w.store.Held() && last != nil:
		err = w.store.Confront(last)
	}
	if err != nil {
		return w.hold(fmt.Errorf("witness %s: %w", p.name, err))
	}
	return reason
}

// hold remembers why nothing will be signed until somebody does something.
func (w *witnessing) hold(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil || w.held.Error() != err.Error() {
		w.log.Error("nothing is signed", "err", err)
	}
	w.held, w.final, w.stuck = err, true, true
	return err
}

// release compares the log with what the witnesses have told, when they are enough.
func (w *witnessing) release(peers []*cosigner, now time.Time) {
	w.mu.Lock()
	if w.since.IsZero() {
		w.since = now
	}
	var told [][]byte
	var missing, faults []string
	known := false
	for _, p := range peers {
		if p.heard {
			told = append(told, p.last)
			known = known || p.knew
		} else {
			missing = append(missing, p.name)
			if p.err != nil {
				faults = append(faults, fmt.Sprintf("%s (%v)", p.name, p.err))
			}
		}
	}
	final, waited := w.final, now.Sub(w.since)
	w.mu.Unlock()
	if final {
		return
	}
	required := w.basis().required(evidence.HourOf(now))
	const word = "if this is the newest copy, say so with \"relaymon log release\""
	switch {
	case w.older && len(peers) == 0:
		w.wait(true, fmt.Errorf("the log came out of a backup, and the roster names no witness to ask whether it is the newest copy: %s", word))
		return
	case w.older && len(missing) > 0:
		w.wait(waited >= patience, fmt.Errorf("the log came out of a backup, and each witness is asked whether it is the newest copy: waiting for %s; if they are gone for good, and %s; at the last try: %s", missing, word, cmp.Or(strings.Join(faults, ", "), "no answer yet")))
		return
	case w.older && !known:
		w.wait(true, fmt.Errorf("the log came out of a backup, and no witness remembers anything of it: %s", word))
		return
	case len(missing) > 0 && waited < patience:
		w.wait(false, fmt.Errorf("waiting until %s have told what they cosigned last", missing))
		return
	case len(missing) > 0 && len(told) < required:
		w.wait(false, fmt.Errorf("%d of %d witnesses have told what they cosigned last, the rules require %d: waiting for %s", len(told), len(peers), required, missing))
		return
	case len(told) == 0:
		told = [][]byte{nil} // the rules require none, or the roster names none any more
	}
	if err := w.store.Confront(told...); err != nil {
		_ = w.hold(err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held, w.stuck = nil, false
	w.log.Info("compared with the witnesses: this log is the newest copy", "asked", len(peers)-len(missing), "not_reached", missing)
}

// wait remembers for what the log is waiting, and whether that may be a person.
func (w *witnessing) wait(stuck bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil || w.held.Error() != err.Error() {
		w.log.Warn("nothing is signed yet", "err", err)
	}
	w.held, w.stuck = err, stuck
}

// state is what the pages show: the witnesses, why nothing is signed, and whether the
// operator has to look into that.
func (w *witnessing) state() (list []web.Witness, held string, stuck bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := w.store.Size()
	list = []web.Witness{}
	for _, p := range w.peers {
		v := web.Witness{Name: p.name, URL: p.url, Size: p.size, Behind: size - p.size}
		if !p.at.IsZero() {
			v.At = evidence.TimeOf(p.at)
		}
		if p.err != nil {
			v.Error = p.err.Error()
		}
		list = append(list, v)
	}
	if w.held != nil {
		held = w.held.Error()
	}
	return list, held, w.stuck
}

// cosigned are the verifier keys of the logs that this monitor witnesses: the
// other monitors of the roster, also in the hour after their term, in which their
// last one is sealed.
func (m *Monitor) cosigned() []string {
	h := evidence.HourOf(m.now())
	var list []bounty.Monitor
	for _, o := range m.basis().roster.Monitors {
		if o.Name != m.cfg.Name && (o.Holds(h) || o.Holds(h-1)) {
			list = append(list, o)
		}
	}
	slices.SortStableFunc(list, func(a, b bounty.Monitor) int { return int(a.From - b.From) })
	keys := make([]string, len(list))
	for i, o := range list {
		keys[i] = o.LogKey
	}
	return keys
}

// meet gets what the monitor's dealings with others need: its own witness, those
// it asks, and sources of public randomness.
func (m *Monitor) meet() error {
	client, err := outward(m.cfg)
	if err != nil {
		return err
	}
	if m.world != nil {
		client.Transport = m.world.HTTP
	}
	dir, key, err := m.store.Witness()
	if err != nil {
		return err
	}
	if m.witness, err = witness.New(dir, key); err != nil {
		return err
	}
	m.witnessing = newWitnessing(m, client)
	if servers := m.cfg.DrandServers(); len(servers) > 0 {
		m.beacons = schedule.NewBeacons(beacon.Quicknet(), servers, client, m.log)
		m.store.Round = m.round
	}
	return nil
}

// askWitnesses asks every witness for what it owes.
func (m *Monitor) askWitnesses(ctx context.Context) {
	if m.witnessing != nil && ctx.Err() == nil {
		m.witnessing.pass(ctx, m.now())
	}
}

// addWitnesses shows the witnesses on the overview.
func (m *Monitor) addWitnesses(o *web.Overview) {
	o.Witnesses = []web.Witness{}
	if m.witnessing == nil {
		return
	}
	var stuck bool
	if o.Witnesses, o.Held, stuck = m.witnessing.state(); stuck && o.Fault == "" {
		o.Fault = o.Held
	}
}
