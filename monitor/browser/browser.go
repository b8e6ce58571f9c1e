// Package browser lets a real browser try relays: a headless Chromium opens the
// check page and what the page found is read back, typed.
//
// The page cannot tell why a browser refused a connection; the browser's console
// can, so the class of such a failure is taken from there.
package browser

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdp "github.com/chromedp/cdproto/browser"
	cdproto "github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/psf-relay/relay-appliance/internal/checkpage"
	"github.com/psf-relay/relay-appliance/internal/listen"
)

// Programs are the names that a Chromium goes by, in the order in which they are
// looked for.
var Programs = []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"}

// startTime is what a browser may take to start, on a small machine that is busy.
const startTime = time.Minute

// Options says how the browser is run. The zero value is that of any visitor.
type Options struct {
	// Program is the browser; empty: the first of [Programs] on the PATH.
	Program string
	// Resolve are names that are not looked up but taken from here.
	Resolve map[string]netip.Addr
	// RootsPEM are CAs to trust besides the browser's own. That is for a lab, and
	// takes the program certutil.
	RootsPEM []byte
	// Flags are further switches of the browser, without their dashes.
	Flags []string
	// Output receives what the browser itself prints; nil: nobody does.
	Output io.Writer
}

// Find returns the path of the browser that Options.Program means.
func Find(program string) (string, error) {
	names := Programs
	if program != "" {
		names = []string{program}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("found no browser (%s): install Chromium, in Debian with \"apt-get install chromium\"", strings.Join(names, ", "))
}

// Browser is a Chromium that runs, with a profile of its own that is thrown away.
type Browser struct {
	// Version is the browser's name and version, such as "Chrome/156.0.7796.12".
	Version string

	ctx    context.Context
	cancel []func()
	pages  *http.Server
	base   string
}

// Start runs a browser until ctx ends or [Browser.Close] is called.
func Start(ctx context.Context, o Options) (*Browser, error) {
	b := &Browser{}
	if err := b.start(ctx, o); err != nil {
		b.Close()
		return nil, fmt.Errorf("start the browser: %w", err)
	}
	return b, nil
}

func (b *Browser) start(ctx context.Context, o Options) error {
	program, err := Find(o.Program)
	if err != nil {
		return err
	}
	home, err := os.MkdirTemp("", "relay-check-")
	if err != nil {
		return err
	}
	b.cancel = append(b.cancel, func() { os.RemoveAll(home) })
	if err := trust(ctx, home, o.RootsPEM); err != nil {
		return err
	}
	if err := b.servePage(); err != nil {
		return err
	}
	allocator, cancel := chromedp.NewExecAllocator(ctx, o.flags(program, home)...)
	b.cancel = append(b.cancel, cancel)
	b.ctx, cancel = chromedp.NewContext(allocator)
	b.cancel = append(b.cancel, cancel)
	if err := chromedp.Do(b.ctx); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	version, err := chromedp.CallBrowser(b.ctx, cdp.GetVersion, cdproto.Empty{})
	if err != nil {
		return err
	}
	b.Version = strings.TrimPrefix(version.Product, "Headless")
	return nil
}

func (o Options) flags(program, home string) []chromedp.ExecAllocatorOption {
	opts := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program),
		chromedp.UserDataDir(filepath.Join(home, "profile")),
		// The NSS data base with the roots is looked for below HOME.
		chromedp.Env("HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home),
		chromedp.Headless,
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.WSURLReadTimeout(startTime),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-extensions", true),
		// It says nothing to anybody but the relay.
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-breakpad", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter"),
		// A tab that nobody looks at must not be slowed down: its times count.
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("password-store", "basic"),
	}
	if os.Geteuid() == 0 {
		// Chromium's sandbox does not work for root; the only page it loads is ours.
		opts = append(opts, chromedp.NoSandbox)
	}
	if len(o.Resolve) > 0 {
		var rules []string
		for name, addr := range o.Resolve {
			host := addr.String()
			if addr.Is6() {
				host = "[" + host + "]"
			}
			rules = append(rules, "MAP "+name+" "+host)
		}
		slices.Sort(rules)
		opts = append(opts, chromedp.Flag("host-resolver-rules", strings.Join(rules, ", ")))
	}
	for _, f := range o.Flags {
		if name, value, ok := strings.Cut(f, "="); ok {
			opts = append(opts, chromedp.Flag(name, value))
		} else {
			opts = append(opts, chromedp.Flag(name, true))
		}
	}
	if o.Output != nil {
		opts = append(opts, chromedp.CombinedOutput(o.Output))
	}
	return opts
}

