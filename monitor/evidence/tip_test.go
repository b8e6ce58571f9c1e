package evidence

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
)

// How far the log reached, as of several times; the last checkpoint is better with a
// cosignature than later.
func TestTip(t *testing.T) {
	l, _ := newLog(t)
	w := newWitness(t, "w")
	k := Keys{Log: l.Key(), Witnesses: []string{w.vkey()}}
	relay := newRelay(t, crypto.Ed25519, 0).id.String()
	for h := firstHour; h < firstHour+10; h++ {
		watch(t, l, h)
		_, err := l.Seal(closing(h))
		must(t, err)
		if h == firstHour+3 || h == firstHour+7 {
			cp, err := l.Checkpoint()
			must(t, err)
			must(t, l.AddCosignatures(l.Size(), w.cosign(t, cp, closing(h).Add(time.Minute)), w.vkey()))
		}
	}
	by := func(h Hour) []Cosigned { return []Cosigned{{w.vkey(), closing(h).Add(time.Minute)}} }
	later := firstHour.Month() + 1
	for name, c := range map[string]struct {
		month     Month
		asOf      Hour // when it closed, and two minutes
		witnesses []string
		want      Tip
	}{
		"month under way":                  {firstHour.Month(), firstHour + 2, k.Witnesses, Tip{firstHour + 3, nil}},
		"just over":                        {firstHour.Month(), firstHour + 3, k.Witnesses, Tip{firstHour + 4, by(firstHour + 3)}},
		"no cosignature later":             {firstHour.Month(), firstHour + 6, k.Witnesses, Tip{firstHour + 7, nil}},
		"the last with a cosignature":      {firstHour.Month(), firstHour + 9, k.Witnesses, Tip{firstHour + 8, by(firstHour + 7)}},
		"no witnesses":                     {firstHour.Month(), firstHour + 9, nil, Tip{firstHour + 10, nil}},
		"a later month, under way":         {later, firstHour + 9, k.Witnesses, Tip{firstHour + 10, nil}},
		"a month that did not begin yet":   {later + 1, firstHour + 9, k.Witnesses, Tip{}},
		"a month before the log":           {firstHour.Month() - 1, firstHour + 9, k.Witnesses, Tip{}},
		"as of a time before the log grew": {later, firstHour + 2, k.Witnesses, Tip{}},
	} {
		m, err := l.Month(c.month, relay, closing(c.asOf).Add(2*time.Minute), c.witnesses...)
		must(t, err)
		v, err := VerifyMonth(m, k)
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
	good, err := s.log.Month(firstHour.Month(), s.relay.id.String(), closing(firstHour+20), s.keys.Witnesses...)
	must(t, err)
	foreign := newSmallMonth(t)
	v, err := VerifyMonth(good, s.keys)
	must(t, err)
	if v.Tip.End != firstHour+8 || len(v.Tip.Cosigned) != 2 {
		t.Fatalf("tip %+v", v.Tip)
	}
	signed := func(size int64, root Hash) []byte {
		return signedText(t, s.log, checkpoint{s.log.Origin(), size, root, nil}.text())
	}
	for name, c := range map[string]struct {
		change func(*MonitorMonth)
		want   string
	}{
		"cut":                {func(m *MonitorMonth) { m.Tip = m.Tip[:len(m.Tip)/2] }, "tip: checkpoint: malformed note"},
		"of another log":     {func(m *MonitorMonth) { m.Tip = foreign.month.Checkpoints[2] }, "none is by"},
		"of another history": {func(m *MonitorMonth) { m.Tip = signed(8, Hash{1}) }, "the blocks of the month are not under the tip"},
		"a size too small":   {func(m *MonitorMonth) { m.Tip = signed(7, v.Root) }, "the blocks of the month are not under the tip"},
		"the month's last":   {func(m *MonitorMonth) { m.Tip = m.Checkpoints[len(m.Checkpoints)-1] }, "want a later one or none"},
		"an earlier one":     {func(m *MonitorMonth) { m.Tip = m.Checkpoints[0] }, "want a later one or none"},
		"proof cut":          {func(m *MonitorMonth) { m.TipProof = nil }, "are not under the tip"},
		"proof too long":     {func(m *MonitorMonth) { m.TipProof = append(m.TipProof, Hash{}) }, "are not under the tip"},
		"proof without it":   {func(m *MonitorMonth) { m.Tip = nil }, "and no tip"},
		"of hours to come":   {func(m *MonitorMonth) { m.AsOf = TimeOf(closing(firstHour + 7).Add(-time.Second)) }, "had not closed at"},
		"cosigned by strangers": {func(m *MonitorMonth) {
			m.Tip = append(bytes.Clone(m.Tip), newWitness(t, "x").cosign(t, m.Tip, closing(firstHour+8))...)
		}, "not known"},
		"a month cut short": {func(m *MonitorMonth) { m.Headers, m.Checkpoints = m.Headers[:3], m.Checkpoints[:1] }, "do not come to its end"},
	} {
		m := clone(good)
		c.change(&m)
		if name == "a month cut short" {
			m.Proofs, m.Records = m.Proofs[:1], m.Records[:1]
		}
		_, err := VerifyMonth(s.resign(t, m), s.keys)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}
