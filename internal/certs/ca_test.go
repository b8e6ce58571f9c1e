package certs

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A CA that refuses is asked ever less often, and not before the time that it names.
func TestPauses(t *testing.T) {
	var retryAfter string
	ca := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", retryAfter)
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}`)
	}))
	defer ca.Close()
	roots := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate().Raw}), 0o600))
	k, err := New(Config{Domain: domain, Log: slog.New(slog.DiscardHandler), Directory: ca.URL, CAFile: roots, DataDir: t.TempDir()})
	must(t, err)
	now := time.Now()
	for _, want := range []time.Duration{
		30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute,
		32 * time.Minute, 64 * time.Minute, 128 * time.Minute, 4 * time.Hour, 4 * time.Hour,
	} {
		k.checkIssued(t.Context(), now)
		s := k.State(now)
		if got := s.NextTry.Sub(now); got != want {
			t.Errorf("a pause of %s, want %s", got, want)
		}
		if !strings.Contains(s.Error, "the CA refused: rateLimited: too many") {
			t.Errorf("the CA's words are not told: %s", s.Error)
		}
		now = s.NextTry
	}
	retryAfter = "36000"
	k.checkIssued(t.Context(), now)
	if got := k.State(now).NextTry.Sub(now); got < 9*time.Hour || got > 10*time.Hour {
		t.Errorf("asked for a pause of 10h, it is %s", got)
	}
	next := k.State(now).NextTry
	if k.TryNow(now); !k.State(now).NextTry.Equal(next) {
		t.Error("the CA's pause was ended early")
	}
	refused := k.ca.asked()
	k.checkIssued(t.Context(), now.Add(time.Hour))
	if k.ca.asked() > refused {
		t.Error("the CA was asked in the pause")
	}
}

// What the CA's server could be made to fill memory with is bounded.
func TestLongAnswer(t *testing.T) {
	ca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 2*maxAnswer))
	}))
	defer ca.Close()
	w := &caWatch{next: http.DefaultTransport, life: context.Background()}
	resp, err := (&http.Client{Transport: w}).Get(ca.URL)
	if err == nil {
		resp.Body.Close()
		t.Error("it is taken")
	}
}

// On a machine whose clock is wrong nothing is ordered: autocert would discard what it
// gets as not valid yet, or renew what is still good.
func TestNothingIsOrderedByAWrongClock(t *testing.T) {
	for name, tc := range map[string]struct {
		ahead time.Duration // the CA's clock
		want  string        // "": it is ordered
	}{
		"right":             {0, ""},
		"a little behind":   {50 * time.Minute, ""},
		"two hours behind":  {2 * time.Hour, "2h0m0s behind"},
		"a month ahead":     {-30 * 24 * time.Hour, "720h0m0s ahead of"},
		"the CA says never": {1 << 62, ""},
	} {
		t.Run(name, func(t *testing.T) {
			orders := 0
			var ca *httptest.Server
			ca = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(tc.ahead).UTC().Format(http.TimeFormat))
				if tc.ahead == 1<<62 {
					w.Header().Set("Date", "never")
				}
				if r.URL.Path == "/order" {
					orders++
				}
				fmt.Fprintf(w, `{"newOrder": %q}`, ca.URL+"/order")
			}))
			defer ca.Close()
			w := &caWatch{next: http.DefaultTransport, store: newStore(t.TempDir(), domain), life: context.Background()}
			client := &http.Client{Transport: w}
			resp, err := client.Get(ca.URL)
			must(t, err)
			if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "newOrder") {
				t.Errorf("the directory: %q, %v", body, err)
			}
			resp.Body.Close()
			resp, err = client.Post(ca.URL+"/order", "", nil)
			if err == nil {
				resp.Body.Close()
			}
			if tc.want == "" && (err != nil || orders != 1) || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || orders != 0) {
				t.Errorf("%d orders, %v, want %q", orders, err, tc.want)
			}
			if said := w.explain(os.ErrInvalid).Error(); !strings.Contains(said, tc.want) {
				t.Errorf("a renewal that failed so is explained by: %s", said)
			}
		})
	}
}

// What is found in the CA's answers is short, on one line, and only what went wrong.
func TestReasonIn(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"no JSON":   {500, "<html>", ""},
		"a nonce":   {400, `{"type":"urn:ietf:params:acme:error:badNonce","detail":"x"}`, ""},
		"a limit":   {429, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many\ncertificates"}`, "the CA refused: rateLimited: too many certificates"},
		"a check":   {200, `{"challenges":[{"type":"http-01"},{"type":"tls-alpn-01","error":{"type":"urn:ietf:params:acme:error:connection","detail":"203.0.113.7: refused"}}]}`, "the CA's check by tls-alpn-01 failed: connection: 203.0.113.7: refused"},
		"all well":  {200, `{"status":"valid"}`, ""},
		"very long": {403, `{"type":"t","detail":"` + strings.Repeat("é", 400) + `"}`, "the CA refused: t: " + strings.Repeat("é", 150) + "..."},
	} {
		if got := reasonIn([]byte(tc.body), tc.status); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func FuzzReasonIn(f *testing.F) {
	f.Add([]byte(`{"type":"urn:ietf:params:acme:error:rateLimited","detail":"x"}`), 429)
	f.Add([]byte(`{"challenges":[{"type":"http-01","error":{"detail":"x"}}]}`), 200)
	f.Add([]byte(`[]`), 200)
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		if s := reasonIn(body, status); len(s) > 1000 || strings.ContainsAny(s, "\n\r\x00") {
			t.Errorf("%q", s)
		}
	})
}