// trust makes the data base of roots that a browser with this HOME reads.
func trust(ctx context.Context, home string, roots []byte) error {
	if len(roots) == 0 {
		return nil
	}
	dir := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "certutil", append(args, "-d", "sql:"+dir)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("trust the lab's CA: certutil %s: %w (%s): it is in Debian's package libnss3-tools", args[0], err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	if err := run("-N", "--empty-password"); err != nil {
		return err
	}
	for n := 1; ; n++ {
		var block *pem.Block
		if block, roots = pem.Decode(roots); block == nil {
			return nil
		}
		file := filepath.Join(home, fmt.Sprintf("root-%d.pem", n))
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
		if err := run("-A", "-n", file, "-t", "C,,", "-i", file); err != nil {
			return err
		}
	}
}

// servePage serves the check page on loopback, which browsers treat as secure.
func (b *Browser) servePage() error {
	l, err := listen.TCP("check page", "127.0.0.1:0", listen.Bounds{All: 32, PerAddress: 32}, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("serve the check page: %w", err)
	}
	b.base = "http://" + l.Addr().String() + "/"
	b.pages = listen.Server(checkpage.Handler(nil), slog.New(slog.DiscardHandler))
	go b.pages.Serve(l)
	return nil
}

// Close ends the browser and removes its profile.
func (b *Browser) Close() {
	for _, cancel := range slices.Backward(b.cancel) {
		cancel()
	}
	b.cancel = nil
	if b.pages != nil {
		b.pages.Close()
	}
}

// Check lets the browser try the relays that these multiaddrs name, one relay for
// each peer ID.
func (b *Browser) Check(ctx context.Context, addrs ...string) (Report, error) {
	return b.Visit(ctx, b.Page(addrs...))
}

// Page is the URL of the check page that the browser has at hand, with the relays
// to check.
func (b *Browser) Page(addrs ...string) string {
	if len(addrs) == 0 {
		return b.base
	}
	return b.base + "?" + url.Values{"relay": addrs}.Encode()
}

// Visit opens a check page, wherever it is served, and waits for the checks that
// its URL asks for.
func (b *Browser) Visit(ctx context.Context, page string) (Report, error) {
	var console reasons
	tab, cancel, err := b.open(ctx, page, console.note)
	if err != nil {
		return Report{}, err
	}
	defer cancel()
	report, err := Evaluate[*Report](tab, "page.finished")
	if err != nil {
		return Report{}, fmt.Errorf("wait for the checks on %s: %w", page, errors.Join(err, ctx.Err()))
	}
	if report == nil {
		return Report{}, fmt.Errorf("%s names no relay: add ?relay=MULTIADDR", page)
	}
	report.Version = b.Version
	for i := range report.Relays {
		console.refine(&report.Relays[i])
	}
	return *report, nil
}

// Open opens a check page in a tab that shares nothing with others, as if it were
// another visitor's. The context is one of chromedp's; it ends with ctx.
func (b *Browser) Open(ctx context.Context, page string) (context.Context, context.CancelFunc, error) {
	return b.open(ctx, page, func(string) {})
}

func (b *Browser) open(ctx context.Context, page string, console func(string)) (context.Context, context.CancelFunc, error) {
	tab, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(func(ev any) {
		if e, ok := ev.(*log.EventEntryAdded); ok {
			console(e.Entry.Text)
		}
	}))
	stop := context.AfterFunc(ctx, cancel)
	end := func() { stop(); cancel() }
	if err := chromedp.Do(tab, chromedp.Navigate(page)); err != nil {
		end()
		return nil, nil, fmt.Errorf("open %s: %w", page, errors.Join(err, ctx.Err()))
	}
	return tab, end, nil
}

// Evaluate returns what an expression of JavaScript comes to in a tab with a check
// page; page stands for the exports of the page's script.
func Evaluate[T any](tab context.Context, expression string) (T, error) {
	return chromedp.Run(tab, chromedp.Evaluate[T](
		`import(document.querySelector('script[type=module]').src).then(page => `+expression+`)`, chromedp.EvalAwaitPromise))
}
