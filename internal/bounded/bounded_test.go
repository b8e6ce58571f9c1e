package bounded

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

func TestReadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("12345"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(name, 5); err != nil || string(b) != "12345" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := ReadFile(name, 4); err == nil || !strings.Contains(err.Error(), name+": more than 4 bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := ReadFile("/dev/zero", 4); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
		t.Errorf("without an end: got %v", err)
	}
	pipe := name + ".pipe"
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{pipe, filepath.Dir(name)} { // to open the pipe would not end
		if _, err := ReadFile(no, 5); err == nil || !strings.Contains(err.Error(), no+" is no file") {
			t.Errorf("got %v", err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.WriteString("12345")
	w.Close()
	if b, err := ReadFile(fmt.Sprintf("/dev/fd/%d", r.Fd()), 5); err != nil || string(b) != "12345" {
		t.Errorf("of a shell: got %q, %v", b, err)
	}
	if _, err := ReadFile(name+"x", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
