package relay

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/stateformat"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// The package refuses a downgrade by the same number as the program.
func TestThePackageKnowsTheStateFormat(t *testing.T) {
	script, err := os.ReadFile("../image/deb/relayd/preinst")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^format=(\d+)$`).FindSubmatch(script)
	if m == nil || string(m[1]) != strconv.Itoa(stateFormat.Number) {
		t.Errorf("preinst says %q, the program %d", m, stateFormat.Number)
	}
}

func TestStateOfANewerVersionIsLeftAlone(t *testing.T) {
	cfg := config.DefaultConfig()
	cfg.DataDir = t.TempDir()
	if _, err := New(cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if f, err := stateformat.Read(cfg.DataDir); err != nil || f != stateFormat {
		t.Fatalf("the folder's note says %v, %v", f, err)
	}
	newer := stateformat.Format{Number: stateFormat.Number + 2, ReadableBy: stateFormat.Number + 1}
	if err := newer.Note(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "install a newer version") {
		t.Fatalf("a version that is too old starts: %v", err)
	}
	// And one step back from a version that kept it readable.
	if err := os.WriteFile(filepath.Join(cfg.DataDir, stateformat.Name), []byte("format 2\nreadable-by 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("one step back: %v", err)
	}
	after, err := os.ReadDir(cfg.DataDir)
	if err != nil || len(after) != len(before) {
		t.Errorf("%d files, before %d (%v)", len(after), len(before), err)
	}
}
