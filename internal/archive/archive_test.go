package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

var tools = []string{"apt-get", "apt-ftparchive", "dpkg-deb", "gpg", "gpgv", "xz"}

// keyMade lies before all that is signed here.
var keyMade = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func newKey(t *testing.T) []byte {
	t.Helper()
	secret, err := GenerateKey(t.Context(), "throw-away", keyMade)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func load(t *testing.T, secrets ...[]byte) *Keys {
	t.Helper()
	k, err := LoadKeys(t.Context(), secrets...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func keyring(t *testing.T, k *Keys, also ...[]byte) []byte {
	t.Helper()
	ring, err := k.Keyring(t.Context(), also...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// deb builds a small package with the given file in it.
func deb(t *testing.T, name, version, arch, path string, data []byte) string {
	t.Helper()
	tree := t.TempDir()
	put(t, filepath.Join(tree, "DEBIAN/control"), fmt.Appendf(nil,
		"Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Nobody <nobody@example.org>\nDescription: for a test\n", name, version, arch))
	put(t, filepath.Join(tree, path), data)
	file := filepath.Join(t.TempDir(), name+".deb")
	if err := os.Chmod(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, file).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	return file
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func now() Publication {
	return Publication{At: time.Now().Truncate(time.Second), Valid: ValidTime}
}

func (a *Archive) mustAdd(t *testing.T, p Publication, debs ...string) {
	t.Helper()
	if err := a.Add(t.Context(), debs, 3, p); err != nil {
		t.Fatal(err)
	}
}

// client is a real apt with folders of its own.
type client struct {
	t    *testing.T
	root string
}

func newClient(t *testing.T, url string, ring []byte) client {
	c := client{t, t.TempDir()}
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d", "etc/sources.list.d"} {
		if err := os.MkdirAll(filepath.Join(c.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(c.root, "state/status"), nil)
	// Read first, so that the machine's own settings are not read at all.
	put(t, filepath.Join(c.root, "etc/apt.conf"), fmt.Appendf(nil, `
Dir::Etc %q;
Dir::State %q;
Dir::State::status %q;
Dir::Cache %q;
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "0";
Acquire::Languages "none";
`, c.root+"/etc", c.root+"/state", c.root+"/state/status", c.root+"/cache"))
	put(t, c.ring(), ring)
	put(t, filepath.Join(c.root, "etc/sources.list.d/relay-appliance.sources"), fmt.Appendf(nil,
		"Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: %s\n", url, Suite, Component, c.ring()))
	return c
}

func (c client) ring() string { return filepath.Join(c.root, "keyring.gpg") }

// apt runs apt-get, and returns what it says and whether it was content.
func (c client) apt(arch string, args ...string) (string, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "APT::Architecture=" + arch, "-o", "APT::Architectures=" + arch}, args...)...)
	cmd.Dir = c.root
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "http_proxy=", "APT_CONFIG="+c.root+"/etc/apt.conf")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// accepts updates and downloads a package, and returns its bytes.
func (c client) accepts(arch, pkg string) []byte {
	c.t.Helper()
	if out, err := c.apt(arch, "update"); err != nil || strings.Contains(out, "W:") {
		c.t.Fatalf("apt-get update: %v\n%s", err, out)
	}
	if out, err := c.apt(arch, "download", pkg); err != nil {
		c.t.Fatalf("apt-get download %s: %v\n%s", pkg, err, out)
	}
	files, err := filepath.Glob(filepath.Join(c.root, "*.deb"))
	if err != nil || len(files) != 1 {
		c.t.Fatalf("downloaded %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.Remove(files[0]); err != nil {
		c.t.Fatal(err)
	}
	return data
}

// refuses wants apt to fail, with words that match.
func (c client) refuses(words string, args ...string) {
	c.t.Helper()
	out, err := c.apt("amd64", args...)
	if err == nil || !regexp.MustCompile(words).MatchString(out) {
		c.t.Fatalf("apt-get %s: %v; want a failure that matches %q\n%s", strings.Join(args, " "), err, words, out)
	}
}

func serve(t *testing.T, dir string) string {
	t.Helper()
	files := http.FileServer(http.Dir(dir))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// HTTP tells times to a second; these tests publish more often, so nothing is
		// taken as unchanged, nor as the rest of what was there.
		r.Header.Del("If-Modified-Since")
		r.Header.Del("Range")
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestRealApt(t *testing.T) {
	need.Tools(t, tools...)
	t.Parallel()
	a := &Archive{t.TempDir(), load(t, newKey(t))}
	url := serve(t, a.Dir)
	first := deb(t, "relayd", "1.0.0", "amd64", "v", []byte("one"))
	a.mustAdd(t, now(), first, deb(t, "relayd", "1.0.0", "arm64", "v", []byte("one")), deb(t, "keys", "1", "all", "v", nil))
	second := deb(t, "relayd", "1.1.0~rc.1", "amd64", "v", []byte("two"))
	a.mustAdd(t, now(), second)
	c := newClient(t, url, keyring(t, a.Keys))

	t.Run("the newest and the one before", func(t *testing.T) {
		for file, pkg := range map[string]string{second: "relayd", first: "relayd=1.0.0"} {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.accepts("amd64", pkg); !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, want the %d of the package", pkg, len(got), len(want))
			}
		}
		c.accepts("amd64", "keys")
	})
	t.Run("another architecture", func(t *testing.T) {
		c := newClient(t, url, keyring(t, a.Keys))
		c.accepts("arm64", "relayd=1.0.0")
		c.accepts("arm64", "keys")
	})
	t.Run("a wrong key", func(t *testing.T) {
		newClient(t, url, keyring(t, load(t, newKey(t)))).refuses("NO_PUBKEY|not signed|Missing key|verif", "update")
	})
	t.Run("no key", func(t *testing.T) {
		newClient(t, url, nil).refuses("NO_PUBKEY|not signed|Missing key|verif|not readable", "update")
	})
	t.Run("a truncated package", func(t *testing.T) {
		path := filepath.Join(a.Dir, "pool/main/relayd/relayd_1.0.0_amd64.deb")
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, path, whole[:len(whole)-1])
		c.refuses("unexpected size|size mismatch|Hash Sum mismatch|Couldn't find|invalid", "download", "relayd=1.0.0")
		put(t, path, append(bytes.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^1))
		c.refuses("Hash Sum mismatch", "download", "relayd=1.0.0")
		// The publisher does not sign it either.
		if err := a.Refresh(t.Context(), now()); err == nil || !strings.Contains(err.Error(), "not what was signed") {
			t.Errorf("signed again: %v", err)
		}
		put(t, path, whole)
		c.accepts("amd64", "relayd=1.0.0")
	})
	t.Run("expired and refreshed", func(t *testing.T) {
		before, err := os.ReadFile(filepath.Join(a.suite(), "main/binary-amd64/Packages"))
		if err != nil {
			t.Fatal(err)
		}
		late := Publication{At: now().At.Add(-ValidTime - time.Hour), Valid: ValidTime}
		if err := a.Refresh(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		c := newClient(t, url, keyring(t, a.Keys))
		c.refuses("expired", "update")
		p := now()
		if err := a.Refresh(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		c.accepts("amd64", "relayd")
		after, err := os.ReadFile(filepath.Join(a.suite(), "main/binary-amd64/Packages"))
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("the index is another one: %v", err)
		}
		release, err := os.ReadFile(filepath.Join(a.suite(), "Release"))
		if err != nil {
			t.Fatal(err)
		}
		if want := "\nValid-Until: " + p.At.UTC().AddDate(0, 0, 60).Format(dateLayout) + "\n"; !strings.Contains(string(release), want) {
			t.Errorf("want%sin:\n%s", want, release)
		}
	})
}

// A key is replaced without a client that stands still: first the keyring brings
// the new one, then both sign, then the new one alone.
func TestKeysRotate(t *testing.T) {
	need.Tools(t, tools...)
	t.Parallel()
	oldSecret, newSecret := newKey(t), newKey(t)
	oldKeys, newKeys := load(t, oldSecret), load(t, newSecret)
	both := keyring(t, load(t, oldSecret), keyring(t, newKeys))
	dir := t.TempDir()
	url := serve(t, dir)
	const path = "usr/share/keyrings/relay-appliance-archive-keyring.gpg"

	a := &Archive{dir, oldKeys}
	a.mustAdd(t, now(), deb(t, "keyring", "1", "all", path, keyring(t, oldKeys)))
	updates, sleeps := newClient(t, url, keyring(t, oldKeys)), newClient(t, url, keyring(t, oldKeys))
	updates.accepts("amd64", "keyring")
	sleeps.accepts("amd64", "keyring")

	// The package with both keys is signed by the old one.
	a.mustAdd(t, now(), deb(t, "keyring", "2", "all", path, both))
	file := filepath.Join(t.TempDir(), "keyring.deb")
	put(t, file, updates.accepts("amd64", "keyring"))
	tree := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "--extract", file, tree).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	ring, err := os.ReadFile(filepath.Join(tree, path))
	if err != nil {
		t.Fatal(err)
	}
	put(t, updates.ring(), ring)

	// Both sign: who has one of them goes on.
	a.Keys = load(t, oldSecret, newSecret)
	if err := a.Refresh(t.Context(), now()); err != nil {
		t.Fatal(err)
	}
	updates.accepts("amd64", "keyring")
	newClient(t, url, keyring(t, newKeys)).accepts("amd64", "keyring")
	if out, err := sleeps.apt("amd64", "update"); err != nil {
		t.Fatalf("with the old key only: %v\n%s", err, out)
	}

	// The new one alone.
	a.Keys = newKeys
	if err := a.Refresh(t.Context(), now()); err != nil {
		t.Fatal(err)
	}
	updates.accepts("amd64", "keyring")
	sleeps.refuses("NO_PUBKEY|not signed|Missing key|verif", "update")

	// Who holds the old key only has no say any more.
	a.Keys = oldKeys
	if err := a.Refresh(t.Context(), now()); err == nil || !strings.Contains(err.Error(), "no good signature") {
		t.Errorf("the old key signed anew: %v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	need.Tools(t, tools...)
	t.Parallel()
	keys := load(t, newKey(t))
	fresh := func(t *testing.T) *Archive {
		a := &Archive{t.TempDir(), keys}
		a.mustAdd(t, now(), deb(t, "relayd", "1.0.0", "amd64", "v", []byte("one")))
		return a
	}
	refused := func(t *testing.T, err error, words string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want an error that says %q", err, words)
		}
	}
	t.Run("a version with other bytes", func(t *testing.T) {
		a := fresh(t)
		refused(t, a.Add(t.Context(), []string{deb(t, "relayd", "1.0.0", "amd64", "v", []byte("two"))}, 3, now()), "other bytes")
	})
	t.Run("another architecture", func(t *testing.T) {
		refused(t, fresh(t).Add(t.Context(), []string{deb(t, "relayd", "1.0.0", "riscv64", "v", nil)}, 3, now()), "riscv64")
	})
	t.Run("no package", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "x.deb")
		put(t, file, []byte("x"))
		refused(t, fresh(t).Add(t.Context(), []string{file}, 3, now()), "x.deb")
	})
	t.Run("a package that someone else put there", func(t *testing.T) {
		a := fresh(t)
		put(t, filepath.Join(a.Dir, "pool/main/evil/evil_1_amd64.deb"), []byte("x"))
		refused(t, a.Refresh(t.Context(), now()), "in no signed index")
	})
	t.Run("an index that someone else wrote", func(t *testing.T) {
		a := fresh(t)
		put(t, filepath.Join(a.suite(), "main/binary-arm64/Packages"), []byte("Package: evil\n"))
		refused(t, a.Refresh(t.Context(), now()), "not what was signed")
	})
	t.Run("a changed InRelease", func(t *testing.T) {
		a := fresh(t)
		path := filepath.Join(a.suite(), "InRelease")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, path, bytes.Replace(data, []byte("Suite: stable"), []byte("Suite: sTable"), 1))
		refused(t, a.Refresh(t.Context(), now()), "no good signature")
	})
	t.Run("InRelease is gone", func(t *testing.T) {
		a := fresh(t)
		if err := os.RemoveAll(a.suite()); err != nil {
			t.Fatal(err)
		}
		refused(t, a.Refresh(t.Context(), now()), "whole repository")
	})
	t.Run("nothing to refresh", func(t *testing.T) {
		a := &Archive{t.TempDir(), keys}
		if err := a.Refresh(t.Context(), now()); !errors.Is(err, ErrNew) {
			t.Errorf("%v, want ErrNew", err)
		}
	})
	t.Run("no key, or what is none", func(t *testing.T) {
		if _, err := LoadKeys(t.Context()); err == nil {
			t.Error("no key was accepted")
		}
		if _, err := LoadKeys(t.Context(), []byte("x")); err == nil {
			t.Error("x was accepted")
		}
		secret := newKey(t)
		if _, err := LoadKeys(t.Context(), secret, secret); err == nil {
			t.Error("one key twice was accepted")
		}
	})
}

// Of each package the newest versions stay, as dpkg compares them.
func TestOldVersionsGo(t *testing.T) {
	need.Tools(t, tools...)
	t.Parallel()
	a := &Archive{t.TempDir(), load(t, newKey(t))}
	for _, v := range []string{"1.9.0", "1.10.0", "1.10.0~rc.1", "0.9+git1"} {
		a.mustAdd(t, now(), deb(t, "relayd", v, "amd64", "v", []byte(v)))
	}
	a.mustAdd(t, now(), deb(t, "other", "1", "amd64", "v", nil))
	files, err := filepath.Glob(filepath.Join(a.Dir, "pool/main/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	if got, want := strings.Join(names, " "), "other_1_amd64.deb relayd_1.10.0_amd64.deb relayd_1.10.0~rc.1_amd64.deb relayd_1.9.0_amd64.deb"; got != want {
		t.Errorf("pool: %s\nwant: %s", got, want)
	}
	if err := a.Add(t.Context(), nil, 0, now()); err == nil {
		t.Error("keeping nothing was accepted")
	}
}

// The same packages, key and time give the same bytes in another folder.
func TestSameBytes(t *testing.T) {
	need.Tools(t, tools...)
	t.Parallel()
	secret := newKey(t)
	debs := []string{deb(t, "b", "1", "amd64", "v", nil), deb(t, "a", "1", "all", "v", nil)}
	p := Publication{At: time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC), Valid: ValidTime}
	var trees [2]string
	for i := range trees {
		a := &Archive{t.TempDir(), load(t, secret)}
		a.mustAdd(t, p, debs...)
		trees[i] = contents(t, a.Dir)
	}
	if trees[0] != trees[1] {
		t.Errorf("first:\n%s\nsecond:\n%s", trees[0], trees[1])
	}
	if !strings.Contains(trees[0], "Date: Tue, 03 Nov 2026 14:00:00 UTC") || !strings.Contains(trees[0], "Valid-Until: Sat, 02 Jan 2027 14:00:00 UTC") {
		t.Errorf("the times are not those that were asked for:\n%s", trees[0])
	}
}

// contents is the hash of each of a tree's files, and what InRelease says.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&out, "== %s %x\n", name, sha256.Sum256(data))
		if strings.HasPrefix(filepath.Base(name), "InRelease") {
			out.Write(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func FuzzReadRelease(f *testing.F) {
	sum := strings.Repeat("0a", 32)
	f.Add([]byte("Origin: x\nSHA256:\n " + sum + " 3 main/binary-amd64/Packages\n"))
	f.Add([]byte("SHA256:\n " + sum + " 3 ../../x\n"))
	f.Add([]byte("Filename: pool/x\nSize: 1\nSHA256: " + sum + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func([]byte) ([]index, error){readRelease, readPackages} {
			found, err := read(b)
			if err != nil {
				continue
			}
			for _, i := range found {
				if !filepath.IsLocal(i.name) || i.size < 0 || len(i.sum) != 64 {
					t.Errorf("accepted %+v", i)
				}
			}
		}
	})
}
