package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Disk is every way in which a store writes. Each call is whole and durable when
// it returns nil; tests make each of them fail, or die, in turn.
type Disk interface {
	Create(path string, data []byte, perm fs.FileMode) error // fs.ErrExist if it is there
	Replace(path string, data []byte, perm fs.FileMode) error
	OpenAppend(path string, perm fs.FileMode) (Appender, error)
	Mkdir(path string, perm fs.FileMode) error // with parents; none if it is there
	Remove(path string) error                  // none if it is not there
}

// Appender is a file that only grows, see [AppendFile].
type Appender interface {
	Append(p []byte) error
	Close() error
}

// Machine is the disk of the machine.
type Machine struct{}

// Create is [Create].
func (Machine) Create(path string, data []byte, perm fs.FileMode) error {
	return Create(path, data, perm)
}

// Replace is [Replace].
func (Machine) Replace(path string, data []byte, perm fs.FileMode) error {
	return Replace(path, data, perm)
}

// OpenAppend is [OpenAppend].
func (Machine) OpenAppend(path string, perm fs.FileMode) (Appender, error) {
	return OpenAppend(path, perm)
}

// Mkdir makes a folder and those above it, as far as they are not there.
func (d Machine) Mkdir(path string, perm fs.FileMode) error {
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
	return SyncDir(parent)
}

// Remove removes a file; one that is not there is no error.
func (Machine) Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}
