package evidence_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// look is a sample: so long after the hour's start by a clock that never steps, the
// wall clock set by so much.
func look(after, set time.Duration) evidence.ClockSample {
	const up = 1000 * time.Hour
	return evidence.ClockSample{At: evidence.TimeOf(evidencetest.FirstHour.Start().Add(after + set)), Synchronised: true, UpMS: (up + after).Milliseconds(), Boot: "b1"}
}

// Whatever the clock did in an hour stays with the hour.
func TestSumUpClock(t *testing.T) {
	const min, s, ms = time.Minute, time.Second, time.Millisecond
	unsynchronised := func(x evidence.ClockSample) evidence.ClockSample { x.Synchronised = false; return x }
	rebooted := func(x evidence.ClockSample) evidence.ClockSample { x.Boot, x.UpMS = "b2", 5000; return x }
	step := func(after, set, by time.Duration) evidence.ClockStep {
		return evidence.ClockStep{At: look(after, set).At, ByMS: by.Milliseconds()}
	}
	for name, c := range map[string]struct {
		samples []evidence.ClockSample
		want    evidence.Clock
		moved   bool
	}{
		"nobody looked": {nil, evidence.Clock{}, false},
		"even":          {[]evidence.ClockSample{look(0, 0), look(10*min, 0)}, evidence.Clock{Samples: 2, Synchronised: true}, false},
		"a step of -3 s": {[]evidence.ClockSample{look(0, 0), look(10*min, -3*s), look(20*min, -3*s)},
			evidence.Clock{Samples: 3, Synchronised: true, DriftMS: 3000, Steps: []evidence.ClockStep{step(10*min, -3*s, -3*s)}}, true},
		"there and back": {[]evidence.ClockSample{look(0, 0), look(10*min, 6*min), look(11*min, 0), look(20*min, 0)},
			evidence.Clock{Samples: 4, Synchronised: true, DriftMS: 360_000, Steps: []evidence.ClockStep{step(10*min, 6*min, 6*min), step(11*min, 0, -6*min)}}, true},
		"more and more": {[]evidence.ClockSample{look(0, 0), look(10*min, 1500*ms), look(20*min, 3*s)},
			evidence.Clock{Samples: 3, Synchronised: true, DriftMS: 3000, Steps: []evidence.ClockStep{step(10*min, 1500*ms, 1500*ms), step(20*min, 3*s, 1500*ms)}}, true},
		"a leap second": {[]evidence.ClockSample{look(0, 0), look(10*min, -s)},
			evidence.Clock{Samples: 2, Synchronised: true, DriftMS: 1000, Steps: []evidence.ClockStep{step(10*min, -s, -s)}}, false},
		"small moves add up": {[]evidence.ClockSample{look(0, 0), look(10*min, 900*ms), look(20*min, 1800*ms), look(30*min, 2700*ms)},
			evidence.Clock{Samples: 4, Synchronised: true, DriftMS: 2700, Steps: nil}, true},
		"right after a step the kernel is not asked": {[]evidence.ClockSample{look(0, 0), unsynchronised(look(10*min, 4*s)), look(20*min, 4*s)},
			evidence.Clock{Samples: 3, Synchronised: true, DriftMS: 4000, Steps: []evidence.ClockStep{step(10*min, 4*s, 4*s)}}, true},
		"later it is": {[]evidence.ClockSample{look(0, 0), look(10*min, 4*s), unsynchronised(look(20*min, 4*s))},
			evidence.Clock{Samples: 3, Synchronised: false, DriftMS: 4000, Steps: []evidence.ClockStep{step(10*min, 4*s, 4*s)}}, true},
		"the next sample vouches": {[]evidence.ClockSample{unsynchronised(look(0, 0)), look(10*min, 0)}, evidence.Clock{Samples: 2, Synchronised: true, DriftMS: 0, Steps: nil}, false},
		"but not after a step": {[]evidence.ClockSample{unsynchronised(look(0, 0)), look(10*min, s), look(20*min, s)},
			evidence.Clock{Samples: 3, Synchronised: false, DriftMS: 1000, Steps: []evidence.ClockStep{step(10*min, s, s)}}, false},
		"nor after a boot": {[]evidence.ClockSample{unsynchronised(look(0, 0)), rebooted(look(10*min, 0))}, evidence.Clock{Samples: 2, Synchronised: false, DriftMS: 0, Steps: nil}, false},
		"another boot":     {[]evidence.ClockSample{look(0, 0), rebooted(look(10*min, 0)), look(20*min, 0)}, evidence.Clock{Samples: 3, Synchronised: true, DriftMS: 0, Steps: nil}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := evidence.SumUpClock(c.samples)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("want, got:\n%s", d)
			}
			if got.Moved(evidence.MaxDrift) != c.moved {
				t.Errorf("moved: got %v, want %v", !c.moved, c.moved)
			}
			if err := evidence.CheckClock(got); err != nil {
				t.Error(err)
			}
		})
	}
	// Steps without number: the header has its bound, and the hour is not trusted.
	var many []evidence.ClockSample
	for i := range 3 * evidence.MaxSteps {
		many = append(many, look(time.Duration(i)*min, time.Duration(i%2)*s))
	}
	if got := evidence.SumUpClock(many); len(got.Steps) != evidence.MaxSteps || got.DriftMS != 1000 || !got.Moved(evidence.MaxDrift) || got.Fault() == "" {
		t.Errorf("got %d steps, a drift of %d ms, moved %v, fault %q", len(got.Steps), got.DriftMS, got.Moved(evidence.MaxDrift), got.Fault())
	}
}

// A header that hides what its clock did is refused.
func TestClockCheck(t *testing.T) {
	at := evidence.TimeOf(evidencetest.FirstHour.Start())
	for _, c := range []evidence.Clock{
		{Samples: -1},
		{Samples: 1, DriftMS: -1},
		{Samples: 1, DriftMS: 1999, Steps: []evidence.ClockStep{{At: at, ByMS: 2000}}},
		{Samples: 1, DriftMS: 1999, Steps: []evidence.ClockStep{{At: at, ByMS: -2000}}},
		{Samples: 1, DriftMS: 1999, Steps: []evidence.ClockStep{{At: at, ByMS: 999}}},
		{Samples: 1, DriftMS: 1000, Steps: make([]evidence.ClockStep, evidence.MaxSteps+1)},
	} {
		b, err := evidence.Encode(evidence.Header{Hour: evidencetest.FirstHour, State: evidence.StateOK, SealedAt: evidence.TimeOf(evidencetest.Closing(evidencetest.FirstHour)), Clock: c})
		evidencetest.Must(t, err)
		if _, err := evidence.DecodeHeader(b); err == nil {
			t.Errorf("took a header with clock %+v", c)
		}
	}
}
