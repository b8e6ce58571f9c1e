package monitor

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// line is a monitor's own line in tests: it works or not, and each round of controls
// takes as long as it takes.
type line struct {
	mu     sync.Mutex
	takes  time.Duration
	works  func(time.Duration) bool // since the test's start
	rounds []string                 // component and when it began
	start  time.Time
}

func (l *line) try(_ []probe.ControlHost, components []evidence.Component) []evidence.Control {
	l.mu.Lock()
	began := time.Since(l.start)
	l.rounds = append(l.rounds, fmt.Sprint(components[len(components)-1], " ", began))
	l.mu.Unlock()
	var list []evidence.Control
	for _, c := range components {
		x := evidence.Control{Name: "c1", Component: c, Outcome: evidence.OK, Started: evidence.TimeOf(time.Now()), Sent: 10, Resent: 1, DurationUS: l.takes.Microseconds()}
		if l.works != nil && !l.works(began) {
			x.Outcome = evidence.Fail
		}
		list = append(list, x)
	}
	time.Sleep(l.takes)
	return list
}

func aLookout() *lookout { return newLookout(make([]probe.ControlHost, 3)) }

// climbs makes an attempt of which these rungs took so long and failed if they are so
// marked with "!".
func climbs(w *watch, rungs ...any) evidence.Attempt {
	a := evidence.Attempt{Started: evidence.TimeOf(time.Now()), Results: map[evidence.Component]evidence.Result{}}
	for i := 0; i < len(rungs); i += 2 {
		name, failed := strings.CutSuffix(rungs[i].(string), "!")
		r := evidence.Rung{Name: name, Component: evidence.Component(name)}
		w.rung(r)
		time.Sleep(rungs[i+1].(time.Duration))
		r.Outcome = evidence.OK
		if failed {
			r.Outcome = evidence.Fail
		}
		w.rung(r)
		a.Results[r.Component] = evidence.Result{Outcome: r.Outcome}
	}
	return a
}

func words(list []evidence.Control, start time.Time) string {
	var out []string
	for _, c := range list {
		out = append(out, fmt.Sprintf("%s@%v:%s:%d/%d", c.Component, c.Started.Sub(start), c.Outcome, c.Resent, c.Sent))
	}
	return strings.Join(out, " ")
}

// The controls are tried beside what takes long, and after it; and only those of what failed are kept.
func TestControlsBesideAndAfter(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		name         string
		works        func(time.Duration) bool
		rungs        []any
		rounds, want string
	}{
		{"all is well", nil, []any{"tcp4", s, "wss", s, "relay", s}, "", ""},
		{"slow and well", nil, []any{"tcp4", 5 * s, "wss", s, "relay", s}, "tcp4 3s", ""},
		{"fails at once", nil, []any{"tcp4!", s / 2, "wss", s}, "tcp4 1.5s", "tcp4@1.5s:ok:1/10"},
		{"fails after long", nil, []any{"tcp4!", 15 * s, "wss", s}, "tcp4 3s, tcp4 13s, tcp4 18s", "tcp4@3s:ok:1/10 tcp4@18s:ok:1/10"},
		{"the line fails meanwhile", func(at time.Duration) bool { return at < 5*s || at > 14*s },
			[]any{"tcp4!", 15 * s, "wss", s}, "tcp4 3s, tcp4 13s, tcp4 18s", "tcp4@3s:fail:1/10 tcp4@18s:ok:1/10"},
		{"a circuit needs all three", nil, []any{"tcp4", s, "wss", s, "relay!", 5 * s}, "relay 5s, relay 10s",
			"tcp4@5s:ok:1/10 wss@5s:ok:1/10 relay@5s:ok:1/10 tcp4@10s:ok:1/10 wss@10s:ok:1/10 relay@10s:ok:1/10"},
		// What was tried beside a rung that went well says nothing of the line later on.
		{"slow, then fails after long", nil, []any{"tcp4", 5 * s, "tcp4!", 15 * s, "wss", s}, "tcp4 3s, tcp4 8s, tcp4 18s, tcp4 23s",
			"tcp4@8s:ok:1/10 tcp4@23s:ok:1/10"},
		{"two fail", nil, []any{"tcp4!", s, "wss!", s}, "tcp4 2s, wss 2s", "tcp4@2s:ok:1/10 wss@2s:ok:1/10"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				l := &line{takes: s, works: test.works, start: start}
				w := aLookout().watch(l.try)
				got := words(w.controls(t.Context(), probe.Needed(climbs(w, test.rungs...))...), start)
				time.Sleep(time.Minute) // no round comes later
				if got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
				l.mu.Lock()
				defer l.mu.Unlock()
				// Two rounds of one moment may begin in either order.
				if r := strings.Join(l.rounds, ", "); r != test.rounds && r != "wss 2s, tcp4 2s" {
					t.Errorf("got the rounds %s, want %s", r, test.rounds)
				}
			})
		})
	}
}

// However many relays are dead: the controls are tried once in five seconds for each component.
func TestControlsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: 2 * time.Second, start: time.Now()}
		look := aLookout()
		const attempts, span = 600, time.Minute
		var all sync.WaitGroup
		for i := range attempts {
			all.Go(func() {
				time.Sleep(span * time.Duration(i) / attempts)
				w := look.watch(l.try)
				a := climbs(w, "tcp4!", 15*time.Second, "wss!", 30*time.Second)
				ended := time.Now()
				list := w.controls(t.Context(), probe.Needed(a)...)
				after := 0
				for _, c := range list {
					if !c.Started.Before(ended.Truncate(time.Millisecond)) {
						after++
					}
				}
				if len(list) != 4 || after != 2 {
					t.Errorf("attempt %d: got %d controls, %d of them after it, want 4 and 2", i, len(list), after)
				}
			})
		}
		all.Wait()
		most := 2 * (int(time.Since(l.start)/roundEvery) + 1)
		if n := len(l.rounds); n > most {
			t.Errorf("got %d rounds, want %d at most", n, most)
		}
	})
}

// An attempt that is given up waits for no controls.
func TestControlsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: time.Hour, start: time.Now()}
		w := aLookout().watch(l.try)
		a := climbs(w, "tcp4!", 5*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if list := w.controls(ctx, probe.Needed(a)...); len(list) != 0 {
			t.Errorf("got %+v, want none", list)
		}
		time.Sleep(2 * l.takes) // the rounds end by themselves
	})
}

// The packets are those of the one round in which the line lost most, and not of each
// host's worst moment: together these never were.
func TestWorstRound(t *testing.T) {
	made := func(packets ...int64) *round {
		r := &round{done: make(chan struct{})}
		close(r.done)
		for i := 0; i < len(packets); i += 2 {
			r.results = append(r.results, evidence.Control{Name: fmt.Sprint("c", i/2), Component: evidence.TCP4, Outcome: evidence.OK, Sent: packets[i], Resent: packets[i+1]})
		}
		return r
	}
	got := words(results(t.Context(), []*round{made(20, 1, 20, 0, 20, 0), made(20, 0, 21, 2, 20, 0), made(20, 0, 20, 0, 20, 1)}), time.Time{})
	if n := strings.Count(got, ":0/20"); n != 2 || strings.Count(got, ":2/21") != 1 {
		t.Errorf("got %s, want those of the second round", got)
	}
}
