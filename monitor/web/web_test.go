package web

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
)

func sample() Overview {
	at := time.Date(2026, 11, 3, 14, 30, 0, 0, time.UTC)
	h := evidence.HourOf(at)
	return Overview{
		Monitor: "m1", Origin: "m1/relaymon/lab", Network: evidence.Lab, Version: "v1.2.3",
		LogKey: "m1+0+key", Now: evidence.TimeOf(at), First: h - 1, Sealed: 1,
		Updates: "the list is <old>", NotReached: []string{"alerts do not reach <ntfy>"},
		Release: &Release{Installed: "v1.2.3", Newest: "v1.2.3", Published: evidence.TimeOf(at.AddDate(0, 0, -4)), Days: 4},
		Relays: []Relay{{
			Agent: "relayd/1.2.2", Release: &Release{Installed: "v1.2.2", Newest: "v1.2.3", Published: evidence.TimeOf(at.AddDate(0, 0, -4)), Days: 4},
			PeerID: "12D3KooWsample", Operator: `<script>alert("x")</script>`,
			TCP4: "/ip4/203.0.113.7/tcp/4001/p2p/12D3KooWsample", WSS: "/dns4/relay.example/tcp/443/wss/p2p/12D3KooWsample",
			Last: &evidence.Attempt{
				Started: evidence.TimeOf(at),
				Rungs: []evidence.Rung{
					{Name: "tcp4", Component: evidence.TCP4, Outcome: evidence.OK, DurationUS: 1234},
					{Name: "wss", Component: evidence.WSS, Outcome: evidence.Fail, Class: evidence.CertExpired, Detail: "expired <yesterday>"},
				},
			},
			Count: NewCount(h.Month(), bounty.Hours{Total: 720, Up: 1, Down: 1, Remaining: 718}, 600),
			Hours: []Hour{{Hour: h - 1, Vote: bounty.Up}, {Hour: h, Vote: bounty.Down, Open: true}},
		}},
	}
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// known is a source that knows one relay's month.
type known struct {
	o   Overview
	err error
}

func (k known) Now() time.Time { return time.Now() }

func (k known) Overview() (Overview, error) {
	k.o.Totals = Total(k.o.Relays)
	return k.o, k.err
}

func (k known) Health() (fault, held string) { return k.o.Fault, k.o.Held }

func (k known) Month(relay string, m evidence.Month) (Month, error) {
	if relay != k.o.Relays[0].PeerID || m != evidence.MonthOf(time.Now()) && m != sampleMonth().Count.Month {
		return Month{}, ErrNotFound
	}
	return sampleMonth(), k.err
}

func (k known) Hour(relay string, h evidence.Hour) (history.Story, error) {
	if relay != k.o.Relays[0].PeerID || h != k.o.Relays[0].Hours[1].Hour {
		return history.Story{}, ErrNotFound
	}
	return history.Story{
		Monitor: "m1", Relay: relay, Operator: k.o.Relays[0].Operator, Hour: h, Enrolled: true, Vote: bounty.Down,
		Attempts: []evidence.Attempt{*k.o.Relays[0].Last}, Answer: []string{"It is <dead>."},
	}, k.err
}

// sampleMonth has an hour of every kind.
func sampleMonth() Month {
	o := sample()
	m := Month{
		Monitor: "m1", Network: evidence.Lab, Now: o.Now, PeerID: o.Relays[0].PeerID, Operator: o.Relays[0].Operator,
		TCP4: o.Relays[0].TCP4, WSS: o.Relays[0].WSS, Last: o.Relays[0].Last,
		Certificates: []bounty.CertificateSeen{{SHA256: strings.Repeat("ab", 32), Issuer: "CN=<evil>", First: o.First, Last: o.First + 3}},
		Agents:       []bounty.AgentSeen{{Agent: "<relay>/1", Span: bounty.Span{From: o.First, Until: o.First + 9}}},
		Release:      &Release{Newest: "v9.9.9", Published: o.Now, Days: 0},
		Latency:      []Latency{{Day: "2026-11-01", PingUS: 2000, TCP4US: 5000, WSSUS: 40000, RelayUS: 90000}},
	}
	m.Count = NewCount(evidence.MonthOf(o.Now.Time), bounty.Hours{Total: 720, Up: 10, Down: 4, Unknown: 6, Remaining: 680, NotEnrolled: 20}, 600)
	m.Forecast = bounty.Forecast{
		Possible: 696, Slack: 100, Used: 4, Left: 96, UsedPercent: 4, RunsOut: o.Now,
		Costly: []bounty.Loss{{Span: bounty.Span{From: o.First, Until: o.First + 3}, Hours: 3, Why: "wss cert-expired"}}, Causes: []bounty.Cause{{Why: "wss cert-expired", Hours: 4}},
	}
	m.Warnings = []Warning{{Name: "SlackPace", Severity: "critical", Words: "loses <hours>"}}
	m.Vantages = []Vantage{
		{Monitor: "m1", Own: true, Operator: "us", Place: &bounty.Place{Lat: 1.35, Lon: 103.8}, PingUS: 20_100},
		{Monitor: "m2", Operator: "<them>", Committee: true, Place: &bounty.Place{Lat: 48, Lon: 11}}, {Monitor: "m3", Operator: "others"},
	}
	for i := range 720 {
		m.Hours = append(m.Hours, MonthHour{Hour: Hour{Hour: m.Count.Month.First() + evidence.Hour(i)}, State: bounty.Remaining})
	}
	for i, state := range []bounty.State{bounty.NotEnrolled, bounty.StateUp, bounty.StateDown, bounty.StateUnknown, bounty.StateUp, bounty.StateDown} {
		m.Hours[i].State, m.Hours[i].Busy = state, i > 3
		m.Hours[i].Why = []string{"", "", "", "one failure", "", ""}[i]
	}
	return m
}

func serve(o Overview, err error) http.Handler {
	return Handler(known{o, err}, slog.New(slog.DiscardHandler))
}

func TestMonthPage(t *testing.T) {
	for _, path := range []string{"/relay/12D3KooWsample", "/relay/12D3KooWsample/2026-11"} {
		w := get(t, serve(sample(), nil), path)
		body := w.Body.String()
		if w.Code != http.StatusOK {
			t.Fatalf("%s: status %d: %s", path, w.Code, body)
		}
		for _, want := range []string{
			">-UX?bB..................<", "Hours that may be lost: 100. Lost: 4 (4 %)", "the month is lost on 2026-11-03", "wss cert-expired 4 h",
			"2026-11-03T13:00Z to 2026-11-03T16:00Z (3 h)", `<li class="critical"><strong>SlackPace.</strong> The relay loses &lt;hours&gt;.`,
			"of 700 hours 10 are up, 6 unknown, 4 down and 680 to come; 600 must be up", "10 hours up, 590 more needed", "96 may still be lost",
			`/hour/2026-11-01T03"`, "unknown (one failure)", "&lt;relay&gt;/1", "CN=&lt;evil&gt;", "never accepted", "median 90.0 ms",
			">1: 20.1 ms<", "<li>m1: 20.1 ms, this monitor, run by us</li>", "<li>m2, the committee&#39;s monitor, run by &lt;them&gt;</li>", "<li>m3, run by others</li>",
			"<strong>Unknown:</strong> The monitor cannot say", "such hours of a month count as up (R8)",
			"A version that is not on the release list; the newest is v9.9.9, published 2026-11-03, 0 days ago.",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: the page does not hold %q", path, want)
			}
		}
	}
}

