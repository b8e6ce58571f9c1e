package site

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/committee"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/site/sitetest"
)

var update = flag.Bool("update", false, "write the pages in testdata anew")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made is a copy of the made-up months, as files.
func made(t testing.TB, r committee.Reader, o Options) (*site, map[string]string) {
	t.Helper()
	o.Name = sitetest.Name
	s, err := newSite(r, o, false)
	must(t, err)
	all := map[string]string{}
	must(t, s.each(t.Context(), func(path string) error {
		f, err := s.file(t.Context(), path, "")
		all[path] = string(f.body)
		return err
	}))
	return s, all
}

func serve(t testing.TB, r committee.Reader, o Options) http.Handler {
	t.Helper()
	o.Name = sitetest.Name
	h, err := New(r, o)
	must(t, err)
	return h
}

func get(h http.Handler, at string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, at, nil)
	// A loopback address, and so one that says for whom it asks: each request is a visitor's.
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", len(at)%250))
	for _, c := range change {
		c(r)
	}
	h.ServeHTTP(w, r)
	return w
}

// golden has the page of a relay shorter than a month is.
func golden(t testing.TB) *sitetest.Reader {
	r := sitetest.Made(t)
	for _, id := range []string{sitetest.ID(t, sitetest.Appealed), sitetest.ID(t, sitetest.Evil)} {
		v := r.Verdicts[sitetest.Past][id]
		v.Hourly = v.Hourly[:30]
	}
	return r
}

// The pages are what they were; -update writes them anew.
func TestGolden(t *testing.T) {
	_, all := made(t, golden(t), Options{URL: "https://relays.example.org/", Bundles: "bundles/", Decisions: sitetest.Decisions(t)})
	relay := "2026-11/relays/" + sitetest.ID(t, sitetest.Appealed)
	for file, path := range map[string]string{
		"front.html": "index.html", "month.html": "2026-11/index.html", "running.html": "2026-12/index.html", "relay.html": relay + ".html", "evil.html": "2026-11/relays/" + sitetest.ID(t, sitetest.Evil) + ".html",
		"badge.svg": relay + ".svg", "table.csv": "2026-11/table.csv", "table.json": "2026-11/table.json", "feed.atom": "feed.atom",
	} {
		file = filepath.Join("testdata", file)
		if *update {
			must(t, os.MkdirAll("testdata", 0o755))
			must(t, os.WriteFile(file, []byte(all[path]), 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if all[path] != string(want) {
			t.Errorf("%s is not %s (-update writes it anew, git diff shows how)", path, file)
		}
	}
}

// element is one of a page.
type element struct {
	name  string
	attrs map[string]string
}

var void = regexp.MustCompile(`<((?:meta|link|input|br|img)\b[^>]*)>`)

// elements parses a page strictly: what is opened is closed, and all is escaped.
func elements(t testing.TB, name, page string) (list []element) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(void.ReplaceAllString(page, "<$1/>")))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%s is not well-formed: %v", name, err)
		}
		if start, ok := token.(xml.StartElement); ok {
			e := element{start.Name.Local, map[string]string{}}
			for _, a := range start.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			list = append(list, e)
		}
	}
}

