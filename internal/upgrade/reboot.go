package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// rebootFile is left by packages that are in effect only after a restart, such as a
// kernel.
const rebootFile = "run/reboot-required"

func (m Machine) rebootRequired() bool { return exists(m.path(rebootFile)) }

// RebootIfNeeded restarts the machine if an update needs that and it may be now: in
// the window and the machine's turn, not too soon after the last time, with nothing
// being installed or judged, and the siblings up. It says why not.
//
// unattended-upgrades could restart the machine, too, but as soon as it is done, while
// the new version is still being judged, and every night.
func (g *Gate) RebootIfNeeded(ctx context.Context, client *http.Client, now time.Time) (why string, err error) {
	if !g.Machine.rebootRequired() {
		return "nothing needs a restart", nil
	}
	if !g.Settings.Reboot {
		return "updates.reboot is off: restart the machine when it suits you", nil
	}
	release, err := g.Machine.alone()
	if errors.Is(err, errBusy) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	defer release()
	s, err := g.Machine.Load()
	if err != nil {
		return "", err
	}
	if rest := g.Settings.RebootEvery - age(s.Rebooted, now); rest > 0 {
		return fmt.Sprintf("the last restart was at %s, the next one may be in %s", s.Rebooted.Format(time.RFC3339), rest.Round(time.Minute)), nil
	}
	if err := g.Turn(ctx, client, now); errors.Is(err, errNotNow) || errors.Is(err, errOff) {
		return err.Error(), nil
	} else if err != nil {
		return "", err
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// Held until the machine goes down.
	unlock, err := g.Machine.frontend(wait)
	if errors.Is(err, context.DeadlineExceeded) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	defer unlock()
	if s, err = g.Machine.Load(); err != nil {
		return "", err
	}
	have, err := g.Machine.installed(ctx)
	if err != nil {
		return "", err
	}
	if !s.proven(have) {
		return "an update is still to be judged", nil
	}
	s.Rebooted = now.UTC().Truncate(time.Second)
	at := now.Add(g.Notice)
	if err := g.Machine.save(s, &maintenance.Planned{From: at.UTC().Truncate(time.Second), To: at.Add(10 * time.Minute).UTC().Truncate(time.Second), Why: "the machine restarts to put updates of the system into effect"}); err != nil {
		return "", err
	}
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(g.Notice):
	}
	if err := g.Machine.Units.Reboot(ctx); err != nil {
		return "", fmt.Errorf("restart the machine: %w", err)
	}
	return "the machine restarts", nil
}
