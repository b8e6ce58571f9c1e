package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// What a log says of an open hour's clock outlasts the process.
func TestClockOfAnOpenHour(t *testing.T) {
	l, dir := newLog(t)
	for _, c := range []struct {
		mark  evidence.ClockSample
		now   evidence.ClockSample
		drift int64
		even  bool
	}{
		{looked(0, 0), looked(time.Minute, 0), 0, true},
		{looked(0, 0), looked(time.Minute, 999*time.Millisecond), 0, true},
		{looked(0, 0), looked(time.Minute, time.Second), 0, false},
		{looked(0, 0), evidence.ClockSample{At: looked(time.Minute, 0).At, UpMS: 60_000, Boot: "b2"}, 0, false},
		{looked(time.Minute, -3*time.Second), looked(2*time.Minute, -3*time.Second), 3000, false},
		{looked(3*time.Minute, 0), looked(4*time.Minute, 0), 3000, false}, // it came back
	} {
		evidencetest.Must(t, l.Mark(evidencetest.FirstHour, evidence.Mark{Clock: &c.mark}))
		evidencetest.Must(t, l.Close())
		var err error
		l, err = Open(dir)
		evidencetest.Must(t, err)
		if got := l.Clock(evidencetest.FirstHour); got.DriftMS != c.drift || l.Even(evidencetest.FirstHour, c.now) != c.even {
			t.Errorf("%+v: even %v, want a drift of %d ms, even %v", got, !c.even, c.drift, c.even)
		}
	}
	if l.Even(evidencetest.FirstHour+1, looked(0, 0)) || l.Clock(evidencetest.FirstHour+1, looked(0, 0)).Samples != 1 {
		t.Error(fmt.Sprint("an hour that was not begun: ", l.Clock(evidencetest.FirstHour+1, looked(0, 0))))
	}
	evidencetest.Must(t, l.Close())
}

// looked is a sample: so long after the hour's start by a clock that never steps, the
// wall clock set by so much.
func looked(after, set time.Duration) evidence.ClockSample {
	const up = 1000 * time.Hour
	return evidence.ClockSample{At: evidence.TimeOf(evidencetest.FirstHour.Start().Add(after + set)), Synchronised: true, UpMS: (up + after).Milliseconds(), Boot: "b1"}
}
