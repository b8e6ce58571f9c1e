package evidence

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
)

const planOrigin, planRelay = "m1.example.org/relaymon/psf", "12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba"

func planKeyOf(t *testing.T, seed byte) *bls.SecretKey {
	t.Helper()
	k, err := bls.KeyGen(bytes.Repeat([]byte{seed}, bls.SecretKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// offsets are in seconds, of many hours of one relay.
func offsets(k *bls.SecretKey, relay string, from Hour, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = int(Offset(k.Sign(PlanText(planOrigin, from+Hour(i), relay))) / time.Second)
	}
	return out
}

// No part of the hour is favoured: over hours and over relays, the seconds are spread
// evenly, and those of two keys, relays or hours have nothing to do with each other.
func TestPlansAreUniform(t *testing.T) {
	const n, bins = 1800, 36
	from := HourOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	k, other := planKeyOf(t, 1), planKeyOf(t, 2)
	hours := offsets(k, planRelay, from, n)
	relays := make([]int, n)
	for i := range relays {
		relays[i] = int(Offset(k.Sign(PlanText(planOrigin, from, fmt.Sprint("relay", i)))) / time.Second)
	}
	difference := func(a, b []int) []int {
		out := make([]int, len(b))
		for i := range out {
			out[i] = (a[i] - b[i] + 3600) % 3600
		}
		return out
	}
	for name, list := range map[string][]int{
		"hours of a relay":  hours,
		"relays in an hour": relays,
		"of two keys":       difference(hours, offsets(other, planRelay, from, n)),
		"of two relays":     difference(hours, offsets(k, planRelay+"x", from, n)),
		"of two hours":      difference(hours, hours[1:]),
	} {
		var counts [bins]float64
		for _, s := range list {
			if s < 0 || s >= 3600 {
				t.Fatalf("%s: second %d", name, s)
			}
			counts[s*bins/3600]++
		}
		want, chi := float64(len(list))/bins, 0.0
		for _, c := range counts {
			chi += (c - want) * (c - want) / want
		}
		// 35 degrees of freedom: one in a hundred thousand even ones has more than 85.
		if chi > 85 {
			t.Errorf("%s: chi-square is %.1f, want 85 at most", name, chi)
		}
	}
}

// A plan counts for its hour, relay, log and key only.
func TestForeignPlans(t *testing.T) {
	h := HourOf(time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC))
	k := planKeyOf(t, 1)
	good := k.Sign(PlanText(planOrigin, h, planRelay))
	negated := bytes.Clone(good)
	negated[0] ^= 0x20
	for name, c := range map[string]struct {
		plan []byte
		want string
	}{
		"good":            {good, ""},
		"none":            {nil, NoPlan},
		"another key":     {planKeyOf(t, 2).Sign(PlanText(planOrigin, h, planRelay)), ForeignPlan},
		"another hour":    {k.Sign(PlanText(planOrigin, h+1, planRelay)), ForeignPlan},
		"another relay":   {k.Sign(PlanText(planOrigin, h, planRelay+"x")), ForeignPlan},
		"another log":     {k.Sign(PlanText("m2.example.org/relaymon/psf", h, planRelay)), ForeignPlan},
		"another network": {k.Sign(PlanText("m1.example.org/relaymon/lab", h, planRelay)), ForeignPlan},
		"infinity":        {append([]byte{0xc0}, make([]byte, PlanSize-1)...), ForeignPlan},
		"the other point": {negated, ForeignPlan},
		"zeros":           {make([]byte, PlanSize), ForeignPlan},
	} {
		examiner, err := NewExaminer(Keys{Log: planOrigin + "+x", Plan: k.Public().String()})
		if err != nil {
			t.Fatal(err)
		}
		v := monthVerifier{examiner: examiner}
		record := func(h Hour, plan []byte) VerifiedHour {
			return VerifiedHour{Header: Header{Hour: h}, Record: &Record{Hour: h, PeerID: planRelay, Plan: plan}}
		}
		// Among good ones, and an hour without a record.
		hours := []VerifiedHour{record(h-2, k.Sign(PlanText(planOrigin, h-2, planRelay))), {Header: Header{Hour: h - 1}}, record(h, c.plan)}
		v.examine(hours)
		if got := hours[2]; got.PlanFault != c.want || got.Due.IsZero() != (c.want != "") {
			t.Errorf("%s: fault %q and due %s, want fault %q", name, got.PlanFault, got.Due, c.want)
		}
		if c.want == "" && !hours[2].Due.Equal(h.Start().Add(Offset(good))) {
			t.Errorf("%s: due at %s, want %s after %s", name, hours[2].Due, Offset(good), h)
		}
		if hours[0].PlanFault != "" || hours[0].Due.IsZero() || hours[1].PlanFault != "" || !hours[1].Due.IsZero() {
			t.Errorf("%s: it changes what is said of other hours: %+v", name, hours[:2])
		}
		// Without a key nothing is found out.
		examiner.plan, hours[2].PlanFault, hours[2].Due = nil, "", time.Time{}
		v.examine(hours[2:])
		if hours[2].PlanFault != "" || !hours[2].Due.IsZero() {
			t.Errorf("%s: without a key: %+v", name, hours[2])
		}
	}
	for _, size := range []int{1, PlanSize - 1, PlanSize + 1} {
		r := Record{Hour: h, PeerID: planRelay, Plan: make([]byte, size), Attempts: []Attempt{{}}}
		if err := CheckRecord(r, h); err == nil || !bytes.Contains([]byte(err.Error()), []byte("plan of")) {
			t.Errorf("a plan of %d bytes: %v", size, err)
		}
	}
	if _, err := NewExaminer(Keys{Log: planOrigin + "+x", Plan: "x"}); err == nil {
		t.Error("x is a plan key")
	}
}
