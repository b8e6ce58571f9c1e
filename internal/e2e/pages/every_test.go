package pages

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/psf-relay/relay-appliance/monitor/browser"
)

// found is a page that a visitor can get to.
type found struct{ url, html string }

// crawl follows all links inside of a site, and returns its pages and what is wrong with
// their links.
func crawl(t *testing.T, client *http.Client, root string) (pages []found, faults []string) {
	t.Helper()
	home, err := url.Parse(root)
	must(t, err)
	seen := map[string]bool{root: true}
	for queue := []string{root}; len(queue) > 0; queue = queue[1:] {
		status, kind, body := get(t, client, queue[0])
		if status != http.StatusOK {
			faults = append(faults, fmt.Sprintf("%s: a link leads there, and the answer is %d", queue[0], status))
		}
		if status != http.StatusOK || kind != "text/html" {
			continue
		}
		pages = append(pages, found{queue[0], body})
		here, err := url.Parse(queue[0])
		must(t, err)
		for _, link := range links(body) {
			to, err := here.Parse(link)
			switch {
			case err != nil:
				faults = append(faults, fmt.Sprintf("%s: %q is no link", here, link))
				continue
			case strings.HasPrefix(link, "#") && !strings.Contains(body, ` id="`+to.Fragment+`"`):
				faults = append(faults, fmt.Sprintf("%s: nothing there is %q", here, link))
			}
			if to.Fragment = ""; to.Host == home.Host && !seen[to.String()] {
				seen[to.String()] = true
				queue = append(queue, to.String())
			}
		}
	}
	return pages, faults
}

var link = regexp.MustCompile(`\b(?:href|src)="([^"]*)"`)

func links(body string) (list []string) {
	for _, m := range link.FindAllStringSubmatch(body, -1) {
		list = append(list, html.UnescapeString(m[1]))
	}
	return list
}

