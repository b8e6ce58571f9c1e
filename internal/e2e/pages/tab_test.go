package pages

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor/browser"
)

// tab is a page of a browser that runs no scripts, unless it is told to.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	said     []string // what the browser complained of
	requests []string // what it asked for
}

func open(t *testing.T, o browser.Options) *tab {
	t.Helper()
	if _, err := browser.Find(""); err != nil {
		need.Tools(t, browser.Programs[0])
	}
	if len(o.RootsPEM) > 0 {
		need.Tools(t, "certutil")
	}
	b, err := browser.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(b.Close)
	x := &tab{t: t}
	var end context.CancelFunc
	x.ctx, end, err = b.Open(t.Context(), "about:blank")
	must(t, err)
	t.Cleanup(end)
	x.scripts(false)
	must(t, chromedp.Listen(x.ctx, x.hear))
	return x
}

// hear notes what the policy refuses, what is not found, what a script throws, and what
// is asked for.
func (x *tab) hear(ev any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch e := ev.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			x.said = append(x.said, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		x.said = append(x.said, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError && len(e.Args) > 0 {
			x.said = append(x.said, "console.error: "+string(e.Args[0].Value))
		}
	case *network.EventRequestWillBeSent:
		x.requests = append(x.requests, e.Request.URL)
	}
}

// complaints are those since it was last asked for them.
func (x *tab) complaints() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	said := x.said
	x.said = nil
	return said
}

// abroad are the requests, since it was last asked for them, to any host but the page's.
func (x *tab) abroad(home string) (list []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, err := url.Parse(home)
	must(x.t, err)
	for _, r := range x.requests {
		if u, err := url.Parse(r); err != nil || u.Scheme != "data" && (u.Scheme != at.Scheme || u.Host != at.Host) {
			list = append(list, r)
		}
	}
	x.requests = nil
	return list
}

func (x *tab) scripts(run bool) {
	x.t.Helper()
	_, err := chromedp.Call(x.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !run})
	must(x.t, err)
}

func (x *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	x.t.Helper()
	must(x.t, chromedp.Do(x.ctx, steps...))
}

func (x *tab) html() string {
	x.t.Helper()
	s, err := chromedp.Run(x.ctx, chromedp.OuterHTML("html"))
	must(x.t, err)
	return s
}

// holds says what the page does not show.
func (x *tab) holds(want ...string) {
	x.t.Helper()
	html := x.html()
	for _, w := range want {
		if !strings.Contains(html, w) {
			x.t.Errorf("the page does not hold %q", w)
		}
	}
}

// tried waits for the check page.
func (x *tab) tried() {
	x.t.Helper()
	_, err := browser.Evaluate[*browser.Report](x.ctx, "page.finished")
	must(x.t, err)
}

// link follows the first link that matches a selector.
func (x *tab) link(selector string) {
	x.t.Helper()
	_, err := chromedp.RunResponse(x.ctx, chromedp.Click(selector))
	must(x.t, err)
}

// screen is what a visitor looks at pages on.
type screen struct {
	width, height int64
	scheme        string
}

func (s screen) String() string { return fmt.Sprintf("%d px, %s", s.width, s.scheme) }

var (
	desk    = screen{1280, 900, "light"}
	dark    = screen{1280, 900, "dark"}
	screens = []screen{desk, dark, {360, 740, "light"}, {360, 740, "dark"}}
)

func (x *tab) on(s screen) {
	x.t.Helper()
	_, err := chromedp.Call(x.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}},
	})
	must(x.t, err)
	x.do(chromedp.EmulateViewport(s.width, s.height))
}

// picture is the screen as WebP: of all that a browser writes, the smallest that is sharp.
func (x *tab) picture() []byte {
	x.t.Helper()
	quality := int64(60) // all together stay below maxPictures, and text is sharp
	p, err := chromedp.Call(x.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatWebp, Quality: &quality})
	must(x.t, err)
	return p.Data
}

// axe is axe-core, as the lock file of the check page pins it.
func axe(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(need.NodeModules(t, "../../checkpage"), "axe-core", "axe.min.js"))
	must(t, err)
	return string(b)
}

// rules are those that a page is held to.
const rules = `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]`

// violation is a rule of axe-core's that is broken, and where.
type violation struct{ Impact, Rule, Where string }

// examine runs axe-core over the page, and measures it. That happens in a world of its
// own: the page's policy stays as it is, and of its scripts none is run by that.
func (x *tab) examine(axe string) (found []violation, over int) {
	x.t.Helper()
	x.scripts(true) // too late for the page's own
	tree, err := chromedp.Call(x.ctx, page.GetFrameTree, cdp.Empty{})
	must(x.t, err)
	world, err := chromedp.Call(x.ctx, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: tree.FrameTree.Frame.ID, WorldName: "examine"})
	must(x.t, err)
	inside := func(p *runtime.EvaluateParams) { p.ContextID = world.ExecutionContextID }
	_, err = chromedp.Run(x.ctx, chromedp.Evaluate[chromedp.Void](axe, inside))
	must(x.t, err)
	answer, err := chromedp.Run(x.ctx, chromedp.Evaluate[json.RawMessage](`axe.run(document, {preload: false, resultTypes: ["violations"], runOnly: {type: "tag", values: `+rules+`}}).then(r => ({
		over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
		found: r.violations.map(v => ({Impact: v.impact, Rule: v.id, Where: v.nodes.slice(0, 3).map(n => n.target.join(" ") + ": " + n.failureSummary).join("; ") + "; places: " + v.nodes.length})),
	}))`, inside, chromedp.EvalAwaitPromise))
	must(x.t, err)
	var a struct {
		Over  int         `json:"over"`
		Found []violation `json:"found"`
	}
	must(x.t, json.Unmarshal(answer, &a))
	return a.Found, a.Over
}
