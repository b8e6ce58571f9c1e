package monitor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// When the roster's controls are tried (rule R5).
const (
	// watchedAfter is how long a rung may take before the controls are tried beside it,
	// and then again and again as long as it lasts: a line that fails for seconds is
	// seen only while it does.
	watchedAfter = 3 * time.Second
	watchedEvery = 10 * time.Second
	// roundEvery is between two rounds of controls. The attempts that call for one at
	// about the same time share it, so that the controls are not tried the more often
	// the more relays are dead.
	roundEvery = 5 * time.Second
)

// lookout tries the controls of one roster, in rounds.
type lookout struct {
	hosts []probe.ControlHost
	terms []bounty.Term // of each host; nil: all are controls for ever

	mu     sync.Mutex
	coming map[evidence.Component]*round // called for, and not begun yet
	begun  map[evidence.Component]time.Time
}

// newLookout is nil without hosts.
func newLookout(hosts []probe.ControlHost) *lookout {
	if len(hosts) == 0 {
		return nil
	}
	return &lookout{hosts: hosts, coming: map[evidence.Component]*round{}, begun: map[evidence.Component]time.Time{}}
}

// trier tries the hosts for each of the components, once.
type trier func([]probe.ControlHost, []evidence.Component) []evidence.Control

// round is one try of all controls. The results are there when done is closed.
type round struct {
	done    chan struct{}
	results []evidence.Control
}

// tried is what a round for a component tries: a circuit goes over both ways.
func tried(c evidence.Component) []evidence.Component {
	if c == evidence.Relay {
		return evidence.Components
	}
	return []evidence.Component{c}
}

// call returns the next round of the component, which begins after the call.
func (l *lookout) call(c evidence.Component, try trier) *round {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.coming[c]; r != nil {
		return r
	}
	r := &round{done: make(chan struct{})}
	l.coming[c] = r
	wait := time.Duration(0)
	if last, ok := l.begun[c]; ok {
		wait = max(0, roundEvery-time.Since(last))
	}
	go func() {
		defer close(r.done)
		time.Sleep(wait)
		l.mu.Lock()
		delete(l.coming, c)
		l.begun[c] = time.Now()
		l.mu.Unlock()
		r.results = try(l.inForce(evidence.HourOf(time.Now())), tried(c))
	}()
	return r
}

// inForce are the hosts that are controls in hour h.
func (l *lookout) inForce(h evidence.Hour) []probe.ControlHost {
	if l.terms == nil {
		return l.hosts
	}
	var out []probe.ControlHost
	for i, host := range l.hosts {
		if l.terms[i].Holds(h) {
			out = append(out, host)
		}
	}
	return out
}

// watch accompanies one attempt: it calls for controls while a rung takes long.
type watch struct {
	call   func(evidence.Component) *round
	mu     sync.Mutex
	timer  *time.Timer                     // of the rung under way
	beside []*round                        // the rung under way
	rounds map[evidence.Component][]*round // beside the last rung of each that was climbed
}

func (l *lookout) watch(try trier) *watch {
	return &watch{call: func(c evidence.Component) *round { return l.call(c, try) }, rounds: map[evidence.Component][]*round{}}
}

// rung is told when a rung begins and ends, as [probe.Options.OnRung] is.
func (w *watch) rung(r evidence.Rung) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	// Rule R5 looks at the component's last rung alone: a control that was tried beside an
	// earlier one, and again beside this, would stand in the log as of the earlier one.
	if r.Outcome != "" && r.Outcome != evidence.Skipped {
		w.rounds[r.Component] = w.beside
	}
	w.beside = nil
	if r.Outcome == "" && r.Component != "" {
		var t *time.Timer
		t = time.AfterFunc(watchedAfter, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.timer != t {
				return // it has just ended
			}
			w.beside = append(w.beside, w.call(r.Component))
			t.Reset(watchedEvery)
		})
		w.timer = t
	}
}

// controls are those of the components that failed: the ones beside the attempt, and
// one more round that begins now, when it is over.
func (w *watch) controls(ctx context.Context, needed ...evidence.Component) []evidence.Control {
	if n := len(needed); n > 0 && needed[n-1] == evidence.Relay {
		needed = needed[n-1:] // its rounds try all three
	}
	after := make([]*round, len(needed))
	for i, c := range needed {
		after[i] = w.call(c)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []evidence.Control
	for i, c := range needed {
		list = append(list, results(ctx, w.rounds[c])...)
		list = append(list, results(ctx, after[i:i+1])...)
	}
	return list
}

// results are those of the rounds, each control and component once: it was ok if it
// was ok in every round, and the packets are those of the round in which the line lost
// most: rounds in which it is well again do not hide that one.
func results(ctx context.Context, rounds []*round) []evidence.Control {
	var list []evidence.Control
	worst := map[evidence.Component]packets{}
	for _, r := range rounds {
		select {
		case <-r.done:
		case <-ctx.Done():
			return list
		}
		lost := map[evidence.Component]packets{}
		for _, c := range r.results {
			if c.Outcome == evidence.OK { // what is down loses all
				lost[c.Component] = packets{lost[c.Component].sent + c.Sent, lost[c.Component].resent + c.Resent}
			}
		}
		for _, c := range r.results {
			i := slices.IndexFunc(list, func(x evidence.Control) bool { return x.Name == c.Name && x.Component == c.Component })
			if i < 0 {
				list = append(list, c)
				continue
			}
			sum := &list[i]
			if sum.Outcome == evidence.OK {
				sum.Outcome = c.Outcome
			}
			sum.DurationUS = max(sum.DurationUS, c.DurationUS)
			if lost[c.Component].worse(worst[c.Component]) {
				sum.Sent, sum.Resent = c.Sent, c.Resent
			}
		}
		for c, p := range lost {
			if p.worse(worst[c]) {
				worst[c] = p
			}
		}
	}
	return list
}

// packets are those that a round sent, and sent again.
type packets struct{ sent, resent int64 }

// worse says whether more of the packets were sent again.
func (p packets) worse(than packets) bool {
	return p.resent*max(1, than.sent) > than.resent*max(1, p.sent)
}
