package monitor

import (
	"time"

	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// sampleClock looks at this machine's clock (rule R9): whether the kernel says
// that it is synchronised, and how far the wall clock has moved away from the
// monotonic one since begun.
func sampleClock(begun, now time.Time) evidence.ClockSample {
	// Round(0) strips the monotonic reading, so that Sub takes the wall clock.
	drift := now.Round(0).Sub(begun.Round(0)) - now.Sub(begun)
	return evidence.ClockSample{
		At:           evidence.TimeOf(now),
		Synchronised: wallclock.Kept(),
		DriftMS:      drift.Milliseconds(),
	}
}
