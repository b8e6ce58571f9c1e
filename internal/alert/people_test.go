package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"
)

// samples are addresses of every service, and the secrets in them.
var samples = map[string]struct {
	url     URL
	secrets []string
}{
	"bark":       {"bark://:seSame1key@127.0.0.1:1/path", []string{"seSame1key"}},
	"discord":    {"discord://sesame1_token-sesame2@8172635445362718", []string{"sesame1", "sesame2", "8172635445362718"}},
	"generic":    {"generic://127.0.0.1:1/sesame1/hook?@X-Token=sesame2%2Fx&$key=sesame3&disabletls=yes", []string{"sesame1", "sesame2", "sesame3"}},
	"googlechat": {"googlechat://127.0.0.1:1/v1/spaces/sesame1/messages?key=sesame2&token=sesame3", []string{"sesame1", "sesame2", "sesame3"}},
	"gotify":     {"gotify://127.0.0.1:1/Asesame1sesame2", []string{"sesame1", "sesame2"}},
	"hangouts":   {"hangouts://127.0.0.1:1/v1/spaces/sesame1/messages?key=sesame2&token=sesame3", []string{"sesame1", "sesame2", "sesame3"}},
	"ifttt":      {"ifttt://sesame1key/?events=sesame2", []string{"sesame1", "sesame2"}},
	"join":       {"join://:sesame1key@join/?devices=sesame2", []string{"sesame1", "sesame2"}},
	"lark":       {"lark://open.larksuite.com/sesame1?secret=sesame2", []string{"sesame1", "sesame2"}},
	"matrix":     {"matrix://sesame1:sesame2%22%2F%20x@127.0.0.1:1/?rooms=!sesame3:example.org&disableTLS=yes", []string{"sesame1", "sesame2", "sesame3"}},
	"mattermost": {"mattermost://sesame1@127.0.0.1:1/sesame2/channel", []string{"sesame1", "sesame2"}},
	"notifiarr":  {"notifiarr://sesame1-sesame2", []string{"sesame1", "sesame2"}},
	"ntfy":       {"ntfy://sesame1:sesame2@127.0.0.1:1/sesame3?scheme=http", []string{"sesame1", "sesame2", "sesame3"}},
	"opsgenie":   {"opsgenie://127.0.0.1:1/sesame1-sesame2", []string{"sesame1", "sesame2"}},
	"pagerduty":  {"pagerduty://127.0.0.1:1/5e5a3e15e5a3e25e5a3e35e5a3e45e5a", []string{"5e5a3e1", "5e5a3e4"}},
	"pushbullet": {"pushbullet://o.sesame1sesame2sesame3sesame4sesa", []string{"sesame1"}},
	"pushover":   {"pushover://:sesame1token@sesame2user/?devices=sesame3", []string{"sesame1", "sesame2", "sesame3"}},
	"rocketchat": {"rocketchat://sesame1@127.0.0.1:1/sesame2/sesame3/channel", []string{"sesame1", "sesame2", "sesame3"}},
	"signal":     {"signal://sesame1:sesame2@127.0.0.1:1/+4915112345678/+4915187654321?disabletls=yes", []string{"sesame1", "sesame2", "4915112345678", "4915187654321"}},
	"slack":      {"slack://hook:SESAME1AA-SESAME2AA-SeSame3aaaaaaaaaaaaaaaaa@webhook", []string{"SESAME1", "SESAME2", "SeSame3"}},
	"smtp":       {"smtp://sesame1%40example.org:sesame2%20x@127.0.0.1:1/?from=sesame3@example.org&to=sesame4@example.org,sesame5@example.org", []string{"sesame1", "sesame2", "sesame3", "sesame4", "sesame5"}},
	"teams":      {"teams://11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2ESyij_gAljSoUQHvZoZYzlpAoAXExyOl26dlf1xHEx05?host=test.webhook.office.com", []string{"11111111-4444", "22222222-4444", "33333333012222222222333333333344", "44444444-4444", "V2ESyij_"}},
	"telegram":   {"telegram://123456789:AAsesame1AAAAAAAAAAAAAAAAAAAAAAAAAA@telegram?chats=@sesame2", []string{"123456789", "sesame1", "sesame2"}},
	"wecom":      {"wecom://sesame1-sesame2", []string{"sesame1", "sesame2"}},
	"zulip":      {"zulip://sesame1%40example.org:sesame2@zulip.example.org/?stream=sesame3&topic=t", []string{"sesame1", "sesame2", "sesame3"}},
}

// noNetwork refuses all that is sent over the default transport.
func noNetwork(t *testing.T) {
	t.Helper()
	sendOver(t, &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("connection refused")
	}})
}

// sendOver puts a transport behind the guard.
func sendOver(t *testing.T, next http.RoundTripper) {
	t.Helper()
	kept := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = kept })
	http.DefaultTransport = guard{next}
}

