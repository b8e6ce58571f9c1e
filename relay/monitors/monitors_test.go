package monitors

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/relay/status"
)

const relay = "12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9"

// whole is what a monitor answers that makes a forecast.
const whole = `{"monitor":"m2","network":"psf","now":"2026-11-20T10:00:00.000Z","peer_id":"` + relay + `","hours":[{"hour":"2026-11-01T00:00:00Z"}],
"count":{"month":"2026-11","total":720,"up":440,"down":16,"busy":0,"unknown":4,"not_enrolled":0,"remaining":260,"required":600,"needed":160,"spare":104},
"forecast":{"possible":704,"slack":120,"used":16,"left":104,"used_percent":13,"runs_out":"2026-11-28T00:00:00Z","costly":[
 {"from":"2026-11-02T00","until":"2026-11-02T01","hours":1,"why":"tcp4 refused"},
 {"from":"2026-11-03T14:00:00Z","until":"2026-11-03T19:00:00Z","hours":5,"why":"wss cert-expired"}]},
"warnings":[{"name":"SlackHalfUsed","severity":"warning","words":"half of it is used"}]}`

func log(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// asked is what is known after one question to a server.
func asked(t *testing.T, answer http.HandlerFunc) status.Monitor {
	t.Helper()
	s := httptest.NewServer(answer)
	defer s.Close()
	m := New(relay, 0, log(t))
	m.Use([]string{s.URL + "/monitor/"})
	m.ask(t.Context(), s.URL+"/monitor/")
	return m.Said(time.Now())[0]
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func TestAnswerIsKept(t *testing.T) {
	got := asked(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/monitor/api/relays/"+relay || !strings.HasPrefix(r.UserAgent(), "relayd/") {
			t.Errorf("asked for %s by %q", r.URL.Path, r.UserAgent())
		}
		fmt.Fprint(w, whole)
	})
	at := func(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 0, 0, 0, time.UTC) }
	want := &status.Claim{
		Name: "m2", Network: "psf", Month: "2026-11", Up: 440, Down: 16, Unknown: 4, Required: 600, Needed: 160, Possible: 704,
		Slack: 120, Used: 16, Left: 104, UsedPercent: 13, RunsOut: at(28, 0),
		Costly:   []status.Costly{{From: at(3, 14), Until: at(3, 19), Hours: 5, Why: "wss cert-expired"}, {From: at(2, 0), Until: at(2, 1), Hours: 1, Why: "tcp4 refused"}},
		Warnings: []status.MonitorWarning{{Name: "SlackHalfUsed", Severity: "warning", Words: "half of it is used"}},
	}
	if !reflect.DeepEqual(got.Claim, want) {
		t.Errorf("got %+v\nwant %+v", got.Claim, want)
	}
	if got.Error != "" || got.NotEnrolled || got.Answered.IsZero() || got.Page != "" {
		t.Errorf("got %+v, want no error, and no page since others cannot reach this machine's loopback", got)
	}
	if want := "440 of 600 hours up in 2026-11, 704 are still possible; 160 more are needed, 104 may still be lost"; got.Words() != want {
		t.Errorf("got %q, want %q", got.Words(), want)
	}
}

// A monitor that makes no forecast yet counts all the same.
func TestAnswerWithoutForecast(t *testing.T) {
	before, _, _ := strings.Cut(whole, `"forecast"`)
	c := asked(t, says(strings.TrimSuffix(strings.TrimSpace(before), ",")+"}")).Claim
	if c == nil || c.Possible != 704 || c.Slack != 120 || c.Used != 16 || c.Left != 104 || c.UsedPercent != 13 {
		t.Errorf("got %+v, want 16 of 120 hours lost", c)
	}
}

func TestBadAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string // in the error
	}{
		"not found":       {http.NotFound, "it does not know this relay"},
		"garbage":         {says("<html>hello"), "no count of a relay's month"},
		"nothing":         {says(""), "the document is empty"},
		"null":            {says("null"), "about another relay"},
		"another relay":   {says(strings.Replace(whole, relay, "12D3KooWother", 1)), "about another relay"},
		"no count":        {says(`{"peer_id":"` + relay + `"}`), "counts no month"},
		"a wrong month":   {says(strings.Replace(whole, `"month":"2026-11"`, `"month":"2026-13"`, 1)), "counts no month"},
		"a wrong type":    {says(strings.Replace(whole, `"up":440`, `"up":"many"`, 1)), "no count of a relay's month"},
		"a wrong number":  {says(strings.Replace(whole, `"up":440`, `"up":9000000000000000000`, 1)), "where hours are counted"},
		"a time far off":  {says(strings.Replace(whole, `2026-11-28T00:00:00Z`, `9999-12-31T23:59:59-23:00`, 1)), "not of 2026-11"},
		"an hour far off": {says(strings.Replace(whole, `2026-11-02T00"`, `0000-01-01T00"`, 1)), "not of 2026-11"},
		"the end of time": {says(strings.NewReplacer(`"month":"2026-11"`, `"month":"9999-12"`, `2026-11-28T00:00:00Z`, `9999-12-31T23:59:59-23:00`).Replace(whole)), "counts no month"},
		"a wrong hour":    {says(strings.Replace(whole, `2026-11-02T00"`, `yesterday"`, 1)), "no count of a relay's month"},
		"ten megabytes":   {says(strings.Repeat(" ", 10<<20) + whole), "more than 1048576 bytes"},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "the server answers 302 Found"},
		"an error": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }, "the server answers 500"},
	} {
		got := asked(t, c.answer)
		if got.Claim != nil || !strings.Contains(got.Error, c.want) {
			t.Errorf("%s: got %+v, want an error with %q", name, got, c.want)
		}
		if known := name == "not found"; got.NotEnrolled != known || got.Answered.IsZero() == known {
			t.Errorf("%s: got %+v, want it to have answered only if it does not know the relay", name, got)
		}
	}
}

