// Package alert tells people when something is wrong, and when it is well again:
// by a webhook, or through Prometheus's Alertmanager.
//
// There is no queue. A [Keeper] is told, as often as one likes, which alerts hold
// now; it remembers for each receiver what that has been told, and the difference
// is what is still to be sent. So nothing is sent twice, what has passed before it
// could be sent is not sent at all, and a receiver that is gone for a week costs
// no more than the alerts there are.
package alert

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// Alert is something that somebody should know of.
type Alert struct {
	// Name and Labels tell alerts apart.
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	// Summary says it in a sentence. Of an alert that goes on the first one stays.
	Summary string `json:"summary"`
	// Since is set by the keeper.
	Since time.Time `json:"since"`
	// Ended is when it was over; zero: it goes on.
	Ended time.Time `json:"ended,omitzero"`
}

func (a Alert) id() string {
	var b strings.Builder
	b.WriteString(a.Name)
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		fmt.Fprintf(&b, "\x00%s\x00%s", k, a.Labels[k])
	}
	return b.String()
}

// Receiver is told of alerts.
type Receiver interface {
	// Name stands for it in logs and in the state; it holds no secret.
	Name() string
	// Send tells of alerts; on an error it is asked again, with what holds then.
	Send(ctx context.Context, alerts []Alert) error
	// Repeats says that it must be told again and again of alerts that go on.
	Repeats() bool
}

// Bounds and pauses.
const (
	maxAlerts   = 1000 // known at the same time, those included whose end is still to be told
	maxMessage  = 100  // alerts in one message
	sendTimeout = 15 * time.Second
	firstPause  = 5 * time.Second
	lastPause   = 10 * time.Minute
	repeatEvery = time.Minute
)

// Keeper knows which alerts hold and who has been told. Make one with [New].
type Keeper struct {
	file string
	log  *slog.Logger
	to   []*courier

	mu      sync.Mutex
	alerts  map[string]*Alert
	dropped bool // there were more than fit
	unkept  bool // it was said that the state cannot be kept
}

// courier brings the alerts to one receiver.
type courier struct {
	Receiver
	told   map[string]bool // by id: it knows that the alert holds
	wake   chan struct{}
	failed string
}

// state is what is kept on disk, so that a restart repeats and forgets nothing.
type state struct {
	Alerts []Alert             `json:"alerts"`
	Told   map[string][]string `json:"told"` // by receiver: ids
}

// New reads what was told before from a file, which need not be there.
func New(file string, log *slog.Logger, to ...Receiver) (*Keeper, error) {
	k := &Keeper{file: file, log: log, alerts: map[string]*Alert{}}
	var s state
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what alerts were sent: %w: remove %s, and those that hold are sent again", err, file)
	}
	for _, a := range s.Alerts {
		if len(k.alerts) < maxAlerts {
			k.alerts[a.id()] = &a
		}
	}
	for _, r := range to {
		c := &courier{Receiver: r, told: map[string]bool{}, wake: make(chan struct{}, 1)}
		for _, id := range s.Told[r.Name()] {
			if k.alerts[id] != nil {
				c.told[id] = true
			}
		}
		k.to = append(k.to, c)
	}
	return k, nil
}

