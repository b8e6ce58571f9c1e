package relay

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
)

// Status is the relay's state as /status.json gives it. It names no peer and no
// peer's address.
type Status struct {
	Name         string       `json:"name"`
	PeerID       string       `json:"peer_id"`
	Version      string       `json:"version"`
	Addrs        []string     `json:"addrs"`
	Healthy      bool         `json:"healthy"`
	Started      time.Time    `json:"started"`
	Connections  int          `json:"connections"`
	Certificate  *Certificate `json:"certificate,omitempty"`
	AbuseContact string       `json:"abuse_contact,omitempty"`
}

// Status is the relay's state now.
func (r *Relay) Status() Status {
	s := Status{
		Name:         r.cfg.DisplayName(r.id),
		PeerID:       r.id.String(),
		Version:      buildinfo.Version(),
		AbuseContact: r.cfg.AbuseContact,
	}
	for _, a := range r.Addrs() {
		s.Addrs = append(s.Addrs, a.String())
	}
	r.mu.Lock()
	h, started := r.host, r.started
	r.mu.Unlock()
	if h != nil {
		s.Started, s.Connections = started.UTC().Truncate(time.Second), len(h.Network().Conns())
		for _, p := range h.Mux().Protocols() {
			s.Healthy = s.Healthy || p == proto.ProtoIDv2Hop
		}
	}
	if r.certs != nil {
		c := r.certs.state()
		s.Certificate = &c
	}
	return s
}

//go:embed status.html
var statusHTML string

var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"days": func(t time.Time) int { return int(time.Until(t).Hours() / 24) },
	"ago":  func(t time.Time) string { return time.Since(t).Round(time.Second).String() },
}).Parse(statusHTML))

// web serves those who come to the WSS port without a WebSocket.
func (r *Relay) web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := statusPage.Execute(w, r.Status()); err != nil {
			r.log.Debug("status page not delivered", "error", err)
		}
	})
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(r.Status()) // fails only when the visitor has gone
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if !r.Status().Healthy {
			http.Error(w, "reservations are not served", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, req)
	})
}
