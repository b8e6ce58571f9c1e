// Package web shows people what a monitor sees: pages made on the server, without
// scripts, readable on a phone, in the dark and by a screen reader.
//
// It holds no state and judges nothing. The monitor hands it an [Overview] for
// each request.
package web

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Overview is all relays at a glance.
type Overview struct {
	Monitor string           `json:"monitor"`
	Origin  string           `json:"origin"`
	Network evidence.Network `json:"network"`
	Version string           `json:"version"`
	LogKey  string           `json:"log_key"`
	Now     evidence.Time    `json:"now"`
	First   evidence.Hour    `json:"first_hour"`
	Sealed  int64            `json:"sealed_hours"`
	// Fault says why nothing is judged at present; empty: all is well.
	Fault string `json:"fault,omitempty"`
	// Held says why nothing is signed at present; empty: it is.
	Held      string    `json:"held,omitempty"`
	Witnesses []Witness `json:"witnesses"`
	Relays    []Relay   `json:"relays"`
}

// Relay is one relay under judgement.
type Relay struct {
	PeerID    string            `json:"peer_id"`
	Operator  string            `json:"operator"`
	TCP4      string            `json:"tcp4"`
	WSS       string            `json:"wss"`
	Announced string            `json:"announced,omitempty"` // when its last announcement was heard
	Last      *evidence.Attempt `json:"last,omitempty"`
	// Hours are this monitor's own votes of the last day, oldest first.
	Hours []Hour `json:"hours"`
}

// Hour is this monitor's vote of one hour. It is not the verdict: other
// monitors vote too.
type Hour struct {
	Hour evidence.Hour `json:"hour"`
	Vote bounty.Value  `json:"vote"`
	Why  string        `json:"why,omitempty"`
	Open bool          `json:"open,omitempty"` // not sealed yet
}

//go:embed overview.html style.css
var files embed.FS

var page = template.Must(template.New("overview.html").Funcs(template.FuncMap{
	"ms":   func(us int64) string { return fmt.Sprintf("%.1f ms", float64(us)/1000) },
	"time": func(t evidence.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"hour": func(h evidence.Hour) string { return h.Start().Format("2006-01-02 15:00 UTC") },
	"sign": sign,
}).ParseFS(files, "overview.html"))

// sign tells votes apart without colour.
func sign(v bounty.Value) string {
	switch v {
	case bounty.Up:
		return "▲"
	case bounty.Down:
		return "▼"
	case bounty.Busy:
		return "◆"
	default:
		return "·"
	}
}

// Handler serves the pages: / for people, /status.json for machines, /healthz
// for watchdogs (503 while the monitor judges nothing).
func Handler(overview func() (Overview, error), log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	// with hands the overview to show; it fails only when the log cannot be read.
	with := func(show func(http.ResponseWriter, Overview)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			o, err := overview()
			if err != nil {
				log.Error("status page", "err", err)
				http.Error(w, "the evidence log cannot be read; the monitor's own log says why", http.StatusInternalServerError)
				return
			}
			show(w, o)
		}
	}
	mux.HandleFunc("GET /{$}", with(func(w http.ResponseWriter, o Overview) {
		var b bytes.Buffer
		if err := page.Execute(&b, o); err != nil {
			log.Error("status page", "err", err)
			http.Error(w, "the page cannot be made", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(b.Bytes())
	}))
	mux.HandleFunc("GET /status.json", with(func(w http.ResponseWriter, o Overview) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(o)
	}))
	mux.HandleFunc("GET /healthz", with(func(w http.ResponseWriter, o Overview) {
		if o.Fault != "" {
			http.Error(w, o.Fault, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}))
	mux.Handle("GET /style.css", http.FileServerFS(files))
	return secure(mux)
}

// secure sets what every answer has: nothing but our own style is loaded, and no
// page is framed or guessed at.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// Server is an http.Server with bounds for a page that anybody may ask for.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
}
