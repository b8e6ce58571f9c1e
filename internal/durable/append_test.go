package durable

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, s := range []string{"one\n", "two\n"} {
		a, err := OpenAppend(path, 0o640)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Append([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantFile(t, path, "one\ntwo\n", 0o640)
	a, err := OpenAppend(path, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.Size() != 8 {
		t.Fatalf("size %d, want 8", a.Size())
	}
	if err := a.Truncate(4); err != nil {
		t.Fatal(err)
	}
	if err := a.Append([]byte("three\n")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "one\nthree\n", 0o640)
}

// A real limit of the kernel on the size of files makes write(2) stop halfway, as a
// full disk does. It is of the whole process, so it is another one.
func TestAppendCutsWhatDidNotFit(t *testing.T) {
	if path := os.Getenv("FULL_DISK"); path != "" {
		fillDisk(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "log")
	child := exec.Command(os.Args[0], "-test.run=^TestAppendCutsWhatDidNotFit$", "-test.v")
	child.Env = append(os.Environ(), "FULL_DISK="+path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantFile(t, path, "kept\nmore\n", 0o640)
}

func fillDisk(t *testing.T, path string) {
	a, err := OpenAppend(path, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Append([]byte("kept\n")); err != nil {
		t.Fatal(err)
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 8, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	err = a.Append([]byte(strings.Repeat("x", 100)))
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("Append beyond the limit: %v", err)
	}
	wantFile(t, path, "kept\n", 0o640)
	if err := a.Append([]byte("more\n")); err != nil {
		t.Fatalf("Append after there was room again: %v", err)
	}
}

func TestAppendRefusesAfterAFailedSync(t *testing.T) {
	// fsync of a pipe fails (EINVAL), writing to it does not.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a := &AppendFile{f: w}
	defer a.Close()
	if err := a.Append([]byte("x")); err == nil {
		t.Fatal("Append with a failing fsync succeeded")
	}
	err = a.Append([]byte("y"))
	if err == nil || !strings.Contains(err.Error(), "refused after an earlier failure") {
		t.Fatalf("second Append: %v", err)
	}
	if a.Size() != 0 {
		t.Fatalf("size %d counts what may not be on disk", a.Size())
	}
}

func TestOpenAppendNeedsTheFolder(t *testing.T) {
	if _, err := OpenAppend(filepath.Join(t.TempDir(), "no", "log"), 0o600); err == nil {
		t.Fatal("opened a file in a folder that is not there")
	}
}
