package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Denied adds to an error why a program may not use its data folder, and what mends
// it. An error that has another reason stays as it is.
func Denied(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: nothing can be written to %s: take a folder that can be, in a container a volume at that place", err, dir)
	case !errors.Is(err, fs.ErrPermission):
		return err
	}
	at := dir
	info, statErr := os.Stat(at)
	for statErr != nil && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		info, statErr = os.Stat(at)
	}
	if statErr != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return err
	}
	mend := fmt.Sprintf("chown -R %d:%d %s", os.Geteuid(), os.Getegid(), dir)
	if at != dir {
		mend = fmt.Sprintf("install -d -m 700 -o %d -g %d %s", os.Geteuid(), os.Getegid(), dir)
	}
	return fmt.Errorf("%w: %s is of user %d (mode %04o), and this program runs as user %d: give it its folder, as root: %s (for a container, the folder on the host that is mounted there)",
		err, at, owner.Uid, info.Mode().Perm(), os.Geteuid(), mend)
}
