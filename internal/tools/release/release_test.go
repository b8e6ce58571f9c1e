package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
)

// What is written is read back whole, and does not depend on when and where.
func TestTarball(t *testing.T) {
	at := time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)
	in := []file{{"a", 0o755, []byte("one")}, {"b.md", 0o644, bytes.Repeat([]byte("x"), 1<<20)}}
	packed, err := tarball("top", in, at)
	if err != nil {
		t.Fatal(err)
	}
	again, err := tarball("top", in, at)
	if err != nil || !bytes.Equal(packed, again) {
		t.Errorf("other bytes the second time: %v", err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	if h, err := r.Next(); err != nil || h.Name != "top/" || h.Typeflag != tar.TypeDir {
		t.Fatalf("first %+v, %v", h, err)
	}
	for _, want := range in {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || h.Name != "top/"+want.name || h.Mode != want.mode || !h.ModTime.Equal(at) || h.Uid != 0 || h.Uname != "root" || !bytes.Equal(data, want.data) {
			t.Errorf("%+v with %d bytes, %v; want %s", h, len(data), err, want.name)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
	if rest, err := io.ReadAll(z); err != nil || len(bytes.Trim(rest, "\x00")) > 0 {
		t.Errorf("behind the end: %d bytes, %v", len(rest), err)
	}
}

// Base64 holds plus signs now and then: any key will do.
func TestVerifierKey(t *testing.T) {
	for range 100 {
		secret, public, err := note.GenerateKey(rand.Reader, "releases.example.org")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := verifierKey("releases.example.org", secret); err != nil || got != public {
			t.Fatalf("%s: %s, %v; want %s", secret, got, err, public)
		}
	}
	for _, bad := range []string{"", "x", "PRIVATE+KEY+a+00000000+AAAA"} {
		if got, err := verifierKey("a", bad); err == nil {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

func TestVersions(t *testing.T) {
	for v, good := range map[version]bool{
		"v1.2.3": true, "v0.0.1": true, "v10.20.30": true,
		"": false, "1.2.3": false, "v1.2": false, "v1.2.3-rc.1": false, "v01.2.3": false, "v1.2.3\n": false,
	} {
		if err := v.Validate(); (err == nil) != good {
			t.Errorf("%q: %v", v, err)
		}
	}
}

func TestSiteFile(t *testing.T) {
	_, public, err := note.GenerateKey(rand.Reader, "releases.example.org")
	if err != nil {
		t.Fatal(err)
	}
	data, err := siteFile("https://updates.example.org/relay", []string{public})
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err := feed.Parse("f", data); err != nil || cfg.Apt() != "https://updates.example.org/relay/apt" || cfg.Keys[0] != public {
		t.Errorf("%+v, %v", cfg, err)
	}
	for url, keys := range map[string][]string{"updates.example.org": {public}, "https://updates.example.org": {"x"}, "https://u.example.org/\"\n": {public}} {
		if _, err := siteFile(url, keys); err == nil {
			t.Errorf("%q with %q: accepted", url, keys)
		}
	}
}

func command(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(args, &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

// Keys are made once, and are taken from the environment, too.
func TestKeys(t *testing.T) {
	need.Tools(t, "gpg", "gpgv", "apt-ftparchive", "xz", "dpkg-deb")
	dir := t.TempDir()
	if code, said := command(t, "keys", "--out", filepath.Join(dir, "keys")); code != 0 {
		t.Fatalf("%d: %s", code, said)
	}
	if code, said := command(t, "keys", "--out", filepath.Join(dir, "keys")); code != 2 || !strings.Contains(said, "there already") {
		t.Errorf("again: %d: %s", code, said)
	}
	for name, perm := range map[string]os.FileMode{"archive.key": 0o600, "list.key": 0o600, "archive.gpg": 0o644, "list.pub": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, "keys", name)); err != nil || info.Mode().Perm() != perm {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	refresh := []string{"refresh", "--site", filepath.Join(dir, "none")}
	if code, said := command(t, refresh...); code != 2 || !strings.Contains(said, "RELEASE_LIST_KEY") {
		t.Errorf("without keys: %d: %s", code, said)
	}
	t.Setenv("RELEASE_LIST_KEY", read(t, filepath.Join(dir, "keys/list.key")))
	if code, said := command(t, refresh...); code != 2 || !strings.Contains(said, "releases.yaml") {
		t.Errorf("with the list's key, without a site: %d: %s", code, said)
	}
	if err := os.Mkdir(filepath.Join(dir, "debs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "debs/x.deb"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	repo := []string{"repo", "--debs", filepath.Join(dir, "debs"), "--out", filepath.Join(dir, "repo")}
	if code, said := command(t, repo...); code != 2 || !strings.Contains(said, "RELEASE_KEY") {
		t.Errorf("without a key: %d: %s", code, said)
	}
	t.Setenv("RELEASE_KEY", read(t, filepath.Join(dir, "keys/archive.key")))
	if code, said := command(t, repo...); code != 1 || !strings.Contains(said, "add x.deb") {
		t.Errorf("with a key, and what is no package: %d: %s", code, said)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// While keys change, packages bring those of before and those that come.
func TestPublisher(t *testing.T) {
	need.Tools(t, "gpg", "gpgv")
	dir := t.TempDir()
	for _, name := range []string{"old", "new"} {
		if code, said := command(t, "keys", "--out", filepath.Join(dir, name)); code != 0 {
			t.Fatalf("%d: %s", code, said)
		}
	}
	newList := strings.TrimSpace(read(t, filepath.Join(dir, "new/list.pub")))
	c := buildCmd{SiteURL: "https://updates.example.org", NextKeys: []string{filepath.Join(dir, "new/archive.gpg")}, NextList: []string{newList}}
	c.Key, c.ListKey = []string{filepath.Join(dir, "old/archive.key")}, []string{filepath.Join(dir, "old/list.key")}
	keys, err := c.keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	_, public, err := c.signers()
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.publisher(t.Context(), keys, public)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(made)
	cfg, err := feed.Load(filepath.Join(made, "updates.yaml"))
	if err != nil || len(cfg.Keys) != 2 || cfg.Keys[0] != strings.TrimSpace(read(t, filepath.Join(dir, "old/list.pub"))) || cfg.Keys[1] != newList {
		t.Errorf("%+v, %v", cfg, err)
	}
	// What either key has signed is good by that keyring.
	for _, name := range []string{"old", "new"} {
		signer := buildCmd{}
		signer.Key = []string{filepath.Join(dir, name, "archive.key")}
		k, err := signer.keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		signed, err := k.Clearsign(t.Context(), []byte("x\n"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name+".asc")
		if err := os.WriteFile(file, signed, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "gpgv", "--keyring", filepath.Join(made, "archive-keyring.gpg"), file).CombinedOutput(); err != nil {
			t.Errorf("signed by the %s key: %v\n%s", name, err, out)
		}
	}
}

func TestImages(t *testing.T) {
	for args, want := range map[string]string{"": strings.Join(arch.Names(), " "), "none": "", "arm64": "arm64"} {
		images, err := (&buildCmd{Images: strings.Fields(args)}).images()
		var got []string
		for _, a := range images {
			got = append(got, a.Name)
		}
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%q: %q, %v", args, got, err)
		}
	}
	for args, want := range map[string]string{"none amd64": `not "none"; or none alone`, "amd64 i386": `--images: architecture: want amd64 or arm64, not "i386"`} {
		if _, err := (&buildCmd{Images: strings.Fields(args)}).images(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
