package site

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/chart"
	"github.com/psf-relay/relay-appliance/monitor/committee"
	"github.com/psf-relay/relay-appliance/monitor/decision"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/page"
)

// Bounds, see the package's comment.
const (
	perPage     = 100
	mostRows    = 50_000
	mostSummed  = 6   // months on the front page
	mostListed  = 120 // and those that it only names
	mostTables  = 3   // that are kept
	mostWords   = 100 // bytes of a search
	mostDrawing = 4   // requests at once
)

const (
	// fresh is how long what was read is shown, and how long others may keep it.
	fresh = time.Minute
	// patience is how long a visitor waits.
	patience = 10 * time.Second
	// slowest is how many bytes a second somebody must read of a large file.
	slowest = 32 << 10
)

// rates are how many files a second are served: a page is three of them.
var rates = listen.Rates{PerClient: 10, Burst: 100, All: 50, AllBurst: 200}

// Options say what is shown besides the verdicts.
type Options struct {
	// Name is the committee's: a domain, by which the feed's entries are named for good.
	Name string
	// URL is where everybody finds the front page, with a slash at the end; empty: the
	// feed's links are relative.
	URL string
	// Bundles is where the bundles are: a URL, or a path from the front page; empty: the
	// pages say nothing of it.
	Bundles string
	// Decisions reads the committee's log, about once a minute; nil: there is none.
	Decisions func() (*decision.Log, error)
	// Log gets what visitors are not told.
	Log *slog.Logger
}

