package builder

import (
	"context"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// settle makes no file younger than the build's time: what was written just now
// would differ from build to build.
func (b *build) settle(ctx context.Context) error {
	return filepath.WalkDir(b.tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		at := unix.Timespec{Sec: min(st.Mtim.Sec, b.Epoch)}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "set the time of", Path: path, Err: err}
		}
		return nil
	})
}
