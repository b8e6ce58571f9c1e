package documents

import (
	"flag"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/relay/config"
)

var update = flag.Bool("update", false, "write the generated tables of docs/troubleshooting.md anew")

const page = "docs/troubleshooting.md"

// Where the code has both what a program says and what to do, the page has it from there.
func TestGeneratedTables(t *testing.T) {
	text := read(t, page)
	for _, g := range []struct {
		name string
		make func(*testing.T) string
	}{{"classes", classes}, {"doctor", findings}, {"steps", steps}} {
		begin, end := "<!-- "+g.name+": made by go test ./internal/e2e/documents -update -->\n", "<!-- end of "+g.name+" -->\n"
		before, rest, ok := strings.Cut(text, begin)
		got, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("%s has no place for %s, between %q and %q", page, g.name, begin, end)
		}
		want := "\n" + g.make(t) + "\n"
		if got != want && !*update {
			t.Errorf("%s: what it says of %s is not what the code says: run go test ./internal/e2e/documents -update\n%s", page, g.name, firstDifference(got, want))
		}
		text = before + begin + want + end + after
	}
	if *update {
		if err := os.WriteFile(filepath.Join(top(t), page), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			return fmt.Sprintf("line %d: got %q, want %q", i+1, strings.Join(g[min(i, len(g)):min(i+1, len(g))], ""), w[i])
		}
	}
	return "the page has more lines than are wanted"
}

// cell is text for a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return text
	}
	return string(unicode.ToUpper(first)) + text[size:]
}

func classes(*testing.T) string {
	var b strings.Builder
	b.WriteString("| class | what it means | what to do |\n|---|---|---|\n")
	for _, c := range evidence.Classes() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c, cell(c.Meaning()), cell(c.Advice()))
	}
	return b.String()
}

