package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestCreateOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := Create(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second Create: %v, want fs.ErrExist", err)
	}
	wantFile(t, path, "first", 0o600)
	wantNames(t, filepath.Dir(path), "key")
}

// A USB stick has no links; what is there is not replaced on it either.
func TestCreateWithoutLinks(t *testing.T) {
	link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM} }
	t.Cleanup(func() { link = os.Link })
	path := filepath.Join(t.TempDir(), "backup")
	if err := Create(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := name(path, path); !errors.Is(err, fs.ErrExist) { // as if made meanwhile
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if err := Create(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v, want fs.ErrExist", err)
	}
	wantFile(t, path, "first", 0o600)
	wantNames(t, filepath.Dir(path), "backup")
}

func TestCreateFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := Create(link, []byte("x"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("Create over a dangling link: %v, want fs.ErrExist", err)
	}
	if _, err := os.Stat(target); err == nil {
		t.Fatal("the link's target was written")
	}
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, s := range []string{"one", "two"} {
		if err := Replace(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, s, 0o644)
	}
	// A secret that gets into the file is not for those who could read it before.
	if err := Replace(path, []byte("three"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "three", 0o600)
	wantNames(t, filepath.Dir(path), "state")
}

func TestErrorsNameThePath(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no", "such", "folder")
	for name, err := range map[string]error{
		"Create":  Create(missing, nil, 0o600),
		"Replace": Replace(missing, nil, 0o600),
		"SyncDir": SyncDir(missing),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want fs.ErrNotExist", name, err)
		}
	}
}

func wantFile(t *testing.T, path, content string, perm fs.FileMode) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != content {
		t.Fatalf("%s holds %q, want %q", path, b, content)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != perm {
		t.Fatalf("%s has mode %v, want %v", path, fi.Mode().Perm(), perm)
	}
}

// wantNames checks that no temporary file was left behind.
func wantNames(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if len(got) != len(names) || got[0] != names[0] {
		t.Fatalf("%s holds %q, want %q", dir, got, names)
	}
}
