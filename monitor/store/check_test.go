package store

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// Whatever is changed in a store is seen, but for lines that are not sealed yet, and
// what looks as a crash leaves it: a torn last line, a checkpoint not signed yet.
func TestCheckSeesDamage(t *testing.T) {
	s := newSmallMonth(t)
	evidencetest.Must(t, s.log.Close())
	dir := s.log.dir
	good, err := Check(dir, s.Keys.Witnesses...)
	evidencetest.Must(t, err)
	if good.Cosignatures != 10 || good.Others != 0 || len(good.Faults) > 0 {
		t.Fatalf("%+v", good)
	}
	seen := func(what string, harmless bool) {
		t.Helper()
		r, err := Check(dir, s.Keys.Witnesses...)
		if err == nil && len(r.Faults) == 0 && r.Others == 0 && !harmless {
			t.Errorf("%s goes unseen", what)
		}
	}
	for name, data := range readTree(t, dir) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if name == lockFile {
			continue
		}
		fi, err := os.Stat(path)
		evidencetest.Must(t, err)
		put := func(b []byte) { evidencetest.Must(t, os.WriteFile(path, b, fi.Mode())) }
		wal, newest := strings.HasPrefix(name, walDir), name == "checkpoints/00000008"
		for i := 0; i < len(data); i += 1 + len(data)/40 {
			bad := []byte(data)
			bad[i] ^= 1
			put(bad)
			seen(name+": a byte changed", wal)
		}
		put([]byte(data)[:len(data)/2])
		seen(name+": cut", wal)
		put(bytes.Repeat([]byte(data), 2))
		seen(name+": doubled", wal || name == "blocks/2026-11.jsonl") // lines that do not follow are cut
		evidencetest.Must(t, os.Remove(path))
		seen(name+": gone", wal || newest)
		put([]byte(data))
	}
	sound(t, dir)

	for _, name := range []string{"x", "blocks/x", "blocks/2026-11/2026-11-01T05.jsonl.bak", "checkpoints/00000099"} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		evidencetest.Must(t, os.WriteFile(path, []byte("x"), 0o644))
		seen(name+" added", false)
		evidencetest.Must(t, os.Remove(path))
	}
	evidencetest.Must(t, os.Chmod(filepath.Join(dir, keyFile), 0o644))
	r, err := Check(dir, s.Keys.Witnesses[0])
	evidencetest.Must(t, err)
	if r.Cosignatures != 5 || r.Others != 5 {
		t.Errorf("%+v", r)
	}
	if len(r.Faults) != 1 || !strings.Contains(r.Faults[0], "may be read by others") {
		t.Errorf("faults: %q", r.Faults)
	}
	if _, err := Check(dir, "x"); err == nil {
		t.Error("checked with witness x")
	}
	if _, err := Check(t.TempDir()); err == nil {
		t.Error("checked nothing")
	}
}