func TestHourPage(t *testing.T) {
	o := sample()
	o.Relays[0].Last.Facts.LookupRetries = 2
	o.Relays[0].Last.Facts.Lookups = []evidence.Lookup{
		{Resolver: evidence.OwnResolver, IPv4: []string{"203.0.113.8", "203.0.113.9"}}, {Resolver: "1.1.1.1#cloudflare-dns.com", Class: evidence.NameNotFound},
	}
	body := get(t, serve(o, nil), "/relay/12D3KooWsample/hour/2026-11-03T14").Body.String()
	for _, want := range []string{"own: <code>203.0.113.8 203.0.113.9</code>", "1.1.1.1#cloudflare-dns.com: <code>name-not-found</code>", "asked again</dt><dd>2", "▼ down", "It is &lt;dead&gt;.", "fail (cert-expired)", "2026-11-03 14:00 UTC"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
}

// told is the story of an hour of the sample's relay in which all kinds of attempts were
// made; set changes what is known.
func told(set func(*history.Facts)) history.Story {
	relay := bounty.Relay{PeerID: "12D3KooWsample", Operator: "R5 <Ltd>", Address: bounty.Address{IPv4: "203.0.113.7", TCPPort: 4001, Domain: "relay.example", WSSPort: 443}}
	hour := evidence.HourOf(time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC))
	f := history.Facts{
		Monitor: "m1", Rules: bounty.Defaults(), Roster: &bounty.Roster{Network: evidence.Lab, Monitors: []bounty.Monitor{{Name: "m1"}, {Name: "m2"}}},
		Relay: &relay, Hour: hour, Now: hour.End().Add(time.Hour),
		Verified: &evidence.VerifiedHour{Header: evidence.Header{Hour: hour, State: evidence.StateOK, Clock: evidence.Clock{Samples: 1, Synchronised: true}}},
	}
	set(&f)
	return history.Tell(f)
}

