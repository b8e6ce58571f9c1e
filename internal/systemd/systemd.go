// Package systemd tells systemd, if it started the program, how the program is.
// Elsewhere its functions do nothing.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready says that the program serves.
func Ready(log *slog.Logger) { tell(log, daemon.SdNotifyReady) }

// Stopping says that the program ends.
func Stopping(log *slog.Logger) { tell(log, daemon.SdNotifyStopping) }

// Reloading says that a reload began; [Ready] ends it. The time stamp is what
// Type=notify-reload wants of a reload that systemd asked for.
func Reloading(log *slog.Logger) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		log.Warn("could not read the clock for systemd", "err", err)
		return
	}
	tell(log, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// Watchdog assures systemd that the program works, as often as it wants to hear
// it, until ctx ends. A program that is stuck cannot, and is started again.
func Watchdog(ctx context.Context, log *slog.Logger, works func() bool) {
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
			if works() {
				tell(log, daemon.SdNotifyWatchdog)
			}
		}
	}
}

func tell(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("could not tell systemd", "state", state, "err", err)
	}
}