// Nothing that is told of a receiver has a secret in it, whatever the library says.
func TestReceiversKeepSecrets(t *testing.T) {
	known := new(router.ServiceRouter).ListServices()
	for _, kind := range known {
		if _, ours := services[kind]; !ours && kind != "logger" {
			t.Errorf("%s is new: look what it does, and add it to services", kind)
		}
	}
	noNetwork(t)
	for kind := range services {
		t.Run(kind, func(t *testing.T) {
			s := samples[kind]
			if !slices.Contains(known, kind) || len(s.secrets) == 0 {
				t.Fatalf("want a service of the library, with a sample")
			}
			holds := func(where, text string) {
				t.Helper()
				for _, secret := range s.secrets {
					if strings.Contains(strings.ToLower(text), strings.ToLower(secret)) {
						t.Errorf("%s holds %q: %s", where, secret, text)
					}
				}
			}
			if err := CheckReceiver(s.url); err != nil {
				t.Fatalf("got %v, want no fault", err)
			}
			// The same with something wrong in it, so that it is quoted.
			for _, bad := range []URL{s.url + "&nonsense=sesame1", s.url + "?nonsense=sesame1", s.url + "%zz", URL(strings.Replace(string(s.url), "127.0.0.1:1", "", 1))} {
				if err := CheckReceiver(bad); err != nil {
					holds("the fault", err.Error())
				}
			}
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				file := filepath.Join(t.TempDir(), "alerts.json")
				c := Config{Receivers: []URL{s.url}, TimeZone: "UTC"}
				k, err := c.Open(file, "relaymon", slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				over := make(chan struct{})
				go func() { k.Run(ctx); close(over) }()
				k.Set(time.Now(), alerts("down"))
				time.Sleep(20 * time.Minute) // discord tries again by itself for a while
				cancel()
				<-over
				time.Sleep(time.Hour)
				if !strings.Contains(log.String(), "alerts cannot be sent") {
					t.Errorf("the log has no error: %s", log.String())
				}
				holds("the log", log.String())
				kept, err := os.ReadFile(file)
				if err != nil {
					t.Error(err)
				}
				holds("alerts.json", string(kept))
			})
			r := newPerson(s.url, words{"relaymon", "m1", time.UTC})
			holds("the name", r.Name())
			t.Log(r.Name())
		})
	}
}

// A receiver that refuses a message was not told.
func TestRefusalsAreErrors(t *testing.T) {
	for _, answer := range []struct {
		status int
		body   string
	}{{500, "<html>proxy</html>"}, {403, `{"ok":false,"error_code":403,"description":"bot was kicked","errcode":"M_FORBIDDEN","error":"bot was kicked"}`}, {404, ""}} {
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(answer.status)
			fmt.Fprint(w, answer.body)
		}))
		t.Cleanup(srv.Close)
		toServer := srv.Client().Transport.(*http.Transport).Clone()
		toServer.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
		}
		toServer.TLSClientConfig.ServerName = "example.com" // as httptest's certificate has it
		sendOver(t, toServer)
		for kind, s := range samples {
			if kind == "smtp" || kind == "discord" { // no HTTP; tries again for long
				continue
			}
			u := strings.NewReplacer("disabletls=yes", "", "disableTLS=yes", "").Replace(string(s.url))
			if err := newPerson(URL(u), words{"relaymon", "m1", time.UTC}).Send(t.Context(), alerts("down")); err == nil {
				t.Errorf("%s takes %d %q for a success", kind, answer.status, answer.body)
			} else {
				t.Log(kind, err)
			}
		}
	}
}

// An address shows itself without secrets wherever it gets to.
func TestURLsAreShownWithoutSecrets(t *testing.T) {
	for kind, s := range samples {
		c := Config{Receivers: []URL{s.url}, Webhooks: []URL{"https://u:sesame@hooks.example.org/sesame?t=sesame"}}
		asJSON, err := json.Marshal(c)
		if err != nil {
			t.Error(err)
		}
		asYAML, err := yaml.Marshal(c)
		if err != nil {
			t.Error(err)
		}
		var log bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
			slog.New(h).Info("x", "url", s.url, "all", c)
		}
		shown := strings.Join([]string{string(asJSON), string(asYAML), log.String(), fmt.Sprintf("%v %+v %#v %s %q", c, c, c, s.url, s.url)}, "\n")
		for _, secret := range append(s.secrets, "sesame") {
			if strings.Contains(strings.ToLower(shown), strings.ToLower(secret)) {
				t.Errorf("%s: %q is shown: %s", kind, secret, shown)
			}
		}
		if !strings.Contains(shown, kind+"://") || !strings.Contains(shown, "https://hooks.example.org/…") {
			t.Errorf("%s: got %s, want scheme and host in it", kind, shown)
		}
	}
}

