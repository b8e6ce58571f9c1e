package release

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
)

const (
	version = "v0.9.0"
	number  = "0.9.0"
)

// A release is built from a checkout at its tag, and again from another one.
func TestRelease(t *testing.T) {
	need.Tools(t, "git", "help2man", "dpkg-deb", "apt-get", "apt-ftparchive", "gpg", "gpgv", "xz", "sha256sum", "tar")
	w := &work{t: t, dir: t.TempDir()}
	w.tool = w.path("release")
	w.run(top(t), "go", "build", "-o", w.tool, "./internal/tools/release")
	w.run(w.dir, w.tool, "keys", "--out", w.path("keys"), "--date", day(-100))
	files := http.FileServer(http.Dir(w.path("site")))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-Modified-Since") // HTTP tells times to a second; this is faster
		files.ServeHTTP(rw, r)
	}))
	defer server.Close()
	w.url = server.URL

	checkout := w.path("checkout")
	w.checkout(checkout)
	w.refused("does not stand at the tag", w.buildArgs("v0.9.1", checkout, "no")...)
	stray := filepath.Join(checkout, "stray.go")
	w.write(stray, "package x")
	w.refused("not committed", w.buildArgs(version, checkout, "no")...)
	w.remove(stray)

	w.run(w.dir, w.tool, w.buildArgs(version, checkout, "one")...)
	w.refused("there already", w.buildArgs(version, checkout, "one")...)
	t.Run("the same bytes from another checkout", func(t *testing.T) {
		w := w.in(t)
		other := w.path("elsewhere/with another name")
		w.run(w.dir, "git", "clone", "--quiet", checkout, other)
		w.run(w.dir, "sh", append([]string{"-c", `umask 077 && exec "$@"`, "sh", w.tool}, w.buildArgs(version, other, "two")...)...)
		w.run(w.dir, "diff", "--recursive", "--brief", "one", "two")
	})
	t.Run("what is in it", func(t *testing.T) { w.in(t).contents() })

	w.refused("no site is there", w.publishArgs(-10)...)
	w.run(w.dir, w.tool, append(w.publishArgs(-10), "--first")...)
	w.refused("is a site already", append(w.publishArgs(-9), "--first")...)
	w.refused("not newer", w.publishArgs(-9)...)
	t.Run("apt installs from the site", func(t *testing.T) { w.in(t).installs() })
	t.Run("the list is followed and refreshed", func(t *testing.T) { w.in(t).follows() })
}

// work is the folder in which it all happens.
type work struct {
	t    *testing.T
	dir  string
	tool string
	url  string
}

func (w *work) in(t *testing.T) *work {
	t.Helper()
	return &work{t, w.dir, w.tool, w.url}
}

func (w *work) path(name string) string { return filepath.Join(w.dir, name) }

func day(n int) string { return time.Now().AddDate(0, 0, n).UTC().Format(time.RFC3339) }

func (w *work) buildArgs(version, root, out string) []string {
	return []string{"build", "--version", version, "--root", root, "--out", w.path(out), "--site-url", w.url, "--images", "none", "--date", buildDate,
		"--key", w.path("keys/archive.key"), "--list-key", w.path("keys/list.key")}
}

// buildDate is the same for both builds.
var buildDate = day(-10)

func (w *work) publishArgs(days int) []string {
	return []string{"publish", "--version", version, "--from", w.path("one"), "--site", w.path("site"), "--date", day(days),
		"--key", w.path("keys/archive.key"), "--list-key", w.path("keys/list.key")}
}

