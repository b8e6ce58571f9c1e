package repo

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// impure are the libraries by which a package would learn of more than it was given.
// net/netip is none of them: it only reads addresses.
var impure = []string{"os", "os/...", "io/ioutil", "syscall", "golang.org/x/sys/...", "net", "net/http", "net/http/...", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog"}

// clock are the functions of package time that read the clock or wait for it.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTicker", "NewTimer", "Sleep", "Tick"}

// The verifier gets bytes, and tells what they prove: what it says does not depend on
// where and when it runs. So nothing in monitor/evidence reads files, the network, the
// clock or random numbers.
func TestEvidenceIsPure(t *testing.T) {
	for _, p := range packages(t) {
		if p.short() != "monitor/evidence" {
			continue
		}
		if len(p.GoFiles) == 0 {
			t.Fatal("monitor/evidence has no files: this test would guard nothing")
		}
		for _, name := range p.GoFiles {
			checkPure(t, filepath.Join(p.Dir, name))
		}
		return
	}
	t.Fatal("monitor/evidence is gone: this test would guard nothing")
}

func checkPure(t *testing.T, file string) {
	t.Helper()
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	timeName := ""
	for _, imp := range f.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		if slices.ContainsFunc(impure, func(pattern string) bool {
			tree, ok := strings.CutSuffix(pattern, "/...")
			return path == pattern || ok && strings.HasPrefix(path, tree+"/")
		}) {
			t.Errorf("%s imports %s: monitor/evidence is given what it needs", files.Position(imp.Pos()), path)
		}
		if path == "time" {
			if timeName = "time"; imp.Name != nil {
				timeName = imp.Name.Name
			}
		}
	}
	if timeName == "." {
		t.Errorf("%s imports time without a name: nobody can see whether it reads the clock", file)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && timeName != "" && x.Name == timeName && slices.Contains(clock, sel.Sel.Name) {
			t.Errorf("%s: time.%s: monitor/evidence is told the time", files.Position(sel.Pos()), sel.Sel.Name)
		}
		return true
	})
}
