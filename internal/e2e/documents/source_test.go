package documents

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/relay/refusal"
)

// top is the repository's top folder.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{top(t)}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// source is the code of one package, of which the words are read: they are not to be had
// from outside without a relay in each of its states.
type source struct {
	t     *testing.T
	files []*ast.File
	// texts are what names stand for, and others what the same names stand for later.
	texts  map[string]ast.Expr
	others map[string][]ast.Expr
	funcs  map[string]*ast.FuncDecl
}

func parse(t *testing.T, dir string) *source {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(top(t), dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	s := &source{t: t, texts: map[string]ast.Expr{}, funcs: map[string]*ast.FuncDecl{}}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, f)
		s.note(f)
	}
	if len(s.files) == 0 {
		t.Fatalf("%s has no code", dir)
	}
	return s
}

// note keeps what is declared at the top of a file.
func (s *source) note(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.funcs[d.Name.Name] = d
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					s.give(v)
				}
			}
		}
	}
}

func (s *source) give(v *ast.ValueSpec) {
	for i, value := range v.Values {
		s.texts[v.Names[i].Name] = value
	}
}

// within is the source as one function sees it: with its own constants and variables. What
// is added to one later is left out.
func (s *source) within(f *ast.FuncDecl) *source {
	inside := *s
	inside.texts, inside.others = maps.Clone(s.texts), map[string][]ast.Expr{}
	given := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			inside.give(n)
		case *ast.AssignStmt:
			for i, to := range n.Lhs {
				id, ok := to.(*ast.Ident)
				switch {
				case !ok || n.Tok == token.ADD_ASSIGN || len(n.Lhs) == len(n.Rhs) && mentions(n.Rhs[i], id.Name):
				case len(n.Lhs) != len(n.Rhs):
					delete(inside.texts, id.Name)
				case given[id.Name]:
					inside.others[id.Name] = append(inside.others[id.Name], n.Rhs[i])
				default:
					inside.texts[id.Name], given[id.Name] = n.Rhs[i], true
				}
			}
		}
		return true
	})
	return &inside
}

func mentions(e ast.Expr, name string) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && id.Name == name
		return true
	})
	return found
}

// calls goes through the calls of functions of these names.
func (s *source) calls(in ast.Node, do func(name string, args []ast.Expr), names ...string) {
	ast.Inspect(in, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		called := name(call.Fun)
		for _, want := range names {
			if called == want {
				do(called, call.Args)
			}
		}
		return true
	})
}

// name is the last part of a name: of x.y it is y.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// gap stands for what is known only when the program runs.
const gap = "…"

// reasons are those that findings name.
var reasons = map[string]*refusal.Reason{
	"NoPlace": refusal.NoPlace, "NoGuestPlace": refusal.NoGuestPlace, "NoPlaceForIP": refusal.NoPlaceForIP, "MonthSpent": refusal.MonthSpent,
}

// text is what an expression says.
func (s *source) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if v, err := strconv.Unquote(e.Value); err == nil {
			return v
		}
	case *ast.BinaryExpr:
		return gaps.ReplaceAllString(s.text(e.X)+s.text(e.Y), gap)
	case *ast.Ident:
		if v := s.texts[e.Name]; v != nil && !mentions(v, e.Name) {
			return s.either(s.text(v), s.others[e.Name])
		}
	case *ast.SelectorExpr:
		if of, ok := e.X.(*ast.SelectorExpr); ok && e.Sel.Name == "Text" {
			if r := reasons[of.Sel.Name]; r != nil {
				return r.Text
			}
			s.t.Errorf("the reason %s is not among those that this test knows", of.Sel.Name)
		}
		if v := s.texts[name(e.X)+"."+e.Sel.Name]; v != nil {
			return s.text(v)
		}
	case *ast.CallExpr:
		if name(e.Fun) == "Sprintf" {
			return s.format(e.Args)
		}
		if f := s.funcs[name(e.Fun)]; f != nil && strings.HasSuffix(f.Name.Name, "Cure") {
			return s.within(f).returned(f)
		}
	}
	return gap
}

// either joins what a name may stand for. What only has gaps where another one has words is
// left out.
func (s *source) either(first string, others []ast.Expr) string {
	if first == "" && len(others) > 0 {
		return gap // it is there at times
	}
	all := []string{first}
	for _, e := range others {
		text := s.text(e)
		if text == gap {
			return gap
		}
		like := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(text), gap, ".*") + "$")
		if !slices.ContainsFunc(all, like.MatchString) {
			all = append(all, text)
		}
	}
	return strings.Join(all, " or ")
}

// returned is what a function answers, be it the one or the other.
func (s *source) returned(f *ast.FuncDecl) string {
	var all []string
	ast.Inspect(f, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok && len(r.Results) == 1 {
			if text := s.text(r.Results[0]); strings.Trim(text, gap) != "" {
				all = append(all, text)
			}
		}
		return true
	})
	if len(all) == 0 {
		return gap
	}
	return strings.Join(all, " Or: ")
}

var (
	verbs = regexp.MustCompile(`%(?:\[(\d)\])?[.0-9]*([a-z%])`)
	gaps  = regexp.MustCompile(gap + "{2,}")
)

// format is a format with the arguments that are known.
func (s *source) format(args []ast.Expr) string {
	next := 1
	out := verbs.ReplaceAllStringFunc(s.text(args[0]), func(verb string) string {
		m := verbs.FindStringSubmatch(verb)
		if m[2] == "%" {
			return "%"
		}
		at := next
		if m[1] != "" {
			at, _ = strconv.Atoi(m[1])
		}
		next = at + 1
		if at < len(args) {
			return s.text(args[at])
		}
		return gap
	})
	return gaps.ReplaceAllString(out, gap)
}
