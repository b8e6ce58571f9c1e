package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// AppendFile is a file that only grows: what Append took is on disk, whole.
type AppendFile struct {
	f    *os.File
	size int64
	bad  error // why nothing more may be written
}

// OpenAppend opens a file for appending and makes it, and its name, if need be.
func OpenAppend(path string, perm fs.FileMode) (*AppendFile, error) {
	_, err := os.Lstat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, perm)
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	a := &AppendFile{f: f}
	if a.size, err = f.Seek(0, 2); err == nil && isNew {
		err = SyncDir(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("append %s: %w", path, err)
	}
	return a, nil
}

// Size is the length of what is on disk.
func (a *AppendFile) Size() int64 { return a.size }

// Append writes p at the end and waits until it is on disk. If p did not fit (a
// full disk), what was written of it is cut off again and a later call may
// succeed. After a failed fsync nobody knows what is on disk: every later call
// is refused, and the file has to be opened and read anew.
func (a *AppendFile) Append(p []byte) error {
	if a.bad != nil {
		return fmt.Errorf("append %s: refused after an earlier failure: %w", a.f.Name(), a.bad)
	}
	if _, err := a.f.Write(p); err != nil {
		if cut := a.Truncate(a.size); cut != nil {
			a.bad = cut
		}
		return fmt.Errorf("append: %w", err)
	}
	if err := a.f.Sync(); err != nil {
		a.bad = err
		return fmt.Errorf("append: %w", err)
	}
	a.size += int64(len(p))
	return nil
}

// Truncate cuts the file to its first n bytes, such as to drop a torn last line.
func (a *AppendFile) Truncate(n int64) error {
	if err := errors.Join(a.f.Truncate(n), a.f.Sync()); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	a.size = n
	return nil
}

// Close lets go of the file.
func (a *AppendFile) Close() error { return a.f.Close() }
