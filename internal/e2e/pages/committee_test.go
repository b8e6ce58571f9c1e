package pages

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/psf-relay/relay-appliance/monitor/browser"
	"github.com/psf-relay/relay-appliance/monitor/site"
	"github.com/psf-relay/relay-appliance/monitor/site/sitetest"
)

// narrow are the smallest screens that pages are made for.
var narrow = []screen{{320, 640, "light"}, {320, 640, "dark"}}

// committee serves the made-up months: by the server, and as files below a path of another
// server's, and from the disk.
func committee(t *testing.T) (live, below, disk string) {
	t.Helper()
	o := site.Options{Name: sitetest.Name, Decisions: sitetest.Decisions(t)}
	h, err := site.New(sitetest.Made(t), o)
	must(t, err)
	dir := t.TempDir()
	must(t, site.Export(t.Context(), sitetest.Made(t), o, dir))
	server := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	return server(h) + "/", server(http.StripPrefix("/some/where", http.FileServer(http.Dir(dir)))) + "/some/where/", "file://" + dir + "/index.html"
}

// The committee's site is for everybody, however it is served, down to a screen of 320 px.
func TestCommitteeSite(t *testing.T) {
	axe := axe(t)
	live, below, disk := committee(t)
	visits := reach(t, http.DefaultClient, live)
	for _, at := range []string{"2026-11/search.html?q=a", "2026-11/search.html?q=nobody"} {
		visits = append(visits, visit{name: at, url: live + at})
	}
	// The files are the server's; what differs is where they lie.
	pages, faults := crawl(t, http.DefaultClient, below)
	for _, f := range faults {
		t.Error(f)
	}
	if len(pages) != 1+1+2+8 { // the front page has two addresses
		t.Errorf("got %d pages below a path", len(pages))
	}
	visits = append(visits, visit{name: "below a path", url: below}, visit{name: "from the disk", url: strings.Replace(disk, "index.html", "2026-11/index.html", 1)})
	found := map[string]bool{}
	x := open(t, browser.Options{})
	for _, v := range visits {
		t.Log(v.name, v.url)
		for _, f := range x.faults(axe, v, narrow...) {
			t.Error(f)
		}
		for _, kind := range []string{"answer up", "answer down", "answer busy", "answer soft", "/{month}/index.html", "search.html"} {
			if strings.Contains(v.name, kind) {
				found[kind] = true
			}
		}
	}
	if len(found) != 6 {
		t.Errorf("only these kinds of pages were looked at: %v", found)
	}
}

// A visitor finds a relay, reads why its month was decided as it was, and gets from an
// hour's square to its votes; without a script being run, and on the disk, too.
func TestCommitteeWalk(t *testing.T) {
	live, _, disk := committee(t)
	x := open(t, browser.Options{})
	x.on(desk)
	x.do(chromedp.Navigate(live))
	x.link(`a[href="2026-11/index.html"]`)
	x.holds("an appeal is open", "&lt;script&gt;alert(1)")
	x.do(chromedp.SendKeys(`#q`, "linus"))
	x.link(`form button`)
	x.holds("1 of 5 relays hold")
	x.link(`tbody a`)
	x.holds("replaced by a later decision", "The relay stands in Frankfurt.")
	x.do(chromedp.Navigate(disk))
	x.link(`a[href="2026-11/index.html"]`)
	x.holds("This copy has no search")
	x.link(`a[href="relays/` + sitetest.ID(t, sitetest.Flaky) + `.html"]`)
	x.do(chromedp.Click(`a[href="#h2026-11-03T00"]`))
	row, err := chromedp.Run(x.ctx, chromedp.Text(`tr:has(:target)`))
	must(t, err)
	if !strings.Contains(row, "2026-11-03T00:00Z to 2026-11-03T06:00Z (6 h)") || !strings.Contains(row, "down: all 4") || !strings.Contains(row, "cert-expired") {
		t.Errorf("the hour's square leads to %q", row)
	}
	for _, f := range x.complaints() {
		t.Errorf("the browser says: %s", f)
	}
}
