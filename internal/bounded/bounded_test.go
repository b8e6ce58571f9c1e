package bounded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	if _, err := ReadFile(name+"x", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
