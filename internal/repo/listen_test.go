package repo

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// listens is what opens a TCP listener or serves HTTP, by package and name. A
// composite literal counts, too.
var listens = map[string][]string{
	"net":                               {"Listen", "ListenTCP", "ListenUnix", "ListenConfig", "FileListener"},
	"net/http":                          {"Server", "Serve", "ServeTLS", "ListenAndServe", "ListenAndServeTLS"},
	"crypto/tls":                        {"Listen"},
	"net/http/fcgi":                     {"Serve"},
	"golang.org/x/crypto/acme/autocert": {"NewListener"},
	"golang.org/x/net/netutil":          {"LimitListener"}, // makes everybody wait for the one who fills it
	"github.com/multiformats/go-multiaddr/net": {"Listen", "ListenPacket"},
}

// mayListen are the files that do so beside internal/listen, and why nobody can
// lock others out there.
var mayListen = map[string]string{
	"internal/listen/listen.go":       "the bounds themselves",
	"relay/config/listen.go":          "tries whether an address is free, and closes it at once",
	"internal/demo/state.go":          "finds free ports, and closes them at once",
	"internal/pebble/pebble.go":       "a certificate authority for tests and make run, on loopback",
	"internal/qemu/ports.go":          "finds free ports of this machine for tests",
	"internal/bench/load/bulk.go":     "the benchmark's own load, between its own ends",
	"internal/bench/subject/proxy.go": "the proxy that the benchmark compares with, between its own ends",
}

// Every listener has bounds: those of internal/listen, or none are needed.
func TestListenersAreBounded(t *testing.T) {
	found := map[string]bool{}
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			file, err := filepath.Rel(root(t), path)
			if err != nil {
				t.Fatal(err)
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, use := range uses(f) {
				found[file] = true
				if covers(testOnly, p.short()) || mayListen[file] != "" {
					continue
				}
				t.Errorf("%s uses %s: open the listener by internal/listen, or say in mayListen why it needs no bounds", fset.Position(use.Pos()), selector(use))
			}
		}
	}
	for _, file := range slices.Sorted(maps.Keys(mayListen)) {
		if !found[file] {
			t.Errorf("%s is in mayListen and does not listen", file)
		}
	}
}

// uses are the places in f that listen.
func uses(f *ast.File) (out []*ast.SelectorExpr) {
	names := map[string][]string{}
	for _, i := range f.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		if listens[path] == nil {
			continue
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if path == "github.com/multiformats/go-multiaddr/net" {
			name = "manet"
		}
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = listens[path]
	}
	ast.Inspect(f, func(n ast.Node) bool {
		// A pointer to a server that somebody else made, such as a field's type, is none.
		if star, ok := n.(*ast.StarExpr); ok {
			if s, ok := star.X.(*ast.SelectorExpr); ok && s.Sel.Name == "Server" {
				return false
			}
		}
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && slices.Contains(names[x.Name], s.Sel.Name) {
				out = append(out, s)
			}
		}
		return true
	})
	return out
}

func selector(s *ast.SelectorExpr) string { return s.X.(*ast.Ident).Name + "." + s.Sel.Name }

// The rule finds what it is for.
func TestListenersAreFound(t *testing.T) {
	for src, want := range map[string]int{
		`import "net"; var l, _ = net.Listen("tcp", ":80")`:                             1,
		`import n "net"; var l, _ = n.ListenTCP("tcp", nil)`:                            1,
		`import "net"; var c net.ListenConfig`:                                          1,
		`import "net/http"; var s = &http.Server{}`:                                     1,
		`import "net/http"; var s = new(http.Server)`:                                   1,
		`import "net/http"; func f() { http.ListenAndServe(":80", nil) }`:               1,
		`import "golang.org/x/net/netutil"; var l = netutil.LimitListener(nil, 1)`:      1,
		`import manet "github.com/multiformats/go-multiaddr/net"; var f = manet.Listen`: 1,
		`import "net/http"; func f(s *http.Server, w http.ResponseWriter) {}`:           0,
		`import "example.org/net"; var l, _ = net.Listen("tcp", ":80")`:                 0,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(uses(f)); got != want {
			t.Errorf("%s: %d found, want %d", src, got, want)
		}
	}
}
