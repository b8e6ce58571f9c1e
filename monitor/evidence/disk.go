package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// disk is every way in which a log writes. Each call is whole and durable when
// it returns nil; tests make each of them fail, or die, in turn.
type disk interface {
	Create(path string, data []byte, perm fs.FileMode) error // fs.ErrExist if it is there
	Replace(path string, data []byte, perm fs.FileMode) error
	OpenAppend(path string, perm fs.FileMode) (appender, error)
	Mkdir(path string, perm fs.FileMode) error // with parents; none if it is there
	Remove(path string) error                  // none if it is not there
}

type appender interface {
	Append(p []byte) error
	Close() error
}

// realDisk is the machine's.
type realDisk struct{}

func (realDisk) Create(path string, data []byte, perm fs.FileMode) error {
	return durable.Create(path, data, perm)
}

func (realDisk) Replace(path string, data []byte, perm fs.FileMode) error {
	return durable.Replace(path, data, perm)
}

func (realDisk) OpenAppend(path string, perm fs.FileMode) (appender, error) {
	return durable.OpenAppend(path, perm)
}

func (d realDisk) Mkdir(path string, perm fs.FileMode) error {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent == path {
		return fmt.Errorf("make folder %s: %w", path, fs.ErrNotExist)
	}
	if err := d.Mkdir(parent, perm); err != nil {
		return err
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(parent)
}

func (realDisk) Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// segment is a file of lines that only grows. What its append took is there
// after a crash; what its append refused is not there, ever.
type segment struct {
	disk disk
	path string
	good int64    // bytes that count
	file appender // nil: not open, or given up after a failure
}

// append writes p, which ends a line. After a failed fsync nobody knows whether
// what the page cache shows is on the disk, so the file is written anew, up to
// what counts, before the next line goes in. The same is done the first time
// after a start, which also drops a torn last line.
func (s *segment) append(p []byte) error {
	if s.file == nil {
		b, err := os.ReadFile(s.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if int64(len(b)) < s.good {
			return fmt.Errorf("append %s: it holds %d bytes, want %d: somebody else writes to it", s.path, len(b), s.good)
		}
		if err := s.disk.Replace(s.path, b[:s.good], 0o644); err != nil {
			return err
		}
		if s.file, err = s.disk.OpenAppend(s.path, 0o644); err != nil {
			s.file = nil
			return err
		}
	}
	if err := s.file.Append(p); err != nil {
		s.close()
		return err
	}
	s.good += int64(len(p))
	return nil
}

func (s *segment) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}
