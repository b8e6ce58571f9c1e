// Package wallclock says whether the machine's clock can be believed when it
// contradicts what was written down before. A machine may start in 1970, or in the
// month to come, and be set right minutes later; what was counted or sealed by then
// for another time cannot be taken back.
package wallclock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
)

const (
	// step is how far the clock may move away from the one that never steps between
	// two looks, before it counts as set.
	step = time.Minute
	// Settle is for how long a clock that no time service keeps must have run evenly
	// before it is believed.
	Settle = time.Hour
)

// Clock watches the machine's clock. The fields are where it looks; make one with
// [New]. It is not for use by several goroutines at once.
type Clock struct {
	Built  time.Time            // the program is not older; zero: not known
	Kept   func() bool          // by a time service
	Uptime func() time.Duration // which never steps

	looked bool
	wall   time.Time     // at the last look
	up     time.Duration // then, too
	set    time.Duration // the uptime when the clock was last set, or first looked at
}

// New is a Clock that looks at this machine's.
func New() *Clock {
	return &Clock{Built: buildinfo.Committed(), Kept: Kept, Uptime: Up}
}

// Kept says whether the kernel has the time from a time service.
func Kept() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state != unix.TIME_ERROR
}

// Doubt says why the clock, which says now, is not to be believed; empty: it is. It is
// to be called again and again: between two calls it cannot see that the clock is set.
func (c *Clock) Doubt(now time.Time) string {
	now = now.Round(0) // without the reading of the clock that never steps
	up := c.Uptime()
	if !c.looked || (now.Sub(c.wall)-(up-c.up)).Abs() > step {
		c.set = up
	}
	c.looked, c.wall, c.up = true, now, up
	switch {
	case c.Kept():
		return ""
	case now.Before(c.Built):
		return fmt.Sprintf("this program was made on %s", c.Built.UTC().Format(time.DateOnly))
	case up-c.set < Settle:
		return "no time service keeps the clock, and it was set, or the program started, less than an hour ago"
	}
	return ""
}
