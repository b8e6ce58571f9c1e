package tiles

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

func export(t *testing.T, m *scene.Watcher, dir string) Exported {
	t.Helper()
	out, err := Export(t.Context(), m.Log, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// An export goes on where the last one ended, writes only what is new, and comes to the
// same as one that is made at once.
func TestExportGoesOn(t *testing.T) {
	w := scene.New(t, evidence.Lab, 2)
	w.Watch(nil)
	m := w.Monitors[0]
	dir := t.TempDir()
	first := export(t, m, dir)
	if want := (Exported{Origin: m.Log.Origin(), Size: 78, Blocks: 78, Records: 6, Certificates: 1, Checkpoints: 7}); first != want {
		t.Errorf("the first export: %+v, want %+v", first, want)
	}
	if again, want := export(t, m, dir), (Exported{Origin: m.Log.Origin(), Size: 78}); again != want {
		t.Errorf("an export of nothing new: %+v, want %+v", again, want)
	}
	before := times(t, dir)
	w.Seal(m, w.First.End().Add(300*time.Hour+17*time.Minute))
	more(t, w, m)
	// A cosignature comes in late, under a checkpoint that was exported.
	key, vkey := scene.NewWitness(t, "late.example.org")
	old, err := m.Log.CheckpointOf(78)
	w.Must(err)
	w.Must(m.Log.AddCosignatures(78, scene.Cosign(key, vkey, old, w.AsOf), vkey))
	second := export(t, m, dir)
	if want := (Exported{Origin: m.Log.Origin(), Size: 302, Blocks: 224, Records: 1, Checkpoints: 3}); second != want {
		t.Errorf("the second export: %+v, want %+v", second, want)
	}
	after := times(t, dir)
	for name, at := range before {
		if name == "checkpoint" || name == "checkpoints/00000078" || strings.Contains(name, suffixPartial) {
			continue
		}
		if after[name] != at {
			t.Errorf("%s was written anew", name)
		}
	}
	whole := t.TempDir()
	export(t, m, whole)
	want, got := exported(t, whole), exported(t, dir)
	if !maps.Equal(got, want) {
		t.Errorf("step by step there are\n%v\nat once\n%v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if !strings.Contains(got["checkpoints/00000078"], "late.example.org") {
		t.Error("the late cosignature is not exported")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func times(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	for name := range exported(t, dir) {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = fi.ModTime()
	}
	return out
}

// Partial tiles stay until the full one is there: others may follow a checkpoint that was
// the last a moment ago.
func TestExportKeepsPartialTiles(t *testing.T) {
	w := scene.New(t, evidence.Lab, 1)
	w.Watch(nil)
	m, dir := w.Monitors[0], t.TempDir()
	export(t, m, dir)
	more(t, w, m)
	export(t, m, dir)
	for _, name := range []string{"tile/0/000.p/78", "tile/0/000.p/79", "tile/entries/000.p/78", "tile/entries/000.p/79"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	w.Seal(m, w.First.End().Add(300*time.Hour+17*time.Minute))
	export(t, m, dir)
	for name := range exported(t, dir) {
		if strings.Contains(name, "000.p/") && !strings.HasPrefix(name, "tile/1/") {
			t.Errorf("%s is there beside the full one", name)
		}
	}
}

// The file checkpoint is never ahead of what is there, and what is not whole is not there.
func TestExportStopsAndGoesOn(t *testing.T) {
	_, m := watched(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var told []int64
	_, err := Export(ctx, m.Log, dir, func(done, size int64) { told = append(told, done, size); cancel() })
	if err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Fatalf("an export that is stopped says %v", err)
	}
	if want := []int64{78, 304}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v: the last checkpoint of the first bundle", told, want)
	}
	// What a kill may leave: a file that was written aside, and partial tiles beside the full one.
	must(t, os.WriteFile(filepath.Join(dir, "records", ".00000303.jsonl.123"), []byte("half"), 0o600))
	export(t, m, dir)
	must(t, os.MkdirAll(filepath.Join(dir, "tile/0/000.p"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "tile/0/000.p/78"), []byte("old"), 0o644))
	export(t, m, dir)
	whole := t.TempDir()
	export(t, m, whole)
	want, got := exported(t, whole), exported(t, dir)
	if _, ok := got["tile/0/000.p/78"]; ok {
		t.Error("a partial tile stays beside the full one")
	}
	for name := range got {
		if want[name] != got[name] && !strings.Contains(name, suffixPartial) {
			t.Errorf("%s differs, or is left over", name)
		}
	}
	if len(want) > len(got) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

// A folder of somebody's own files is refused as it is; and in a log's folder nothing is
// swept away but what a killed process left of a log.
func TestExportLeavesWhatIsNotOfALog(t *testing.T) {
	_, m := watched(t)
	strangers := []string{".bashrc", ".env", ".checkpoints1", "notes", "notes.p/thesis.txt", "project/.gitignore", "tile/0/.keep", "tile/0/notes", "tile/0/notes.p/78",
		"tile/0/000.p/notes.txt", "records/.00000303.jsonl", "records/.hidden.123", "records/a/.00000303.jsonl.123", "forks/.00000303.123", "x/records/.00000303.jsonl.123"}
	left := []string{".checkpoint123", "records/.00000303.jsonl.123", "checkpoints/.00000304.456", "checkpoints/.00000304456", "tile/0/.000.78", "tile/0/000.p/78", "tile/0/000.p/.78.9",
		"tile/entries/000.p/78", "tile/entries/001.p/.48.9", "certificates/." + strings.Repeat("a0", 32) + ".der.7", "forks/.00000303-0123abcd.fork.7"}
	write := func(dir string, names ...string) {
		t.Helper()
		for _, name := range names {
			path := filepath.Join(dir, name)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(name), 0o644))
		}
	}
	for _, names := range [][]string{strangers, {".bashrc"}, {"notes"}, {"records/.00000303.jsonl.123"}, {"checkpoint/.123"}, {lockFile, "tile"}} {
		dir := t.TempDir()
		write(dir, names...)
		before, err := fs.Glob(os.DirFS(dir), "*")
		must(t, err)
		if _, err := Export(t.Context(), m.Log, dir, nil); !errors.Is(err, ErrTaken) {
			t.Errorf("a folder that holds %q: %v", names, err)
		}
		after, err := fs.Glob(os.DirFS(dir), "*")
		must(t, err)
		held := exported(t, dir)
		for _, name := range names {
			if name != lockFile && held[name] != name {
				t.Errorf("%s is gone from a folder that was refused", name)
			}
		}
		if !slices.Equal(before, after) {
			t.Errorf("the folder held %q, and after it was refused %q", before, after)
		}
	}

	dir := t.TempDir()
	write(dir, lockFile) // and what a first look leaves that is killed
	write(dir, "records/.00000303.jsonl.123", ".checkpoint123")
	export(t, m, dir)
	want := exported(t, dir)
	write(dir, append(left, strangers...)...)
	export(t, m, dir)
	got := exported(t, dir)
	for _, name := range strangers {
		if got[name] != name {
			t.Errorf("%s is gone", name)
		}
		delete(got, name)
	}
	if !maps.Equal(want, got) {
		t.Errorf("the log's own files are\n%q\nwant\n%q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestExportRefuses(t *testing.T) {
	w := scene.New(t, evidence.Lab, 2)
	w.Watch(nil)
	dir := t.TempDir()
	older := filepath.Join(t.TempDir(), "older")
	w.Must(os.CopyFS(older, os.DirFS(w.Monitors[0].Dir)))
	more(t, w, w.Monitors[0])
	export(t, w.Monitors[0], dir)
	refused := func(src Source, why string) {
		t.Helper()
		before := exported(t, dir)
		if _, err := Export(t.Context(), src, dir, nil); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
		if !maps.Equal(before, exported(t, dir)) {
			t.Errorf("the folder was changed (%s)", why)
		}
	}
	refused(w.Monitors[1].Log, "another log")
	twin, err := store.Open(older)
	w.Must(err)
	defer twin.Close()
	refused(twin, "older copy")
	for range 3 {
		_, err = twin.Seal(w.AsOf.Add(10 * time.Hour))
		w.Must(err)
	}
	refused(twin, "another history")
	f, err := OpenFolder(dir)
	w.Must(err)
	defer f.Close()
	refused(w.Monitors[0].Log, "in use")
}
