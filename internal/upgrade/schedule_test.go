package upgrade

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
)

func TestConfigure(t *testing.T) {
	r := newTree(t)
	for _, dir := range []string{"etc/apt/sources.list.d", filepath.Dir(feed.DefaultFile)} {
		if err := os.MkdirAll(filepath.Join(r.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := DefaultSettings()
	s.Window = Window{30 * time.Minute, 2*time.Hour + 30*time.Minute}
	configure := func(wantURI string) {
		t.Helper()
		if err := s.Configure(r.gate.Machine); err != nil {
			t.Fatal(err)
		}
		text := r.read(sourcesFile)
		if wantURI == "" && text != "" || wantURI != "" && !strings.Contains(text, "URIs: "+wantURI+"\n") {
			t.Errorf("want the repository %q in:\n%s", wantURI, text)
		}
	}
	configure("")
	if text := r.read(upgradeTimer); !strings.Contains(text, "OnCalendar=*-*-* 00:30:00 UTC\nRandomizedDelaySec=5400\nPersistent=false\n") {
		t.Errorf("the timer of updates:\n%s", text)
	}
	if text := r.read(listsTimer); !strings.Contains(text, "OnCalendar=*-*-* 23:30:00 UTC\n") {
		t.Errorf("the timer of lists:\n%s", text)
	}
	_, key, err := note.GenerateKey(rand.Reader, "site.example")
	if err != nil {
		t.Fatal(err)
	}
	r.write(feed.DefaultFile, "site: https://site.example/relay\nkeys: ["+key+"]\n")
	configure("https://site.example/relay/apt")
	s.Repository = "https://apt.example/apt"
	configure("https://apt.example/apt")
	s.Repository = ""
	if err := os.Remove(filepath.Join(r.root, feed.DefaultFile)); err != nil {
		t.Fatal(err)
	}
	configure("") // taken out of the settings, it is taken from apt
}

// apt itself reads the pins: the held version is no candidate, the next one is.
func TestAptPassesOverAHeldVersion(t *testing.T) {
	need.Tools(t, "apt-cache", "apt-get", "dpkg-scanpackages")
	r := settled(t)
	r.release("2.0", fails)
	r.run(ErrBad)
	candidate := func(versions ...string) string {
		t.Helper()
		dir := t.TempDir()
		for _, v := range versions {
			if err := copyFile(r.deb("relayd", v, works), filepath.Join(dir, "relayd_"+v+"_all.deb")); err != nil {
				t.Fatal(err)
			}
		}
		scan := exec.Command("dpkg-scanpackages", "--multiversion", ".")
		scan.Dir = dir
		list, err := command(scan)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "Packages"), []byte(list), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "etc/apt/sources.list.d", "etc/apt/apt.conf.d"} {
			if err := os.MkdirAll(filepath.Join(r.root, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		r.write("etc/apt/sources.list", "deb [trusted=yes] file:"+dir+" ./\n")
		options := []string{"-o", "Dir=" + r.root, "-o", "Dir::State::status=" + filepath.Join(r.root, "var/lib/dpkg/status"),
			"-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"}
		if _, err := command(exec.Command("apt-get", append(options, "update")...)); err != nil {
			t.Fatal(err)
		}
		out, err := command(exec.Command("apt-cache", append(options, "policy", "relayd")...))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(out, "Candidate: ")
		v, _, _ := strings.Cut(rest, "\n")
		return v
	}
	if v := candidate("1.0", "2.0"); v != "1.0" {
		t.Errorf("apt would install %s, which is held", v)
	}
	if v := candidate("1.0", "2.0", "3.0"); v != "3.0" {
		t.Errorf("apt would install %s, want the next version 3.0", v)
	}
	if err := r.gate.Release("2.0"); err != nil {
		t.Fatal(err)
	}
	if v := candidate("1.0", "2.0"); v != "2.0" {
		t.Errorf("apt would install %s, though 2.0 is allowed again", v)
	}
}
