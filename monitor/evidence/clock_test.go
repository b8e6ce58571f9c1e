package evidence

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// look is a sample: so long after the hour's start by a clock that never steps, the
// wall clock set by so much.
func look(after, set time.Duration) ClockSample {
	const up = 1000 * time.Hour
	return ClockSample{At: TimeOf(firstHour.Start().Add(after + set)), Synchronised: true, UpMS: (up + after).Milliseconds(), Boot: "b1"}
}

// Whatever the clock did in an hour stays with the hour.
func TestSumUpClock(t *testing.T) {
	const min, s, ms = time.Minute, time.Second, time.Millisecond
	unsynchronised := func(x ClockSample) ClockSample { x.Synchronised = false; return x }
	rebooted := func(x ClockSample) ClockSample { x.Boot, x.UpMS = "b2", 5000; return x }
	step := func(after, set, by time.Duration) ClockStep {
		return ClockStep{look(after, set).At, by.Milliseconds()}
	}
	for name, c := range map[string]struct {
		samples []ClockSample
		want    Clock
		moved   bool
	}{
		"nobody looked": {nil, Clock{}, false},
		"even":          {[]ClockSample{look(0, 0), look(10*min, 0)}, Clock{Samples: 2, Synchronised: true}, false},
		"a step of -3 s": {[]ClockSample{look(0, 0), look(10*min, -3*s), look(20*min, -3*s)},
			Clock{3, true, 3000, []ClockStep{step(10*min, -3*s, -3*s)}}, true},
		"there and back": {[]ClockSample{look(0, 0), look(10*min, 6*min), look(11*min, 0), look(20*min, 0)},
			Clock{4, true, 360_000, []ClockStep{step(10*min, 6*min, 6*min), step(11*min, 0, -6*min)}}, true},
		"more and more": {[]ClockSample{look(0, 0), look(10*min, 1500*ms), look(20*min, 3*s)},
			Clock{3, true, 3000, []ClockStep{step(10*min, 1500*ms, 1500*ms), step(20*min, 3*s, 1500*ms)}}, true},
		"a leap second": {[]ClockSample{look(0, 0), look(10*min, -s)},
			Clock{2, true, 1000, []ClockStep{step(10*min, -s, -s)}}, false},
		"small moves add up": {[]ClockSample{look(0, 0), look(10*min, 900*ms), look(20*min, 1800*ms), look(30*min, 2700*ms)},
			Clock{4, true, 2700, nil}, true},
		"right after a step the kernel is not asked": {[]ClockSample{look(0, 0), unsynchronised(look(10*min, 4*s)), look(20*min, 4*s)},
			Clock{3, true, 4000, []ClockStep{step(10*min, 4*s, 4*s)}}, true},
		"later it is": {[]ClockSample{look(0, 0), look(10*min, 4*s), unsynchronised(look(20*min, 4*s))},
			Clock{3, false, 4000, []ClockStep{step(10*min, 4*s, 4*s)}}, true},
		"the next sample vouches": {[]ClockSample{unsynchronised(look(0, 0)), look(10*min, 0)}, Clock{2, true, 0, nil}, false},
		"but not after a step": {[]ClockSample{unsynchronised(look(0, 0)), look(10*min, s), look(20*min, s)},
			Clock{3, false, 1000, []ClockStep{step(10*min, s, s)}}, false},
		"nor after a boot": {[]ClockSample{unsynchronised(look(0, 0)), rebooted(look(10*min, 0))}, Clock{2, false, 0, nil}, false},
		"another boot":     {[]ClockSample{look(0, 0), rebooted(look(10*min, 0)), look(20*min, 0)}, Clock{3, true, 0, nil}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := sumUpClock(c.samples)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("want, got:\n%s", d)
			}
			if got.Moved(MaxDrift) != c.moved {
				t.Errorf("moved: got %v, want %v", !c.moved, c.moved)
			}
			if err := got.check(); err != nil {
				t.Error(err)
			}
		})
	}
	// Steps without number: the header has its bound, and the hour is not trusted.
	var many []ClockSample
	for i := range 3 * MaxSteps {
		many = append(many, look(time.Duration(i)*min, time.Duration(i%2)*s))
	}
	if got := sumUpClock(many); len(got.Steps) != MaxSteps || got.DriftMS != 1000 || !got.Moved(MaxDrift) || got.Fault() == "" {
		t.Errorf("got %d steps, a drift of %d ms, moved %v, fault %q", len(got.Steps), got.DriftMS, got.Moved(MaxDrift), got.Fault())
	}
}

// A header that hides what its clock did is refused.
func TestClockCheck(t *testing.T) {
	at := TimeOf(firstHour.Start())
	for _, c := range []Clock{
		{Samples: -1},
		{Samples: 1, DriftMS: -1},
		{Samples: 1, DriftMS: 1999, Steps: []ClockStep{{at, 2000}}},
		{Samples: 1, DriftMS: 1999, Steps: []ClockStep{{at, -2000}}},
		{Samples: 1, DriftMS: 1999, Steps: []ClockStep{{at, 999}}},
		{Samples: 1, DriftMS: 1000, Steps: make([]ClockStep, MaxSteps+1)},
	} {
		b, err := Encode(Header{Hour: firstHour, State: StateOK, SealedAt: TimeOf(closing(firstHour)), Clock: c})
		must(t, err)
		if _, err := decodeHeader(b); err == nil {
			t.Errorf("took a header with clock %+v", c)
		}
	}
}

// What a log says of an open hour's clock outlasts the process.
func TestClockOfAnOpenHour(t *testing.T) {
	l, dir := newLog(t)
	for _, c := range []struct {
		mark  ClockSample
		now   ClockSample
		drift int64
		even  bool
	}{
		{look(0, 0), look(time.Minute, 0), 0, true},
		{look(0, 0), look(time.Minute, 999*time.Millisecond), 0, true},
		{look(0, 0), look(time.Minute, time.Second), 0, false},
		{look(0, 0), ClockSample{At: look(time.Minute, 0).At, UpMS: 60_000, Boot: "b2"}, 0, false},
		{look(time.Minute, -3*time.Second), look(2*time.Minute, -3*time.Second), 3000, false},
		{look(3*time.Minute, 0), look(4*time.Minute, 0), 3000, false}, // it came back
	} {
		must(t, l.Mark(firstHour, Mark{Clock: &c.mark}))
		must(t, l.Close())
		var err error
		l, err = Open(dir)
		must(t, err)
		if got := l.Clock(firstHour); got.DriftMS != c.drift || l.Even(firstHour, c.now) != c.even {
			t.Errorf("%+v: even %v, want a drift of %d ms, even %v", got, !c.even, c.drift, c.even)
		}
	}
	if l.Even(firstHour+1, look(0, 0)) || l.Clock(firstHour+1, look(0, 0)).Samples != 1 {
		t.Error(fmt.Sprint("an hour that was not begun: ", l.Clock(firstHour+1, look(0, 0))))
	}
	must(t, l.Close())
}
