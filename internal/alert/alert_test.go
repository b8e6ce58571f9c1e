package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

// inbox is a receiver that keeps what it was sent.
type inbox struct {
	mu      sync.Mutex
	name    string
	repeats bool
	fault   error
	hang    bool
	got     []string // "name firing", "name resolved"
	tries   []time.Time
}

func (i *inbox) Name() string  { return i.name }
func (i *inbox) Repeats() bool { return i.repeats }
func (i *inbox) Send(ctx context.Context, alerts []Alert) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tries = append(i.tries, time.Now())
	if i.hang {
		i.mu.Unlock()
		<-ctx.Done()
		i.mu.Lock()
		return ctx.Err()
	}
	if i.fault != nil {
		return i.fault
	}
	for _, a := range alerts {
		word := " firing"
		if !a.Ended.IsZero() {
			word = " resolved"
		}
		i.got = append(i.got, a.Name+word)
	}
	return nil
}

func (i *inbox) tried() []time.Time {
	synctest.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.tries)
}

func (i *inbox) recover() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fault = nil
}

func start(t *testing.T, file string, to ...Receiver) (*Keeper, func()) {
	t.Helper()
	k, err := New(file, quiet, to...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	synctest.Wait()
	return k, func() { cancel(); <-done }
}

func alerts(names ...string) []Alert {
	var list []Alert
	for _, n := range names {
		list = append(list, Alert{Name: n, Labels: map[string]string{"relay": "r"}, Summary: "it is " + n})
	}
	return list
}

func (i *inbox) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	if strings.Join(i.got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s got %q, want %q", i.name, i.got, want)
	}
}

func TestToldOnceEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{name: "in"}
		file := filepath.Join(t.TempDir(), "alerts.json")
		k, stop := start(t, file, in)
		for range 100 {
			k.Set(time.Now(), alerts("down", "blind"))
			time.Sleep(time.Minute)
		}
		in.want(t, "blind firing", "down firing")
		k.Set(time.Now(), alerts("blind"))
		in.want(t, "blind firing", "down firing", "down resolved")
		stop()
		// A restart repeats nothing, and what ended in between is told.
		k, stop = start(t, file, in)
		k.Set(time.Now(), alerts("blind"))
		in.want(t, "blind firing", "down firing", "down resolved")
		stop()
		k, stop = start(t, file, in)
		defer stop()
		k.Set(time.Now(), nil)
		in.want(t, "blind firing", "down firing", "down resolved", "blind resolved")
		if k.Waiting() != 0 || len(k.alerts) != 0 {
			t.Errorf("%d waiting, %d known", k.Waiting(), len(k.alerts))
		}
	})
}

// What passes while nobody can be told is not told afterwards; tries come ever less
// often; and nobody waits for a receiver that hangs.
func TestReceiverGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, hangs, well := &inbox{name: "gone", fault: errors.New("503")}, &inbox{name: "hangs", hang: true}, &inbox{name: "well"}
		k, stop := start(t, filepath.Join(t.TempDir(), "alerts.json"), gone, hangs, well)
		defer stop()
		begin := time.Now()
		k.Set(begin, alerts("first"))
		synctest.Wait()
		k.Set(begin, alerts("first", "second"))
		if !time.Now().Equal(begin) {
			t.Error("setting alerts took time")
		}
		time.Sleep(24 * time.Hour)
		k.Set(time.Now(), alerts("second"))
		tries := gone.tried()
		if n := len(tries); n < 24*4 || n > 24*60/4 {
			t.Errorf("%d tries in a day", n)
		}
		if n := len(hangs.tried()); n < 24*4 || n > 24*60/4 {
			t.Errorf("%d tries in a day of one that hangs", n)
		}
		if first := tries[1].Sub(tries[0]); first > 10*time.Second {
			t.Errorf("the first retry came after %v", first)
		}
		gone.recover()
		time.Sleep(20 * time.Minute)
		gone.want(t, "second firing")
		well.want(t, "first firing", "second firing", "first resolved")
	})
}

// An Alertmanager is reminded of what goes on.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{name: "in", repeats: true}
		k, stop := start(t, filepath.Join(t.TempDir(), "alerts.json"), in)
		defer stop()
		k.Set(time.Now(), alerts("down"))
		time.Sleep(repeatEvery*3 + time.Second)
		in.want(t, "down firing", "down firing", "down firing", "down firing")
		k.Set(time.Now(), nil)
		in.want(t, "down firing", "down firing", "down firing", "down firing", "down resolved")
		time.Sleep(time.Hour)
		if n := len(in.tried()); n != 5 {
			t.Errorf("%d messages", n)
		}
	})
}

