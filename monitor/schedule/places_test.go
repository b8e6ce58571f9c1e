package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Who starts when there are more attempts than places.
func TestOrder(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	now := h.Start().Add(30 * time.Minute)
	of := func(prefix string, n int, minute time.Duration, retry bool) (list []candidate) {
		for i := range n {
			list = append(list, candidate{Job{fmt.Sprint(prefix, i), h}, h.Start().Add(minute * time.Minute), retry})
		}
		return list
	}
	for _, c := range []struct {
		name string
		list []candidate
		busy []string
		want string
	}{
		{"first attempts before retries", slices.Concat(of("retry", 3, 1, true), of("first", 3, 2, false)), nil, "first0 first1 first2 retry0 retry1 retry2"},
		{"what is due longer", slices.Concat(of("a", 1, 9, false), of("b", 1, 8, false), of("c", 1, 7, false)), nil, "c0 b0 a0"},
		{"relays that failed come last", slices.Concat(of("dead", 3, 1, false), of("retry", 2, 2, true)), nil, "retry0 retry1 dead0 dead1 dead2"},
		{"they have half of the places", of("dead", 9, 1, false), nil, "dead0 dead1 dead2 dead3"},
		{"counted with those under way", of("dead", 9, 1, false), []string{"dead7", "dead8"}, "dead0 dead1"},
		{"an eighth is theirs", slices.Concat(of("dead", 9, 1, false), of("first", 9, 2, false)), nil, "first0 first1 first2 first3 first4 first5 first6 dead0"},
		{"none is free", of("first", 2, 1, false), []string{"1", "2", "3", "4", "5", "6", "7", "8"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newPlaces()
			s.all = 8
			for i := range 9 {
				s.failed[fmt.Sprint("dead", i)] = true
			}
			busy := map[string]bool{}
			for _, relay := range c.busy {
				busy[relay] = true
			}
			var got []string
			for _, j := range s.choose(at(now), c.list, busy) {
				got = append(got, j.Relay)
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// After a pause, when all relays are due at once, they start a few at a time.
func TestAFewAtATime(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	p := newTestPlanner()
	p.places.all = 1000
	var relays []string
	for i := range 100 {
		relays = append(relays, fmt.Sprint("relay", i))
	}
	if jobs := p.Due(at(h.End().Add(-time.Second)), relays); len(jobs) != startsAtOnce {
		t.Errorf("%d attempts start at once, want %d", len(jobs), startsAtOnce)
	}
}

// A restart does not forget which relays failed.
func TestRestoreKnowsWhatFailed(t *testing.T) {
	h := hourly("2026-11-03T14:00:00Z")
	p := newTestPlanner()
	for relay, outcomes := range map[string][]evidence.Outcome{
		"dead":  {evidence.OK, evidence.Fail, evidence.Blind},
		"works": {evidence.Fail, evidence.OK},
	} {
		r := evidence.Record{PeerID: relay, Hour: h}
		for _, o := range outcomes {
			r.Attempts = append(r.Attempts, attempt(h.Start(), o))
		}
		p.Restore(r, at(h.End()), true)
	}
	if !p.places.failed["dead"] || p.places.failed["works"] {
		t.Errorf("failed: %v, want dead alone", p.places.failed)
	}
}
