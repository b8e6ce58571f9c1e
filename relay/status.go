package relay

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
)

// Status is the relay's state as /status.json gives it. It names no peer and no
// peer's address.
type Status struct {
	Name         string       `json:"name"`
	PeerID       string       `json:"peer_id"`
	Version      string       `json:"version"`
	Addrs        []string     `json:"addrs"`
	Healthy      bool         `json:"healthy"` // reservations are served, and PSF peers were not all lost
	Ready        bool         `json:"ready"`   // and the certificate is there, or was waited for
	Started      time.Time    `json:"started,omitzero"`
	Connections  int          `json:"connections"`
	Reservations Reservations `json:"reservations"`
	Circuits     Circuits     `json:"circuits"`
	Traffic      Traffic      `json:"traffic"`
	Certificate  *Certificate `json:"certificate,omitempty"`
	PSF          *PSFStatus   `json:"psf,omitempty"`
	AbuseContact string       `json:"abuse_contact,omitempty"`
	Warnings     []string     `json:"warnings,omitempty"`
	// What the machine's keeper has to say: a planned restart, an update taken back.
	Maintenance *maintenance.Notice `json:"maintenance,omitempty"`
	// What the relay found out about itself.
	VersionSince time.Time     `json:"version_since,omitzero"`
	Capacity     Capacity      `json:"capacity"`
	Observed     []Observed    `json:"observed,omitempty"`
	Incoming     []Incoming    `json:"incoming,omitempty"` // where strangers have come to
	Proxied      *Proxied      `json:"proxied,omitempty"`  // nil: nothing hides the peers' addresses
	Reach        []Reach       `json:"reach,omitempty"`
	Requirements []Requirement `json:"requirements,omitempty"`
}

// Capacity is what the machine carries.
type Capacity struct {
	Connections int `json:"connections"`
	OpenFiles   int `json:"open_files"`
	// FilesUsed is how many are open; 0: not counted yet.
	FilesUsed int `json:"open_files_used,omitempty"`
}

// Reservations says who holds the places.
type Reservations struct {
	Members     int `json:"members"`
	Guests      int `json:"guests"`
	Places      int `json:"places"`
	GuestPlaces int `json:"guest_places"`
}

// Circuits says how many are open.
type Circuits struct {
	Members int `json:"members"`
	Guests  int `json:"guests"`
	Max     int `json:"max"`
}

// Traffic is what was carried in the calendar month (UTC).
type Traffic struct {
	Month  string `json:"month"`
	Bytes  int64  `json:"bytes"`
	Budget int64  `json:"budget"` // 0: none
	// Lost is when the count could not be read: what was carried before is not in Bytes.
	Lost time.Time `json:"lost,omitzero"`
	// Doubt says why the clock is not believed; until it is, traffic counts for Month.
	Doubt string `json:"doubt,omitempty"`
	// StoreError says why the count cannot be written.
	StoreError string `json:"store_error,omitempty"`
}

// Serving is the light on top of the status page: a relay that offers reservations
// may yet have none to give.
func (s Status) Serving() Outcome {
	if !s.Healthy {
		return NotMet
	}
	for _, q := range s.Requirements {
		if q.Name == "service" {
			return q.Outcome
		}
	}
	return Unknown
}

// Percent is how much of the budget is used.
func (t Traffic) Percent() int {
	if t.Budget == 0 {
		return 0
	}
	return int(float64(t.Bytes) / float64(t.Budget) * 100)
}

// PSFStatus is the relay's part in the PSF network.
type PSFStatus struct {
	Neighbours    int       `json:"neighbours"`
	Members       int       `json:"members"`
	LastAnnounced time.Time `json:"last_announced,omitzero"` // to neighbours
	Unheard       time.Time `json:"unheard,omitzero"`        // the last announcement, if nobody was there to hear it
	LastMeasured  time.Time `json:"last_measured,omitzero"`  // by a PSF peer, which had heard the relay
	// Connected peers that speak gossipsub, and since when none of them is a neighbour,
	// if for minutes.
	Speakers int       `json:"speakers"`
	Silent   time.Time `json:"silent_since,omitzero"`
	// All neighbours were lost, though peers are connected: the relay is not healthy.
	Lost    bool                     `json:"lost,omitempty"`
	Dropped map[string]coord.Dropped `json:"dropped"` // messages not passed on since the start, by reason
}

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
func psfStatus(m coord.MemberStats, started, now time.Time) *PSFStatus {
	s := &PSFStatus{
		Neighbours: m.Neighbours, Members: m.Members, Speakers: m.Speakers,
		LastAnnounced: m.LastAnnounced, Unheard: m.Unheard, Dropped: m.Dropped,
	}
	if !m.Silent.IsZero() && now.Sub(m.Silent) >= silentAfter {
		s.Silent = m.Silent
		s.Lost = min(m.Most, m.Speakers) >= lostLeast && now.Sub(started) >= lostAfter
	}
	return s
}

// Status is the relay's state now.
func (r *Relay) Status() Status {
	r.mu.Lock()
	cfg, h, g, m, started, capacity := r.cfg, r.host, r.gate, r.member, r.started, r.capacity
	r.mu.Unlock()
	s := Status{
		Name:         cfg.DisplayName(r.id),
		PeerID:       r.id.String(),
		Version:      buildinfo.Version(),
		Traffic:      r.ledger.state(),
		Reservations: Reservations{Places: cfg.Limits.Reservations, GuestPlaces: cfg.Limits.GuestReservations},
		Circuits:     Circuits{Max: cfg.Limits.Circuits},
		AbuseContact: cfg.AbuseContact,
		Warnings:     cfg.warnings(r.id),
		Capacity:     Capacity{Connections: capacity.connections, OpenFiles: capacity.files},
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
		s.Reservations.Members, s.Reservations.Guests = g.places.count()
		s.Circuits.Members, s.Circuits.Guests = g.count()
	}
	if r.certs != nil {
		c := r.certs.state(time.Now())
		s.Certificate = &c
	}
	if m != nil {
		s.PSF = psfStatus(m.Stats(), started, time.Now())
		s.Healthy = s.Healthy && !s.PSF.Lost
	}
	r.checkup.addTo(&s, cfg, r.id, time.Now())
	switch n, err := maintenance.Read(cfg.Maintenance, time.Now()); {
	case err != nil:
		s.Warnings = append(s.Warnings, err.Error())
	case !n.Empty():
		s.Maintenance = &n
	}
	return s
}

//go:embed status.html
var statusHTML string

var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"bytes":   func(n int64) string { return Bytes(n).Short() },
	"ago":     func(t time.Time) string { return ago(time.Now(), t) },
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

// inWords is a time span as a person says it.
func inWords(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
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

// web serves those who come to the WSS port without a WebSocket.
func (r *Relay) web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := statusPage.Execute(w, r.Status()); err != nil {
			r.log.Debug("status page not delivered", "error", err)
		}
	})
	mux.Handle("GET /check/", http.StripPrefix("/check", checkpage.Handler(func() []string { return r.Status().Addrs })))
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(r.Status()) // fails only when the visitor has gone
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		switch s := r.Status(); {
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
