package monitor

import (
	"maps"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// The plan of an hour (rule R2).
const (
	// attemptTimeout bounds one climb of the ladder.
	attemptTimeout = probe.MaxAttempt
	// controlsTimeout bounds the controls after an attempt that failed.
	controlsTimeout = 80 * time.Second
)

// retries are counted from the start of the first attempt.
var retries = []time.Duration{6 * time.Minute, 13 * time.Minute}

// progress is how far one relay's hour has come.
type progress struct {
	first    time.Duration // start of the first attempt, by the steady clock
	last     time.Duration // start of the last one
	attempts int
	done     bool // every component was ok: no retry is needed
}

// next says when the next attempt of the hour is due, and when it is too late
// for it, by the wall clock as it stands now. None is due if ok is false.
func (p progress) next(now moment, h evidence.Hour, offset time.Duration) (due, late time.Time, ok bool) {
	switch {
	case p.done || p.attempts > len(retries):
		return due, late, false
	case p.attempts == 0:
		// A first attempt that was missed runs at once if it still falls into its hour.
		return h.Start().Add(offset), h.End(), true
	default:
		// A retry may run past the hour's end, but must have ended before the hour closes.
		// One that was held up, by a machine that slept or a clock that was set back,
		// is not followed by the next at once.
		due := max(p.first+retries[p.attempts-1], p.last+retries[0])
		return now.wall.Add(due - now.steady), h.End().Add(evidence.CloseAfter - attemptTimeout), true
	}
}

// job is an attempt that is due now.
type job struct {
	relay string
	hour  evidence.Hour
}

// planner knows what was begun and says what is due. It holds no clock: a wall clock
// that steps, in either direction, only changes when a first attempt is due, never
// what was done, nor how long ago.
type planner struct {
	// secret gives the schedule's secret of the day in which an hour lies.
	secret func(evidence.Hour) []byte
	hours  map[job]*progress
	busy   map[string]bool // relays with an attempt under way
	places places
	// held is how long into an hour a place at the relay is still taken, see hold.
	held map[job]time.Duration

	offsets map[job]time.Duration // of the hours at hand
}

func newPlanner(secret func(evidence.Hour) []byte) *planner {
	return &planner{secret: secret, hours: map[job]*progress{}, busy: map[string]bool{}, places: newPlaces(), held: map[job]time.Duration{}, offsets: map[job]time.Duration{}}
}

// restore takes over what the log holds of a relay and an hour, of which nothing is
// known yet: no attempt is made a second time, after a restart or a clock that came
// back. Unless the clock ran evenly since the hour began, nobody knows how long ago an
// attempt was, and the retries are counted from now.
func (p *planner) restore(r evidence.Record, now moment, even bool) {
	j := job{r.PeerID, r.Hour}
	if p.hours[j] != nil {
		return
	}
	for _, a := range r.Attempts {
		began := now.steady
		if even {
			began -= max(0, now.wall.Sub(a.Started.Time))
		}
		p.note(j, a, began)
	}
}

// note takes over an attempt that began so by the steady clock.
func (p *planner) note(j job, a evidence.Attempt, began time.Duration) {
	s := p.hours[j]
	if s == nil {
		s = &progress{first: began}
		p.hours[j] = s
	}
	s.last = began
	s.attempts++
	s.done = s.done || complete(a)
	p.places.learn(j.relay, a)
	p.hold(j, a)
}

// hold notes that a place is held into the third hour after, as a retry past its hour's
// end has it from a relay that keeps places for two hours. The first attempt of that
// hour waits for its end: so places of three hours are held at once, and no more.
func (p *planner) hold(j job, a evidence.Attempt) {
	third := job{j.relay, j.hour + heldHours}
	if r := a.Facts.Reservation; r != nil {
		if into := r.Expires.Sub(third.hour.Start()); into > 0 && into <= evidence.CloseAfter {
			p.held[third] = max(p.held[third], into)
		}
	}
}

// offset is when in its hour the first attempt is due.
func (p *planner) offset(j job) time.Duration {
	o, ok := p.offsets[j]
	if !ok {
		o = evidence.Offset(p.secret(j.hour), j.relay, j.hour)
		p.offsets[j] = o
	}
	return o
}

// complete says whether every component that was asked for was ok, so that the
// hour needs no retry. An attempt during which the clock was set counts for nothing
// (rule R9).
func complete(a evidence.Attempt) bool {
	if a.Stepped {
		return false
	}
	for _, c := range evidence.Components {
		if r := a.Results[c]; r.Outcome != evidence.OK && r.Class != evidence.NotAsked {
			return false
		}
	}
	return true
}

// due lists the attempts to start now, as far as there are places, at most one for
// each relay, and marks their relays busy until [planner.end].
func (p *planner) due(now moment, relays []string) []job {
	this := evidence.HourOf(now.wall)
	var list []candidate
	for _, relay := range relays {
		for _, h := range []evidence.Hour{this - 1, this} {
			j := job{relay, h}
			var s progress
			if known := p.hours[j]; known != nil {
				s = *known
			}
			due, late, ok := s.next(now, h, max(p.offset(j), p.held[j]))
			switch {
			case !ok || now.wall.Before(due):
			case !now.wall.Before(late):
				p.places.expire(j, now)
			default:
				list = append(list, candidate{j, due, s.attempts > 0})
			}
		}
	}
	p.forget(this - 2)
	out := p.places.choose(now, list, p.busy)
	for _, j := range out {
		p.busy[j.relay] = true
	}
	return out
}

// end takes the outcome of a job that began so by the steady clock; nil: the attempt
// was not made.
func (p *planner) end(j job, a *evidence.Attempt, began time.Duration) {
	delete(p.busy, j.relay)
	if a != nil {
		p.note(j, *a, began)
	}
}

// reopen makes what is known of some jobs ask for one more attempt, if one may still
// be made in their hour.
func (p *planner) reopen(which func(job) bool) {
	for j, s := range p.hours {
		if which(j) {
			s.done = false
		}
	}
}

// forget drops what can no longer be due.
func (p *planner) forget(before evidence.Hour) {
	for j := range p.hours {
		if j.hour < before {
			delete(p.hours, j)
		}
	}
	for _, known := range []map[job]time.Duration{p.offsets, p.held} {
		maps.DeleteFunc(known, func(j job, _ time.Duration) bool { return j.hour < before })
	}
}