// Set says which alerts hold now. It returns at once, whatever the receivers do.
func (k *Keeper) Set(now time.Time, holding []Alert) {
	k.mu.Lock()
	defer k.mu.Unlock()
	changed := false
	still := map[string]bool{}
	for _, a := range holding {
		id := a.id()
		still[id] = true
		switch known := k.alerts[id]; {
		case known == nil && len(k.alerts) >= maxAlerts:
			if !k.dropped {
				k.dropped = true
				k.log.Error("too many alerts at the same time: not all are sent", "most", maxAlerts)
			}
		case known == nil:
			a.Since, a.Ended = now.UTC().Truncate(time.Millisecond), time.Time{}
			k.alerts[id] = &a
			changed = true
			k.log.Warn("alert", "name", a.Name, "summary", a.Summary)
		case !known.Ended.IsZero(): // again, before its end was told to everybody
			known.Ended, known.Summary = time.Time{}, a.Summary
			changed = true
		}
	}
	for id, a := range k.alerts {
		if a.Ended.IsZero() && !still[id] {
			a.Ended = now.UTC().Truncate(time.Millisecond)
			changed = true
			k.log.Info("alert is over", "name", a.Name, "summary", a.Summary)
		}
	}
	if !changed {
		return
	}
	k.forget()
	k.dropped = k.dropped && len(k.alerts) >= maxAlerts
	k.save()
	for _, c := range k.to {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// forget drops what is over and is owed to nobody. The caller holds the lock.
func (k *Keeper) forget() {
	maps.DeleteFunc(k.alerts, func(id string, a *Alert) bool {
		return !a.Ended.IsZero() && !slices.ContainsFunc(k.to, func(c *courier) bool { return c.told[id] })
	})
}

// save keeps the state. Failing that, alerts are sent a second time after a
// restart, which is the lesser evil. The caller holds the lock.
func (k *Keeper) save() {
	s := state{Alerts: k.list(func(*Alert) bool { return true }), Told: map[string][]string{}}
	for _, c := range k.to {
		s.Told[c.Name()] = slices.Sorted(maps.Keys(c.told))
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = durable.Replace(k.file, b, 0o600)
	}
	if err != nil && !k.unkept {
		k.log.Error("what alerts were sent cannot be kept: they go out all the same, and after a restart a second time; make room, or mend the disk", "err", err)
	}
	k.unkept = err != nil
}

// list are copies of alerts, the oldest first. The caller holds the lock.
func (k *Keeper) list(want func(*Alert) bool) []Alert {
	out := []Alert{}
	for _, a := range k.alerts {
		if want(a) {
			out = append(out, *a)
		}
	}
	slices.SortFunc(out, func(a, b Alert) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.id(), b.id())) })
	return out
}

// Holding are the alerts that hold, the oldest first.
func (k *Keeper) Holding() []Alert {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list(func(a *Alert) bool { return a.Ended.IsZero() })
}

// Waiting counts what is still to be told to some receiver.
func (k *Keeper) Waiting() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, c := range k.to {
		n += len(k.news(c))
	}
	return n
}

// news is what the receiver does not know: alerts that began, and ends of those it
// was told of. The caller holds the lock.
func (k *Keeper) news(c *courier) []Alert {
	return k.list(func(a *Alert) bool { return a.Ended.IsZero() != c.told[a.id()] })
}

// Run sends until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, c := range k.to {
		all.Go(func() { k.serve(ctx, c) })
	}
	all.Wait()
}

func (k *Keeper) serve(ctx context.Context, c *courier) {
	pause := time.Duration(0)
	for {
		more, err := k.send(ctx, c)
		wait := time.Duration(-1) // until something changes
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = min(max(2*pause, firstPause), lastPause)
			wait = pause/2 + rand.N(pause) // not all at the same moment
			if c.failed != err.Error() {
				c.failed = err.Error()
				k.log.Error("alerts cannot be sent, and will be tried again", "to", c.Name(), "err", err)
			}
		default:
			pause, c.failed = 0, ""
			if more {
				continue
			}
			if c.Repeats() {
				wait = repeatEvery
			}
		}
		if !rest(ctx, wait, err == nil, c.wake) {
			return
		}
	}
}

// rest waits for so long (below 0: for ever), or, if it may be woken, until there is
// news; it says whether to go on.
func rest(ctx context.Context, d time.Duration, wakeable bool, wake <-chan struct{}) bool {
	var timer <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	if !wakeable {
		wake = nil // a receiver that is in trouble is not asked sooner for more
	}
	select {
	case <-ctx.Done():
		return false
	case <-timer:
	case <-wake:
	}
	return true
}

// send tells the receiver what it does not know; more says that there is more.
func (k *Keeper) send(ctx context.Context, c *courier) (more bool, err error) {
	k.mu.Lock()
	message := k.news(c)
	if c.Repeats() {
		message = k.list(func(a *Alert) bool { return a.Ended.IsZero() || c.told[a.id()] })
	}
	k.mu.Unlock()
	if len(message) == 0 {
		return false, nil
	}
	if !c.Repeats() && len(message) > maxMessage {
		message, more = message[:maxMessage], true
	}
	sending, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := c.Send(sending, message); err != nil {
		return false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	changed := false
	for _, a := range message {
		id := a.id()
		switch known := c.told[id]; {
		case a.Ended.IsZero() && !known:
			c.told[id] = true
		case !a.Ended.IsZero() && known:
			delete(c.told, id)
		default:
			continue
		}
		changed = true
	}
	if changed {
		k.forget()
		k.save()
	}
	return more, nil
}
