package evidence_test

import (
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// A plan is shown for the hours whose secret was committed to and published, and
// for no others; both verifiers say the same.
func TestDue(t *testing.T) {
	a, b, unpublished := []byte("a"), []byte("b"), []byte("lost")
	commit := func(day string, secret []byte) evidence.Secret {
		return evidence.Secret{Day: day, SHA256: evidence.SHA256Hex(secret)}
	}
	publish := func(day string, secret []byte) evidence.Secret { return evidence.Secret{Day: day, Secret: secret} }
	day, next := evidencetest.FirstHour.Start().Format(time.DateOnly), (evidencetest.FirstHour + 24).Start().Format(time.DateOnly)
	for _, tc := range []struct {
		name  string
		marks map[int][]evidence.Secret // by hour of the log
		want  string                    // one letter an hour: whose plan; -: none
	}{
		{"no plan", nil, "----"},
		{"committed and published", map[int][]evidence.Secret{0: {commit(day, a)}, 3: {publish(day, a)}}, "aaaa"},
		{"from the second hour on", map[int][]evidence.Secret{1: {commit(day, a)}, 3: {publish(day, a)}}, "-aaa"},
		{"said again after a restart", map[int][]evidence.Secret{0: {commit(day, a)}, 2: {commit(day, a)}, 3: {publish(day, a)}}, "aaaa"},
		{"never published", map[int][]evidence.Secret{0: {commit(day, a)}}, "----"},
		{"never committed to", map[int][]evidence.Secret{3: {publish(day, a)}}, "----"},
		{"another one published", map[int][]evidence.Secret{0: {commit(day, a)}, 3: {publish(day, b)}}, "----"},
		{"of another day", map[int][]evidence.Secret{0: {commit(next, a)}, 3: {publish(next, a)}}, "----"},
		{"committed to for another day", map[int][]evidence.Secret{0: {commit(next, a)}, 3: {publish(day, a)}}, "----"},
		{"begun anew", map[int][]evidence.Secret{0: {commit(day, a)}, 2: {commit(day, b)}, 3: {publish(day, a), publish(day, b)}}, "aa-b"},
		{"the first was lost", map[int][]evidence.Secret{0: {commit(day, unpublished)}, 2: {commit(day, b)}, 3: {publish(day, b)}}, "---b"},
		{"two in one hour", map[int][]evidence.Secret{0: {commit(day, a), commit(day, b)}, 3: {publish(day, a), publish(day, b)}}, "-bbb"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, _ := newLog(t)
			relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
			for i := range len(tc.want) {
				h := evidencetest.FirstHour + evidence.Hour(i)
				evidencetest.Watch(t, l, h)
				for _, s := range tc.marks[i] {
					evidencetest.Must(t, l.Mark(h, evidence.Mark{Schedule: &s}))
				}
				evidencetest.Must(t, l.Append(h, relay.Attempt(t, l.Key(), h, time.Minute, nil)))
				_, err := l.Seal(evidencetest.Closing(h))
				evidencetest.Must(t, err)
			}
			m, err := l.Month(evidencetest.FirstHour.Month(), relay.ID.String(), evidencetest.Closing(evidencetest.FirstHour+24))
			evidencetest.Must(t, err)
			v, err := evidence.VerifyMonth(m, evidence.Keys{Log: l.Key()})
			evidencetest.Must(t, err)
			for i, h := range v.Hours {
				var want time.Time
				if plan := tc.want[i : i+1]; plan != "-" {
					want = h.Header.Hour.Start().Add(evidence.Offset([]byte(plan), relay.ID.String(), h.Header.Hour))
				}
				if !h.Due.Equal(want) {
					t.Errorf("hour %d was due at %s, want %s", i, h.Due, want)
				}
			}
			files, err := m.Files()
			evidencetest.Must(t, err)
			facts, _, err := second{files, l.Key(), nil}.verify()
			if err != nil || !slices.Equal(facts, factsOf(v)) {
				t.Errorf("the second verifier: %v, %v, want %v", err, facts, factsOf(v))
			}
		})
	}
}
