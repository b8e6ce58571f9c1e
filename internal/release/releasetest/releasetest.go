// Package releasetest is a project's site with its signed release list, for tests.
package releasetest

import (
	"crypto/rand"
	"fmt"
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

// Site serves the list that was published last. Make one with [New].
type Site struct {
	URL string
	Key string // verifies the list

	t      testing.TB
	signer note.Signer
	list   release.List
	served atomic.Pointer[[]byte]
}

// New is a site without a list. It serves only those that say that they are agent.
func New(t testing.TB, agent string) *Site {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, "releases.example.org")
	if err != nil {
		t.Fatal(err)
	}
	s := &Site{Key: public, t: t, list: release.List{Version: 1}}
	if s.signer, err = note.NewSigner(secret); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file := s.served.Load()
		if file == nil || r.URL.Path != "/here/releases.yaml" || !strings.HasPrefix(r.UserAgent(), agent+"/") {
			http.Error(w, "gone", http.StatusGone)
			return
		}
		w.Write(*file)
	}))
	t.Cleanup(web.Close)
	s.URL = web.URL + "/here/"
	return s
}

// Publish adds a version of relayd's, unless that is empty, and serves the list,
// signed for 60 days from at.
func (s *Site) Publish(version string, at time.Time) []byte {
	s.t.Helper()
	at = at.UTC().Truncate(time.Second)
	if version != "" {
		if err := s.list.Add("relay-appliance", "relayd/*", version, at); err != nil {
			s.t.Fatal(err)
		}
	}
	s.list.ValidUntil = release.Time{Time: at.AddDate(0, 0, 60)}
	file, err := s.list.Sign(s.signer)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Serve(file)
	return file
}

// Serve serves that file from now on; nil: an error.
func (s *Site) Serve(file []byte) {
	if file == nil {
		s.served.Store(nil)
		return
	}
	s.served.Store(&file)
}

// File is the name of a new file that says where updates come from: from here.
func (s *Site) File() string {
	s.t.Helper()
	name := filepath.Join(s.t.TempDir(), "updates.yaml")
	if err := os.WriteFile(name, fmt.Appendf(nil, "site: %s\nkeys: [%s]\n", s.URL, s.Key), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return name
}
