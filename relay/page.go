package relay

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"net/mail"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/x/rate"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/checkpage"
	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/internal/maintenance"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/doctor"
	"github.com/psf-relay/relay-appliance/relay/status"
	"github.com/psf-relay/relay-appliance/relay/trend"
)

// When peers are connected, and none of them is a neighbour. Strangers can bring this
// about where nobody else is: they connect, speak gossipsub, and stay off the topic.
// So it is said everywhere, but the watchdog restarts the relay only if it had
// several neighbours at once, has at least as many such peers now, and is up for so
// long that strangers who play this game bring about one restart in that time. While
// one honest peer is a neighbour they bring about none.
const (
	silentAfter = 5 * time.Minute
	lostLeast   = 3
	lostAfter   = time.Hour
)

// psfStatus judges what a member counted.
func psfStatus(m coord.MemberStats, started, now time.Time) *status.PSFStatus {
	s := &status.PSFStatus{
		Neighbours: m.Neighbours, Members: m.Members, Speakers: m.Speakers,
		LastAnnounced: m.LastAnnounced, Unheard: m.Unheard, Dropped: map[string]status.Dropped{},
	}
	for reason, d := range m.Dropped {
		s.Dropped[reason] = status.Dropped(d)
	}
	if !m.Silent.IsZero() && now.Sub(m.Silent) >= silentAfter {
		s.Silent = m.Silent
		s.Lost = min(m.Most, m.Speakers) >= lostLeast && now.Sub(started) >= lostAfter
	}
	return s
}

// Status is the relay's state now.
func (r *Relay) Status() status.Status {
	r.mu.Lock()
	cfg, h, g, m, started, capacity := r.cfg, r.host, r.service, r.member, r.started, r.capacity
	r.mu.Unlock()
	s := status.Status{
		Name:         cfg.DisplayName(r.id),
		PeerID:       r.id.String(),
		Version:      buildinfo.Version(),
		Traffic:      r.budget.State(),
		Reservations: status.Reservations{Max: cfg.Limits.Reservations, GuestMax: cfg.Limits.GuestReservations},
		Circuits:     status.Circuits{Max: cfg.Limits.Circuits},
		AbuseContact: cfg.AbuseContact,
		Warnings:     config.Warnings(cfg, r.id),
		Capacity:     status.Capacity{Connections: capacity.Connections, OpenFiles: capacity.Files},
	}
	for _, said := range []string{s.Traffic.Doubt, s.Traffic.StoreError} {
		if said != "" {
			s.Warnings = append(s.Warnings, said)
		}
	}
	for _, a := range r.Addrs() {
		s.Addrs = append(s.Addrs, a.String())
	}
	select {
	case <-r.ready:
		s.Ready = true
	default:
	}
	if h != nil {
		s.Started, s.Connections = started.UTC().Truncate(time.Second), len(h.Network().Conns())
		s.Healthy = slices.Contains(h.Mux().Protocols(), proto.ProtoIDv2Hop)
	}
	if g != nil {
		s.Reservations.Members, s.Reservations.Guests = g.Reservations()
		s.Circuits.Members, s.Circuits.Guests = g.Count()
	}
	if r.certs != nil {
		c := status.Certificate(r.certs.State(time.Now()))
		s.Certificate = &c
	}
	if m != nil {
		s.PSF = psfStatus(m.Stats(), started, time.Now())
		s.Healthy = s.Healthy && !s.PSF.Lost
	}
	r.checkup.AddTo(&s, cfg, time.Now())
	s.Monitors = r.monitors.Said(time.Now())
	s.Warnings = append(s.Warnings, r.alerts.warnings()...)
	switch n, err := maintenance.Read(cfg.Maintenance, time.Now()); {
	case err != nil:
		s.Warnings, s.MaintenanceUnknown = append(s.Warnings, err.Error()), true
	case !n.Empty():
		s.Maintenance = &n
	}
	return s
}

// visited is what the page shows.
type visited struct {
	status.Status
	Trend []trend.Period // none: the relay has not begun
}

//go:embed status.html
var statusHTML string

var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"bytes":   func(n int64) string { return config.Bytes(n).Short() },
	"ago":     func(t time.Time) string { return doctor.Ago(time.Now(), t) },
	"hour":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:00 MST") },
	"half":    func(n int) int { return n / 2 },
	"date":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") },
	"contact": contactURL,
}).Parse(statusHTML))

// statusPolicy lets the page's one style and one script run, by their hashes, and
// nothing else: not even from the relay itself.
var statusPolicy = "default-src 'none'; style-src " + inlineHash("style") + "; script-src " + inlineHash("script") +
	"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func inlineHash(tag string) string {
	_, rest, _ := strings.Cut(statusHTML, "<"+tag+">")
	text, _, _ := strings.Cut(rest, "</"+tag+">")
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// contactURL is where a click on the abuse contact leads.
func contactURL(s string) string {
	if a, err := mail.ParseAddress(s); err == nil {
		return "mailto:" + a.Address
	}
	return s
}

// How many requests per second the status page answers: to everybody, and to one
// address or IPv6 subnet, so that none keeps it from the others. A visitor of the
// check page asks for a dozen files at once.
const (
	webRequests      = 250
	webRequestsPerIP = 10
)

// newPace makes the limiter for them.
func newPace() *rate.Limiter {
	one := rate.Limit{RPS: webRequestsPerIP, Burst: 4 * webRequestsPerIP}
	return &rate.Limiter{
		GlobalLimit: rate.Limit{RPS: webRequests, Burst: 2 * webRequests},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: one}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: one}},
		},
	}
}

// publicStatus is what everybody may see.
func (r *Relay) publicStatus() status.Status { return r.Status().Public() }

// web serves those who come to the WSS port without a WebSocket, and says what state does.
func (r *Relay) web(state func() status.Status) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := statusPage.Execute(w, visited{state(), r.trend.Periods()}); err != nil {
			r.log.Debug("status page not delivered", "error", err)
		}
	})
	mux.Handle("GET /check/", http.StripPrefix("/check", checkpage.Handler(func() []string { return state().Addrs })))
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, req *http.Request) {
		data, err := json.MarshalIndent(state(), "", "  ")
		if err != nil {
			r.log.Error("the status has no form that others can read", "error", err)
			http.Error(w, "the status cannot be shown", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(data, '\n'))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		switch s := state(); {
		case s.PSF != nil && s.PSF.Lost:
			http.Error(w, "all PSF neighbours were lost, though peers are connected", http.StatusServiceUnavailable)
			return
		case !s.Healthy:
			http.Error(w, "reservations are not served", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	pace := newPace()
	own := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", statusPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, req)
	})
	r.mu.Lock()
	to := r.cfg.HTTPUpstream
	r.mu.Unlock()
	all := upstream(to, own, r.passed, r.log)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		from, err := netip.ParseAddrPort(req.RemoteAddr)
		if err != nil || !pace.Allow(from.Addr().Unmap()) {
			http.Error(w, "too many requests: try again later", http.StatusTooManyRequests)
			return
		}
		all.ServeHTTP(w, req)
	})
}