// tried are attempts on the sample's relay: at these minutes, with these outcomes.
func tried(f *history.Facts, at map[int]evidence.Outcome) {
	f.Record = &evidence.Record{PeerID: f.Relay.PeerID, Hour: f.Hour}
	tcp4, wss := f.Relay.Multiaddrs(f.Relay.PeerID)
	for _, minute := range slices.Sorted(maps.Keys(at)) {
		started := f.Hour.Start().Add(time.Duration(minute) * time.Minute)
		a := evidence.Attempt{Started: evidence.TimeOf(started), PeerID: f.Relay.PeerID, TCP4Addr: tcp4, WSSAddr: wss, Results: map[evidence.Component]evidence.Result{}}
		for _, c := range evidence.Components {
			r := evidence.Rung{Name: string(c), Component: c, Outcome: evidence.OK}
			if c == evidence.Relay && at[minute] != evidence.OK {
				r.Outcome, r.Class, r.Detail = at[minute], evidence.ReserveRefused, "<no> place, R5"
			}
			a.Rungs = append(a.Rungs, r)
			a.Results[c] = evidence.Result{Outcome: r.Outcome, Class: r.Class}
		}
		if at[minute] == evidence.OK {
			a.Level = evidence.LevelEchoed
		}
		a.Controls = []evidence.Control{
			{Name: "c1", Component: evidence.TCP4, Outcome: evidence.OK, Started: evidence.TimeOf(started.Add(time.Minute))},
			{Name: "c1", Component: evidence.WSS, Outcome: evidence.Fail, Started: evidence.TimeOf(started.Add(2 * time.Minute))},
		}
		f.Record.Attempts = append(f.Record.Attempts, a)
	}
}