// checkout makes a repository of what this one holds, committed or not, with a tag.
func (w *work) checkout(dir string) {
	w.t.Helper()
	root := top(w.t)
	for name := range strings.SplitSeq(strings.Trim(w.run(root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil || !info.Mode().IsRegular() {
			continue // deleted, and not yet committed so
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			w.t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(to, data, info.Mode().Perm()); err != nil {
			w.t.Fatal(err)
		}
	}
	w.run(dir, "git", "init", "--quiet")
	w.run(dir, "git", "add", "--all")
	w.run(dir, "git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "all")
	w.run(dir, "git", "-c", "tag.gpgsign=false", "tag", version)
}

// contents looks into what was built.
func (w *work) contents() {
	t := w.t
	one := w.path("one")
	w.run(one, "sha256sum", "--check", "--strict", "SHA256SUMS")
	w.run(one, "gpgv", "--keyring", w.path("keys/archive.gpg"), "SHA256SUMS.asc", "SHA256SUMS")
	sums := w.read("one/SHA256SUMS")
	var names []string
	for _, arch := range arch.Names() {
		for _, pkg := range []string{"relayd", "relaymon", "relayaudit", "relay-appliance"} {
			names = append(names, pkg+"_"+number+"_"+arch+".deb")
		}
		names = append(names, "relay-appliance_"+number+"_linux_"+arch+".tar.gz", "relay-appliance_"+number+"_linux_"+arch+".spdx.json")
	}
	names = append(names, "relay-appliance-archive-keyring_"+number+"_all.deb")
	for _, program := range []string{"relayd", "relaymon"} {
		names = append(names, program+"_"+number+".oci.tar", program+"_"+number+"_amd64.docker.tar", program+"_"+number+"_arm64.docker.tar")
	}
	for _, name := range append(names, "compose.yaml", "SOURCES.md", "THIRD-PARTY-NOTICES.txt") {
		if !strings.Contains(sums, "  "+name+"\n") {
			t.Errorf("there is no %s:\n%s", name, sums)
		}
	}

	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, arch := range arch.Names() {
		machine, known := machines[arch]
		if !known {
			t.Fatalf("what machine is %s?", arch)
		}
		name := "relay-appliance_" + number + "_linux_" + arch
		w.run(w.dir, "tar", "--extract", "--file", "one/"+name+".tar.gz")
		for _, program := range []string{"relayd", "relaymon", "relayaudit", "relay-appliance"} {
			f, err := elf.Open(w.path(name + "/" + program))
			if err != nil {
				t.Fatal(err)
			}
			if libraries, err := f.ImportedLibraries(); f.Machine != machine || len(libraries) > 0 {
				t.Errorf("%s: for %s, links %v, %v", program, f.Machine, libraries, err)
			}
			f.Close()
			if arch == runtime.GOARCH {
				if said := w.run(w.dir, w.path(name+"/"+program), "version"); !strings.HasPrefix(said, program+" "+version+" ") {
					t.Errorf("%s says it is %q", program, said)
				}
			}
		}
		var parts struct {
			Packages []struct{ Name, VersionInfo string }
		}
		if err := json.Unmarshal([]byte(w.read("one/"+name+".spdx.json")), &parts); err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, p := range parts.Packages {
			found[p.Name] = p.VersionInfo != ""
		}
		for _, want := range []string{"relayd", "relay-appliance", "github.com/libp2p/go-libp2p"} {
			if !found[want] {
				t.Errorf("%s is not among the parts of %s", want, name)
			}
		}
	}
	for file, words := range map[string][]string{
		"THIRD-PARTY-NOTICES.txt": {"github.com/libp2p/go-libp2p v", "The Go standard library", "@libp2p/", "Apache License", "MIT License"},
		"SOURCES.md":              {"tag " + version, strings.TrimSpace(w.run(w.path("checkout"), "git", "rev-parse", "HEAD")), "snapshot.debian.org"},
	} {
		text := w.read("one/" + file)
		for _, want := range words {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not hold %q", file, want)
			}
		}
	}
}

// installs has a real apt download from the site, with the keyring of the package.
func (w *work) installs() {
	t := w.t
	w.run(w.dir, "dpkg-deb", "--extract", "one/relay-appliance-archive-keyring_"+number+"_all.deb", "installed")
	from, err := feed.Load(w.path("installed" + feed.DefaultFile))
	if err != nil || !from.Known() {
		t.Fatalf("%+v, %v", from, err)
	}
	for _, dir := range []string{"apt/state/lists/partial", "apt/cache/archives/partial", "apt/etc/apt.conf.d", "apt/etc/preferences.d", "apt/etc/sources.list.d"} {
		if err := os.MkdirAll(w.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.write(w.path("apt/state/status"), "")
	w.write(w.path("apt/etc/sources.list.d/relay-appliance.sources"), fmt.Sprintf("Types: deb\nURIs: %s\nSuites: stable\nComponents: main\nSigned-By: %s\n",
		from.Apt(), w.path("installed/usr/share/keyrings/relay-appliance-archive-keyring.gpg")))
	for _, a := range arch.Names() {
		w.write(w.path("apt/apt.conf"), fmt.Sprintf("Dir::Etc %q;\nDir::State %q;\nDir::State::status %q;\nDir::Cache %q;\nAPT::Architecture %q;\nAPT::Architectures %q;\nAPT::Sandbox::User \"root\";\nAPT::Update::Error-Mode \"any\";\n",
			w.path("apt/etc"), w.path("apt/state"), w.path("apt/state/status"), w.path("apt/cache"), a, a))
		apt := []string{"env", "APT_CONFIG=" + w.path("apt/apt.conf"), "http_proxy=", "apt-get"}
		w.run(w.path("apt"), apt[0], append(apt[1:], "update")...)
		w.run(w.path("apt"), apt[0], append(apt[1:], "download", "relayd="+number)...)
		if name := "relayd_" + number + "_" + a + ".deb"; w.read("apt/"+name) != w.read("one/"+name) {
			t.Errorf("%s, as it was downloaded, is another one", name)
		}
	}
}

// follows reads the list as relayd and relaymon do.
func (w *work) follows() {
	t := w.t
	from, err := feed.Load(w.path("installed" + feed.DefaultFile))
	if err != nil {
		t.Fatal(err)
	}
	get := func() *release.List {
		t.Helper()
		l, _, err := from.Get(t.Context(), "test/1")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := get()
	p, i := before.Find("relayd/" + number)
	if p == nil || p.Releases[i].Version != version {
		t.Fatalf("the list does not name the version: %+v", before)
	}
	w.run(w.dir, w.tool, "refresh", "--site", w.path("site"), "--key", w.path("keys/archive.key"), "--list-key", w.path("keys/list.key"))
	after := get()
	if err := after.Follows(before); err != nil || !after.ValidUntil.After(before.ValidUntil.Time) {
		t.Errorf("refreshed: %v; valid until %s, before %s", err, after.ValidUntil, before.ValidUntil)
	}
	// Another's keys sign nothing here.
	w.run(w.dir, w.tool, "keys", "--out", w.path("others"))
	w.refused("no signature", "refresh", "--site", w.path("site"), "--key", w.path("keys/archive.key"), "--list-key", w.path("others/list.key"))
	w.refused("no good signature", "refresh", "--site", w.path("site"), "--key", w.path("others/archive.key"), "--list-key", w.path("keys/list.key"))
}

// run returns what a program says on stdout.
func (w *work) run(dir, name string, args ...string) string {
	w.t.Helper()
	out, err := w.try(dir, name, args...)
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return out
}

// refused wants the tool to fail with such words.
func (w *work) refused(words string, args ...string) {
	w.t.Helper()
	out, err := w.try(w.dir, w.tool, args...)
	if err == nil || !strings.Contains(out, words) {
		w.t.Errorf("release %s: %v; want a failure that says %q\n%s", args[0], err, words, out)
	}
}

// try returns what a program says on stdout or, if it fails, on both.
func (w *work) try(dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "RELEASE_KEY=", "RELEASE_LIST_KEY=", "SOURCE_DATE_EPOCH=")
	if err := cmd.Run(); err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

func (w *work) read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func (w *work) write(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *work) remove(path string) {
	w.t.Helper()
	if err := os.Remove(path); err != nil {
		w.t.Fatal(err)
	}
}

func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
