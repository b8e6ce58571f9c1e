package durable

import (
	"os"
	"syscall"
	"time"
)

// Stamp tells two versions of a file apart.
type Stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// StampOf is that of a file; the zero value: there is none.
func StampOf(path string) Stamp {
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{}
	}
	s := Stamp{modified: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}
