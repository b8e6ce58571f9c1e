// Package durabletest has disks for tests: one that does not wait, and one on which
// writes fail, or the process dies in them.
package durabletest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// memoryDisk writes as the real one does, without waiting for the disk.
type MemoryDisk struct{}

func (MemoryDisk) Create(path string, data []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (MemoryDisk) Replace(path string, data []byte, perm fs.FileMode) error {
	if err := os.WriteFile(path+".tmp", data, perm); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (MemoryDisk) OpenAppend(path string, perm fs.FileMode) (durable.Appender, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, perm)
	return memoryAppender{f}, err
}

func (MemoryDisk) Mkdir(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

func (MemoryDisk) Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

type memoryAppender struct{ *os.File }

func (a memoryAppender) Append(p []byte) error {
	_, err := a.Write(p)
	return err
}

// mishap is what befalls a write.
type Mishap int

const (
	FailBefore Mishap = iota // nothing was written (full disk)
	FailHalf                 // a part was written
	FailAfter                // all was written, and the disk said no (EIO at the last fsync)
	KillBefore
	KillHalf
	KillAfter
	Mishaps
)

func (m Mishap) kill() bool { return m >= KillBefore }

// killed is panicked with where the process dies.
type Killed struct{ Site string }

// badDisk counts its writes and lets a mishap befall some.
type BadDisk struct {
	Real  durable.Disk
	Count int
	Hits  int // mishaps that befell
	When  func(n int) (Mishap, bool)
	Sites []string // of the writes, in order
}

// write runs one of the disk's writes; half leaves behind what a crash in its
// middle would.
func (d *BadDisk) write(site string, whole func() error, half func()) error {
	d.Count++
	d.Sites = append(d.Sites, site)
	m, ok := d.When(d.Count)
	if !ok {
		return whole()
	}
	switch m {
	case FailHalf, KillHalf:
		half()
	case FailAfter, KillAfter:
		if err := whole(); err != nil {
			return err
		}
	}
	d.Hits++
	if m.kill() {
		panic(Killed{site})
	}
	if m == FailBefore {
		return fmt.Errorf("%s: %w", site, syscall.ENOSPC)
	}
	return fmt.Errorf("%s: %w", site, syscall.EIO)
}

// temporary is a file that a write which never ended leaves beside the real one.
func temporary(path string, data []byte) func() {
	return func() {
		os.WriteFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".123"), data[:len(data)/2], 0o600)
	}
}

func (d *BadDisk) Create(path string, data []byte, perm fs.FileMode) error {
	return d.write("create "+filepath.Base(path), func() error { return d.Real.Create(path, data, perm) }, temporary(path, data))
}

func (d *BadDisk) Replace(path string, data []byte, perm fs.FileMode) error {
	return d.write("replace "+filepath.Base(path), func() error { return d.Real.Replace(path, data, perm) }, temporary(path, data))
}

func (d *BadDisk) Mkdir(path string, perm fs.FileMode) error {
	return d.write("mkdir "+filepath.Base(path), func() error { return d.Real.Mkdir(path, perm) }, func() {})
}

func (d *BadDisk) Remove(path string) error {
	return d.write("remove "+filepath.Base(path), func() error { return d.Real.Remove(path) }, func() {})
}

func (d *BadDisk) OpenAppend(path string, perm fs.FileMode) (a durable.Appender, err error) {
	err = d.write("open "+filepath.Base(path), func() error {
		a, err = d.Real.OpenAppend(path, perm)
		return err
	}, func() {})
	if err != nil {
		return nil, err
	}
	return &badAppender{d, path, a}, nil
}

type badAppender struct {
	disk *BadDisk
	path string
	durable.Appender
}

func (a *badAppender) Append(p []byte) error {
	return a.disk.write("append "+filepath.Base(a.path), func() error { return a.Appender.Append(p) }, func() {
		a.Appender.Append(p[:len(p)/2])
	})
}
