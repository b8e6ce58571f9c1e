package schedule

import (
	"time"

	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Moment is one instant by two clocks. The wall's names hours and is what the log
// shows; it may be set, in either direction, at any time. What lies between two
// moments is told by the steady one alone.
type Moment struct {
	Wall   time.Time     // without a monotonic reading, so that Sub takes the wall's
	Steady time.Duration // never steps, and goes on while the machine sleeps
}

// Stepped says whether the wall clock was set between two moments.
func (m Moment) Stepped(since Moment) bool {
	return (m.Wall.Sub(since.Wall) - (m.Steady - since.Steady)).Abs() >= evidence.MinStep
}

// Machine is where a monitor reads the time.
type Machine struct {
	Now  func() Moment
	Kept func() bool // by a time service
	Boot string      // since which the steady clock counts
}

// ThisMachine reads the clocks of the machine on which the program runs.
func ThisMachine() Machine {
	return Machine{
		Now: func() Moment {
			wall, up := wallclock.Now()
			return Moment{wall, up}
		},
		Kept: wallclock.Kept,
		Boot: wallclock.Boot(),
	}
}

// Sample is what the log keeps of a moment (rule R9).
func (c Machine) Sample(at Moment) evidence.ClockSample {
	return evidence.ClockSample{At: evidence.TimeOf(at.Wall), Synchronised: c.Kept(), UpMS: at.Steady.Milliseconds(), Boot: c.Boot}
}
