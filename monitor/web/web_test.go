package web

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func sample() Overview {
	at := time.Date(2026, 11, 3, 14, 30, 0, 0, time.UTC)
	h := evidence.HourOf(at)
	return Overview{
		Monitor: "m1", Origin: "m1/relaymon/lab", Network: evidence.Lab, Version: "v1.2.3",
		LogKey: "m1+0+key", Now: evidence.TimeOf(at), First: h - 1, Sealed: 1,
		Relays: []Relay{{
			PeerID: "12D3KooWsample", Operator: `<script>alert("x")</script>`,
			TCP4: "/ip4/203.0.113.7/tcp/4001/p2p/12D3KooWsample", WSS: "/dns4/relay.example/tcp/443/wss/p2p/12D3KooWsample",
			Last: &evidence.Attempt{
				Started: evidence.TimeOf(at),
				Rungs: []evidence.Rung{
					{Name: "tcp4", Component: evidence.TCP4, Outcome: evidence.OK, DurationUS: 1234},
					{Name: "wss", Component: evidence.WSS, Outcome: evidence.Fail, Class: evidence.CertExpired, Detail: "expired <yesterday>"},
				},
			},
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

func serve(o Overview, err error) http.Handler {
	return Handler(func() (Overview, error) { return o, err }, slog.New(slog.DiscardHandler))
}

func TestOverview(t *testing.T) {
	w := get(t, serve(sample(), nil), "/")
	body := w.Body.String()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, body)
	}
	for _, want := range []string{
		"Monitor m1", "<strong>Lab.</strong>", "1.2 ms", "fail (cert-expired)", "expired &lt;yesterday&gt;",
		"&lt;script&gt;", "2026-11-03 14:00 UTC down", "1 sealed hour.", "m1/relaymon/lab",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	if strings.Contains(body, "<script>alert") {
		t.Error("an operator's name is run as a script")
	}
}

func TestEveryAnswerIsLockedDown(t *testing.T) {
	for _, path := range []string{"/", "/status.json", "/healthz", "/style.css", "/nothing"} {
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
	if w := get(t, serve(sample(), nil), "/healthz"); w.Code != http.StatusOK {
		t.Errorf("status %d while all is well", w.Code)
	}
	o := sample()
	o.Fault = "disk full"
	if w := get(t, serve(o, nil), "/healthz"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "disk full") {
		t.Errorf("status %d, %q while nothing is judged", w.Code, w.Body)
	}
	if body := get(t, serve(o, nil), "/").Body.String(); !strings.Contains(body, "Not judging") || !strings.Contains(body, "disk full") {
		t.Error("the page does not say that nothing is judged")
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