// faultsOf are what keeps somebody from using a page.
func faultsOf(all []element) (faults []string) {
	say := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	count, level, ids := map[string]int{}, 0, map[string]bool{}
	for _, e := range all {
		if id := e.attrs["id"]; id != "" {
			if ids[id] {
				say("two elements have the ID %s", id)
			}
			ids[id] = true
		}
	}
	for i, e := range all {
		count[e.name]++
		next := func(name string) bool { return i+1 < len(all) && all[i+1].name == name }
		if len(e.name) == 2 && e.name[0] == 'h' && e.name[1] >= '1' && e.name[1] <= '6' {
			if l := int(e.name[1] - '0'); l > level+1 {
				say("a heading of level %d follows one of level %d", l, level)
			} else {
				level = l
			}
		}
		switch e.name {
		case "script", "style", "iframe", "object", "embed", "base":
			say("it has an element %s", e.name)
		case "html":
			if e.attrs["lang"] != "en" {
				say("its language is %q", e.attrs["lang"])
			}
		case "table":
			if !next("caption") {
				say("a table has no caption")
			}
		case "th":
			if e.attrs["scope"] == "" {
				say("a heading of a table has no scope")
			}
		case "img":
			if e.attrs["alt"] == "" {
				say("a picture has no words")
			}
		case "svg":
			if e.attrs["aria-label"] == "" && e.attrs["aria-hidden"] != "true" {
				say("a drawing has no words")
			}
		case "label":
			if !ids[e.attrs["for"]] {
				say("a label is of nothing")
			}
		case "nav":
			if e.attrs["aria-label"] == "" {
				say("a navigation has no name")
			}
		}
		for name, value := range e.attrs {
			if strings.HasPrefix(name, "on") || name == "style" {
				say("<%s> has %s", e.name, name)
			}
			if name == "href" && strings.HasPrefix(value, "#") && !ids[value[1:]] {
				say("nothing is %s", value)
			}
			if (name == "href" || name == "src" || name == "action") && strings.HasPrefix(strings.ToLower(value), "javascript:") {
				say("a link runs a script: %s", value)
			}
		}
	}
	for _, one := range []string{"h1", "main", "footer", "header", "head"} {
		if count[one] != 1 {
			say("it has %d elements %s, want one", count[one], one)
		}
	}
	return faults
}

// Every page is well-formed, has landmarks, headings in order, words for its pictures, and
// names for what stands in its tables.
func TestPagesAreForEverybody(t *testing.T) {
	_, all := made(t, sitetest.Made(t), Options{Decisions: sitetest.Decisions(t)})
	h, n := serve(t, sitetest.Made(t), Options{}), 0
	for _, at := range []string{"/2026-11/search.html?q=a", "/2026-11/search.html", "/2026-11/search.html?q=nobody"} {
		all[at+".html"] = get(h, at).Body.String()
	}
	for name, page := range all {
		if path.Ext(name) != ".html" {
			continue
		}
		n++
		for _, f := range faultsOf(elements(t, name, page)) {
			t.Errorf("%s: %s", name, f)
		}
	}
	if n != 1+2+8+3 {
		t.Errorf("%d pages were looked at", n)
	}
	bad := `<html lang="de"><header></header><main><h1>a</h1><h3 id="a">b</h3><table><tr><th>x</th></tr></table><img src="x"><svg></svg><nav></nav><label for="b"></label><p id="a" onclick="x" style="y"></p><a href="#no"></a><a href="javascript:x"></a><script></script></main></html>`
	if got := len(faultsOf(elements(t, "bad", bad))); got != 16 {
		t.Errorf("%d faults of a bad page were found: %q", got, faultsOf(elements(t, "bad", bad)))
	}
}

// Nothing that others wrote becomes markup, turns the direction of a line, or fills a page.
func TestHostileTexts(t *testing.T) {
	_, all := made(t, sitetest.Made(t), Options{Decisions: sitetest.Decisions(t)})
	seen := 0
	for name, body := range all {
		if strings.Contains(name, "/relays/") && path.Ext(name) == ".json" {
			continue // the bytes of report.json
		}
		if strings.Contains(body, "very-long-") {
			seen++
		}
		for _, r := range body {
			if unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Cc, r) && r != '\n' && r != '\r' {
				t.Errorf("%s holds %U", name, r)
				break
			}
		}
		if path.Ext(name) == ".html" && (strings.Contains(body, "<script") || strings.Contains(body, "<img src=x")) {
			t.Errorf("%s: a name is markup", name)
		}
		if strings.Contains(body, strings.Repeat("very-long-", mostText/10)) {
			t.Errorf("%s: a text is not cut", name)
		}
	}
	if seen < 5 {
		t.Errorf("the hostile name stands in %d files only", seen)
	}
	v := sitetest.Made(t).Verdicts[sitetest.Past][sitetest.ID(t, sitetest.Evil)]
	before, err := evidence.Encode(v)
	must(t, err)
	cleaned(v)
	if after, err := evidence.Encode(v); err != nil || !bytes.Equal(before, after) {
		t.Errorf("what the reader gave was changed: %v", err)
	}
	// A relay whose ID is no file's name has no page, and no file.
	r := sitetest.Made(t)
	odd := *r.Verdicts[sitetest.Past][sitetest.ID(t, sitetest.Paid)]
	odd.Relay.PeerID = "../../etc/passwd"
	r.Verdicts[sitetest.Past] = map[string]*bounty.Verdict{odd.Relay.PeerID: &odd}
	_, all = made(t, r, Options{})
	for name := range all {
		if strings.Contains(name, "..") {
			t.Errorf("there is a file %s", name)
		}
	}
	if strings.Contains(all["2026-11/index.html"], `href="relays/`) {
		t.Error("the page leads to what has no name")
	}
}

