package certstore

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// A real file system, in a mount namespace of a process of its own: it is full, then
// read-only, then it has room again.
func TestFullFileSystem(t *testing.T) {
	if dir := os.Getenv("FULL_FILE_SYSTEM"); dir != "" {
		fullFileSystem(t, dir)
		return
	}
	need.Root(t)
	child := exec.Command(os.Args[0], "-test.run=^TestFullFileSystem$", "-test.v")
	child.Env = append(os.Environ(), "FULL_FILE_SYSTEM="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func fullFileSystem(t *testing.T, dir string) {
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the file system is not full: %v", err)
	}
	folder := filepath.Join(dir, "acme")
	put := func(s *Store, text string, want error) {
		t.Helper()
		must(t, s.Put(t.Context(), domain, []byte(text)))
		if err := s.Check(); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if data, err := s.Get(t.Context(), domain); err != nil || string(data) != text {
			t.Errorf("got %q, %v, want %q", data, err, text)
		}
	}
	onDisk := func(want string) {
		t.Helper()
		if data, err := os.ReadFile(filepath.Join(folder, domain)); err != nil || string(data) != want {
			t.Errorf("on disk: %q, %v, want %q", data, err, want)
		}
	}
	s := New(folder, domain)
	put(s, "first", syscall.ENOSPC)
	must(t, os.Remove(filler))
	must(t, s.Check())
	onDisk("first")
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	put(s, "second", syscall.EROFS)
	onDisk("first")
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=64k"))
	must(t, s.Check())
	onDisk("second")
}