var domain = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?$`)

// Check says all that is wrong with the options, each by its name in a configuration.
func (o Options) Check() error {
	var faults []error
	if !domain.MatchString(o.Name) {
		faults = append(faults, fmt.Errorf("name: want a domain of the committee's in lower case, such as committee.example.org, not %.200q; where none is set it is the name in the committee's key", o.Name))
	}
	if o.URL != "" {
		u, err := url.Parse(o.URL)
		if err != nil || !onWeb(u) || !strings.HasSuffix(u.Path, "/") || u.RawQuery != "" {
			faults = append(faults, fmt.Errorf("url: want the site's address, with http or https and a slash at the end, not %.200q", o.URL))
		}
	}
	if o.Bundles != "" {
		u, err := url.Parse(o.Bundles)
		if err != nil || !onWeb(u) && (u.Scheme != "" || u.Host != "") || u.RawQuery != "" || u.Fragment != "" {
			faults = append(faults, fmt.Errorf("bundles: want an address with http or https, or a path, not %.200q", o.Bundles))
		}
	}
	return errors.Join(faults...)
}

func onWeb(u *url.URL) bool {
	return (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

//go:embed *.html style.css
var files embed.FS

var pages = template.Must(template.Must(template.New("").Funcs(template.FuncMap{
	"utc":      func(t evidence.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"hour":     func(h evidence.Hour) string { return h.Start().Format("2006-01-02 15:00 UTC") },
	"span":     func(s bounty.Span) string { return s.String() },
	"anchor":   anchor,
	"short":    short,
	"mark":     bundle.Mark,
	"note":     bundle.MonitorNote,
	"class":    func(o bounty.Outcome) string { return outcomeClass[o] },
	"unknown":  func() string { return bounty.Unknown.Meaning(nil) },
	"busy":     func() string { return bounty.Busy.Meaning(nil) },
	"standing": func(s string) look { return standing(s).Look() },
}).ParseFS(files, "*.html")).Parse(chart.HTML))

// outcomeClass is the style of what a rule says.
var outcomeClass = map[bounty.Outcome]string{bounty.Pass: "up", bounty.Fail: "down", bounty.Warn: "busy", bounty.Review: "busy", bounty.Inconclusive: "soft"}

// view is what a template sees: what is shown, and how far up the front page is.
type view struct {
	Root, Title, Committee string
	Live                   bool // the server can search
	Data                   any
}

// file is an answer.
type file struct {
	kind string
	body []byte
}

const (
	html = "text/html; charset=utf-8"
	svg  = "image/svg+xml"
)

// site makes files of what its reader tells.
type site struct {
	Options
	reader committee.Reader
	live   bool

	turn   chan struct{} // who holds it uses what stands below
	read   time.Time     // when the months and the log were
	months []evidence.Month
	log    *decision.Log
	tables []*month // the latest comes last
	sums   map[evidence.Month]*month
}

func newSite(r committee.Reader, o Options, live bool) (*site, error) {
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("the committee's site: %w", err)
	}
	if o.Bundles != "" {
		o.Bundles = strings.TrimSuffix(o.Bundles, "/") + "/"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &site{Options: o, reader: r, live: live, turn: make(chan struct{}, 1)}, nil
}

// begin waits for the turn, and makes sure that what is known is not old. The caller calls
// end, whatever the error.
func (s *site) begin(ctx context.Context) (end func(), err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return func() {}, ctx.Err()
	}
	end = func() { <-s.turn }
	// By the monotonic clock. An export is of one time.
	if !s.read.IsZero() && (!s.live || time.Since(s.read) < fresh) {
		return end, nil
	}
	months, err := s.reader.Months(ctx)
	if err != nil {
		return end, fmt.Errorf("the months: %w", err)
	}
	months = slices.Clone(months)
	var log *decision.Log
	if s.Decisions != nil {
		if log, err = s.Decisions(); err != nil {
			return end, fmt.Errorf("the log of decisions: %w", err)
		}
		for _, d := range log.Months() {
			months = append(months, d.Month)
		}
	}
	slices.Sort(months)
	slices.Reverse(months)
	s.months, s.log, s.tables, s.sums, s.read = slices.Compact(months), log, nil, map[evidence.Month]*month{}, time.Now()
	return end, nil
}

// table is a month; fs.ErrNotExist: there is none. The caller has the turn.
func (s *site) table(ctx context.Context, m evidence.Month) (*month, error) {
	if !slices.Contains(s.months, m) {
		return nil, fs.ErrNotExist
	}
	for _, t := range s.tables {
		if t.Month == m {
			return t, nil
		}
	}
	rows, err := s.reader.Table(ctx, m)
	if err == nil && len(rows) > mostRows {
		err = fmt.Errorf("it has %d relays, %d at most are shown", len(rows), mostRows)
	}
	if err != nil {
		return nil, fmt.Errorf("the table of %s: %w", m, err)
	}
	t := newMonth(m, rows, s.log)
	s.tables = append(s.tables[max(0, len(s.tables)+1-mostTables):], t)
	sum := *t
	sum.Rows, sum.byID, sum.Strays = nil, nil, nil
	s.sums[m] = &sum
	return t, nil
}

// one is a month for a request of its own.
func (s *site) one(ctx context.Context, m evidence.Month) (*month, []evidence.Month, error) {
	end, err := s.begin(ctx)
	defer end()
	if err != nil {
		return nil, nil, err
	}
	t, err := s.table(ctx, m)
	return t, s.months, err
}

// file makes the file of a path; fs.ErrNotExist: there is none.
func (s *site) file(ctx context.Context, path, words string) (file, error) {
	switch path {
	case "index.html":
		return s.front(ctx)
	case "feed.atom":
		b, err := s.feed(ctx)
		return file{"application/atom+xml; charset=utf-8", b}, err
	case "icon.svg":
		b, err := page.Files.ReadFile(path)
		return file{svg, b}, err
	case "style.css":
		b, err := page.Files.ReadFile(path)
		own, fault := files.ReadFile(path)
		return file{"text/css; charset=utf-8", append(b, own...)}, errors.Join(err, fault)
	}
	name, rest, _ := strings.Cut(path, "/")
	m, err := evidence.ParseMonth(name)
	if err != nil || m.String() != name {
		return file{}, fs.ErrNotExist
	}
	t, months, err := s.one(ctx, m)
	if err != nil {
		return file{}, err
	}
	if name, ok := strings.CutPrefix(rest, "relays/"); ok {
		return s.relay(ctx, t, name)
	}
	switch {
	case rest == "table.csv":
		b, err := t.csv()
		return file{"text/csv; charset=utf-8; header=present", b}, err
	case rest == "table.json":
		b, err := t.json()
		return file{"application/json", b}, err
	case rest == "search.html" && s.live:
		return s.search(t, words)
	}
	n, ok := pageOf(rest)
	if !ok || n > t.pages() {
		return file{}, fs.ErrNotExist
	}
	return s.month(ctx, t, months, n)
}

// pageName is the file of a month's n-th page.
func pageName(n int) string {
	if n == 1 {
		return "index.html"
	}
	return fmt.Sprintf("page-%d.html", n)
}

func pageOf(name string) (n int, ok bool) {
	if name == "index.html" {
		return 1, true
	}
	digits, _ := strings.CutSuffix(strings.TrimPrefix(name, "page-"), ".html")
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 1 && pageName(n) == name
}

func (s *site) draw(name, root, title string, data any) (file, error) {
	var b bytes.Buffer
	err := pages.ExecuteTemplate(&b, name, view{Root: root, Title: title, Committee: s.Name, Live: s.live, Data: data})
	return file{html, b.Bytes()}, err
}

// frontPage is what its template sees.
type frontPage struct {
	Months []*month
	Older  []evidence.Month
	More   int // months that are not named
	Logged bool
}

func (s *site) front(ctx context.Context) (file, error) {
	end, err := s.begin(ctx)
	defer end()
	if err != nil {
		return file{}, err
	}
	p := frontPage{Logged: s.log != nil}
	n := min(mostSummed, len(s.months))
	for _, m := range s.months[:n] {
		if s.sums[m] == nil {
			if _, err := s.table(ctx, m); err != nil {
				return file{}, err
			}
		}
		p.Months = append(p.Months, s.sums[m])
	}
	p.More = max(0, len(s.months)-mostListed)
	p.Older = s.months[n : len(s.months)-p.More]
	return s.draw("front.html", "", "Relays, month by month", p)
}

// monthPage is what its template sees.
type monthPage struct {
	*month
	Page, Pages    int
	Rows           []*row
	Monitors       *monitors // of the first page
	Newer, Older   string    // months
	Searched       bool
	Words          string
	Found, NotSaid int
}

func (t *month) pages() int { return max(1, (len(t.Rows)+perPage-1)/perPage) }

// Link is the file of a page of the month.
func (p monthPage) Link(n int) string { return pageName(n) }

// Previous and Next are the pages beside this one; 0: there is none.
func (p monthPage) Previous() int { return p.Page - 1 }

// Next is the page after this one; 0: there is none.
func (p monthPage) Next() int {
	if p.Page == p.Pages {
		return 0
	}
	return p.Page + 1
}

func (s *site) month(ctx context.Context, t *month, months []evidence.Month, n int) (file, error) {
	p := monthPage{month: t, Page: n, Pages: t.pages(), Rows: t.Rows[(n-1)*perPage : min(n*perPage, len(t.Rows))]}
	if i := slices.Index(months, t.Month); i >= 0 {
		if i > 0 {
			p.Newer = months[i-1].String()
		}
		if i+1 < len(months) {
			p.Older = months[i+1].String()
		}
	}
	title := "Relays in " + t.Month.String()
	if n > 1 {
		return s.draw("month.html", "../", fmt.Sprintf("%s, page %d of %d", title, n, p.Pages), p)
	}
	list, err := s.reader.Vantages(ctx, t.Month)
	if err != nil {
		return file{}, fmt.Errorf("the monitors of %s: %w", t.Month, err)
	}
	m := monitorsOf(list)
	p.Monitors = &m
	return s.draw("month.html", "../", title, p)
}

func (s *site) search(t *month, words string) (file, error) {
	words = strings.TrimSpace(words)
	if len(words) > mostWords {
		words = strings.ToValidUTF8(words[:mostWords], "")
	}
	p := monthPage{month: t, Searched: true, Words: plain(words, mostWords)}
	if words != "" {
		p.Rows = t.find(words)
	}
	p.Found = len(p.Rows)
	p.NotSaid = max(0, p.Found-perPage)
	p.Rows = p.Rows[:p.Found-p.NotSaid]
	return s.draw("month.html", "../", "Search in "+t.Month.String(), p)
}

// handler shows a site to visitors.
type handler struct {
	*site
	drawing chan struct{}
}

// New serves the site: GET and HEAD, at a bounded pace.
func New(r committee.Reader, o Options) (http.Handler, error) {
	s, err := newSite(r, o, true)
	if err != nil {
		return nil, err
	}
	return listen.Paced(rates, &handler{s, make(chan struct{}, mostDrawing)}), nil
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "this site is only read: GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	if _, err := evidence.ParseMonth(path); err == nil {
		head.Set("Location", path+"/") // relative: nobody knows below which path the site lies
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	if path == "" || strings.HasSuffix(path, "/") {
		path += "index.html"
	}
	// What is read is kept for others: it is not in vain if this visitor goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), patience)
	defer cancel()
	select {
	case h.drawing <- struct{}{}:
		defer func() { <-h.drawing }()
	case <-r.Context().Done():
		return // nobody waits
	case <-ctx.Done():
		unavailable(w)
		return
	}
	f, err := h.file(ctx, path, r.URL.Query().Get("q"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, "this site has no such page; its front page names all months", http.StatusNotFound)
	case err != nil:
		h.Log.Error("a page of the committee's site cannot be made", "path", path, "err", err)
		unavailable(w)
	default:
		send(w, r, f)
	}
}

func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "60")
	http.Error(w, "the committee's records cannot be read at present: try again in a minute", http.StatusServiceUnavailable)
}

func send(w http.ResponseWriter, r *http.Request, f file) {
	head := w.Header()
	sum := sha256.Sum256(f.body)
	head.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	head.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(fresh.Seconds())))
	head.Set("Content-Type", f.kind)
	if f.kind == svg {
		page.BadgeHeader(head)
	}
	// A server that sets no deadlines has none to set.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(30*time.Second + time.Duration(len(f.body)/slowest)*time.Second))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}
