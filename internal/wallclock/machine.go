package wallclock

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Now reads both clocks of the machine in one moment: the wall's, which may be set,
// without a reading of Go's own clock, and [Up].
func Now() (wall time.Time, up time.Duration) {
	// A process may be stopped between two readings, which would look as if the clock
	// had been set.
	const together, tries = 10 * time.Millisecond, 10
	for range tries {
		before := Up()
		wall = time.Now().Round(0)
		if up = Up(); up-before < together {
			break
		}
	}
	return wall, up
}

// Up is for how long the machine has been up, by a clock that never steps and goes on
// while the machine sleeps (CLOCK_BOOTTIME). A time service may slew it, together
// with the wall clock.
func Up() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Since(started) // not on Linux
	}
	return time.Duration(ts.Nano())
}

var started = time.Now()

// Boot names the boot since which [Up] counts; empty: not known.
var Boot = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})
