// Package durable writes files that are still there, whole, after a power cut.
//
// Every function returns only after the data and the folder entry that names it
// are on disk (fsync of both); until then the file is absent or the older one.
package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
)

// Create writes a file that must not exist yet; if it does, the error wraps
// [fs.ErrExist] and the file stays as it is. A key made with it is made once.
//
// The content is written aside and linked into place, so that a crash in
// between leaves no half file under the name.
func Create(path string, data []byte, perm fs.FileMode) error {
	return CreateFrom(path, bytes.NewReader(data), perm)
}

// Replace writes a file, or puts a new one in place of the old one at once. Whatever the
// mode of the old one, the new one has perm.
func Replace(path string, data []byte, perm fs.FileMode) error {
	dir := filepath.Dir(path)
	// Beside the file, and never in the folder for temporary files of all, which the
	// library prefers: what a crash leaves is then found and swept with the state.
	t, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(perm))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer t.Cleanup()
	if _, err = t.Write(data); err == nil {
		err = t.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a folder durable: what was created, renamed or
// removed in it survives a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// Reason is why the system refused something, without the path.
func Reason(err error) string {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no.Error()
	}
	return err.Error()
}