var form = regexp.MustCompile(`<(form|p) class="find.*</(form|p)>`)

// An export has what the server shows, but for the search. All links lead somewhere, and
// all files are linked.
func TestExport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "public")
	decisions := sitetest.Decisions(t)
	o := Options{Name: sitetest.Name, Decisions: decisions}
	must(t, os.MkdirAll(dir, 0o755))
	foreign := filepath.Join(dir, "robots.txt")
	must(t, os.WriteFile(foreign, []byte("mine"), 0o644))
	must(t, Export(t.Context(), sitetest.Made(t), o, dir))
	files := map[string]string{}
	stamps := map[string]fs.FileInfo{}
	must(t, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || file == foreign {
			return err
		}
		b, err := os.ReadFile(file)
		name, _ := filepath.Rel(dir, file)
		files[filepath.ToSlash(name)] = string(b)
		stamps[file], _ = os.Stat(file)
		return err
	}))
	h := serve(t, sitetest.Made(t), o)
	for name, body := range files {
		w := get(h, "/"+name)
		if w.Code != http.StatusOK || form.ReplaceAllString(w.Body.String(), "") != form.ReplaceAllString(body, "") {
			t.Errorf("%s: the server answers %d, with another file", name, w.Code)
		}
	}
	linked := map[string]bool{"index.html": true}
	for name, body := range files {
		if path.Ext(name) != ".html" {
			continue
		}
		for _, m := range regexp.MustCompile(`(?:href|src)="([^"#]+)(#[^"]*)?"`).FindAllStringSubmatch(body, -1) {
			to := path.Join(path.Dir(name), m[1])
			linked[to] = true
			if target, ok := files[to]; !ok || m[2] != "" && !strings.Contains(target, ` id="`+m[2][1:]+`"`) {
				t.Errorf("%s: nothing is at %s%s", name, m[1], m[2])
			}
			if strings.HasPrefix(m[1], "/") || strings.Contains(m[1], "://") || strings.HasSuffix(m[1], "/") {
				t.Errorf("%s: the link %s does not work everywhere", name, m[1])
			}
		}
	}
	for name := range files {
		if !linked[name] {
			t.Errorf("no page leads to %s", name)
		}
	}
	if len(linked) != len(files) || len(files) != 4+2*3+8*3 {
		t.Errorf("%d files, of which %d are linked", len(files), len(linked))
	}
	// Again: what has not changed is not touched, what has is replaced, and all else stays.
	front := filepath.Join(dir, "index.html")
	must(t, os.WriteFile(front, []byte("old"), 0o600))
	stale := filepath.Join(dir, "2026-11", "page-9.html")
	must(t, os.WriteFile(stale, []byte("stale"), 0o644))
	must(t, Export(t.Context(), sitetest.Made(t), o, dir))
	for file, was := range stamps {
		is, err := os.Stat(file)
		must(t, err)
		if file != front && !os.SameFile(was, is) {
			t.Errorf("%s was written again", file)
		}
	}
	if b, err := os.ReadFile(front); err != nil || string(b) != files["index.html"] {
		t.Errorf("the front page was not replaced: %v", err)
	}
	for _, file := range []string{foreign, stale} {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s was removed", file)
		}
	}
	// What cannot be read is an error.
	r := sitetest.Made(t)
	r.Err = errors.New("no database")
	if err := Export(t.Context(), r, o, t.TempDir()); err == nil || !strings.Contains(err.Error(), "no database") {
		t.Errorf("got %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Export(ended, sitetest.Made(t), o, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Those come first that somebody should look at; each stands as the verdict and the log say.
func TestOrder(t *testing.T) {
	log, err := sitetest.Decisions(t)()
	must(t, err)
	r := sitetest.Made(t)
	names := map[string]string{}
	for n, name := range []string{1: "paid", 2: "flaky", 3: "appealed", 4: "waiting", 5: "evil", 6: "ahead", 7: "risky"} {
		if n > 0 {
			names[sitetest.ID(t, byte(n))] = name
		}
	}
	for _, c := range []struct {
		month  evidence.Month
		logged bool
		want   string
	}{
		{sitetest.Past, true, "appealed/REVIEW/an appeal is open evil/REVIEW/a person must decide waiting/ELIGIBLE/to be paid paid/ELIGIBLE/ flaky/NOT_ELIGIBLE/"},
		{sitetest.Past, false, "evil/REVIEW/a person must decide appealed/REVIEW/a person must decide paid/ELIGIBLE/ waiting/ELIGIBLE/ flaky/NOT_ELIGIBLE/"},
		{sitetest.Running, true, "risky/POSSIBLE/at risk paid/POSSIBLE/ ahead/POSSIBLE/"},
	} {
		rows, err := r.Table(t.Context(), c.month)
		must(t, err)
		l := log
		if !c.logged {
			l = nil
		}
		var got []string
		for _, x := range newMonth(c.month, rows, l).Rows {
			got = append(got, fmt.Sprintf("%s/%s/%s", names[x.Relay], x.Standing, x.Needs))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.month, s, c.want)
		}
	}
	if m := newMonth(sitetest.Past, nil, log); len(m.Strays) != 4 || m.Paid != 3 || m.Refused != 1 || m.Open != 1 {
		t.Errorf("without a table: %d strays, %d paid, %d refused, %d open appeals", len(m.Strays), m.Paid, m.Refused, m.Open)
	}
	rows, err := r.Table(t.Context(), sitetest.Past)
	must(t, err)
	if m := newMonth(sitetest.Past, rows, log); len(m.Strays) != 1 || m.Strays[0].Relay != sitetest.ID(t, sitetest.Stray) || m.Paid != 3 {
		t.Errorf("%d strays, %d paid", len(m.Strays), m.Paid)
	}
	row := func(result bounty.Result, final bool, left int) standing {
		return standingOf(&committee.Row{Result: result, Final: final, Left: left})
	}
	for want, got := range map[standing]standing{
		lab: row(bounty.LabResult, true, 3), outOfReach: row(bounty.LabResult, false, -1), notEligible: row(bounty.NotEligible, false, 3),
		possible: row(bounty.Eligible, false, 3), eligible: row(bounty.Eligible, true, 3), review: row(bounty.ForReview, true, 0),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The decision is shown beside the verdict, with what does not go together.
func TestDoubts(t *testing.T) {
	r := sitetest.Made(t)
	id := sitetest.ID(t, sitetest.Paid)
	decisions := sitetest.Decisions(t)
	page := func() string {
		return get(serve(t, r, Options{Decisions: decisions}), "/2026-11/relays/"+id+".html").Body.String()
	}
	if body := page(); strings.Contains(body, `class="fault"`) || !strings.Contains(body, strings.Repeat("d", 64)) {
		t.Error("a plain payment is doubted, or not shown")
	}
	v := r.Verdicts[sitetest.Past][id]
	v.Result, v.Relay.Payout = bounty.NotEligible, "bitcoincash:qother"
	for _, want := range []string{"rests on the verdict ELIGIBLE. From the logs that are known today the verdict is NOT_ELIGIBLE", "The address that was paid is not the one"} {
		if !strings.Contains(page(), want) {
			t.Errorf("the page does not say: %s", want)
		}
	}
	decisions = nil
	if !strings.Contains(page(), "This site was given no log of decisions") {
		t.Error("the page does not say that it knows no decisions")
	}
}

// What a spreadsheet takes for a formula is none, and everything else comes back as it was.
func TestCSV(t *testing.T) {
	texts := []string{"=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", " =1", "＝1", "plain, with \"quotes\"\nand lines", "O'Neill", "a=b", ""}
	var rows []committee.Row
	for i, s := range texts {
		rows = append(rows, committee.Row{Relay: "R" + strconv.Itoa(100+i), Operator: s, Domain: s, Payout: s, Region: s, Left: -3, Result: bounty.ForReview})
	}
	b, err := newMonth(sitetest.Past, rows, nil).csv()
	must(t, err)
	got, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	must(t, err)
	column := func(name string) int { return slices.Index(columns, name) }
	if !slices.Equal(got[0], columns) || len(got) != len(texts)+1 {
		t.Fatalf("%d rows, the first %q", len(got), got[0])
	}
	by := map[string][]string{}
	for _, cells := range got[1:] {
		by[cells[column("relay")]] = cells
	}
	for i, s := range texts {
		cells := by["R"+strconv.Itoa(100+i)]
		for _, name := range []string{"operator", "domain", "payout", "region"} {
			cell := cells[column(name)]
			if cell != "" && strings.ContainsRune("=+-@\t\r\n＝", []rune(cell)[0]) {
				t.Errorf("%q became %q, which is a formula", s, cell)
			}
			if want := strings.Join(strings.Fields(s), " "); strings.TrimPrefix(cell, "'") != want {
				t.Errorf("%q became %q", s, cell)
			}
		}
		if cells[column("hours_left")] != "-3" {
			t.Errorf("hours_left is %q, want a number", cells[column("hours_left")])
		}
	}
	for in, want := range map[string]string{"=": "'=", "\tx": "'\tx", "\nx": "'\nx", "x": "x", "": "", "  =x": "'  =x", "é": "é"} {
		if got := harmless(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestTableJSON(t *testing.T) {
	_, all := made(t, sitetest.Made(t), Options{Decisions: sitetest.Decisions(t)})
	var table tableJSON
	must(t, json.Unmarshal([]byte(all["2026-11/table.json"]), &table))
	first := table.Relays[0]
	if table.Version != 1 || table.Month != sitetest.Past || !table.Decisions || len(table.Relays) != 5 || first.Standing != review ||
		first.OpenAppeals != 1 || first.Decision == nil || first.Decision.Outcome != "paid" || len(first.Decision.TxID) != 64 || first.Hours.Up != 705 {
		t.Errorf("got %+v", table)
	}
	// A verdict is the bytes of report.json.
	id := sitetest.ID(t, sitetest.Evil)
	want, err := evidence.Encode(sitetest.Made(t).Verdicts[sitetest.Past][id])
	must(t, err)
	if all["2026-11/relays/"+id+".json"] != string(want) {
		t.Error("the verdict is another one")
	}
}

// atom is a feed as a reader of feeds reads it.
type atom struct {
	XMLName xml.Name `xml:"http://www.w3.org/2005/Atom feed"`
	ID      string   `xml:"http://www.w3.org/2005/Atom id"`
	Title   string   `xml:"http://www.w3.org/2005/Atom title"`
	Updated string   `xml:"http://www.w3.org/2005/Atom updated"`
	Author  string   `xml:"http://www.w3.org/2005/Atom author>name"`
	Links   []struct {
		Rel  string `xml:"rel,attr"`
		Href string `xml:"href,attr"`
	} `xml:"http://www.w3.org/2005/Atom link"`
	Entries []struct {
		ID      string `xml:"http://www.w3.org/2005/Atom id"`
		Title   string `xml:"http://www.w3.org/2005/Atom title"`
		Updated string `xml:"http://www.w3.org/2005/Atom updated"`
		Link    struct {
			Href string `xml:"href,attr"`
		} `xml:"http://www.w3.org/2005/Atom link"`
	} `xml:"http://www.w3.org/2005/Atom entry"`
}

func feedOf(t testing.TB, body string) (f atom) {
	t.Helper()
	must(t, xml.Unmarshal([]byte(body), &f))
	return f
}

// What the feed tells has one name and one time for good, whenever it is asked.
func TestFeed(t *testing.T) {
	r, decisions := sitetest.Made(t), sitetest.Decisions(t)
	_, all := made(t, r, Options{Decisions: decisions})
	f := feedOf(t, all["feed.atom"])
	at := map[string]string{}
	for i, e := range f.Entries {
		if at[e.ID] != "" || !strings.HasPrefix(e.ID, "tag:committee.example.org,2026-11-01:") || e.Title == "" {
			t.Errorf("entry %q, %q", e.ID, e.Title)
		}
		if _, err := time.Parse(time.RFC3339, e.Updated); err != nil {
			t.Error(err)
		}
		if i > 0 && e.Updated > f.Entries[i-1].Updated {
			t.Error("the latest entries do not come first")
		}
		if _, ok := all[e.Link.Href]; !ok {
			t.Errorf("nothing is at %q", e.Link.Href)
		}
		at[e.ID] = e.Updated
	}
	// Five verdicts of the past month are final, and five decisions were made.
	if len(at) != 5+5 || f.Updated != f.Entries[0].Updated || f.ID != "tag:committee.example.org,2026:feed" || f.Author != sitetest.Name || f.Title == "" {
		t.Errorf("%d entries, %+v", len(at), f)
	}
	var again map[string]string
	synctest.Test(t, func(t *testing.T) { // many years earlier, by the clock
		_, all := made(t, r, Options{Decisions: decisions, URL: "https://relays.example.org/r/"})
		again = map[string]string{}
		f := feedOf(t, all["feed.atom"])
		for _, e := range f.Entries {
			again[e.ID] = e.Updated
			if !strings.HasPrefix(e.Link.Href, "https://relays.example.org/r/2026-11/") {
				t.Errorf("the link %s is not of the site", e.Link.Href)
			}
		}
		if len(f.Links) != 2 || f.Links[1].Rel != "self" || f.Links[1].Href != "https://relays.example.org/r/feed.atom" {
			t.Errorf("links %+v", f.Links)
		}
	})
	if fmt.Sprint(at) != fmt.Sprint(again) {
		t.Errorf("got %v, then %v", at, again)
	}
	if f := feedOf(t, string(must1(t)(newEmpty(t).feed(t.Context())))); len(f.Entries) != 0 || f.Updated == "" {
		t.Errorf("an empty feed is %+v", f)
	}
}

func must1(t testing.TB) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		must(t, err)
		return b
	}
}

func newEmpty(t testing.TB) *site {
	s, _ := made(t, &sitetest.Reader{}, Options{})
	return s
}

// many is a reader of many relays in many months.
type many struct{ relays, months int }

func (m many) Months(context.Context) (list []evidence.Month, err error) {
	for i := range m.months {
		list = append(list, sitetest.Running-evidence.Month(i))
	}
	return list, nil
}

func (m many) Table(context.Context, evidence.Month) ([]committee.Row, error) {
	rows := make([]committee.Row, m.relays)
	for i := range rows {
		rows[i] = committee.Row{
			Relay: fmt.Sprintf("12D3KooW%044d", i), Operator: fmt.Sprintf("operator %d", i%100), Domain: fmt.Sprintf("r%d.example.net", i), Result: bounty.Eligible, Final: true, Headline: "ELIGIBLE",
			AsOf: evidence.TimeOf(time.Date(2026, 12, 4, 0, 0, i, 0, time.UTC)), Hours: bounty.Hours{Total: 720, Up: 700, Down: 20}, Required: 600, Left: 100,
		}
	}
	return rows, nil
}

func (m many) Verdict(context.Context, evidence.Month, string) (*bounty.Verdict, error) {
	return nil, fs.ErrNotExist
}

func (m many) Vantages(context.Context, evidence.Month) (list []committee.Vantage, err error) {
	for i := range 1000 {
		list = append(list, committee.Vantage{Monitor: fmt.Sprintf("m%d.example.org", i), Place: &bounty.Place{Lat: float64(i%90 + 1), Lon: 10}})
	}
	return list, nil
}

// A month of 10,000 relays comes in pages of a bounded size, and little of it is kept.
func TestManyRelays(t *testing.T) {
	const relays, months = 10_000, 200
	s, err := newSite(many{relays, months}, Options{Name: sitetest.Name}, true)
	must(t, err)
	read := func(path, words string) string {
		t.Helper()
		f, err := s.file(t.Context(), path, words)
		must(t, err)
		return string(f.body)
	}
	row := regexp.MustCompile(`href="relays/(\w+)\.html"`)
	seen := map[string]bool{}
	for n := 1; n <= relays/perPage; n++ {
		body := read("2026-11/"+pageName(n), "")
		found := row.FindAllStringSubmatch(body, -1)
		if len(found) != perPage || len(body) > 400<<10 {
			t.Fatalf("page %d has %d relays and %d bytes", n, len(found), len(body))
		}
		for _, m := range found {
			seen[m[1]] = true
		}
	}
	if len(seen) != relays {
		t.Errorf("%d relays are on all pages", len(seen))
	}
	if first := read("2026-11/index.html", ""); !strings.Contains(first, "page 1 of 100") || !strings.Contains(first, `href="page-100.html"`) || !strings.Contains(first, "800 more monitors") {
		t.Error("the first page does not lead to the last one, or does not say what it lacks")
	}
	if _, err := s.file(t.Context(), "2026-11/page-101.html", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("page 101: %v", err)
	}
	for words, want := range map[string]struct{ shown, found int }{
		"OPERATOR 7": {perPage, 1100}, "r9999.example": {1, 1}, "12D3KooW" + strings.Repeat("0", 40) + "4321": {1, 1}, "example": {perPage, relays}, "<none>": {0, 0}, "": {0, -1}, strings.Repeat("x", 1<<20): {0, 0},
	} {
		body := read("2026-11/search.html", words)
		if got := len(row.FindAllString(body, -1)); got != want.shown || want.found >= 0 && !strings.Contains(body, fmt.Sprintf("%d of %d relays hold", want.found, relays)) || len(body) > 400<<10 {
			t.Errorf("%.20q: %d relays shown in %d bytes", words, got, len(body))
		}
	}
	front := read("index.html", "")
	if strings.Count(front, "/index.html") != mostListed || !strings.Contains(front, fmt.Sprintf("%d more months", months-mostListed)) {
		t.Errorf("the front page names %d months", strings.Count(front, "/index.html"))
	}
	if f := feedOf(t, read("feed.atom", "")); len(f.Entries) != mostEntries || f.Entries[0].ID != fmt.Sprintf("tag:committee.example.org,2026-10-01:verdict:12D3KooW%044d", relays-1) {
		t.Errorf("the feed has %d entries, the first %q", len(f.Entries), f.Entries[0].ID)
	}
	for i := range evidence.Month(20) {
		read((sitetest.Running-i).String()+"/page-2.html", "")
	}
	if len(s.tables) != mostTables {
		t.Errorf("%d tables are kept", len(s.tables))
	}
	for m, sum := range s.sums {
		if sum.Rows != nil || sum.byID != nil {
			t.Errorf("the sums of %s hold all rows", m)
		}
	}
	b := read("2026-11/table.csv", "")
	if got := strings.Count(b, "\r\n"); got != relays+1 {
		t.Errorf("the table has %d lines", got)
	}
	if w := get(serve(t, many{mostRows + 1, 1}, Options{}), "/2026-12/"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("too many relays: status %d", w.Code)
	}
}

// Who asks for what is not there, or cannot be had, is told so; and nothing of a fault.
func TestAnswers(t *testing.T) {
	r := sitetest.Made(t)
	var said bytes.Buffer
	h := serve(t, r, Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	id := sitetest.ID(t, sitetest.Paid)
	for _, at := range []string{
		"/x", "/2026-13/", "/2026-10/", "/2026-11/x", "/2026-11/page-1.html", "/2026-11/page-01.html", "/2026-11/page-2.html", "/2026-11/page--1.html", "/02026-11/", "/2026-11/relays/", "/2026-11/relays/x.html", "/2026-11/relays/x.svg",
		"/2026-11/relays/" + id, "/2026-11/relays/" + id + ".xml", "/2026-11/relays/..%2f" + id + ".html", "/2026-11/relays/x/" + id + ".html", "/style.css/", "/front.html", "/2026-11//", "/%00",
	} {
		if w := get(h, at); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "no such page") {
			t.Errorf("%s: status %d, %q", at, w.Code, w.Body)
		}
	}
	for _, at := range []string{"/", "/index.html", "/2026-11/", "/2026-11/index.html", "/2026-11/search.html?q=%ff", "/feed.atom", "/2026-11/relays/" + id + ".svg", "/x"} {
		head := get(h, at).Header()
		csp := head.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || head.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", at, head)
		}
	}
	if w := get(h, "/2026-11"); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "2026-11/" {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
	if w := get(h, "/", func(r *http.Request) { r.Method = http.MethodPost }); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d", w.Code)
	}
	w := get(h, "/")
	tag := w.Header().Get("ETag")
	if tag == "" || w.Header().Get("Cache-Control") != "public, max-age=60" {
		t.Errorf("headers %v", w.Header())
	}
	if again := get(h, "/", func(r *http.Request) { r.Header.Set("If-None-Match", tag) }); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
		t.Errorf("status %d of what has not changed", again.Code)
	}
	if head := get(h, "/", func(r *http.Request) { r.Method = http.MethodHead }); head.Code != http.StatusOK || head.Body.Len() > 0 || head.Header().Get("ETag") != tag {
		t.Errorf("HEAD: status %d, %d bytes", head.Code, head.Body.Len())
	}
	r.Err = errors.New("secret path")
	for _, h := range []http.Handler{h, serve(t, r, Options{Log: slog.New(slog.NewTextHandler(&said, nil))})} {
		at := "/2026-11/relays/" + id + ".html"
		if w := get(h, at); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "secret") || w.Header().Get("Retry-After") == "" || w.Header().Get("ETag") != "" {
			t.Errorf("status %d, %q", w.Code, w.Body)
		}
	}
	if strings.Count(said.String(), "secret path") != 2 {
		t.Errorf("the log does not say why: %s", &said)
	}
}

// slow is a reader that answers when nobody waits any more.
type slow struct{ *sitetest.Reader }

func (s slow) Months(ctx context.Context) ([]evidence.Month, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// stuck is a reader that does not hear that nobody waits any more.
type stuck struct{ *sitetest.Reader }

func (s stuck) Months(context.Context) ([]evidence.Month, error) {
	time.Sleep(time.Hour)
	return nil, errors.New("an hour has passed")
}

// A crowd costs as much as one visitor, and nobody waits forever.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := sitetest.Made(t)
		h := serve(t, r, Options{})
		crowd := func(h http.Handler, at string, want int) {
			t.Helper()
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if w := get(h, at); w.Code != want {
						t.Errorf("status %d, want %d", w.Code, want)
					}
				})
			}
			all.Wait()
		}
		crowd(h, "/2026-11/", http.StatusOK)
		crowd(h, "/2026-11/table.csv", http.StatusOK)
		if r.Tables != 1 {
			t.Errorf("the table was read %d times", r.Tables)
		}
		time.Sleep(fresh)
		crowd(h, "/2026-11/", http.StatusOK)
		if r.Tables != 2 {
			t.Errorf("the table was read %d times, want a second time", r.Tables)
		}
		start := time.Now()
		crowd(serve(t, slow{r}, Options{}), "/", http.StatusServiceUnavailable)
		if waited := time.Since(start); waited != patience {
			t.Errorf("they waited %s", waited)
		}
		h = serve(t, stuck{r}, Options{})
		go get(h, "/") // who is the first waits as long as the reader
		synctest.Wait()
		start = time.Now()
		if w := get(h, "/"); w.Code != http.StatusServiceUnavailable || time.Since(start) != patience {
			t.Errorf("status %d after %s", w.Code, time.Since(start))
		}
		time.Sleep(time.Hour)
	})
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Name: "Committee!"}, {Name: "a b"}, {Name: "-a"}, {Name: "c", URL: "relays.example.org/"}, {Name: "c", URL: "https://relays.example.org"}, {Name: "c", URL: "javascript:alert(1)/"},
		{Name: "c", URL: "https://user:pass@relays.example.org/"}, {Name: "c", Bundles: "javascript:alert(1)"}, {Name: "c", Bundles: "//elsewhere/x"}, {Name: "c", Bundles: "ftp://a/b"}, {Name: "c", Bundles: "b?x=1"},
	} {
		if _, err := New(&sitetest.Reader{}, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	id := sitetest.ID(t, sitetest.Paid)
	for bundles, want := range map[string]string{
		"bundles": "../../bundles/", "/b/": "/b/", "https://files.example.org/m": "https://files.example.org/m/",
	} {
		body := get(serve(t, sitetest.Made(t), Options{Bundles: bundles}), "/2026-11/relays/"+id+".html").Body.String()
		if !strings.Contains(body, `href="`+want+"relay-"+id+"-2026-11.zip\"") {
			t.Errorf("%s: the page does not lead to %s", bundles, want)
		}
	}
}
