package evidence

import (
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// A plan is shown for the hours whose secret was committed to and published, and
// for no others; both verifiers say the same.
func TestDue(t *testing.T) {
	a, b, unpublished := []byte("a"), []byte("b"), []byte("lost")
	commit := func(day string, secret []byte) Secret { return Secret{Day: day, SHA256: hashHex(secret)} }
	publish := func(day string, secret []byte) Secret { return Secret{Day: day, Secret: secret} }
	day, next := firstHour.Start().Format(time.DateOnly), (firstHour + 24).Start().Format(time.DateOnly)
	for _, tc := range []struct {
		name  string
		marks map[int][]Secret // by hour of the log
		want  string           // one letter an hour: whose plan; -: none
	}{
		{"no plan", nil, "----"},
		{"committed and published", map[int][]Secret{0: {commit(day, a)}, 3: {publish(day, a)}}, "aaaa"},
		{"from the second hour on", map[int][]Secret{1: {commit(day, a)}, 3: {publish(day, a)}}, "-aaa"},
		{"said again after a restart", map[int][]Secret{0: {commit(day, a)}, 2: {commit(day, a)}, 3: {publish(day, a)}}, "aaaa"},
		{"never published", map[int][]Secret{0: {commit(day, a)}}, "----"},
		{"never committed to", map[int][]Secret{3: {publish(day, a)}}, "----"},
		{"another one published", map[int][]Secret{0: {commit(day, a)}, 3: {publish(day, b)}}, "----"},
		{"of another day", map[int][]Secret{0: {commit(next, a)}, 3: {publish(next, a)}}, "----"},
		{"committed to for another day", map[int][]Secret{0: {commit(next, a)}, 3: {publish(day, a)}}, "----"},
		{"begun anew", map[int][]Secret{0: {commit(day, a)}, 2: {commit(day, b)}, 3: {publish(day, a), publish(day, b)}}, "aa-b"},
		{"the first was lost", map[int][]Secret{0: {commit(day, unpublished)}, 2: {commit(day, b)}, 3: {publish(day, b)}}, "---b"},
		{"two in one hour", map[int][]Secret{0: {commit(day, a), commit(day, b)}, 3: {publish(day, a), publish(day, b)}}, "-bbb"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, _ := newLog(t)
			relay := newRelay(t, crypto.Ed25519, 0)
			for i := range len(tc.want) {
				h := firstHour + Hour(i)
				watch(t, l, h)
				for _, s := range tc.marks[i] {
					must(t, l.Mark(h, Mark{Schedule: &s}))
				}
				must(t, l.Append(h, relay.attempt(t, l.Key(), h, time.Minute, nil)))
				_, err := l.Seal(closing(h))
				must(t, err)
			}
			m, err := l.Month(firstHour.Month(), relay.id.String(), closing(firstHour+24))
			must(t, err)
			v, err := VerifyMonth(m, Keys{Log: l.Key()})
			must(t, err)
			for i, h := range v.Hours {
				var want time.Time
				if plan := tc.want[i : i+1]; plan != "-" {
					want = h.Header.Hour.Start().Add(Offset([]byte(plan), relay.id.String(), h.Header.Hour))
				}
				if !h.Due.Equal(want) {
					t.Errorf("hour %d was due at %s, want %s", i, h.Due, want)
				}
			}
			files, err := m.Files()
			must(t, err)
			facts, _, err := second{files, l.Key(), nil}.verify()
			if err != nil || !slices.Equal(facts, factsOf(v)) {
				t.Errorf("the second verifier: %v, %v, want %v", err, facts, factsOf(v))
			}
		})
	}
}
