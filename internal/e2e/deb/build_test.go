package deb

import (
	"bytes"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
)

// version and epoch of what is built here.
const (
	version = "0.9.1"
	epoch   = "1795402225"
)

var names = []string{"relay-appliance", "relayaudit", "relayd", "relaymon"}

// work is the folder of what is built here: the tool that builds packages, and the
// packages that the first test who asks has had built.
var work string

func TestMain(m *testing.M) {
	code := m.Run()
	if work != "" {
		os.RemoveAll(work)
	}
	os.Exit(code)
}

// built returns the package of a program.
func built(t *testing.T, name string) string {
	t.Helper()
	need.Tools(t, "git", "help2man", "dpkg-deb")
	if work == "" {
		dir, err := os.MkdirTemp("", "relay-deb-")
		if err != nil {
			t.Fatal(err)
		}
		work = dir
		run(t, "go", "-C", filepath.Join(top(t), "internal/tools/deb"), "build", "-o", filepath.Join(work, "tool"), ".")
		build(t, top(t), filepath.Join(work, "dist"), nil)
	}
	return filepath.Join(work, "dist", file(name, arch.Host))
}

// file is the name of a package's file.
func file(name, arch string) string { return name + "_" + version + "_" + arch + ".deb" }

// build does what `make deb` does, for a release.
func build(t *testing.T, root, out string, more []string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(work, "tool"), append([]string{"-root", root, "-out", out, "-version", "v" + version}, more...)...)
	cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the packages: %v\n%s", err, out)
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

// run returns what a program says on stdout.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

// Anybody can build the packages again and compare: the same bytes come out in
// another folder, of files written at another time under another umask, in
// another time zone, without git and with other settings of Go's own.
func TestReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("builds everything twice")
	}
	first := built(t, "relayd")
	root := t.TempDir()
	list := run(t, "git", "-C", top(t), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimRight(list, "\x00"), "\x00") {
		from, to := filepath.Join(top(t), name), filepath.Join(root, name)
		info, err := os.Lstat(from)
		if os.IsNotExist(err) {
			continue // deleted, not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, info.Mode()&0o700); err != nil {
			t.Fatal(err)
		}
	}
	again := t.TempDir()
	// For one architecture: the test of a release builds the other ones twice, too.
	build(t, root, again, []string{"-arch", arch.Host}, "TZ=Asia/Kathmandu", "LC_ALL=C", "GOFLAGS=-buildvcs=auto", "GOAMD64=v2")
	for _, name := range names {
		name := file(name, arch.Host)
		a, errA := os.ReadFile(filepath.Join(filepath.Dir(first), name))
		b, errB := os.ReadFile(filepath.Join(again, name))
		if errA != nil || errB != nil {
			t.Errorf("%s: %v, %v", name, errA, errB)
		} else if !bytes.Equal(a, b) {
			t.Errorf("%s: the second build differs (%d and %d bytes)", name, len(a), len(b))
		}
	}
}

// There are packages for each architecture of the table and no other, and each holds
// a program for it.
func TestArchitectures(t *testing.T) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	debs, err := filepath.Glob(filepath.Join(filepath.Dir(built(t, names[0])), "*.deb"))
	if err != nil || len(debs) != len(names)*len(arch.All) {
		t.Errorf("%d packages for %d architectures: %q, %v", len(debs), len(arch.All), debs, err)
	}
	for _, a := range arch.All {
		for _, name := range names {
			deb, tree := filepath.Join(work, "dist", file(name, a.Name)), t.TempDir()
			if got := strings.TrimSpace(run(t, "dpkg-deb", "--field", deb, "Architecture")); got != a.Name {
				t.Errorf("%s is for %s", deb, got)
			}
			run(t, "dpkg-deb", "--extract", deb, tree)
			f, err := elf.Open(filepath.Join(tree, "usr/bin", name))
			if err != nil {
				t.Fatal(err)
			}
			libraries, err := f.ImportedLibraries()
			if want, known := machines[a.Name]; !known || f.Machine != want || len(libraries) > 0 || err != nil {
				t.Errorf("%s of %s: for %s, links %q, %v", name, a.Name, f.Machine, libraries, err)
			}
			f.Close()
		}
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(work, "tool"), "-root", top(t), "-out", t.TempDir(), "-arch", "amd64,i386").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `-arch: want of amd64,arm64, not "i386"`) {
		t.Errorf("%v: %s", err, out)
	}
}

// The packages' own tool is a module of its own, which ./... does not cover.
func TestTool(t *testing.T) {
	run(t, "go", "-C", filepath.Join(top(t), "internal/tools/deb"), "test", "-vet=off", "./...")
}

// files lists what is under dir, with slashes, without folders.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
