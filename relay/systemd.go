package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notify tells systemd, if it started the relay, what state the relay is in.
func (r *Relay) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		r.log.Warn("could not tell systemd", "state", state, "error", err)
	}
}

// notifyReload tells systemd that a reload began; ready ends it. The time stamp
// is what Type=notify-reload wants of a reload that systemd asked for.
func (r *Relay) notifyReload() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		r.log.Warn("could not read the clock for systemd", "error", err)
		return
	}
	r.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// watchdog assures systemd that the relay works, as often as it wants to hear it,
// until ctx ends. A relay that is stuck cannot, and is started again.
func (r *Relay) watchdog(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// Status takes every lock that serving needs.
			if r.Status().Healthy {
				r.notify(daemon.SdNotifyWatchdog)
			}
		}
	}
}
