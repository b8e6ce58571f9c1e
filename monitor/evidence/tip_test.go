package evidence_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// How far the log reached, as of several times; the last checkpoint is better with a
// cosignature than later.
func TestTip(t *testing.T) {
	l, _ := newLog(t)
	w := evidencetest.NewWitness(t, "w")
	k := evidence.Keys{Log: l.Key(), Witnesses: []string{w.VKey()}}
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0).ID.String()
	for h := evidencetest.FirstHour; h < evidencetest.FirstHour+10; h++ {
		evidencetest.Watch(t, l, h)
		_, err := l.Seal(evidencetest.Closing(h))
		evidencetest.Must(t, err)
		if h == evidencetest.FirstHour+3 || h == evidencetest.FirstHour+7 {
			cp, err := l.Checkpoint()
			evidencetest.Must(t, err)
			evidencetest.Must(t, l.AddCosignatures(l.Size(), w.Cosign(t, cp, evidencetest.Closing(h).Add(time.Minute)), w.VKey()))
		}
	}
	by := func(h evidence.Hour) []evidence.Cosigned {
		return []evidence.Cosigned{{Witness: w.VKey(), At: evidencetest.Closing(h).Add(time.Minute)}}
	}
	later := evidencetest.FirstHour.Month() + 1
	for name, c := range map[string]struct {
		month     evidence.Month
		asOf      evidence.Hour // when it closed, and two minutes
		witnesses []string
		want      evidence.Tip
	}{
		"month under way":                  {evidencetest.FirstHour.Month(), evidencetest.FirstHour + 2, k.Witnesses, evidence.Tip{End: evidencetest.FirstHour + 3, Cosigned: nil}},
		"just over":                        {evidencetest.FirstHour.Month(), evidencetest.FirstHour + 3, k.Witnesses, evidence.Tip{End: evidencetest.FirstHour + 4, Cosigned: by(evidencetest.FirstHour + 3)}},
		"no cosignature later":             {evidencetest.FirstHour.Month(), evidencetest.FirstHour + 6, k.Witnesses, evidence.Tip{End: evidencetest.FirstHour + 7, Cosigned: nil}},
		"the last with a cosignature":      {evidencetest.FirstHour.Month(), evidencetest.FirstHour + 9, k.Witnesses, evidence.Tip{End: evidencetest.FirstHour + 8, Cosigned: by(evidencetest.FirstHour + 7)}},
		"no witnesses":                     {evidencetest.FirstHour.Month(), evidencetest.FirstHour + 9, nil, evidence.Tip{End: evidencetest.FirstHour + 10, Cosigned: nil}},
		"a later month, under way":         {later, evidencetest.FirstHour + 9, k.Witnesses, evidence.Tip{End: evidencetest.FirstHour + 10, Cosigned: nil}},
		"a month that did not begin yet":   {later + 1, evidencetest.FirstHour + 9, k.Witnesses, evidence.Tip{}},
		"a month before the log":           {evidencetest.FirstHour.Month() - 1, evidencetest.FirstHour + 9, k.Witnesses, evidence.Tip{}},
		"as of a time before the log grew": {later, evidencetest.FirstHour + 2, k.Witnesses, evidence.Tip{}},
	} {
		m, err := l.Month(c.month, relay, evidencetest.Closing(c.asOf).Add(2*time.Minute), c.witnesses...)
		evidencetest.Must(t, err)
		v, err := evidence.VerifyMonth(m, k)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(c.want, v.Tip); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// Tips that a monitor, or whoever passes an export on, might put there.
func TestTipRefused(t *testing.T) {
	s := newSmallMonth(t)
	good, err := s.log.Month(evidencetest.FirstHour.Month(), s.Relay.ID.String(), evidencetest.Closing(evidencetest.FirstHour+20), s.Keys.Witnesses...)
	evidencetest.Must(t, err)
	foreign := newSmallMonth(t)
	v, err := evidence.VerifyMonth(good, s.Keys)
	evidencetest.Must(t, err)
	if v.Tip.End != evidencetest.FirstHour+8 || len(v.Tip.Cosigned) != 2 {
		t.Fatalf("tip %+v", v.Tip)
	}
	signed := func(size int64, root evidence.Hash) []byte {
		return evidencetest.SignedText(t, s.log.dir, evidence.Checkpoint{Origin: s.log.Origin(), Size: size, Root: root, Cosignatures: nil}.Text())
	}
	for name, c := range map[string]struct {
		change func(*evidence.MonitorMonth)
		want   string
	}{
		"cut":                {func(m *evidence.MonitorMonth) { m.Tip = m.Tip[:len(m.Tip)/2] }, "tip: checkpoint: malformed note"},
		"of another log":     {func(m *evidence.MonitorMonth) { m.Tip = foreign.Month.Checkpoints[2] }, "none is by"},
		"of another history": {func(m *evidence.MonitorMonth) { m.Tip = signed(8, evidence.Hash{1}) }, "the blocks of the month are not under the tip"},
		"a size too small":   {func(m *evidence.MonitorMonth) { m.Tip = signed(7, v.Root) }, "the blocks of the month are not under the tip"},
		"the month's last":   {func(m *evidence.MonitorMonth) { m.Tip = m.Checkpoints[len(m.Checkpoints)-1] }, "want a later one or none"},
		"an earlier one":     {func(m *evidence.MonitorMonth) { m.Tip = m.Checkpoints[0] }, "want a later one or none"},
		"proof cut":          {func(m *evidence.MonitorMonth) { m.TipProof = nil }, "are not under the tip"},
		"proof too long":     {func(m *evidence.MonitorMonth) { m.TipProof = append(m.TipProof, evidence.Hash{}) }, "are not under the tip"},
		"proof without it":   {func(m *evidence.MonitorMonth) { m.Tip = nil }, "and no tip"},
		"of hours to come": {func(m *evidence.MonitorMonth) {
			m.AsOf = evidence.TimeOf(evidencetest.Closing(evidencetest.FirstHour + 7).Add(-time.Second))
		}, "had not closed at"},
		"cosigned by strangers": {func(m *evidence.MonitorMonth) {
			m.Tip = append(bytes.Clone(m.Tip), evidencetest.NewWitness(t, "x").Cosign(t, m.Tip, evidencetest.Closing(evidencetest.FirstHour+8))...)
		}, "not known"},
		"a month cut short": {func(m *evidence.MonitorMonth) { m.Headers, m.Checkpoints = m.Headers[:3], m.Checkpoints[:1] }, "do not come to its end"},
	} {
		m := clone(good)
		c.change(&m)
		if name == "a month cut short" {
			m.Proofs, m.Records = m.Proofs[:1], m.Records[:1]
		}
		_, err := evidence.VerifyMonth(s.resign(t, m), s.Keys)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}