// findings are those of relayd's doctor that want something done, by requirement.
func findings(t *testing.T) string {
	s := parse(t, "relay/doctor")
	var b strings.Builder
	list := 0
	ast.Inspect(s.funcs["requirements"], func(n ast.Node) bool {
		c, ok := n.(*ast.CompositeLit)
		if !ok || len(c.Elts) != 3 {
			return true
		}
		id, title := s.text(c.Elts[0]), s.text(c.Elts[1])
		for _, tr := range config.Transports {
			if tr.Name == id {
				title = tr.Requirement
			}
		}
		of := s.funcs[name(c.Elts[2])]
		if of == nil {
			return true
		}
		list++
		fmt.Fprintf(&b, "### %s: %s\n\n| it says | what to do |\n|---|---|\n", id, title)
		rows := s.found(of)
		if len(rows) == 0 {
			t.Errorf("requirement %s has no finding", id)
		}
		for _, r := range rows {
			fmt.Fprintf(&b, "| %s: %s | %s |\n", r.outcome, cell(r.says), cell(sentence(r.cure)))
		}
		b.WriteString("\n")
		return true
	})
	if list < 15 {
		t.Errorf("%d requirements were found, want 15 or more", list)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

type finding struct{ outcome, says, cure string }

// ownWords stands for a message that is put together as the program runs.
const ownWords = "(in its own words)"

// found are the findings of one requirement, and of what it leaves to a function that
// several share.
func (s *source) found(of *ast.FuncDecl) (list []finding) {
	add := func(f finding) {
		if strings.Trim(f.says, gap) == "" {
			f.says = ownWords
		}
		if !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	s = s.within(of)
	s.calls(of, func(called string, args []ast.Expr) {
		switch called {
		case "notRunning":
			add(finding{"unknown", "relayd does not run", "Start relayd and ask again."})
		case "reached":
			for _, f := range s.found(s.funcs["reached"]) {
				add(f)
			}
		case "notMet":
			add(finding{"not met", s.format(args[1:]), s.text(args[0])})
		case "unknown":
			add(finding{"unknown", s.format(args[1:]), s.text(args[0])})
		}
	}, "notMet", "unknown", "notRunning", "reached")
	return list
}

// steps are those of a start: what is said of each that is not done, and what to do.
func steps(t *testing.T) string {
	s := parse(t, "internal/appliance")
	var b strings.Builder
	b.WriteString("| step | it says | what to do |\n|---|---|---|\n")
	n := 0
	row := func(step, says, cure string, waits bool) {
		n++
		if strings.Trim(says, gap) == "" {
			says = ownWords
		}
		switch {
		case strings.Trim(cure, gap) == "" && waits:
			cure = "Wait."
		case strings.Trim(cure, gap) == "":
			cure = "As the line below it says; it is the doctor's, [above](#relayd-doctor)."
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", step, cell(says), cell(cure))
	}
	first := s.within(s.funcs["network"])
	first.calls(s.funcs["network"], func(_ string, args []ast.Expr) {
		if name(args[0]) == "NotMet" {
			row("network", first.format(args[2:]), first.text(args[1]), false)
		}
	}, "q")
	for _, of := range []struct{ step, fn string }{{"set-up", "setUp"}, {"relay", "relays"}, {"certificate", "certificate"}, {"monitor", "monitors"}, {"reservation", "reservation"}} {
		s := s.within(s.funcs[of.fn])
		s.calls(s.funcs[of.fn], func(called string, args []ast.Expr) {
			if called == "step" {
				args = args[min(2, len(args)):]
			}
			outcome := name(args[0])
			if len(args) < 2 || outcome != "NotMet" && outcome != "Unknown" {
				return
			}
			cure := ""
			if len(args) > 2 {
				cure = s.text(args[2])
			}
			row(of.step, s.text(args[1]), cure, outcome == "Unknown")
		}, "is", "step")
	}
	if n < 15 {
		t.Errorf("%d messages of a start were found, want 15 or more", n)
	}
	return strings.TrimSuffix(b.String(), "\n") + "\n"
}

// A message that the page's own table shows stands in the code, in one piece at least.
func TestMessagesOfFirstBoot(t *testing.T) {
	_, rest, ok := strings.Cut(read(t, page), "| message | why | what to do |\n|---|---|---|\n")
	table, _, _ := strings.Cut(rest, "\n\n")
	if !ok {
		t.Fatalf("%s has no table of messages", page)
	}
	var code strings.Builder
	for _, dir := range []string{"internal/appliance", "internal/appliance/bucket", "internal/agefile", "monitor/store", "internal/download"} {
		s := parse(t, dir)
		for _, f := range s.files {
			ast.Inspect(f, func(n ast.Node) bool {
				if e, ok := n.(*ast.BasicLit); ok {
					code.WriteString(s.text(e) + "\n")
				}
				return true
			})
		}
	}
	// Of one there is no fixed word but the file's name; the other one is cloud-init's.
	others := []string{"appliance.yaml:2: domain: ...", "Runparts: 1 failures (install-relay-appliance)"}
	n := 0
	for line := range strings.SplitSeq(strings.TrimSpace(table), "\n") {
		cells := strings.Split(line, "|")
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			n++
			if slices.Contains(others, m[1]) {
				continue
			}
			pieces := regexp.MustCompile(`\.\.\.|…|:\d+:\d+: |: |  |[A-Z]{3,}`).Split(m[1], -1)
			longest := strings.TrimSpace(slices.MaxFunc(pieces, func(a, b string) int { return len(a) - len(b) }))
			longest = strings.TrimPrefix(longest, "relayd ")
			longest = strings.TrimPrefix(longest, "relaymon ")
			if !strings.Contains(code.String(), longest) {
				t.Errorf("%s: no program says %q (of %q)", page, longest, m[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("%s shows %d messages, want 20 or more", page, n)
	}
}

// alertOf is an alert, by whom it is given, and how urgent it is.
type alertOf struct{ by, name, severity string }

// Each alert of the code has its line on the page, and each line its alert.
func TestAlerts(t *testing.T) {
	_, rest, ok := strings.Cut(read(t, page), "| alert | by | severity | what it means | what to do |\n|---|---|---|---|---|\n")
	table, _, _ := strings.Cut(rest, "\n\n")
	if !ok {
		t.Fatalf("%s has no table of alerts", page)
	}
	shown := map[alertOf]bool{}
	for line := range strings.SplitSeq(strings.TrimSpace(table), "\n") {
		c := strings.Split(line, "|")
		if len(c) != 7 || strings.TrimSpace(c[5]) == "" {
			t.Errorf("%s: %s: want five cells, none of them empty", page, line)
			continue
		}
		for by := range strings.SplitSeq(c[2], ",") {
			a := alertOf{strings.TrimSpace(by), strings.Trim(c[1], " `"), strings.TrimSpace(c[3])}
			if shown[a] {
				t.Errorf("%s: %v stands there twice", page, a)
			}
			shown[a] = true
		}
	}
	given := alerts(t)
	for a := range given {
		if !shown[a] {
			t.Errorf("%s: %s gives the alert %s (%s), of which nothing is said", page, a.by, a.name, a.severity)
		}
	}
	for a := range shown {
		if !given[a] {
			t.Errorf("%s: there is no alert %s (%s) of %s", page, a.name, a.severity, a.by)
		}
	}
}

// alerts are all of them, as the code and the rules for Prometheus have them.
func alerts(t *testing.T) map[alertOf]bool {
	all := map[alertOf]bool{}
	relay := parse(t, "relay")
	for _, e := range relay.texts["unmetAlerts"].(*ast.CompositeLit).Elts {
		of := e.(*ast.CompositeLit).Elts
		all[alertOf{"relayd", relay.text(of[1]), relay.text(of[2])}] = true
	}
	for _, f := range relay.files {
		relay.calls(f, func(_ string, args []ast.Expr) {
			if n := relay.text(args[1]); n != gap { // what monitors name it is theirs
				all[alertOf{"relayd", n, relay.text(args[2])}] = true
			}
		}, "newAlert")
	}
	own := parse(t, "internal/alert")
	mon := parse(t, "monitor")
	for name, value := range own.texts {
		mon.texts["alert."+name] = value // the names that both programs use
	}
	for _, f := range mon.files {
		mon.calls(f, func(called string, args []ast.Expr) {
			if n := mon.text(args[0]); n != gap { // else it hands on what somebody else named
				all[alertOf{"relaymon", n, mon.text(args[1])}] = true
			}
		}, "newAlert", "warn")
	}
	for _, f := range own.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if kv, ok := n.(*ast.KeyValueExpr); ok && name(kv.Key) == "Name" {
				if n := own.text(kv.Value); n != gap {
					all[alertOf{"relayd", n, "critical"}], all[alertOf{"relaymon", n, "critical"}] = true, true
				}
			}
			return true
		})
	}
	for _, m := range regexp.MustCompile(`(?s)- alert: (\w+)\n.*?severity: (\w+)`).FindAllStringSubmatch(read(t, "relay/monitoring/alerts.yaml"), -1) {
		if !all[alertOf{"relayd", m[1], m[2]}] {
			all[alertOf{"Prometheus", m[1], m[2]}] = true
		}
	}
	if len(all) < 40 {
		t.Errorf("%d alerts were found, want 40 or more", len(all))
	}
	return all
}