// The picture shows each attempt with the controls beside it, and says the same in words;
// unknown, busy and the rules lead to what they mean; headings come in order.
func TestHourStory(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*history.Facts)
		want []string
	}{
		"all attempts": {func(f *history.Facts) {
			tried(f, map[int]evidence.Outcome{2: evidence.Busy, 8: evidence.Fail, 62: evidence.OK})
		}, []string{
			"▲ up", "attempt 1 at 14:02:00: busy; attempt 2 at 14:08:00: does not count; attempt 3 at 15:02:00: ok; controls were tried beside them",
			`<g transform="translate(23 34)"><title>attempt 1 at 14:02:00: busy</title><path class="busy"`, `<circle class="blind" r="6"/><text y="19" text-anchor="middle">2</text>`,
			`<path class="tick ok" transform="translate(27 67)"`, `<path class="tick fail" transform="translate(31 67)"`,
			"&lt;no&gt; place", "◆ relay", "✓ wss", "R5 &lt;Ltd&gt;", "m2. Their pages",
		}},
		"busy": {func(f *history.Facts) { tried(f, map[int]evidence.Outcome{2: evidence.Busy}) }, []string{
			"◆ busy", `<a href="#busy">BUSY</a>`, `<a href="#R8">R8</a>`, "it had no room for the monitor",
		}},
		"gap": {func(f *history.Facts) { f.Verified.Header.State = evidence.StateGap }, []string{
			"· unknown", `<a href="#unknown">Unknown</a> is neither up nor down`, `<rect class="gap"`, "nobody watched</text>", "left to right: nobody watched",
		}},
		"clock set": {func(f *history.Facts) {
			f.Verified.Header.Clock.Steps = []evidence.ClockStep{{At: evidence.TimeOf(f.Hour.Start().Add(30 * time.Minute)), ByMS: 5000}, {At: evidence.TimeOf(f.Hour.Start().AddDate(0, 0, 9)), ByMS: 1}}
		}, []string{`<path class="step" d="M143 14V76"/>`, `<path class="step" d="M341 14V76"/>`, "clock was set at 14:30:00"}},
		"nothing": {func(f *history.Facts) {}, []string{"left to right: no attempt was made"}},
	} {
		s := told(c.set)
		w := get(t, Handler(tale{known{o: sample()}, s}, slog.New(slog.DiscardHandler)), "/relay/12D3KooWsample/hour/2026-11-03T14")
		body := w.Body.String()
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: the page does not hold %q", name, want)
			}
		}
		for _, m := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(body, -1) {
			if n := strings.Count(body, `id="`+m[1]+`"`); n != 1 {
				t.Errorf("%s: the page explains %q %d times, want once", name, m[1], n)
			}
		}
		level := 0
		for _, m := range regexp.MustCompile(`<h([1-6])`).FindAllStringSubmatch(body, -1) {
			next := int(m[1][0] - '0')
			if next > level+1 {
				t.Errorf("%s: a heading of level %d follows one of level %d", name, next, level)
			}
			level = next
		}
		_, rest, _ := strings.Cut(body, "<svg viewBox=\"0 0 360")
		picture, _, _ := strings.Cut(rest, "</svg>")
		if err := xml.Unmarshal([]byte("<svg viewBox=\"0 0 360"+picture+"</svg>"), new(struct{})); err != nil {
			t.Errorf("%s: the picture is no SVG: %v", name, err)
		}
	}
}

// tale is a source with one story.
type tale struct {
	known
	s history.Story
}

func (x tale) Hour(string, evidence.Hour) (history.Story, error) { return x.s, nil }

// Pages may stand below somebody else's path: no link leads to the root.
func TestLinksAreRelative(t *testing.T) {
	for _, path := range []string{"/", "/relay/12D3KooWsample", "/relay/12D3KooWsample/2026-11", "/relay/12D3KooWsample/hour/2026-11-03T14"} {
		body := get(t, serve(sample(), nil), path).Body.String()
		for _, bad := range []string{`href="/`, `src="/`} {
			if strings.Contains(body, bad) {
				t.Errorf("%s: holds %s", path, bad)
			}
		}
		// The style is where the page looks for it.
		base, err := url.Parse("http://host/monitor" + path)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(body, `rel="stylesheet" href="`)
		href, _, _ := strings.Cut(rest, `"`)
		if got, err := base.Parse(href); err != nil || got.Path != "/monitor/style.css" {
			t.Errorf("%s: style at %v, %v", path, got, err)
		}
	}
}

