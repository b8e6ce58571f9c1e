package schedule

import (
	"maps"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// AttemptTimeout bounds one climb of the ladder.
const AttemptTimeout = probe.MaxAttempt

// Retries are when an attempt that failed is made again, counted from the start of the
// first one (rule R2).
var Retries = [...]time.Duration{6 * time.Minute, 13 * time.Minute}

// progress is how far one relay's hour has come.
type progress struct {
	first    time.Duration // start of the first attempt, by the steady clock
	last     time.Duration // start of the last one
	attempts int
	done     bool // every component was ok: no retry is needed
}

// next says when the next attempt of the hour is due, and when it is too late
// for it, by the wall clock as it stands now. None is due if ok is false.
func (p progress) next(now Moment, h evidence.Hour, offset time.Duration) (due, late time.Time, ok bool) {
	switch {
	case p.done || p.attempts > len(Retries):
		return due, late, false
	case p.attempts == 0:
		// A first attempt that was missed runs at once if it still falls into its hour.
		return h.Start().Add(offset), h.End(), true
	default:
		// A retry may run past the hour's end, but must have ended before the hour closes.
		// One that was held up, by a machine that slept or a clock that was set back,
		// is not followed by the next at once.
		due := max(p.first+Retries[p.attempts-1], p.last+Retries[0])
		return now.Wall.Add(due - now.Steady), h.End().Add(evidence.CloseAfter - AttemptTimeout), true
	}
}

// Job is an attempt that belongs to an hour.
type Job struct {
	Relay string // its peer ID
	Hour  evidence.Hour
}

// Planner knows what was begun and says what is due. It holds no clock: a wall clock
// that steps, in either direction, only changes when a first attempt is due, never
// what was done, nor how long ago. It is not safe for concurrent use.
type Planner struct {
	// Spared says which jobs are left to other monitors (rule R21): no attempt of theirs is
	// due. Nil: none is. It may change its mind while an hour runs.
	Spared func(Job) bool

	offset func(Job) time.Duration
	hours  map[Job]*progress
	busy   map[string]bool // relays with an attempt under way
	places places
	// held is how long into an hour a place at the relay is still taken, see Hold.
	held map[Job]time.Duration

	offsets map[Job]time.Duration // of the hours at hand
}

// NewPlanner is one that has begun nothing. Offset says how far into its hour a first
// attempt is due; no more attempts than there are places are under way at once, or as
// many as are asked for if places is 0.
func NewPlanner(offset func(Job) time.Duration, places int) *Planner {
	p := &Planner{offset: offset, hours: map[Job]*progress{}, busy: map[string]bool{}, places: newPlaces(), held: map[Job]time.Duration{}, offsets: map[Job]time.Duration{}}
	p.places.all = places
	return p
}

// Restore takes over what the log holds of a relay and an hour, of which nothing is
// known yet: no attempt is made a second time, after a restart or a clock that came
// back. Unless the clock ran evenly since the hour began, nobody knows how long ago an
// attempt was, and the retries are counted from now.
func (p *Planner) Restore(r evidence.Record, now Moment, even bool) {
	j := Job{r.PeerID, r.Hour}
	if p.hours[j] != nil {
		return
	}
	for _, a := range r.Attempts {
		began := now.Steady
		if even {
			began -= max(0, now.Wall.Sub(a.Started.Time))
		}
		p.note(j, a, began)
	}
}

// note takes over an attempt that began so by the steady clock.
func (p *Planner) note(j Job, a evidence.Attempt, began time.Duration) {
	s := p.hours[j]
	if s == nil {
		s = &progress{first: began}
		p.hours[j] = s
	}
	s.last = began
	s.attempts++
	s.done = s.done || Complete(a)
	p.places.learn(j.Relay, a)
	p.Hold(j, a)
}

// Hold notes that a place is held into the third hour after, as a retry past its hour's
// end has it from a relay that keeps places for two hours. The first attempt of that
// hour waits for its end: so places of three hours are held at once, and no more.
func (p *Planner) Hold(j Job, a evidence.Attempt) {
	third := Job{j.Relay, j.Hour + HeldHours}
	if r := a.Facts.Reservation; r != nil {
		if into := r.Expires.Sub(third.Hour.Start()); into > 0 && into <= evidence.CloseAfter {
			p.held[third] = max(p.held[third], into)
		}
	}
}

// Held is how far into its hour a first attempt waits for a place that is still taken.
func (p *Planner) Held(j Job) time.Duration { return p.held[j] }

// Learn takes the outcome of an attempt that was made before: which relays failed of late.
func (p *Planner) Learn(relay string, a evidence.Attempt) { p.places.learn(relay, a) }

// at is when in its hour the first attempt is due.
func (p *Planner) at(j Job) time.Duration {
	o, ok := p.offsets[j]
	if !ok {
		o = p.offset(j)
		p.offsets[j] = o
	}
	return o
}

// Complete says whether every component that was asked for was ok, so that the
// hour needs no retry. An attempt during which the clock was set counts for nothing
// (rule R9).
func Complete(a evidence.Attempt) bool {
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

func (p *Planner) spared(j Job) bool { return p.Spared != nil && p.Spared(j) }

// next says when the next attempt of a job is due, and when it is too late for it; none is
// if ok is false.
func (p *Planner) next(j Job, now Moment) (due, late time.Time, ok bool) {
	if p.spared(j) {
		return due, late, false
	}
	var s progress
	if known := p.hours[j]; known != nil {
		s = *known
	}
	return s.next(now, j.Hour, max(p.at(j), p.Held(j)))
}

// Due lists the attempts to start now, as far as there are places, at most one for
// each relay, and marks their relays busy until [Planner.End].
func (p *Planner) Due(now Moment, relays []string) []Job {
	this := evidence.HourOf(now.Wall)
	var list []candidate
	for _, relay := range relays {
		for _, h := range []evidence.Hour{this - 1, this} {
			j := Job{relay, h}
			due, late, ok := p.next(j, now)
			switch {
			case !ok || now.Wall.Before(due):
			case !now.Wall.Before(late):
				p.places.expire(j, now)
			default:
				list = append(list, candidate{j, due, p.hours[j] != nil && p.hours[j].attempts > 0})
			}
		}
	}
	p.forget(this - 2)
	out := p.places.choose(now, list, p.busy)
	for _, j := range out {
		p.busy[j.Relay] = true
	}
	return out
}

// Sooner is the sooner of two moments after now. The zero time is none.
func Sooner(now, a, b time.Time) time.Time {
	if !b.After(now) || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

// Soonest is when the next attempt on one of the relays is due after now; the zero
// time: none is, in this hour and the one before.
func (p *Planner) Soonest(now Moment, relays []string) (soonest time.Time) {
	this := evidence.HourOf(now.Wall)
	for _, relay := range relays {
		for _, h := range []evidence.Hour{this - 1, this} {
			if due, late, ok := p.next(Job{relay, h}, now); ok && due.Before(late) {
				soonest = Sooner(now.Wall, soonest, due)
			}
		}
	}
	return soonest
}

// End takes the outcome of a job that began so by the steady clock; nil: the attempt
// was not made.
func (p *Planner) End(j Job, a *evidence.Attempt, began time.Duration) {
	delete(p.busy, j.Relay)
	if a != nil {
		p.note(j, *a, began)
	}
}

// Reopen makes what is known of some jobs ask for one more attempt, if one may still
// be made in their hour.
func (p *Planner) Reopen(which func(Job) bool) {
	for j, s := range p.hours {
		if which(j) {
			s.done = false
		}
	}
}

// Idle says whether the hour's first attempt was made, or is left to others, and no
// planned one might begin before one begun now has ended.
func (p *Planner) Idle(j Job, now Moment) bool {
	if p.busy[j.Relay] || p.hours[j] == nil && !p.spared(j) {
		return false
	}
	for h := j.Hour - 1; h <= j.Hour+1; h++ {
		due, late, ok := p.next(Job{j.Relay, h}, now)
		if ok && now.Wall.Before(late) && due.Before(now.Wall.Add(AttemptTimeout+10*time.Second)) {
			return false
		}
	}
	return true
}

// Take marks a relay busy for an attempt that nobody planned, as long as there is a
// place that no planned one waits for. [Planner.Release] ends it.
func (p *Planner) Take(relay string) bool {
	if len(p.busy) >= p.places.all || len(p.places.waiting) > 0 {
		return false
	}
	p.busy[relay] = true
	return true
}

// Release ends what [Planner.Take] began.
func (p *Planner) Release(relay string) { delete(p.busy, relay) }

// Busy says whether an attempt on the relay is under way.
func (p *Planner) Busy(relay string) bool { return p.busy[relay] }

// forget drops what can no longer be due.
func (p *Planner) forget(before evidence.Hour) {
	for j := range p.hours {
		if j.Hour < before {
			delete(p.hours, j)
		}
	}
	for _, known := range []map[Job]time.Duration{p.offsets, p.held} {
		maps.DeleteFunc(known, func(j Job, _ time.Duration) bool { return j.Hour < before })
	}
}
