package monitor

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Which of the attempts that are due start now. An attempt on a relay that does not
// answer does little but wait, for up to a minute, and is made three times an hour:
// without an order a few hundred such relays take all places.
const (
	// startsAtOnce is how many attempts one tick starts. After a pause all relays are
	// due at once, and what the processor cannot do in time would look like a failure.
	startsAtOnce = 8
	// lateAfter is how long a first attempt may wait for a place.
	lateAfter = 5 * time.Minute
	// maxConcurrency bounds the places: each takes half a megabyte and three files at
	// most, when all of the ladder is climbed at the same time.
	maxConcurrency = 1024
	// behindFor is for how long it is said that the monitor did not keep up.
	behindFor = time.Hour
)

// places are shared by the attempts under way.
type places struct {
	all     int                   // there are so many; 0: as many as are asked for
	failed  map[string]bool       // relays of which the last attempt failed
	waiting map[job]time.Duration // what is due and has no place, since when by the steady clock
	missed  map[evidence.Hour]int // attempts not made for want of a place, not yet in the log

	lates  int           // first attempts that began too late, since the start
	misses int           // all that were missed, since the start
	behind time.Duration // when it last did not keep up, by the steady clock; 0: never
}

func newPlaces() places {
	return places{failed: map[string]bool{}, waiting: map[job]time.Duration{}, missed: map[evidence.Hour]int{}}
}

// candidate is an attempt that may start now.
type candidate struct {
	job
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
func (s *places) choose(now moment, list []candidate, busy map[string]bool) []job {
	rank := func(c candidate) (r int) {
		if s.failed[c.relay] {
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
	var out []job
	started := map[string]bool{}
	waiting := map[job]time.Duration{}
	for _, c := range list {
		if busy[c.relay] || started[c.relay] {
			if since, ok := s.waiting[c.job]; ok {
				waiting[c.job] = since // else it waits for its own relay only
			}
			continue
		}
		failed := s.failed[c.relay]
		if s.all == 0 || free > 0 && taken[failed] < most[failed] && len(out) < startsAtOnce {
			started[c.relay] = true
			free--
			taken[failed]++
			out = append(out, c.job)
			if !c.retry && now.wall.Sub(c.due) > lateAfter {
				s.lates++
			}
			continue
		}
		since, ok := s.waiting[c.job]
		if !ok {
			since = now.steady
		}
		waiting[c.job] = since
		if !c.retry && now.steady-since > lateAfter {
			s.behind = now.steady
		}
	}
	s.waiting = waiting
	return out
}

// expire counts an attempt for which it is too late now, if it waited for a place.
func (s *places) expire(j job, now moment) {
	if _, ok := s.waiting[j]; !ok {
		return
	}
	delete(s.waiting, j)
	s.missed[j.hour]++
	s.misses++
	s.behind = now.steady
}

// overload says in numbers that the monitor does not keep up; empty: it does.
func (s *places) overload(now moment) string {
	if s.behind == 0 || now.steady-s.behind > behindFor {
		return ""
	}
	var longest time.Duration
	for _, since := range s.waiting {
		longest = max(longest, now.steady-since)
	}
	return fmt.Sprintf("%d attempts wait for one of the %d places, the longest for %s, and %d were not made since the start; an hour without its attempts is unknown; raise concurrency",
		len(s.waiting), s.all, longest.Round(time.Second), s.misses)
}

// noteLoad writes into the log what was missed for want of a place, and says once that
// the monitor does not keep up. The caller holds the lock.
func (m *Monitor) noteLoad(now moment) {
	p := &m.planner.places
	for h, n := range p.missed {
		err := m.store.Mark(h, evidence.Mark{Missed: int64(n)})
		if err != nil && !errors.Is(err, store.ErrSealed) {
			m.setFault(err)
			m.begun = time.Time{} // the next tick tries the log again
			return
		}
		delete(p.missed, h)
	}
	why := p.overload(now)
	switch {
	case why != "" && !m.overloaded:
		m.log.Warn("this monitor cannot keep up with its roster", "why", why)
	case why == "" && m.overloaded:
		m.log.Info("this monitor keeps up again")
	}
	m.overloaded = why != ""
}