func TestUnknownThings(t *testing.T) {
	for _, path := range []string{
		"/relay/nobody", "/relay/12D3KooWsample/2026-13", "/relay/12D3KooWsample/1999-01", "/relay/12D3KooWsample/hour/2026-11-03T15",
		"/relay/12D3KooWsample/hour/x", "/badge/12D3KooWsample", "/badge/nobody.svg", "/api/relays/nobody", "/api/relays/12D3KooWsample/hour/1", "/probe", "/metrics",
	} {
		if w := get(t, serve(sample(), nil), path); w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
}

func TestAPI(t *testing.T) {
	var m Month
	if err := json.Unmarshal(get(t, serve(sample(), nil), "/api/relays/12D3KooWsample/2026-11").Body.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	if m.Count.Up != 10 || m.Count.Needed != 590 || len(m.Hours) != 720 || m.Hours[1].State != bounty.StateUp {
		t.Errorf("got %+v", m.Count)
	}
	var s history.Story
	if err := json.Unmarshal(get(t, serve(sample(), nil), "/api/relays/12D3KooWsample/hour/2026-11-03T14").Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Vote != bounty.Down || len(s.Attempts) != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestBadge(t *testing.T) {
	w := get(t, serve(sample(), nil), "/badge/12D3KooWsample.svg")
	if w.Header().Get("Content-Type") != "image/svg+xml" || xml.Unmarshal(w.Body.Bytes(), new(struct{})) != nil {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
	up, down := []MonthHour{{Hour: Hour{Vote: bounty.Up}}, {}}, []MonthHour{{Hour: Hour{Vote: bounty.Down}}, {}}
	for want, m := range map[string]Month{
		"600 of 600 h up":                       {Count: Count{Hours: bounty.Hours{Up: 600}, Required: 600}, Hours: up},
		"10 of 600 h up, 110 may be lost":       {Count: NewCount(0, bounty.Hours{Total: 720, Up: 10, Down: 10, Remaining: 700}, 600), Hours: up},
		"down, 10 of 600 h up, 110 may be lost": {Count: NewCount(0, bounty.Hours{Total: 720, Up: 10, Down: 10, Remaining: 700}, 600), Hours: down},
		"10 of 600 h: out of reach":             {Count: NewCount(0, bounty.Hours{Total: 720, Up: 10, Down: 700, Remaining: 10}, 600), Hours: up},
		"10 h up, enrolled for 20":              {Count: NewCount(0, bounty.Hours{Total: 720, Up: 10, NotEnrolled: 700, Remaining: 10}, 600), Hours: up},
	} {
		if got, _ := standing(m); got != want {
			t.Errorf("badge %q, want %q", got, want)
		}
	}
}

func TestOverview(t *testing.T) {
	w := get(t, serve(sample(), nil), "/")
	body := w.Body.String()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, body)
	}
	for _, want := range []string{
		"Monitor m1", "<strong>Lab.</strong>", "tcp4 ok", "fail (cert-expired)",
		"&lt;script&gt;", "2026-11-03 14:00 UTC down", "1 sealed hour.", "m1/relaymon/lab",
		"<code>relayd/1.2.2</code>; the newest is v1.2.3, published 2026-10-30, 4 days ago",
		"relaymon v1.2.3, the newest, published 2026-10-30, 4 days ago", "the list is &lt;old&gt;", "alerts do not reach &lt;ntfy&gt;",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	if strings.Contains(body, "<script>alert") {
		t.Error("an operator's name is run as a script")
	}
}

// Each of the two words is explained where there is such an hour, before what shows it on
// the overview; and nowhere else.
func TestWordsAreExplainedWhereTheyAre(t *testing.T) {
	const unknown, busy = "<strong>Unknown:</strong> The monitor", "<strong>Busy:</strong> The relay"
	for _, votes := range [][]bounty.Value{{bounty.Up, bounty.Down}, {bounty.Up, bounty.Unknown}, {bounty.Busy, bounty.Up}, {bounty.Unknown, bounty.Busy}} {
		o, m := sample(), sampleMonth()
		o.Relays = o.Relays[:1]
		r := &o.Relays[0]
		r.Count, m.Hours = NewCount(m.Count.Month, bounty.Hours{Total: 720, Up: 2, Remaining: 718}, 600), nil
		r.Hours = nil
		for _, v := range votes {
			h := Hour{Hour: o.First, Vote: v}
			r.Hours = append(r.Hours, h)
			m.Hours = append(m.Hours, MonthHour{Hour: h, State: map[bounty.Value]bounty.State{bounty.Up: bounty.StateUp, bounty.Down: bounty.StateDown, bounty.Busy: bounty.StateUp, bounty.Unknown: bounty.StateUnknown}[v], Busy: v == bounty.Busy})
		}
		overview := get(t, serve(o, nil), "/").Body.String()
		var b bytes.Buffer
		if err := pages.ExecuteTemplate(&b, "month.html", monthView(m, "../")); err != nil {
			t.Fatal(err)
		}
		for name, page := range map[string]string{"overview": overview, "month": b.String()} {
			for text, vote := range map[string]bounty.Value{unknown: bounty.Unknown, busy: bounty.Busy} {
				if got, want := strings.Contains(page, text), slices.Contains(votes, vote); got != want {
					t.Errorf("%s with hours %v: %s is explained: %v, want %v", name, votes, vote, got, want)
				}
			}
		}
		if at := strings.Index(overview, unknown); at > strings.Index(overview, "<article>") {
			t.Error("the overview explains its words behind what shows them")
		}
	}
}

// large is an overview of n relays, of which some need a look.
func large(n int) Overview {
	o := sample()
	one := o.Relays[0]
	o.Relays = nil
	for i := range n {
		r := one
		r.PeerID, r.Operator = fmt.Sprintf("12D3KooWrelay%04d", i), "o"
		r.Hours = []Hour{{Hour: o.First, Vote: bounty.Up}, {Hour: o.First + 1, Vote: bounty.Unknown}}
		switch i {
		case n - 3:
			r.Needs = []Need{NeedUpdate}
		case n - 2:
			r.Hours = []Hour{{Hour: o.First}, {Hour: o.First + 1}}
			r.Needs = []Need{NeedUnknown, NeedUpdate}
		case n - 1:
			r.Hours = []Hour{{Hour: o.First, Vote: bounty.Down}, {Hour: o.First + 1}}
			r.Needs = []Need{NeedDown}
		}
		o.Relays = append(o.Relays, r)
	}
	return o
}

// A large roster is shown page by page, those first that need a look.
func TestPagesOfALargeRoster(t *testing.T) {
	h := serve(large(250), nil)
	shown := func(path string) (ids []string, body string) {
		t.Helper()
		w := get(t, h, path)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: status %d: %s", path, w.Code, w.Body)
		}
		body = w.Body.String()
		for _, m := range regexp.MustCompile(`<h2><a href="./relay/12D3KooWrelay(\d+)"`).FindAllStringSubmatch(body, -1) {
			ids = append(ids, m[1])
		}
		return ids, body
	}
	first, body := shown("/")
	if len(first) != perPage || strings.Join(first[:4], " ") != "0249 0248 0247 0000" {
		t.Errorf("the first page shows %d relays, %v; want %d, those first that need a look", len(first), first[:4], perPage)
	}
	for _, want := range []string{
		"sees of 250 relays", "<b>248</b> up", "<b>1</b> down", "<b>1</b> unknown", "need a look come first: 3.", "page 1 of 3", `href="./?page=2"`, `href="./?page=3"`, ">down</strong>",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the first page does not hold %q", want)
		}
	}
	second, _ := shown("/?page=2")
	third, last := shown("/?page=3")
	if len(second) != 100 || len(third) != 50 || second[0] != "0097" || third[49] != "0246" {
		t.Errorf("pages of %d and %d relays, %v to %v", len(second), len(third), second[0], third[49])
	}
	if strings.Contains(last, `rel="next"`) || !strings.Contains(last, `rel="prev" href="./?page=2"`) {
		t.Error("the pages do not lead to one another")
	}
	// Packed it is the same.
	r := httptest.NewRequest(http.MethodGet, "/?page=2", nil)
	r.Header.Set("Accept-Encoding", "gzip, br")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	z, err := gzip.NewReader(w.Body)
	if err != nil || w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v, headers %v", err, w.Header())
	}
	if plain, err := io.ReadAll(z); err != nil || !bytes.Contains(plain, []byte("page 2 of 3")) {
		t.Errorf("%v, %d bytes", err, len(plain))
	}
	for _, page := range []string{"4", "0", "-1", "01", "+1", "1.0", "x", "99999999999999999999", "1%20"} {
		for _, path := range []string{"/?page=", "/status.json?page="} {
			if w := get(t, h, path+page); w.Code != http.StatusNotFound {
				t.Errorf("%s%s: status %d, want 404", path, page, w.Code)
			}
		}
	}
	// For machines: in the roster's order, whatever happens to the relays meanwhile.
	var all []string
	for n := 1; ; n++ {
		var p part
		if err := json.Unmarshal(get(t, h, fmt.Sprintf("/status.json?page=%d", n)).Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if p.Page != n || p.Pages != 3 || p.Totals != (Totals{Relays: 250, Up: 248, Down: 1, Unknown: 1, Needy: 3}) {
			t.Errorf("page %d says page %d of %d, %+v", n, p.Page, p.Pages, p.Totals)
		}
		for _, r := range p.Relays {
			all = append(all, r.PeerID)
		}
		if n == p.Pages {
			break
		}
	}
	if len(all) != 250 || !slices.IsSorted(all) || len(slices.Compact(all)) != 250 {
		t.Errorf("%d relays in all pages", len(all))
	}
}

// asked counts how often the overview is made.
type asked struct {
	known
	times atomic.Int32
}

func (a *asked) Overview() (Overview, error) {
	a.times.Add(1)
	return a.known.Overview()
}

// A crowd costs as much as one visitor; and what he sees is not old.
func TestSharedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{known: known{o: large(250)}}
		h := Handler(a, slog.New(slog.DiscardHandler))
		crowd := func(want int32) {
			t.Helper()
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if w := get(t, h, "/"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "page 1 of 3") {
						t.Errorf("status %d", w.Code)
					}
				})
			}
			all.Wait()
			if got := a.times.Load(); got != want {
				t.Errorf("the overview was made %d times, want %d", got, want)
			}
		}
		crowd(1)
		crowd(1)
		time.Sleep(sharedFor)
		crowd(2)
		for page := range 200 { // of which three exist
			get(t, h, fmt.Sprintf("/?page=%d", page+2))
		}
		get(t, h, "/status.json")
		if got := a.times.Load(); got != 2 {
			t.Errorf("the overview was made %d times, want 2: all pages are parts of one", got)
		}
		if n := len(get(t, h, "/healthz").Body.String()); n == 0 || a.times.Load() != 2 {
			t.Error("a watchdog has the overview made")
		}
		// What went wrong is asked for again.
		time.Sleep(sharedFor)
		a.known.err = errors.New("disk")
		if w := get(t, h, "/"); w.Code != http.StatusInternalServerError {
			t.Errorf("status %d, want 500", w.Code)
		}
		a.known.err = nil
		crowd(4)
	})
}

