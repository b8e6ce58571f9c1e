package debian

import (
	"archive/tar"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

// row is that of an architecture, which need not be this machine's.
func row(name string) arch.Arch {
	a, err := arch.Find(name)
	if err != nil {
		panic(err)
	}
	return a
}

func TestArgv(t *testing.T) {
	r := Recipe{Arch: row("amd64"), Suite: "trixie", Mirror: "http://m/debian", Security: "http://m/security", Packages: []string{"systemd", "nftables"}}
	got := r.argv("/tree")
	want := []string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"env", "INITRD=No", "mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory", "--architectures=amd64", `--aptopt=APT::Install-Recommends "false"`}
	for _, p := range append(r.paths(), hardware()...) {
		want = append(want, "--dpkgopt="+p)
	}
	want = append(want, "--skip=cleanup/apt/lists", "--include=systemd,nftables", "trixie", "/tree",
		"deb http://m/debian trixie main", "deb http://m/debian trixie-updates main", "deb http://m/security trixie-security main")
	if !r.Arch.Foreign() {
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	// mmdebstrap does not look for an emulator where there is one.
	r.Arch = arch.Arch{Name: "other", GRUB: "other-efi"}
	other := strings.Join(r.argv("/tree"), " ")
	for _, want := range []string{" --architectures=other ", " --dpkgopt=path-exclude=/usr/lib/grub/other-efi/* ", " --skip=check/qemu "} {
		if !strings.Contains(other, want) {
			t.Errorf("%s\nlacks %s", other, want)
		}
	}
}

// What bears the time of the day on which it was installed would differ between a tree
// that was kept and one that is made today.
func TestPackKnowsNoLaterTimeThanTheState(t *testing.T) {
	tree, file, state := t.TempDir(), filepath.Join(t.TempDir(), "tree.tar"), time.Unix(1_700_000_000, 0)
	for _, name := range []string{"initrd", "licence"} {
		if err := os.WriteFile(filepath.Join(tree, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	older := state.AddDate(-1, 0, 0)
	if err := os.Chtimes(filepath.Join(tree, "licence"), older, older); err != nil {
		t.Fatal(err)
	}
	argv := pack(tree, file, state)
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string]int64{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h.ModTime.UnixNano()
	}
	want := map[string]int64{"./": state.UnixNano(), "./initrd": state.UnixNano(), "./licence": older.UnixNano()}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPathsKeepLicences(t *testing.T) {
	paths := Recipe{}.paths()
	doc, licence := slices.Index(paths, "path-exclude=/usr/share/doc/*"), slices.Index(paths, "path-include=/usr/share/doc/*/copyright")
	if doc < 0 || licence < doc {
		t.Error("the copyright files are left out: the last rule that fits counts")
	}
}

const inRelease = "Origin: Debian\nDate: Sat, %02d Nov 2026 02:10:46 UTC\nSuite: %s\n"

func TestState(t *testing.T) {
	a, b := fmt.Sprintf(inRelease, 7, "a"), fmt.Sprintf(inRelease, 21, "b")
	one, err := StateOf([]string{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if got := one.Time.Format("2006-01-02 15:04:05"); got != "2026-11-21 02:10:46" {
		t.Errorf("the newest is of %s", got)
	}
	// In whatever order apt names its files.
	if two, err := StateOf([]string{b, a}); err != nil || two != one {
		t.Errorf("%v %v", two, err)
	}
	if other, err := StateOf([]string{a, b + "x"}); err != nil || other == one {
		t.Errorf("a change is not seen: %v", err)
	}
	for _, bad := range []string{"Origin: Debian\n", "Date: yesterday\n", ""} {
		if _, err := StateOf([]string{a, bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestKey(t *testing.T) {
	s, err := StateOf([]string{fmt.Sprintf(inRelease, 7, "a")})
	if err != nil {
		t.Fatal(err)
	}
	base := Recipe{Arch: row("amd64"), Suite: "trixie", Packages: []string{"a", "b"}}
	reordered, more, suite := base, base, base
	reordered.Packages, more.Packages, suite.Suite = []string{"b", "a"}, []string{"a", "b", "c"}, "forky"
	if base.Key(s) != reordered.Key(s) {
		t.Error("the order of the packages matters")
	}
	if base.Key(s) == more.Key(s) || base.Key(s) == suite.Key(s) {
		t.Error("different trees under one key")
	}
	if !slices.Equal(reordered.Packages, []string{"b", "a"}) {
		t.Error("the recipe was changed")
	}
}

// mirror serves the InRelease files of a suite; closed it is out of reach.
func mirror(t *testing.T) (*httptest.Server, Recipe, State) {
	t.Helper()
	var files []string
	for i, suite := range []string{"trixie", "trixie-updates", "trixie-security"} {
		files = append(files, fmt.Sprintf(inRelease, i+1, suite))
	}
	mux := http.NewServeMux()
	for i, path := range []string{"/debian/dists/trixie", "/debian/dists/trixie-updates", "/security/dists/trixie-security"} {
		mux.HandleFunc(path+"/InRelease", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, files[i]) })
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	state, err := StateOf(files)
	if err != nil {
		t.Fatal(err)
	}
	return s, Recipe{Arch: row("amd64"), Suite: "trixie", Mirror: s.URL + "/debian", Security: s.URL + "/security", Packages: []string{"a"}}, state
}

func TestCache(t *testing.T) {
	server, recipe, state := mirror(t)
	var said []string
	c := Cache{Dir: t.TempDir(), Say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	older := state
	older.Time = state.Time.AddDate(0, -3, 0)
	older.Sum[0]++
	for _, s := range []State{state, older} {
		if err := os.Mkdir(filepath.Join(c.Dir, recipe.Key(s)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := filepath.Join(c.Dir, recipe.Key(state))
	if kept, err := c.Tree(t.Context(), recipe); err != nil || kept.dir != want {
		t.Errorf("%v %v, want %s", kept, err, want)
	}
	// Another day it shows an older state, which is none of the kept ones.
	newer := state
	newer.Time = state.Time.AddDate(0, 0, 1)
	if err := os.Mkdir(filepath.Join(c.Dir, recipe.Key(newer)), 0o755); err != nil {
		t.Fatal(err)
	}
	want = filepath.Join(c.Dir, recipe.Key(newer))
	if kept, err := c.Tree(t.Context(), recipe); err != nil || kept.dir != want {
		t.Errorf("from a mirror that lags: %v %v, want %s", kept, err, want)
	}
	if last := said[len(said)-2]; !strings.Contains(last, "the mirror shows an older state than before (2026-11-03 02:10:46)") {
		t.Errorf("it said %q", said)
	}
	server.Close()
	said = nil
	if kept, err := c.Tree(t.Context(), recipe); err != nil || kept.dir != want {
		t.Errorf("without the mirror: %v %v", kept, err)
	}
	if len(said) != 1 || !strings.Contains(said[0], "building on the newest tree that is kept") {
		t.Errorf("that it is not asked is said as %q", said)
	}
	recipe.Packages = []string{"another"}
	if kept, err := c.Tree(t.Context(), recipe); err == nil || !strings.Contains(err.Error(), "ask the mirror") {
		t.Errorf("a tree that was never made: %v %v", kept, err)
	}
}

func TestDrop(t *testing.T) {
	_, recipe, state := mirror(t)
	c := Cache{Dir: t.TempDir(), Say: t.Logf}
	other := recipe
	other.Packages = []string{"other"}
	var want []string
	for i := range 4 {
		s := state
		s.Time = state.Time.AddDate(0, 0, i)
		dir := filepath.Join(c.Dir, recipe.Key(s))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if i >= 2 {
			want = append(want, dir)
		}
	}
	kept := filepath.Join(c.Dir, other.Key(state))
	if err := os.Mkdir(kept, 0o755); err != nil {
		t.Fatal(err)
	}
	// What is being made stays, and what was being made two days ago goes.
	making, killed := filepath.Join(c.Dir, begun+"1"), filepath.Join(c.Dir, begun+"2")
	for _, dir := range []string{making, killed} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().AddDate(0, 0, -2)
	if err := os.Chtimes(killed, before, before); err != nil {
		t.Fatal(err)
	}
	want = append(want, making)
	c.drop(recipe)
	got, err := filepath.Glob(filepath.Join(c.Dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, kept)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestHashes(t *testing.T) {
	dir := t.TempDir()
	if _, err := readLists(dir); err == nil {
		t.Error("no lists, no fault")
	}
	list := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name+"_Packages"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list("main", "Package: a\nVersion: 1\nArchitecture: amd64\nSHA256: aa\n\nPackage: b\nVersion: 2\nArchitecture: all\nSHA256: bb\n")
	list("security", "Package: a\nVersion: 1.1\nArchitecture: amd64\nSHA256: cc\n")
	all, err := readLists(dir)
	if err != nil {
		t.Fatal(err)
	}
	status := "Package: a\nStatus: install ok installed\nVersion: 1.1\nArchitecture: amd64\n"
	got, err := all.of(status)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Hashes{"a 1.1 amd64": "cc"}, got); d != "" {
		t.Error(d)
	}
	if _, err := all.of(status + "\nPackage: b\nVersion: 3\nArchitecture: all\n"); err == nil || !strings.Contains(err.Error(), "b 3 all") {
		t.Errorf("a package that no list names: %v", err)
	}
	list("bad", "no field\n")
	if _, err := readLists(dir); err == nil || !strings.Contains(err.Error(), "bad_Packages") {
		t.Errorf("a list that cannot be read: %v", err)
	}
}
