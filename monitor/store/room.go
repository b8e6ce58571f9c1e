package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// ErrNoRoom is wrapped by what [Log.Room] says of a disk that is full.
var ErrNoRoom = errors.New("no room for the evidence log")

const (
	// spareBytes are for what is small: headers, checkpoints, cosignatures, and what a
	// monitor keeps beside its log.
	spareBytes = 1 << 20
	// spareFiles are new files: an hour's, certificates, and those that are written aside.
	spareFiles = 64
	// roomFile is written, and removed, to try whether the disk takes anything.
	roomFile = ".room"
)

// Room says why nothing more is to be begun: the file system does not hold n more
// attempts together with the sealing of what is open; or the disk has refused the last
// write and still refuses one. So a disk that fills up stops a monitor while it can
// still seal what it has.
func (l *Log) Room(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return ErrReadOnly
	}
	need := int64(spareBytes + n*(evidence.MaxAttemptBytes+evidence.MaxCertificateBytes))
	for _, w := range l.wals {
		need += w.file.good // sealing an hour takes a copy of it
	}
	free, fs, err := free(l.dir)
	switch {
	case err != nil:
		return err
	case free < need:
		// In whole MB: the words stay the same from one look to the next.
		return fmt.Errorf("%w: less than %d MB are free on the file system of %s: remove what is not needed, or enlarge it", ErrNoRoom, need>>20+1, l.dir)
	case fs.Files > 0 && fs.Ffree < spareFiles: // some file systems do not count them
		return fmt.Errorf("%w: less than %d inodes are free on the file system of %s: remove files that are not needed", ErrNoRoom, spareFiles, l.dir)
	}
	if !l.refused {
		return nil
	}
	path := l.path(walDir, roomFile)
	err = l.disk.Replace(path, make([]byte, evidence.MaxAttemptBytes), 0o644)
	if err := errors.Join(err, l.disk.Remove(path)); err != nil {
		return fmt.Errorf("the disk takes nothing: mend it, and the monitor goes on: %w", err)
	}
	l.refused = false
	return nil
}

// free is how many bytes are free in a folder, and all that its file system says.
func free(dir string) (int64, unix.Statfs_t, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fs, fmt.Errorf("room for the log in %s: %w", dir, err)
	}
	return int64(min(fs.Bavail, 1<<40)) * fs.Bsize, fs, nil
}
