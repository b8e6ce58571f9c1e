package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Which of the attempts that are due start now. An attempt on a relay that does not
// answer does little but wait, for up to a minute, and is made three times an hour:
// without an order a few hundred such relays take all places.
const (
	// startsAtOnce is how many attempts one tick starts. After a pause all relays are
	// due at once, and what the processor cannot do in time would look like a failure.
	startsAtOnce = 8
	// LateAfter is how long a first attempt may wait for a place.
	LateAfter = 5 * time.Minute
	// MaxPlaces bounds the places of a planner: each takes half a megabyte and three files at
	// most, when all of the ladder is climbed at the same time.
	MaxPlaces = 1024
	// BehindFor is for how long it is said that the monitor did not keep up.
	BehindFor = time.Hour
)

// places are shared by the attempts under way.
type places struct {
	all     int                   // there are so many; 0: as many as are asked for
	failed  map[string]bool       // relays of which the last attempt failed
	waiting map[Job]time.Duration // what is due and has no place, since when by the steady clock
	missed  map[evidence.Hour]int // attempts not made for want of a place, not yet in the log

	lates  int           // first attempts that began too late, since the start
	misses int           // all that were missed, since the start
	behind time.Duration // when it last did not keep up, by the steady clock; 0: never
}

func newPlaces() places {
	return places{failed: map[string]bool{}, waiting: map[Job]time.Duration{}, missed: map[evidence.Hour]int{}}
}

// candidate is an attempt that may start now.
type candidate struct {
	Job
	due   time.Time
	retry bool
}

// learn takes the outcome of an attempt. One that could not look says nothing.
func (s *places) learn(relay string, a evidence.Attempt) {
	has := func(o evidence.Outcome) bool {
		for _, r := range a.Results {
			if r.Outcome == o {
				return true
			}
		}
		return false
	}
	switch {
	case has(evidence.Fail):
		s.failed[relay] = true
	case !has(evidence.Blind):
		delete(s.failed, relay)
	}
}

// choose says which candidates start: those on other relays go before those on relays
// of which the last attempt failed, first attempts before retries, and what is due
// longer before the rest. Relays that failed have at most half of the places, so that
// one is free when another relay is due, and an eighth is theirs, so that one that works
// again is seen.
func (s *places) choose(now Moment, list []candidate, busy map[string]bool) []Job {
	rank := func(c candidate) (r int) {
		if s.failed[c.Relay] {
			r += 2
		}
		if c.retry {
			r++
		}
		return r
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.due.Compare(b.due))
	})
	free := s.all - len(busy)
	taken := map[bool]int{} // by whether the relay failed, as the next
	for relay := range busy {
		taken[s.failed[relay]]++
	}
	most := map[bool]int{true: max(1, s.all/2), false: s.all - s.all/8}
	var out []Job
	started := map[string]bool{}
	waiting := map[Job]time.Duration{}
	for _, c := range list {
		if busy[c.Relay] || started[c.Relay] {
			if since, ok := s.waiting[c.Job]; ok {
				waiting[c.Job] = since // else it waits for its own relay only
			}
			continue
		}
		failed := s.failed[c.Relay]
		if s.all == 0 || free > 0 && taken[failed] < most[failed] && len(out) < startsAtOnce {
			started[c.Relay] = true
			free--
			taken[failed]++
			out = append(out, c.Job)
			if !c.retry && now.Wall.Sub(c.due) > LateAfter {
				s.lates++
			}
			continue
		}
		since, ok := s.waiting[c.Job]
		if !ok {
			since = now.Steady
		}
		waiting[c.Job] = since
		if !c.retry && now.Steady-since > LateAfter {
			s.behind = now.Steady
		}
	}
	s.waiting = waiting
	return out
}

// expire counts an attempt for which it is too late now, if it waited for a place.
func (s *places) expire(j Job, now Moment) {
	if _, ok := s.waiting[j]; !ok {
		return
	}
	delete(s.waiting, j)
	s.missed[j.Hour]++
	s.misses++
	s.behind = now.Steady
}

// overload says in numbers that the monitor does not keep up; empty: it does.
func (s *places) overload(now Moment) string {
	if s.behind == 0 || now.Steady-s.behind > BehindFor {
		return ""
	}
	var longest time.Duration
	for _, since := range s.waiting {
		longest = max(longest, now.Steady-since)
	}
	return fmt.Sprintf("%d attempts wait for one of the %d places, the longest for %s, and %d were not made since the start; an hour without its attempts is unknown; raise concurrency",
		len(s.waiting), s.all, longest.Round(time.Second), s.misses)
}

// Load is how much there is to do, and what did not get done.
type Load struct {
	Places  int // attempts that may be under way at once
	Busy    int // those that are
	Waiting int // those that are due and have no place
	Lates   int // first attempts that began too late, since the start
	Misses  int // attempts not made for want of a place, since the start
}

// Load is that of now.
func (p *Planner) Load() Load {
	return Load{p.places.all, len(p.busy), len(p.places.waiting), p.places.lates, p.places.misses}
}

// Overload says in numbers that the monitor does not keep up; empty: it does.
func (p *Planner) Overload(now Moment) string { return p.places.overload(now) }

// TakeMissed hands over how many attempts of each hour were not made for want of a
// place, since it was last called. What note refuses is kept for the next time.
func (p *Planner) TakeMissed(note func(evidence.Hour, int) error) error {
	for h, n := range p.places.missed {
		if err := note(h, n); err != nil {
			return err
		}
		delete(p.places.missed, h)
	}
	return nil
}