// What a monitor writes cannot be more than words.
func TestHostileWords(t *testing.T) {
	bad := "a\\u0000\\u001b[31m\\u202eb\\n<script>" + strings.Repeat("é", 10_000)
	many := strings.Repeat(`{"name":"RelayDown","severity":"fatal","words":"`+bad[:40]+`"},`, 50)
	text := strings.NewReplacer(`"m2"`, `"`+bad+`"`, `half of it is used`, bad, `tcp4 refused`, bad, `"warnings":[`,
		`"warnings":[{"name":"with space","severity":"critical","words":"x"},{"name":"RelayNotServing","words":"x"},`+many).Replace(whole)
	c := asked(t, says(text)).Claim
	if c == nil {
		t.Fatal("got no claim")
	}
	if want := "a [31m b <script>" + strings.Repeat("é", (maxName-17)/2) + "…"; c.Name != want {
		t.Errorf("got %q, want %q", c.Name, want)
	}
	if len(c.Warnings) != maxWarnings {
		t.Errorf("got %d warnings, want %d", len(c.Warnings), maxWarnings)
	}
	for _, w := range c.Warnings {
		if w.Name != "RelayDown" || w.Severity != "warning" {
			t.Errorf("got %+v, want only names that monitors give, and severities that there are", w)
		}
	}
	for _, s := range []string{c.Warnings[0].Words, c.Costly[1].Why} {
		if strings.ContainsAny(s, "\x00\x1b\n\u202e") || len(s) > maxWords+len("…") {
			t.Errorf("got %q", s)
		}
	}
}

// network is a network in which a monitor answers as it is told, without real sockets, so
// that time is the test's.
type network func(*http.Request) (*http.Response, error)

func (n network) RoundTrip(r *http.Request) (*http.Response, error) { return n(r) }

// Each is asked every ten minutes or so, no two at once, and one that never answers holds
// nobody up.
func TestAskedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(relay, 0, log(t))
		var mu sync.Mutex
		count, open := map[string]int{}, atomic.Int32{}
		m.client.Transport = network(func(r *http.Request) (*http.Response, error) {
			if open.Add(1) != 1 {
				t.Error("two were asked at the same time")
			}
			defer open.Add(-1)
			mu.Lock()
			count[r.URL.Host]++
			mu.Unlock()
			if r.URL.Host == "never.example" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			w := httptest.NewRecorder()
			fmt.Fprint(w, whole)
			return w.Result(), nil
		})
		urls := []string{"https://never.example/monitor/"}
		for i := range 15 {
			urls = append(urls, fmt.Sprintf("https://m%d.example/monitor/", i))
		}
		m.Use(urls)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		time.Sleep(20 * time.Minute)
		for _, k := range m.Said(time.Now()) {
			if silent := k.URL == urls[0]; (k.Claim == nil) != silent || silent && k.Error == "" {
				t.Errorf("after 20 minutes: got %+v", k)
			}
		}
		time.Sleep(10*time.Hour - 20*time.Minute)
		cancel()
		<-done
		mu.Lock()
		defer mu.Unlock()
		for _, u := range urls {
			host := (status.Monitor{URL: u}).Host()
			if n := count[host]; n < 30 || n > 65 {
				t.Errorf("%s was asked %d times in ten hours, want about 60", host, n)
			}
		}
	})
}

// What was said long ago says nothing about now; a monitor that is configured no longer is
// forgotten, and what the others said stays.
func TestOldAnswers(t *testing.T) {
	claim, err := read([]byte(whole), relay)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	m := New(relay, 0, log(t))
	m.Use([]string{"https://a.example/monitor/", "https://b.example/monitor"})
	m.note("https://a.example/monitor/", claim, nil, now)
	m.note("https://b.example/monitor", claim, nil, now)
	m.note("https://b.example/monitor", nil, net.ErrClosed, now.Add(time.Hour))
	for _, k := range m.Said(now.Add(time.Hour)) {
		if k.Claim == nil || k.Page != strings.TrimSuffix(k.URL, "/")+"/relay/"+relay {
			t.Errorf("after an hour: got %+v", k)
		}
	}
	late := m.Said(now.Add(staleAfter + time.Minute))
	if late[0].Claim != nil || late[0].Words() != "its last answer is older than two hours" || late[1].Words() != "its last answer is older than two hours: "+net.ErrClosed.Error() {
		t.Errorf("after two hours: got %q and %q", late[0].Words(), late[1].Words())
	}
	m.Use([]string{"https://b.example/monitor", "https://c.example/"})
	got := m.Said(now)
	if len(got) != 2 || got[0].Claim == nil || got[1].Words() != "not asked yet" {
		t.Errorf("others are configured: got %+v", got)
	}
}