func TestEveryAnswerIsLockedDown(t *testing.T) {
	for _, path := range []string{
		"/", "/status.json", "/healthz", "/style.css", "/nothing", "/relay/12D3KooWsample", "/relay/nobody",
		"/relay/12D3KooWsample/hour/2026-11-03T14", "/badge/12D3KooWsample.svg", "/api/relays/12D3KooWsample",
	} {
		csp := get(t, serve(sample(), nil), path).Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
}

func TestStatusJSON(t *testing.T) {
	var got Overview
	if err := json.Unmarshal(get(t, serve(sample(), nil), "/status.json").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Relays[0].Hours[1].Vote != bounty.Down || got.Relays[0].Last.Rungs[1].Class != evidence.CertExpired {
		t.Errorf("got %+v", got)
	}
}

func TestHealth(t *testing.T) {
	if w := get(t, serve(sample(), nil), "/healthz"); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("status %d, %q while all is well", w.Code, w.Body)
	}
	o := sample()
	o.Held = "waiting for m2"
	if w := get(t, serve(o, nil), "/healthz"); w.Code != http.StatusOK || w.Body.String() != "waiting for m2\n" {
		t.Errorf("status %d, %q while nothing is signed yet", w.Code, w.Body)
	}
	o = sample()
	o.Fault = "disk full"
	if w := get(t, serve(o, nil), "/healthz"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "disk full") {
		t.Errorf("status %d, %q while nothing is judged", w.Code, w.Body)
	}
	if body := get(t, serve(o, nil), "/").Body.String(); !strings.Contains(body, "Not judging") || !strings.Contains(body, "disk full") {
		t.Error("the page does not say that nothing is judged")
	}
	o = sample()
	o.Overload = "7 attempts wait"
	if w := get(t, serve(o, nil), "/healthz"); w.Code != http.StatusOK {
		t.Errorf("status %d while the monitor cannot keep up", w.Code)
	}
	if body := get(t, serve(o, nil), "/").Body.String(); !strings.Contains(body, "This monitor cannot keep up") || !strings.Contains(body, "7 attempts wait") {
		t.Error("the page does not say that the monitor cannot keep up")
	}
	o = sample()
	o.NotFresh = "no drand server answers"
	if body := get(t, serve(o, nil), "/").Body.String(); !strings.Contains(body, "No relay counts up in this hour") || !strings.Contains(body, "no drand server answers") {
		t.Error("the page does not say that nothing counts up")
	}
	if w := get(t, serve(o, errors.New("secret path")), "/"); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("status %d, %q when the log cannot be read", w.Code, w.Body)
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	w := httptest.NewRecorder()
	serve(sample(), nil).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("status %d", w.Code)
	}
}
