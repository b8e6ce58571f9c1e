package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What the system refused is said with who owns the folder, and how that is mended.
func TestDenied(t *testing.T) {
	dir := t.TempDir()
	refused := &fs.PathError{Op: "open", Path: filepath.Join(dir, "key"), Err: syscall.EACCES}
	for _, tc := range []struct {
		dir  string
		err  error
		want string
	}{
		{dir, refused, fmt.Sprintf("is of user %d (mode 0755), and this program runs as user %d: give it its folder, as root: chown -R %[2]d:", os.Getuid(), os.Geteuid())},
		{filepath.Join(dir, "a/b"), refused, fmt.Sprintf(": %s is of user", dir)},
		{filepath.Join(dir, "a/b"), refused, "install -d -m 700 -o "},
		{dir, fmt.Errorf("make it: %w", syscall.EROFS), "nothing can be written to " + dir},
	} {
		got := Denied(tc.dir, tc.err)
		if !errors.Is(got, tc.err) || !strings.Contains(got.Error(), tc.want) {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	for _, err := range []error{nil, fs.ErrNotExist, syscall.ENOSPC} {
		if got := Denied(dir, err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
