package browser

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/psf-relay/relay-appliance/internal/checkpage"
	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor/browser"
)

func do(t testing.TB, tab context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(tab, steps...); err != nil {
		t.Fatal(err)
	}
}

func evaluate[T any](t testing.TB, tab context.Context, expression string) T {
	t.Helper()
	v, err := browser.Evaluate[T](tab, expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// A visitor with a keyboard and no mouse checks a relay, hears the outcome and
// takes it away as text and as JSON.
func TestByKeyboard(t *testing.T) {
	c, ca := lab(t)
	b := startBrowser(t, ca.RootPEM)
	r, _ := relayd(t, c)
	tab, _, err := b.Open(bounded(t), b.Page())
	if err != nil {
		t.Fatal(err)
	}
	focus := func() string { return evaluate[string](t, tab, "document.activeElement.id") }
	tabTo := func(id string) {
		t.Helper()
		do(t, tab, chromedp.KeyEvent(kb.Tab))
		if got := focus(); got != id {
			t.Fatalf("Tab leads to %q, want %q", got, id)
		}
	}
	live := func() string { return evaluate[string](t, tab, "document.querySelector('[role=status]').textContent") }

	tabTo("relays")
	tabTo("start")
	do(t, tab, chromedp.KeyEvent(kb.Enter))
	if got := live(); got != "No address was given." || focus() != "relays" {
		t.Errorf("without an address it says %q, the focus is on %q", got, focus())
	}
	do(t, tab, chromedp.KeyEvent(wss(t, r)))
	tabTo("start")
	do(t, tab, chromedp.KeyEvent(kb.Enter))
	report := evaluate[browser.Report](t, tab, "page.finished")
	if !report.Relays[0].OK {
		t.Fatalf("failed: %+v", report.Relays[0].Failed())
	}
	if got := live(); got != relayName+": Browsers can use this relay." {
		t.Errorf("it says %q", got)
	}
	if got := evaluate[string](t, tab, "new URLSearchParams(location.search).get('relay')"); got != wss(t, r) {
		t.Errorf("the link to share names %q", got)
	}

	// The button was off while it ran, which may take the focus from it.
	evaluate[any](t, tab, "document.getElementById('start').focus()")
	evaluate[any](t, tab, "navigator.clipboard.writeText = async text => { window.copied = text }")
	tabTo("copy-text")
	do(t, tab, chromedp.KeyEvent(kb.Enter))
	if got := evaluate[string](t, tab, "window.copied"); !strings.Contains(got, relayName+": Browsers can use this relay") || !strings.Contains(got, wss(t, r)) || !strings.Contains(got, "passed   echo") {
		t.Errorf("copied text:\n%s", got)
	}
	tabTo("copy-json")
	do(t, tab, chromedp.KeyEvent(kb.Enter))
	var copied browser.Report
	if err := json.Unmarshal([]byte(evaluate[string](t, tab, "window.copied")), &copied); err != nil || !copied.Relays[0].OK || copied.Format != "relay-check/1" {
		t.Errorf("copied JSON: %v, %+v", err, copied)
	}
	// Where a page may not write to the clipboard, the text is there to be copied.
	evaluate[any](t, tab, "navigator.clipboard.writeText = async text => { throw new DOMException('no') }")
	do(t, tab, chromedp.KeyEvent(kb.Enter))
	if focus() != "plain" || !evaluate[bool](t, tab, "document.activeElement.selectionEnd > 100") {
		t.Errorf("the focus is on %q, and the report is not selected", focus())
	}
}

// The page's own policy stops nothing that the page does, and any static file host
// will do.
func TestOnAStaticHost(t *testing.T) {
	c, ca := lab(t)
	b := startBrowser(t, ca.RootPEM)
	r, _ := relayd(t, c)
	host := httptest.NewServer(http.FileServerFS(checkpage.Files()))
	t.Cleanup(host.Close)
	tab, _, err := b.Open(bounded(t), host.URL+"/")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var complaints []string
	if err := chromedp.Listen(tab, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *log.EventEntryAdded:
			complaints = append(complaints, e.Entry.Text)
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		}
	}); err != nil {
		t.Fatal(err)
	}
	do(t, tab, chromedp.Navigate(host.URL+"/?relay="+wss(t, r)))
	report := evaluate[browser.Report](t, tab, "page.finished")
	if !report.Relays[0].OK {
		t.Errorf("failed: %+v", report.Relays[0].Failed())
	}
	mu.Lock()
	if len(complaints) > 0 {
		t.Errorf("the browser complains: %q", complaints)
	}
	mu.Unlock()
	// The policy is in force: what it does not name is stopped.
	if !evaluate[bool](t, tab, "fetch('page.css').then(() => false, () => true)") {
		t.Error("the page may fetch what its policy does not name")
	}
}

// axe-core finds nothing that shuts somebody out, in any state and either colour
// scheme, and the page fits a phone.
func TestForEverybody(t *testing.T) {
	axe, err := os.ReadFile(filepath.Join(need.NodeModules(t, "../../checkpage"), "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	c, ca := lab(t)
	b := startBrowser(t, ca.RootPEM)
	r, _ := relayd(t, c)
	resources := relayv2.DefaultResources()
	plain := otherRelay(t, nil, &resources)
	for _, scheme := range []string{"light", "dark"} {
		for _, screen := range []struct {
			name          string
			width, height int64
		}{{"desk", 1200, 900}, {"phone", 360, 740}} {
			t.Run(scheme+" "+screen.name, func(t *testing.T) {
				tab, _, err := b.Open(bounded(t), b.Page())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := chromedp.Call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
				}); err != nil {
					t.Fatal(err)
				}
				do(t, tab, chromedp.EmulateViewport(screen.width, screen.height))
				look := func(state string) {
					do(t, tab, chromedp.Evaluate[chromedp.Void](string(axe)))
					type violation struct {
						ID    string `json:"id"`
						Help  string `json:"help"`
						Nodes []struct {
							HTML    string `json:"html"`
							Summary string `json:"failureSummary"`
						} `json:"nodes"`
					}
					for _, v := range evaluate[[]violation](t, tab, "axe.run().then(r => r.violations)") {
						t.Errorf("%s: %s: %s: %+v", state, v.ID, v.Help, v.Nodes)
					}
					if over := evaluate[int](t, tab, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
						t.Errorf("%s: %d pixels wider than the screen", state, over)
					}
					if small := evaluate[[]string](t, tab, "[...document.querySelectorAll('button')].filter(b => b.checkVisibility() && b.getBoundingClientRect().height < 44).map(b => b.id)"); len(small) > 0 {
						t.Errorf("%s: buttons too small for a finger: %q", state, small)
					}
					png, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(t.ArtifactDir(), state+".png"), png, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				look("empty")
				do(t, tab, chromedp.Navigate(b.Page(wss(t, r), plain)))
				evaluate[browser.Report](t, tab, "page.finished")
				look("done")
				ways := evaluate[[]string](t, tab, "[...document.querySelectorAll('.way')].map(w => [...w.querySelectorAll('g')].map(g => g.dataset.outcome).join(' '))")
				if want := []string{"ok ok ok ok ok", "fail skipped skipped skipped skipped"}; !slices.Equal(ways, want) {
					t.Errorf("the pictures show %q, want %q", ways, want)
				}
			})
		}
	}
}
