package feed

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/release"
)

var start = time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)

// publisher signs lists and serves the last one.
type publisher struct {
	t      *testing.T
	signer note.Signer
	cfg    Config
	list   release.List
	served atomic.Pointer[[]byte]
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, "releases.example.org")
	if err != nil {
		t.Fatal(err)
	}
	p := &publisher{t: t, list: release.List{Version: 1}}
	if p.signer, err = note.NewSigner(secret); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file := p.served.Load()
		if file == nil || r.UserAgent() != "test/1" || r.URL.Path != "/here/releases.yaml" {
			http.Error(w, "gone", http.StatusGone)
			return
		}
		w.Write(*file)
	}))
	t.Cleanup(s.Close)
	p.cfg = Config{Site: s.URL + "/here/", Keys: []string{public}}
	return p
}

// publish adds a version, unless that is empty, and serves the list.
func (p *publisher) publish(version string, day int) []byte {
	p.t.Helper()
	at := start.AddDate(0, 0, day)
	if version != "" {
		if err := p.list.Add("relay-appliance", "relayd/*", version, at); err != nil {
			p.t.Fatal(err)
		}
	}
	p.list.ValidUntil = release.Time{Time: at.AddDate(0, 0, 60)}
	file, err := p.list.Sign(p.signer)
	if err != nil {
		p.t.Fatal(err)
	}
	p.served.Store(&file)
	return file
}

func follow(t *testing.T, cfg Config, dir string) *Feed {
	t.Helper()
	f, err := Follow(cfg, dir, "test/1")
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
	p := newPublisher(t)
	dir := filepath.Join(t.TempDir(), "releases")
	f := follow(t, p.cfg, dir)
	if l, err := f.Newest(); l != nil || err != nil {
		t.Errorf("before the first fetch: %v, %v", l, err)
	}
	first := p.publish("v1.0.0", 0)
	for range 2 { // the second changes nothing
		if err := f.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.publish("v1.1.0", 5)
	if err := f.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.publish("", 30) // signed anew
	if err := f.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	// After a restart it is all there.
	f = follow(t, p.cfg, dir)
	l, err := f.Newest()
	if err != nil || newest(t, f) != "v1.1.0" || !l.ValidUntil.Equal(start.AddDate(0, 0, 90)) {
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
	p, stranger := newPublisher(t), newPublisher(t)
	dir := t.TempDir()
	f := follow(t, p.cfg, dir)
	old := p.publish("v1.0.0", 0)
	good := p.publish("v1.1.0", 5)
	if err := f.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(good, []byte("v1.1.0"), []byte("v1.1.1"), 1)
	huge := make([]byte, release.MaxBytes+2)
	foreign := stranger.publish("v1.2.0", 6)
	for _, tc := range []struct {
		name  string
		file  *[]byte
		fault string
	}{
		{"an older list", &old, "does not follow"},
		{"a changed list", &changed, "signature"},
		{"another key", &foreign, "signature"},
		{"too much", &huge, "at most"},
		{"an error of the server", nil, "410"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p.served.Store(tc.file)
			err := f.Fetch(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("got %v, want %q", err, tc.fault)
			}
			if _, told := f.Newest(); told != err {
				t.Errorf("what is told: %v, want %v", told, err)
			}
			// Nor after a restart.
			for _, f := range []*Feed{f, follow(t, p.cfg, dir)} {
				if got := newest(t, f); got != "v1.1.0" {
					t.Errorf("newest: %q", got)
				}
			}
		})
	}
	p.served.Store(&good)
	if err := f.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := f.Newest(); err != nil {
		t.Errorf("the fault stays: %v", err)
	}
}

func TestOldListsGo(t *testing.T) {
	p := newPublisher(t)
	dir := t.TempDir()
	f := follow(t, p.cfg, dir)
	p.publish("v1.0.0", 0)
	for day := range keep + 5 {
		p.publish("", day)
		if err := f.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != keep {
		t.Errorf("%d files, %v; want %d", len(files), err, keep)
	}
	l, err := follow(t, p.cfg, dir).Newest()
	if err != nil || !l.ValidUntil.Equal(start.AddDate(0, 0, keep+4+60)) {
		t.Errorf("newest: %+v, %v", l, err)
	}
}

func TestDamagedListIsTold(t *testing.T) {
	p := newPublisher(t)
	dir := t.TempDir()
	p.publish("v1.0.0", 0)
	if err := follow(t, p.cfg, dir).Fetch(t.Context()); err != nil {
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
		if _, err := Follow(p.cfg, dir, "test/1"); err == nil || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoad(t *testing.T) {
	key := newPublisher(t).cfg.Keys[0]
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
