package refusal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// README.md lists each word by which the relay refuses or ends something, once in each
// list, and no other; beside it stands what the peer is told, and the limit to raise.
func TestWordsAreListed(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	must(t, err)
	_, text, _ := strings.Cut(string(readme), "\n### Why something was refused or ended\n")
	text, _, _ = strings.Cut(text, "\n### ")
	_, text, _ = strings.Cut(text, "\n| Word ")
	refusals, endings, _ := strings.Cut(text, "| Word | What ends |")
	rows := rowsOf(refusals)
	for _, r := range All {
		row := rows[r.Word]
		if len(row) != 1 {
			t.Errorf("README.md has %d rows for %s, want one", len(row), r.Word)
			continue
		}
		if r.limit != "" && !strings.Contains(row[0], "`"+r.limit+"`") {
			t.Errorf("%s: the row does not name the limit %s: %s", r.Word, r.limit, row[0])
		}
		if err := r.checkTold(row[0]); err != nil {
			t.Errorf("%s: %v: %s", r.Word, err, row[0])
		}
		delete(rows, r.Word)
	}
	if len(rows) > 0 {
		t.Errorf("README.md lists refusals that there are not: %v", rows)
	}
	ends := rowsOf(endings)
	for _, word := range EndReasons {
		if len(ends[word]) != 1 {
			t.Errorf("README.md has %d rows for what ends by %s, want one", len(ends[word]), word)
		}
		delete(ends, word)
	}
	if len(ends) > 0 {
		t.Errorf("README.md lists endings that there are not: %v", ends)
	}
}

// rowsOf are the rows of a table by the words in their first cell.
func rowsOf(text string) map[string][]string {
	rows := map[string][]string{}
	for line := range strings.Lines(text) {
		if cell, rest, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|"); strings.HasPrefix(line, "| `") {
			for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cell, -1) {
				rows[m[1]] = append(rows[m[1]], rest)
			}
		}
	}
	return rows
}

var statusForm = regexp.MustCompile(`([A-Z]{2,}_[A-Z_]+) \((\d+)\)`)

// checkTold compares the statuses in a row of README.md with those that the peer is told.
func (r *Reason) checkTold(row string) error {
	told := statusForm.FindAllStringSubmatch(row, -1)
	ofConnection := slices.Contains([]*Reason{Connections, IPConns, ConnectRate, Unfinished, PeerConns}, r)
	if ofConnection != (len(told) == 0) {
		return fmt.Errorf("names %d statuses", len(told))
	}
	for _, m := range told {
		status := pbv2.Status(pbv2.Status_value[m[1]])
		if fmt.Sprint(int32(status)) != m[2] {
			return fmt.Errorf("%s is not %s", m[1], m[2])
		}
		if status != r.Status(pbv2.HopMessage_RESERVE) && status != r.Status(pbv2.HopMessage_CONNECT) {
			return fmt.Errorf("the peer is never told %s", status)
		}
	}
	return nil
}

// Each reason that is declared stands in the list of all, has a word of its own and a
// sentence, and there is code that gives it.
func TestReasonsAreUsed(t *testing.T) {
	declared := map[string]bool{} // by name in the code: whether it is given
	file, err := parser.ParseFile(token.NewFileSet(), "refusal.go", nil, 0)
	must(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if and, ok := spec.Values[0].(*ast.UnaryExpr); ok && and.Op == token.AND {
				declared[spec.Names[0].Name] = false
			}
		}
		if f, ok := n.(*ast.FuncDecl); ok && f.Name.Name == "OfConnection" {
			ast.Inspect(f, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					if _, is := declared[id.Name]; is {
						declared[id.Name] = true
					}
				}
				return true
			})
		}
		return true
	})
	if want := len(All) + 1; len(declared) != want { // GuestData refuses nothing
		t.Errorf("%d reasons are declared, want the %d of the list and GuestData", len(declared), len(All))
	}
	must(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`\brefusal\.(\w+)`).FindAllSubmatch(source, -1) {
			if _, is := declared[string(m[1])]; is {
				declared[string(m[1])] = true
			}
		}
		return err
	}))
	// What has no reason in it could not be read.
	if Of(os.ErrInvalid) == Malformed {
		declared["Malformed"] = true
	}
	for name, given := range declared {
		if !given {
			t.Errorf("%s is given nowhere", name)
		}
	}
	words := map[string]bool{}
	for _, r := range All {
		if r.Text == "" || words[r.Word] || !regexp.MustCompile(`^[a-z_]+$`).MatchString(r.Word) {
			t.Errorf("the word %q, the text %q", r.Word, r.Text)
		}
		words[r.Word] = true
	}
}
