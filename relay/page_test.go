package relay

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
	"github.com/psf-relay/relay-appliance/relay/trend"
)

// visit is what a visitor gets of a relay that does not run.
func visit(t testing.TB, r *Relay, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r.web(r.publicStatus).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func newRelay(t testing.TB, change func(*config.Config)) *Relay {
	t.Helper()
	c := relaytest.LabConfig(t)
	change(&c)
	r, err := New(c, relaytest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The page's own style and script are what its policy lets run, it loads nothing
// from anywhere, and what the operator wrote is text.
func TestStatusPageIsStrict(t *testing.T) {
	const name = `<script src=//x.example/>alice`
	r := newRelay(t, func(c *config.Config) { c.Name, c.AbuseContact = name, "Abuse <abuse@example.org>" })
	w := visit(t, r, "/")
	body, policy := w.Body.String(), w.Header().Get("Content-Security-Policy")
	for _, tag := range []string{"style", "script"} {
		inline := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(body, -1)
		if len(inline) != 1 {
			t.Fatalf("%d inline <%s>", len(inline), tag)
		}
		sum := sha256.Sum256([]byte(inline[0][1]))
		if !strings.Contains(policy, tag+"-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			t.Errorf("the policy does not let the page's <%s> run: %s", tag, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'; ") {
		t.Errorf("policy %s", policy)
	}
	rest := strings.ReplaceAll(body, "&lt;script src=//x.example/&gt;alice", "")
	if loads := regexp.MustCompile(`(?i)<(img|link|iframe|object|script [^>]*)|\bsrc=|\bstyle=|\bon[a-z]+="|@import|url\(|//`).FindString(rest); loads != "" {
		t.Errorf("the page loads something, or has inline attributes: %s", loads)
	}
	if strings.Contains(body, "<script src") {
		t.Error("the name is not escaped")
	}
	if !strings.Contains(body, `<a href="mailto:abuse@example.org"`) || strings.Contains(body, "ZgotmplZ") {
		t.Error("the abuse contact is no link")
	}
	for _, h := range []string{"X-Content-Type-Options", "Referrer-Policy"} {
		if w.Header().Get(h) == "" {
			t.Errorf("no %s", h)
		}
	}
	if w := visit(t, r, "/check/"); w.Code != http.StatusOK || strings.Contains(w.Header().Get("Content-Security-Policy"), "sha256") {
		t.Errorf("the browser check: %d, %s", w.Code, w.Header().Get("Content-Security-Policy"))
	}
	if w := visit(t, r, "/healthz"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("healthz of a relay that is not up: %d", w.Code)
	}
	if w := visit(t, r, "/elsewhere"); w.Code != http.StatusNotFound {
		t.Errorf("another page: %d", w.Code)
	}
}

func TestStatusPageTellsAll(t *testing.T) {
	const id, tcp, wss = "12D3KooW", "/ip4/198.41.0.4/tcp/4001/p2p/12D3KooW", "/dns4/relay.example.org/tcp/443/tls/ws/p2p/12D3KooW"
	now := time.Now()
	s := &status.Status{
		Name: "alice", PeerID: id, Version: "v1.2.3", VersionSince: now.AddDate(0, 0, -3), Healthy: true, Ready: true, Started: now.Add(-time.Hour),
		Addrs: []string{tcp, wss}, AbuseContact: "https://example.org/abuse",
		Reservations: status.Reservations{Members: 3, Max: 1024, GuestMax: 256},
		Traffic:      status.Traffic{Month: "2026-11", Bytes: 1e9, Budget: 1e12},
		Certificate:  &status.Certificate{Domain: "relay.example.org", Issuer: "R11", NotAfter: now.AddDate(0, 0, 60), DaysLeft: 60},
		Requirements: []status.Requirement{
			{Name: "service", Title: "Reservations are served", Outcome: status.Met},
			{Name: "clock", Title: "The clock is right", Outcome: status.Met},
			{Name: "disk", Title: "Room on the disk", Outcome: status.NotMet, Cure: "Make room"},
			{Name: "uptime", Title: "600 hours up in the month", Outcome: status.Unknown},
		},
	}
	var b strings.Builder
	if err := statusPage.Execute(&b, visited{Status: *s}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<h1>alice</h1>", "<code>" + s.PeerID + "</code>", "<code>" + s.Addrs[0] + "</code>", "<code>" + s.Addrs[1] + "</code>",
		"v1.2.3, here since", "60 days left", "3 members, 0 guests; at most 1024", "1 GB of 1 TB", `<a href="https://example.org/abuse"`,
		`<b class="good">✓ met</b><div>The clock is right`, `<b class="bad">✗ not met</b><div>Room on the disk`, `<p class="cure">Make room`,
		`<b class="open">? unknown</b>`, "✓ It works now", "under the name alice.",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
	// The light on top is the requirement's: an offer alone is none.
	for outcome, want := range map[status.Outcome]string{status.Met: `good">✓ It works now`, status.NotMet: `bad">✗ It does not work as it should: see below`, status.Unknown: `open">? It runs and offers reservations; none was tried yet`} {
		s.Requirements[0].Outcome = outcome
		b.Reset()
		if err := statusPage.Execute(&b, visited{Status: *s}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), `<p class="state `+want) {
			t.Errorf("service is %s: the page lacks %q", outcome, want)
		}
	}
}

// pictures are those of a page, each by what it says to those who do not see it. All must
// be well-formed, and draw something.
func pictures(t *testing.T, page string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1) {
		var image struct {
			Role  string `xml:"role,attr"`
			Words string `xml:"aria-label,attr"`
			Paths []struct {
				D string `xml:"d,attr"`
			} `xml:"path"`
		}
		if err := xml.Unmarshal([]byte(svg), &image); err != nil {
			t.Errorf("got %v, want a picture that is well-formed: %s", err, svg)
		}
		if image.Role != "img" || image.Words == "" || len(image.Paths) < 3 {
			t.Errorf("got %+v, want an image with words and paths", image)
		}
		all[image.Words] = svg
	}
	return all
}

// A relay that does not run yet shows what it is for; one that runs shows how busy it was,
// too, with what it has just seen. The numbers outlive the relay, and are in no backup.
func TestStatusPageHasPictures(t *testing.T) {
	if got := pictures(t, visit(t, newRelay(t, func(*config.Config) {}), "/").Body.String()); len(got) != 1 {
		t.Errorf("before the start: got %d pictures, want the one of what the relay is for", len(got))
	}
	c := relaytest.LabConfig(t)
	c.PSF.Enabled = false
	r := start(t, c)
	relaytest.Eventually(t, "seen once", func() bool { return len(r.trend.Periods()) > 0 })
	page := visit(t, r.Relay, "/").Body.String()
	got := pictures(t, page)
	if len(got) != 9 {
		t.Errorf("got %d pictures, want one of what the relay is for, and four each of day and month", len(got))
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(got)), func(words string) bool {
		return strings.HasPrefix(words, "Reservations, the last day: 0 now, at most 0; nothing is known of 23.9")
	}) {
		t.Errorf("got %q, want one of the day's reservations", slices.Collect(maps.Keys(got)))
	}
	if len(page) > 40_000 {
		t.Errorf("got a page of %d bytes, want a small one", len(page))
	}
	for _, want := range []string{"(prefers-color-scheme: dark)", "minmax(min(100%,", "<h3>The last day</h3>", "<h3>The last month</h3>", "30 days ago"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, trend.File)); err != nil {
		t.Errorf("after the end: got %v, want the numbers written", err)
	}
	if keeps(trend.File) || keeps(trend.Damaged) || !keeps("traffic.json") {
		t.Error("got how busy the relay was in its backup, want its state alone")
	}
}

// What monitors say is text, whatever they say, and loads nothing.
func TestStatusPageOfMonitors(t *testing.T) {
	now := time.Now()
	const bad = `"><script>alert(1)</script>`
	s := &status.Status{Name: "alice", Monitors: []status.Monitor{
		{URL: "https://a.example/monitor/", Page: "https://a.example/monitor/relay/12D3KooW", Asked: now, Answered: now.Add(-5 * time.Minute), Claim: &status.Claim{
			Name: bad, Month: "2026-11", Up: 440, Required: 600, Needed: 160, Possible: 640, Slack: 120, Used: 80, Left: 40, UsedPercent: 66, RunsOut: now.Add(time.Hour),
			Costly:   []status.Costly{{From: now.Add(-5 * time.Hour), Until: now, Hours: 5, Why: bad}},
			Warnings: []status.MonitorWarning{{Name: "SlackHalfUsed", Severity: "warning", Words: bad}},
		}},
		{URL: "http://127.0.0.1:8420/", Asked: now, Answered: now, NotEnrolled: true, Error: "it does not know this relay"},
		{URL: "https://lost.example/monitor/", Asked: now, Claim: &status.Claim{Name: "m3", Month: "2026-11", Up: 40, Required: 600, Needed: 560, Left: -3}},
		{URL: "https://new.example/monitor/"},
	}}
	var b strings.Builder
	if err := statusPage.Execute(&b, visited{Status: *s}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"What its monitors say", `<b class="bad">440 h up</b>`, `<a href="https://a.example/monitor/relay/12D3KooW"`, "440 of 600 hours up in 2026-11, 640 are still possible; 160 more are needed, 40 may still be lost",
		`max="120" high="60" value="80">66 %</meter>`, "they are used up on ", "answered 5 min ago", `<p class="bad">warning: the relay &#34;&gt;&lt;script&gt;`, "5 h lost from ",
		`<b class="open">? unknown</b><div>127.0.0.1:8420<p>it does not know this relay`, "3 too many are lost", "not asked yet",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(b.String(), "<script>"); n != 1 || strings.Contains(b.String(), "style=") || strings.Contains(b.String(), "ZgotmplZ") {
		t.Errorf("got %d scripts, want the page's own alone, and no style of others", n)
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

// The status names no peer, nor where one is.
func TestStatusNamesNoPeer(t *testing.T) {
	c := relaytest.LabConfig(t)
	c.PSF.Enabled = false
	r := start(t, c)
	visitor := relaytest.NewPeer(t, nil)
	if _, err := relaytest.Reserve(t, visitor, dialable(t, r.Relay)["tcp"]); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "counted", func() bool { return r.Status().Reservations.Guests == 1 && len(r.Status().Incoming) > 0 })
	relaytest.Eventually(t, "looked around", func() bool { return len(r.Status().Requirements) > 0 })
	data, err := json.Marshal(r.Status())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), visitor.ID().String()) || strings.Contains(string(data), "127.0.0.1") {
		t.Errorf("%s", data)
	}
}

// One address that asks without end is told so; others are answered.
func TestStatusPageIsForAll(t *testing.T) {
	r := newRelay(t, func(*config.Config) {})
	synctest.Test(t, func(t *testing.T) { isForAll(t, r.web(r.Status)) }) // time stands still
}

func isForAll(t *testing.T, page http.Handler) {
	ask := func(from string) int {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.RemoteAddr = from
		w := httptest.NewRecorder()
		page.ServeHTTP(w, req)
		return w.Code
	}
	refused := 0
	for range 1000 {
		if ask("[2001:db8::1]:4001") == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 900 {
		t.Errorf("%d of 1,000 requests of one address were refused", refused)
	}
	if code := ask("[2001:db8::2]:4001"); code != http.StatusTooManyRequests {
		t.Errorf("another address of the same subnet: %d", code)
	}
	if code := ask("198.51.100.1:4001"); code != http.StatusOK {
		t.Errorf("another visitor: %d", code)
	}
}

// Peers that are connected and stay off the topic are told of after some minutes; the
// watchdog is told only where neighbours were there, and only in a relay that is up for
// long, so that strangers cannot have it restarted again and again.
func TestWhenNeighboursAreLost(t *testing.T) {
	now := time.Now()
	old, young := now.Add(-2*lostAfter), now.Add(-lostAfter/2)
	long, short := now.Add(-2*silentAfter), now.Add(-silentAfter/2)
	for name, c := range map[string]struct {
		stats        coord.MemberStats
		started      time.Time
		silent, lost bool
	}{
		"nobody is connected":       {coord.MemberStats{Most: 5}, old, false, false},
		"a moment":                  {coord.MemberStats{Most: 5, Speakers: 5, Silent: short}, old, false, false},
		"all were lost":             {coord.MemberStats{Most: 5, Speakers: 5, Silent: long}, old, true, true},
		"strangers, never any more": {coord.MemberStats{Speakers: 50, Silent: long}, old, true, false},
		"one stranger is left":      {coord.MemberStats{Most: 5, Speakers: 1, Silent: long}, old, true, false},
		"restarted not long ago":    {coord.MemberStats{Most: 5, Speakers: 5, Silent: long}, young, true, false},
	} {
		if s := psfStatus(c.stats, c.started, now); !s.Silent.IsZero() != c.silent || s.Lost != c.lost {
			t.Errorf("%s: silent since %v, lost %v", name, s.Silent, s.Lost)
		}
	}
}