func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := &inbox{name: "gone", fault: errors.New("503")}
		k, stop := start(t, filepath.Join(t.TempDir(), "alerts.json"), gone)
		defer stop()
		for n := range 5 {
			var list []Alert
			for i := range maxAlerts {
				list = append(list, Alert{Name: fmt.Sprintf("a%d-%d", n, i)})
			}
			k.Set(time.Now(), list)
			if len(k.alerts) > maxAlerts {
				t.Fatalf("%d alerts", len(k.alerts))
			}
		}
		gone.recover()
		time.Sleep(time.Hour)
		synctest.Wait()
		if k.Waiting() != 0 {
			t.Errorf("%d waiting", k.Waiting())
		}
	})
}

// A damaged file keeps nobody from being told; one that cannot be read is not replaced.
func TestDamagedState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts.json")
	for _, content := range []string{"{", "{}{"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		k, err := New(file, slog.New(slog.NewTextHandler(&log, nil)), &inbox{name: "in"})
		if err != nil {
			t.Fatalf("got %v, want no fault", err)
		}
		if n := len(k.Holding()); n != 0 || !strings.Contains(log.String(), file+".damaged") {
			t.Errorf("got %d alerts and the log %q, want none and where the file is", n, log.String())
		}
		if got, err := os.ReadFile(file + ".damaged"); err != nil || string(got) != content {
			t.Errorf("got %q, %v in the file that was set aside; want %q", got, err, content)
		}
		k.Set(time.Now(), alerts("down"))
		if again, err := New(file, quiet, &inbox{name: "in"}); err != nil || len(again.Holding()) != 1 {
			t.Errorf("got %v, want the state that was kept since", err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := New(file, quiet); err == nil {
		t.Error("got no fault of a file that cannot be read")
	}
}

// post has a receiver send to a server, and returns what that was sent.
func post(t *testing.T, status int, make func(url URL, program string) Receiver, alerts ...Alert) (path string, body []byte, err error) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	defer srv.Close()
	err = make(URL(srv.URL), "relaymon").Send(t.Context(), alerts)
	return path, body, err
}

func TestFormats(t *testing.T) {
	since := time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)
	down := Alert{Name: "RelayDown", Labels: map[string]string{"relay": "a", "monitor": "m1"}, Summary: "down", Since: since}
	over := Alert{Name: "RelayDown", Labels: map[string]string{"relay": "b", "monitor": "m1"}, Summary: "up again", Since: since, Ended: since.Add(time.Hour)}

	path, body, err := post(t, 200, Alertmanager, down, over)
	var posted []map[string]any
	if err != nil || path != "/api/v2/alerts" || json.Unmarshal(body, &posted) != nil || len(posted) != 2 {
		t.Fatalf("%v, %s, %s", err, path, body)
	}
	if l := posted[0]["labels"].(map[string]any); l["alertname"] != "RelayDown" || l["relay"] != "a" || posted[0]["startsAt"] != "2026-11-03T14:00:00Z" {
		t.Errorf("posted %v", posted[0])
	}
	if end, err := time.Parse(time.RFC3339, posted[0]["endsAt"].(string)); err != nil || !end.After(time.Now().Add(repeatEvery)) {
		t.Errorf("an alert that goes on ends at %v", posted[0]["endsAt"])
	}
	if posted[1]["endsAt"] != "2026-11-03T15:00:00Z" {
		t.Errorf("an alert that is over ends at %v", posted[1]["endsAt"])
	}

	_, body, err = post(t, 204, Webhook, down, over)
	var hook hookMessage
	if err != nil || json.Unmarshal(body, &hook) != nil {
		t.Fatalf("%v, %s", err, body)
	}
	if hook.Version != "4" || hook.Status != "firing" || len(hook.Alerts) != 2 || hook.Alerts[1].Status != "resolved" ||
		hook.CommonLabels["monitor"] != "m1" || hook.CommonLabels["relay"] != "" || hook.Alerts[0].Fingerprint == hook.Alerts[1].Fingerprint {
		t.Errorf("posted %s", body)
	}
}

// An address is often a password: nothing repeats it. A redirect is not followed.
func TestFaultsKeepTheAddress(t *testing.T) {
	for _, status := range []int{302, 404, 500} {
		if path, _, err := post(t, status, func(u URL, program string) Receiver { return Webhook(u+"/secret", program) }, alerts("x")...); err == nil || path != "/secret" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: %v at %s", status, err, path)
		}
	}
	r := Webhook("http://127.0.0.1:1/secret", "relaymon")
	if err := r.Send(t.Context(), alerts("x")); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(r.Name(), "secret") {
		t.Errorf("%s: %v", r.Name(), err)
	}
	for _, bad := range []URL{"", "secret", "ftp://x/secret", "http:///secret", "http://a b/secret"} {
		if err := CheckURL(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := CheckURL("https://hooks.example.org/T0"); err != nil {
		t.Error(err)
	}
}
