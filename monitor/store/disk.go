package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// segment is a file of lines that only grows. What its append took is there
// after a crash; what its append refused is not there, ever.
type segment struct {
	disk durable.Disk
	path string
	good int64            // bytes that count
	file durable.Appender // nil: not open, or given up after a failure
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
