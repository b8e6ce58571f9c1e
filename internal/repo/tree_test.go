package repo

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository's top folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// files lists what git tracks or would track, as paths from the top.
func files(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var names []string
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		// A file that is deleted but not yet committed is listed, too.
		if fi, err := os.Lstat(filepath.Join(root(t), name)); err == nil && fi.Mode().IsRegular() {
			names = append(names, name)
		}
	}
	return names
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGofmt(t *testing.T) {
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		src := read(t, name)
		want, err := format.Source(src)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(src, want) {
			t.Errorf("%s: not formatted: run gofmt -w %s", name, name)
		}
	}
}

// Exactly one file of a package says what the package is.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		var with []string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				with = append(with, name)
			}
		}
		if len(p.GoFiles) > 0 && len(with) != 1 {
			t.Errorf("%s has %d package comments (%s), want 1", p.short(), len(with), strings.Join(with, ", "))
		}
	}
}

func TestVet(t *testing.T)         { run(t, "go", "vet", "./...") }
func TestStaticcheck(t *testing.T) { run(t, "go", "tool", "staticcheck", "./...") }

// A go.mod with replace or exclude cannot be `go install`ed.
func TestModuleIsInstallable(t *testing.T) {
	if m := regexp.MustCompile(`(?m)^\s*(replace|exclude)\b`).Find(read(t, "go.mod")); m != nil {
		t.Errorf("go.mod holds %q: go install of the commands would be refused", m)
	}
	run(t, "go", "mod", "tidy", "-diff")
}

// The modules beside it are held to the same. Of Packer's there is nothing but a go.mod,
// by which it is built.
func TestOtherModules(t *testing.T) {
	found := 0
	for _, name := range files(t) {
		dir := filepath.Dir(name)
		if filepath.Base(name) != "go.mod" || dir == "." || dir == "internal/tools/packer" {
			continue
		}
		found++
		t.Run(dir, func(t *testing.T) {
			run(t, "go", "-C", dir, "mod", "tidy", "-diff")
			run(t, "go", "-C", dir, "vet", "./...")
		})
	}
	if found < 5 {
		t.Errorf("%d modules were found, want those of image and of the tools", found)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// What must not stand in any committed file.
var secrets = []struct {
	what    string
	pattern *regexp.Regexp
}{
	{"a private key in PEM", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE` + ` KEY-----\n[A-Za-z0-9+/=]{40}`)},
	{"a note signing key", regexp.MustCompile(`PRIVATE\+` + `KEY\+[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{40}`)},
	{"an access token", regexp.MustCompile(`\b(ghp|gho|github_pat|glpat|npm|AKIA)_?[A-Za-z0-9]{30,}\b`)},
	{"a path of somebody's machine", regexp.MustCompile(`(^|[\s"'=:(])/(home|Users)/[a-z]+/`)},
}

func TestNoSecrets(t *testing.T) {
	for _, name := range files(t) {
		b := read(t, name)
		if bytes.IndexByte(b, 0) >= 0 {
			continue // not text
		}
		for _, s := range secrets {
			if m := s.pattern.FindIndex(b); m != nil {
				t.Errorf("%s:%d: %s", name, 1+bytes.Count(b[:m[0]], []byte("\n")), s.what)
			}
		}
	}
}

// A committed file is text, and small, or stands here with its reason.
var large = map[string]string{
	"internal/e2e/psf/js/package-lock.json":         "pins the 1,380 packages of the PSF's own software",
	"monitor/bundle/data/dbip-country-ipv4.mmdb.gz": "countries by address, for audits without a network",

	"monitor/bundle/testdata/frozen/eligible/bundle.zip":     "evidence of format version 1 that every later version must verify",
	"monitor/bundle/testdata/frozen/not-eligible/bundle.zip": "the same",
	"monitor/bundle/testdata/frozen/review/bundle.zip":       "the same",
}

func TestNoLargeFiles(t *testing.T) {
	for _, name := range files(t) {
		if n := len(read(t, name)); n > 512<<10 && large[name] == "" {
			t.Errorf("%s: %d bytes; give it a reason in large, or make it when it is needed", name, n)
		}
	}
}

// `make help` is the list of targets: one that says nothing there is not found.
func TestMakeTargetsAreExplained(t *testing.T) {
	for line := range strings.SplitSeq(string(read(t, "Makefile")), "\n") {
		if m := regexp.MustCompile(`^([a-z][a-z-]*):[^=]*$`).FindStringSubmatch(line); m != nil && !strings.Contains(line, "## ") {
			t.Errorf("Makefile: target %s has no ## explanation", m[1])
		}
	}
}

// What -short leaves out of the run with the race detector, `make test` runs from the files
// that ask for it: a helper that asks must have its tests in its own file.
func TestShortIsAskedForWhereItsTestsAre(t *testing.T) {
	idents := map[string]map[string]bool{} // by file
	asks := map[string][]string{}          // helpers, by file
	for _, name := range files(t) {
		if !strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "internal/e2e/") { // run whole
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, read(t, name), 0)
		if err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		for _, d := range f.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Short" {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "testing" {
						fn, ok := d.(*ast.FuncDecl)
						if !ok {
							t.Errorf("%s asks for -short outside of a function", name)
						} else if !strings.HasPrefix(fn.Name.Name, "Test") {
							asks[name] = append(asks[name], fn.Name.Name)
						}
					}
				}
				if id, ok := n.(*ast.Ident); ok {
					used[id.Name] = true
				}
				return true
			})
		}
		idents[name] = used
	}
	if len(asks) == 0 {
		t.Error("none was found, of those that there were")
	}
	for name, helpers := range asks {
		for other, used := range idents {
			for _, h := range helpers {
				if other != name && filepath.Dir(other) == filepath.Dir(name) && used[h] {
					t.Errorf("%s uses %s, which asks for -short: move it into %s, or it is never run as a whole", other, h, name)
				}
			}
		}
	}
}