// get asks at the pace that the servers allow to one visitor.
func get(t *testing.T, client *http.Client, at string) (status int, kind, body string) {
	t.Helper()
	for {
		res, err := client.Get(at)
		must(t, err)
		b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
		must(t, err)
		must(t, res.Body.Close())
		if res.StatusCode != http.StatusTooManyRequests {
			kind, _, _ = strings.Cut(res.Header.Get("Content-Type"), ";")
			return res.StatusCode, kind, string(b)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

var (
	peerIDs = regexp.MustCompile(`12D3KooW\w{44}`)
	hours   = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d`)
	months  = regexp.MustCompile(`\d{4}-\d\d`)
	// What makes a page look different from others of its route.
	marks = regexp.MustCompile(`class="(answer( \w+)?|cell busy\w+|warnings|fault)"|Nothing came through yet`)
)

// route is the pattern of a page's address.
func route(p string) string {
	p = peerIDs.ReplaceAllString(p, "{relay}")
	p = hours.ReplaceAllString(p, "{hour}")
	return months.ReplaceAllString(p, "{month}")
}

// kind is the route of a page, and what is on it.
func (f found) kind() string {
	u, _ := url.Parse(f.url)
	all := marks.FindAllString(f.html, -1)
	slices.Sort(all)
	r := route(u.Path)
	if u.RawQuery != "" {
		r += "?"
	}
	return strings.Join(append([]string{r}, slices.Compact(all)...), " ")
}

// visit is a page, and how a visitor gets to see it.
type visit struct {
	name, url string
	scripts   bool
	try       bool // the check page tries what its address names
}

// faults are those of a page on every screen.
func (x *tab) faults(axe string, v visit, more ...screen) (list []string) {
	for _, s := range append(more, screens...) {
		x.on(s)
		x.scripts(v.scripts)
		x.complaints()
		x.abroad(v.url)
		x.do(chromedp.Navigate(v.url))
		if v.try {
			x.tried()
		}
		violations, over := x.examine(axe)
		name := fmt.Sprintf("%s (%s, scripts %v)", v.name, s, v.scripts)
		for _, f := range violations {
			list = append(list, fmt.Sprintf("%s: axe-core: %s: %s: %s", name, f.Impact, f.Rule, f.Where))
		}
		if over > 0 {
			list = append(list, fmt.Sprintf("%s: %d px wider than the screen", name, over))
		}
		for _, said := range x.complaints() {
			if v.try && strings.HasPrefix(said, "WebSocket connection to") {
				continue // the page says what is wrong with that relay
			}
			list = append(list, fmt.Sprintf("%s: the browser says: %s", name, said))
		}
		for _, r := range x.abroad(v.url) {
			list = append(list, fmt.Sprintf("%s: it asks another host: %s", name, r))
		}
	}
	return list
}

// reach is one visit to each kind of page that links lead to, and one more with scripts
// where the page has some.
func reach(t *testing.T, client *http.Client, roots ...string) (visits []visit) {
	t.Helper()
	kinds := map[string]bool{}
	for _, root := range roots {
		pages, faults := crawl(t, client, root)
		for _, f := range faults {
			t.Error(f)
		}
		for _, p := range pages {
			k := p.kind()
			if kinds[k] {
				continue
			}
			kinds[k] = true
			visits = append(visits, visit{name: k, url: p.url})
			if strings.Contains(p.html, "<script") {
				visits = append(visits, visit{name: k, url: p.url, scripts: true, try: strings.Contains(p.url, "?relay=")})
			}
		}
	}
	return visits
}

// verdicts are visits to the pages of the golden bundles, which are files.
func verdicts(t *testing.T, programs string) (visits []visit) {
	t.Helper()
	for name, file := range goldens(t, programs) {
		b, err := os.ReadFile(file)
		must(t, err)
		for _, l := range links(string(b)) {
			if id, ok := strings.CutPrefix(l, "#"); ok && !strings.Contains(string(b), ` id="`+id+`"`) {
				t.Errorf("the verdict %s: nothing there is %q", name, l)
			}
		}
		visits = append(visits, visit{name: "verdict " + name, url: "file://" + file})
	}
	return visits
}

// Every kind of page is for everybody: on a phone, in the dark, and for a screen reader,
// without scripts but on the check page. It asks nobody else for anything, and its links
// lead somewhere.
func TestEveryPage(t *testing.T) {
	axe, programs := axe(t), programs(t)
	lab, demo := tell(t, programs, 4), show(t, programs)
	visits := reach(t, demo.client(), lab.url, demo.relay, demo.monitor)
	looked := func(parts ...string) bool {
		return slices.ContainsFunc(visits, func(v visit) bool {
			return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(v.name+" ", p) })
		})
	}
	for _, vote := range []string{"up", "down", "busy", "unknown"} {
		if !looked("/relay/{relay}/hour/{hour} ", `"answer `+vote+`"`) {
			t.Errorf("no hour's page was found whose vote is %s", vote)
		}
	}
	if !looked("Nothing came through yet") || !looked(`"warnings"`) {
		t.Error("no month was found in which nothing came through, or none with warnings")
	}
	for _, r := range routes(t, map[string]string{
		"monitor/listen.go": demo.monitor, "monitor/pages.go": lab.url, "monitor/web/web.go": lab.url, "relay/page.go": demo.relay,
	}, demo.client(), lab.relay) {
		if !looked(r + " ") {
			t.Errorf("the route %s answers with a page that no link leads to: nobody looked at it", r)
		}
	}
	visits = append(visits, verdicts(t, programs)...)
	visits = append(visits,
		visit{name: "check, done", url: demo.check(t), scripts: true, try: true},
		visit{name: "check, failed", url: demo.relay + "check/?relay=/ip4/127.0.0.2/tcp/1", scripts: true, try: true})
	x := open(t, demo.options())
	for _, v := range visits {
		t.Log(v.name, v.url)
		for _, f := range x.faults(axe, v) {
			t.Error(f)
		}
	}
}

var pattern = regexp.MustCompile(`mux\.Handle(?:Func)?\("(?:GET )?(/[^"]*)"`)

// routes are those of the sources' patterns that answer with a page.
func routes(t *testing.T, sources map[string]string, client *http.Client, relay string) (list []string) {
	t.Helper()
	for file, root := range sources {
		b, err := os.ReadFile("../../../" + file)
		must(t, err)
		all := pattern.FindAllStringSubmatch(string(b), -1)
		if len(all) == 0 {
			t.Errorf("%s has no routes: where are they now?", file)
		}
		for _, m := range all {
			p := strings.NewReplacer("{$}", "", "{relay}", relay, "{month}", "2026-10", "{hour}", "2026-10-30T12").Replace(m[1])
			at, err := url.Parse(root)
			must(t, err)
			if at.Path = p; path.Ext(p) != "" {
				continue
			}
			if _, kind, _ := get(t, client, at.String()); kind == "text/html" && !strings.HasPrefix(p, "/monitor/") {
				list = append(list, route(p))
			}
		}
	}
	return list
}

// What is wrong with a page is found.
func TestBadPage(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'unsafe-inline'; img-src http:")
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>Bad</title><main><h1>Bad</h1>
<p style="color: #bbb; background: #fff">Hard to read</p>
<img src="http://127.0.0.1:1/elsewhere.png">
<div style="width: 500px">wide</div>
<a href="gone">gone</a> <a href="#nowhere">nowhere</a> <a href="good">good</a>
<iframe src="gone" title="Refused"></iframe>
<script>console.error("from the page")</script></main>`)
	})
	mux.HandleFunc("GET /good", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>Good</title><link rel="icon" href="data:,"><main><h1>Good</h1><p>Fine.</p></main>`)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	pages, faults := crawl(t, s.Client(), s.URL+"/")
	if len(pages) != 2 {
		t.Errorf("got %d pages, want 2", len(pages))
	}
	axe, x := axe(t), open(t, browser.Options{})
	for _, scripts := range []bool{false, true} {
		faults = append(faults, x.faults(axe, visit{name: "bad", url: s.URL + "/", scripts: scripts})...)
	}
	all := strings.Join(faults, "\n")
	for _, want := range []string{
		"/gone: a link leads there, and the answer is 404", `nothing there is "#nowhere"`, ": image-alt: img: ", ": color-contrast: p: ",
		"(360 px, light, scripts false): ", " px wider than the screen", "it asks another host: http://127.0.0.1:1/", "Content Security Policy", "from the page",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("it is not found: %s", want)
		}
	}
	if strings.Contains(all, "scripts false): the browser says: console.error") {
		t.Error("a script of the page was run where none may be")
	}
	if t.Failed() {
		t.Log(all)
	}
	for _, f := range x.faults(axe, visit{name: "good", url: s.URL + "/good", scripts: true}) {
		t.Errorf("nothing is wrong with it: %s", f)
	}
}
