package relay

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/release"
)

// The list is fetched from where the file says, and believed only when it is signed.
func TestReadUpdates(t *testing.T) {
	secret, public, err := note.GenerateKey(rand.Reader, "releases.example.org")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Second)
	list := &release.List{Version: 1, ValidUntil: release.Time{Time: at.AddDate(0, 0, 60)}}
	if err := list.Add("relay-appliance", "relayd/*", "v1.2.3", at.AddDate(0, 0, -4)); err != nil {
		t.Fatal(err)
	}
	file, err := list.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	served := file
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/here/releases.yaml" {
			w.Write(served)
			return
		}
		http.NotFound(w, r)
	}))
	defer site.Close()
	cfg := Config{Updates: filepath.Join(t.TempDir(), "updates.yaml")}
	if u := readUpdates(t.Context(), cfg); u.known || u.err != nil || u.list != nil {
		t.Errorf("without a file: %+v", u)
	}
	if err := os.WriteFile(cfg.Updates, fmt.Appendf(nil, "site: %s/here\nkeys: [%s]\n", site.URL, public), 0o644); err != nil {
		t.Fatal(err)
	}
	u := readUpdates(t.Context(), cfg)
	if !u.known || u.err != nil || u.list == nil {
		t.Fatalf("with a list: %+v", u)
	}
	s := judge{s: &Status{Version: "v1.2.2", VersionSince: at}, f: findings{at: at, updates: u}}.installed()
	if s.Version != "v1.2.2" || s.Newest != "v1.2.3" || !s.Published.Equal(at.AddDate(0, 0, -4)) || s.Fault != "" {
		t.Errorf("software: %+v", s)
	}
	served = append([]byte("x"), file...)
	if u := readUpdates(t.Context(), cfg); !u.known || u.err == nil || u.list != nil {
		t.Errorf("with a changed list: %+v", u)
	}
	if err := os.WriteFile(cfg.Updates, []byte("site: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if u := readUpdates(t.Context(), cfg); !u.known || u.err == nil {
		t.Errorf("with a file that is no good: %+v", u)
	}
}
