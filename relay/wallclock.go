package relay

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
)

const (
	// clockStep is how far the clock may move away from the one that never steps
	// between two looks, before it counts as set.
	clockStep = time.Minute
	// settleTime is for how long a clock that no time service keeps must have run
	// evenly before it is believed. Most wrong clocks are set right within minutes of
	// the start.
	settleTime = time.Hour
)

// wallClock says whether the machine's clock can be believed when it contradicts
// what was written down before: it may start in 1970, or in the month to come, and
// be set right later.
type wallClock struct {
	built  time.Time            // the program is not older; zero: not known
	kept   func() bool          // by a time service, as the kernel has it
	uptime func() time.Duration // which never steps

	looked bool
	wall   time.Time     // at the last look
	up     time.Duration // then, too
	set    time.Duration // the uptime when the clock was last set, or first looked at
}

func newWallClock() *wallClock {
	start := time.Now()
	return &wallClock{built: buildinfo.Committed(), kept: clockKept, uptime: func() time.Duration { return time.Since(start) }}
}

// clockKept says whether the kernel has the time from a time service.
func clockKept() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state != unix.TIME_ERROR
}

// doubt says why the clock is not to be believed; empty: it is.
func (c *wallClock) doubt(now time.Time) string {
	now = now.Round(0) // without the reading of the clock that never steps
	up := c.uptime()
	if !c.looked || (now.Sub(c.wall)-(up-c.up)).Abs() > clockStep {
		c.set = up
	}
	c.looked, c.wall, c.up = true, now, up
	switch {
	case c.kept():
		return ""
	case now.Before(c.built):
		return fmt.Sprintf("this program was made on %s", c.built.UTC().Format(time.DateOnly))
	case up-c.set < settleTime:
		return "no time service keeps the clock, and it was set, or the relay started, less than an hour ago"
	}
	return ""
}
