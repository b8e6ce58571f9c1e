package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// frontendLock is held by whoever installs packages, for as long as it is at it,
// between its calls of dpkg, too (dpkg(1), DPKG_FRONTEND_LOCKED).
const frontendLock = "var/lib/dpkg/lock-frontend"

// lockTry is the pause between two tries for a lock.
const lockTry = 200 * time.Millisecond

// frontend takes dpkg's frontend lock and waits for those who hold it. The lock
// goes with the process. A process has it once: closing any descriptor of the file
// gives it up (fcntl(2)).
func (m Machine) frontend(ctx context.Context) (unlock func(), err error) {
	path := m.path(frontendLock)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock dpkg: %w", err)
	}
	err = retry(ctx, func() error {
		return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("wait for whoever installs packages (%s): %w", path, err)
	}
	return func() { f.Close() }, nil
}

// alone takes the gate's own lock, at once or not at all: whoever holds it does
// what there is to do.
func (m Machine) alone() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(m.path(StateDir), ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the gate: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errBusy
		}
		return nil, fmt.Errorf("lock the gate: %w", err)
	}
	return func() { f.Close() }, nil
}

var errBusy = errors.New("another relay-appliance is judging: wait until it is done")

// retry tries until it works, or fails for another reason than that somebody else
// holds the lock, or ctx ends.
func retry(ctx context.Context, try func() error) error {
	tick := time.NewTicker(lockTry)
	defer tick.Stop()
	for {
		err := try()
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