func TestWhatCannotBeAReceiver(t *testing.T) {
	for bad, want := range map[URL]string{
		"":                                 "it is empty",
		"sesame":                           "want a URL such as",
		"logger://":                        "there is no service logger; services: bark, ",
		"https://example.org/sesame":       "there is no service https: write an address that takes alerts as JSON below alerts.webhooks",
		"script:///sesame":                 "there is no service script; services: bark, ",
		"smtp://sesame@mail.example.org":   "not as smtp wants it",
		"telegram://sesame":                "not as telegram wants it",
		"matrix://:sesame@/":               "the host is missing",
		"matrix://:sesame@h.example?room=": "a room is missing behind room=",
		"slack://sesame":                   "not as slack wants it",
		"ntfy+https://sesame/x":            "write ntfy://",
		URL("ntfy://h/" + strings.Repeat("sesame", 500)): "want 2000 bytes at most",
	} {
		if err := CheckReceiver(bad); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: got %v, want %q without the address", string(bad), err, want)
		}
	}
	if err := CheckReceiver("generic+https://example.org/hook?template=json"); err != nil {
		t.Errorf("got %v, want no fault", err)
	}
}

// request is what a server was sent.
type request struct {
	path, title, body string
}

func listener(t *testing.T, status int) (host string, got chan request) {
	t.Helper()
	got = make(chan request, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.URL.Path, r.Header.Get("Title"), string(body)}
		w.WriteHeader(status)
		fmt.Fprint(w, `{"id":"x","event":"message","error":"no such topic: sesame"}`)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), got
}

// Real servers get what people are to read.
func TestPeopleAreTold(t *testing.T) {
	since := time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)
	list := []Alert{
		{Name: "CertificateNotRenewed", Summary: "the certificate is valid until tomorrow\x1b[2J\nand was not renewed", Since: since},
		{Name: "BudgetSpent", Summary: "the budget is spent", Since: since, Ended: since.Add(time.Hour)},
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	w := words{"relayd", "relay.example.org", berlin}
	const title = "relayd on relay.example.org: certificate not renewed, and 1 more"
	const text = "Since 2026-11-03 15:00 CET: the certificate is valid until tomorrow[2J and was not renewed\nOver since 2026-11-03 16:00 CET (it began 2026-11-03 15:00 CET): the budget is spent\n"
	host, got := listener(t, 200)
	if err := newPerson(URL("ntfy://"+host+"/topic?scheme=http"), w).Send(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r != (request{"/topic", title, text}) {
		t.Errorf("ntfy got %q, want title %q and text %q", r, title, text)
	}
	if err := newPerson(URL("generic+http://"+host+"/hook"), w).Send(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r != (request{"/hook", "", title + "\n\n" + text}) {
		t.Errorf("generic got %q, want title and text %q", r, text)
	}
	host, _ = listener(t, 403)
	if err := newPerson(URL("ntfy://"+host+"/sesame?scheme=http"), w).Send(t.Context(), list); err == nil || !strings.Contains(err.Error(), "no such topic: …") {
		t.Errorf("got %v, want the cause without the topic", err)
	}
}

// What has no room is counted, and one line has always room.
func TestMessagesAreBounded(t *testing.T) {
	w := words{"relayd", "r", time.UTC}
	var list []Alert
	for i := range maxMessage {
		list = append(list, Alert{Name: "X", Summary: fmt.Sprint(i, strings.Repeat(" é", 3000))})
	}
	for most, want := range map[int]int{500: 1, 1000: 1, 3500: 3, 60_000: 59} {
		text, shown := w.message(list).fit(most)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(text) > most || shown != want || len(lines) != shown+1 || lines[shown] != fmt.Sprintf("and %d more lines", maxMessage-shown) || !utf8.ValidString(text) {
			t.Errorf("got %d lines, %d bytes, last %q; want %d lines in %d bytes and the number of the others", shown, len(text), lines[len(lines)-1], want, most)
		}
	}
	if title := w.title(strings.Repeat("é", 300)); len(title) > maxTitle {
		t.Errorf("got a title of %d bytes, want %d at most", len(title), maxTitle)
	}
	for line := range strings.Lines(folded(strings.Repeat("word ", 1000))) {
		if len(line) > 998 {
			t.Errorf("got a line of %d bytes, want 998 at most", len(line))
		}
	}
}

// A server that takes the connection and is silent holds one try, later a few, and every
// other one fails at once.
func TestReceiverHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := newPerson(URL("smtp://"+l.Addr().String()+"/?from=a@example.org&to=b@example.org"), words{"relayd", "r", time.UTC})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Send(ctx, alerts("x")); err == nil || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("got %v, want that it has not answered", err)
	}
	if err := r.Send(ctx, alerts("other")); err == nil || !strings.Contains(err.Error(), "has not come back") {
		t.Errorf("got %v, want that the earlier try hangs", err)
	}
	now := time.Now()
	for range 2 * mostHanging {
		now = now.Add(retryHanging)
		_, _ = r.begin(now, "x", func(*try) error { return r.send(&try{}, "x", nil) })
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != mostHanging || len(r.list) > mostTries {
		t.Errorf("got %d tries that run, %d known; want %d and %d at most", r.running, len(r.list), mostHanging, mostTries)
	}
}
