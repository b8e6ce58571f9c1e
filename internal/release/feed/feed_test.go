package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/internal/release/releasetest"
)

var start = time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)

func newSite(t *testing.T) (*releasetest.Site, Config) {
	t.Helper()
	s := releasetest.New(t, "test")
	return s, Config{Site: s.URL, Keys: []string{s.Key}}
}

func day(n int) time.Time { return start.AddDate(0, 0, n) }

func follow(t *testing.T, cfg Config, dir string) *Feed {
	t.Helper()
	f, err := Follow(cfg, dir, "test/1", Years)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newest(t *testing.T, f *Feed) string {
	t.Helper()
	l, _ := f.Newest()
	if l == nil {
		return ""
	}
	return l.Products[0].Newest().Version
}

func TestFollow(t *testing.T) {
	site, cfg := newSite(t)
	dir := filepath.Join(t.TempDir(), "releases")
	f := follow(t, cfg, dir)
	if l, err := f.Newest(); l != nil || err != nil {
		t.Errorf("before the first fetch: %v, %v", l, err)
	}
	first := site.Publish("v1.0.0", day(0))
	for range 2 { // the second changes nothing
		if err := f.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	site.Publish("v1.1.0", day(5))
	if err := f.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	site.Publish("", day(30)) // signed anew
	if err := f.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	// After a restart it is all there.
	f = follow(t, cfg, dir)
	l, err := f.Newest()
	if err != nil || newest(t, f) != "v1.1.0" || !l.ValidUntil.Equal(day(90)) {
		t.Errorf("newest: %+v, %v", l, err)
	}
	sum := sha256.Sum256(first)
	if got := f.Named(hex.EncodeToString(sum[:])); !bytes.Equal(got, first) {
		t.Errorf("the first list is not there: %q", got)
	}
	if got := f.Named(strings.Repeat("0", 64)); got != nil {
		t.Errorf("a list that nobody wrote: %q", got)
	}
}

func TestRefused(t *testing.T) {
	site, cfg := newSite(t)
	stranger, _ := newSite(t)
	dir := t.TempDir()
	f := follow(t, cfg, dir)
	old := site.Publish("v1.0.0", day(0))
	good := site.Publish("v1.1.0", day(5))
	if err := f.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(good, []byte("v1.1.0"), []byte("v1.1.1"), 1)
	huge := make([]byte, release.MaxBytes+2)
	foreign := stranger.Publish("v1.2.0", day(6))
	for _, tc := range []struct {
		name  string
		file  []byte
		fault string
	}{
		{"an older list", old, "does not follow"},
		{"a changed list", changed, "signature"},
		{"another key", foreign, "signature"},
		{"too much", huge, "at most"},
		{"an error of the server", nil, "410"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			site.Serve(tc.file)
			err := f.Fetch(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("got %v, want %q", err, tc.fault)
			}
			if _, told := f.Newest(); told != err {
				t.Errorf("what is told: %v, want %v", told, err)
			}
			// Nor after a restart.
			for _, f := range []*Feed{f, follow(t, cfg, dir)} {
				if got := newest(t, f); got != "v1.1.0" {
					t.Errorf("newest: %q", got)
				}
			}
		})
	}
	site.Serve(good)
	if err := f.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := f.Newest(); err != nil {
		t.Errorf("the fault stays: %v", err)
	}
}

// A list that the disk does not take counts all the same, and is stored later.
func TestListThatCannotBeStored(t *testing.T) {
	site, cfg := newSite(t)
	dir := filepath.Join(t.TempDir(), "releases")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	f := &Feed{cfg: cfg, dir: dir, agent: "test/1", keep: 1}
	for _, version := range []string{"v1.0.0", "v1.1.0"} {
		site.Publish(version, day(0))
		for range 2 {
			if err := f.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "keep the release list") {
				t.Errorf("the fault is not told: %v", err)
			}
			if got := newest(t, f); got != version {
				t.Errorf("newest: got %q, want %q", got, version)
			}
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := newest(t, follow(t, cfg, dir)); got != "v1.1.0" {
		t.Errorf("after a restart: %q", got)
	}
}

// Who serves the list can add signatures to it, as many as he likes.
func TestForeignSignaturesAreNothingNew(t *testing.T) {
	site, cfg := newSite(t)
	dir := t.TempDir()
	f := follow(t, cfg, dir)
	first := site.Publish("v1.0.0", day(0))
	for _, more := range []string{"", "— x AAAAAAA=\n", "— y AAAAAAA=\n"} {
		site.Serve(append(bytes.Clone(first), more...))
		if err := f.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(first)
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 || f.Named(hex.EncodeToString(sum[:])) == nil {
		t.Errorf("kept: %v, %v", files, err)
	}
}

// With 0 the folder is only read: what is in it is compared with, and stays as it is.
func TestOnlyRead(t *testing.T) {
	site, cfg := newSite(t)
	dir := filepath.Join(t.TempDir(), "releases")
	read := func() (*Feed, error) {
		t.Helper()
		f, err := Follow(cfg, dir, "test/1", 0)
		if err != nil {
			t.Fatal(err)
		}
		return f, f.Fetch(t.Context())
	}
	old := site.Publish("v1.0.0", day(0))
	if f, err := read(); err != nil || newest(t, f) != "v1.0.0" {
		t.Errorf("without the folder: %q, %v", newest(t, f), err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder was made")
	}
	site.Publish("v1.1.0", day(5))
	if err := follow(t, cfg, dir).Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	site.Publish("v1.2.0", day(6))
	if f, err := read(); err != nil || newest(t, f) != "v1.2.0" {
		t.Errorf("newer than what is kept: %q, %v", newest(t, f), err)
	}
	site.Serve(old)
	if f, err := read(); err == nil || newest(t, f) != "v1.1.0" {
		t.Errorf("older than what is kept: %q, %v", newest(t, f), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("the folder holds %v, %v", files, err)
	}
	// A name without a file is what is seen of a list that is removed at this moment.
	if err := os.Symlink("gone", filepath.Join(dir, "gone.yaml")); err != nil {
		t.Fatal(err)
	}
	if f, _ := read(); newest(t, f) != "v1.1.0" {
		t.Errorf("while a list is removed: %q", newest(t, f))
	}
}

func TestOldListsGo(t *testing.T) {
	site, cfg := newSite(t)
	dir := t.TempDir()
	f := follow(t, cfg, dir)
	site.Publish("v1.0.0", day(0))
	for n := range Years + 5 {
		site.Publish("", day(n))
		if err := f.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != Years {
		t.Errorf("%d files, %v; want %d", len(files), err, Years)
	}
	l, err := follow(t, cfg, dir).Newest()
	if err != nil || !l.ValidUntil.Equal(day(Years+4+60)) {
		t.Errorf("newest: %+v, %v", l, err)
	}
}

func TestDamagedListIsTold(t *testing.T) {
	site, cfg := newSite(t)
	dir := t.TempDir()
	site.Publish("v1.0.0", day(0))
	if err := follow(t, cfg, dir).Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	file, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"changed": bytes.Replace(file, []byte("v1.0.0"), []byte("v9.0.0"), 1), "cut": file[:len(file)/2]} {
		if err := os.WriteFile(files[0], bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Follow(cfg, dir, "test/1", Years); err == nil || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoad(t *testing.T) {
	key := releasetest.New(t, "test").Key
	file := filepath.Join(t.TempDir(), "updates.yaml")
	for _, tc := range []struct{ text, fault string }{
		{"site: https://example.org/relay\nkeys: [" + key + "]\n", ""},
		{"site: http://127.0.0.1:8080/\nkeys: [" + key + "]\n", ""},
		{"site: https://example.org\n", "keys: want"},
		{"keys: [" + key + "]\n", "site: want"},
		{"site: example.org\nkeys: [" + key + "]\n", "site: want"},
		{"site: https://u:p@example.org/\nkeys: [" + key + "]\n", "site: want"},
		{"site: https://example.org/\nkeys: [" + key + ", x]\n", "keys[1]"},
		{"url: https://example.org/\n", "unknown key"},
		{"", "site: want"},
	} {
		if err := os.WriteFile(file, []byte(tc.text), 0o644); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load(file)
		if tc.fault == "" && (err != nil || !cfg.Known() || len(cfg.Keys) != 1) || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)) {
			t.Errorf("%q: %+v, %v; want %q", tc.text, cfg, err, tc.fault)
		}
	}
	// Where nothing is known, nothing is done.
	for _, name := range []string{"", filepath.Join(t.TempDir(), "none")} {
		cfg, err := Load(name)
		if err != nil || cfg.Known() {
			t.Errorf("Load(%q) = %+v, %v", name, cfg, err)
		}
		if err := follow(t, cfg, filepath.Join(t.TempDir(), "none")).Fetch(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if cfg := (Config{Site: "https://example.org/relay/"}); cfg.List() != "https://example.org/relay/releases.yaml" || cfg.Apt() != "https://example.org/relay/apt" {
		t.Errorf("%s, %s", cfg.List(), cfg.Apt())
	}
}
