// Package web shows people what a monitor sees: pages made on the server, without
// scripts, readable on a phone, in the dark and by a screen reader. What they
// show is there for machines, too, as JSON.
//
// It holds no state and judges nothing: for each request it asks a [Source].
package web

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/page"
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
	// NotUsed says why the committee's files are not used as they are now; empty: they are.
	NotUsed string `json:"not_used,omitempty"`
	// Overload says that the monitor cannot keep up with its roster; empty: it does.
	Overload string `json:"overload,omitempty"`
	// NotFresh says why no relay counts up in this hour; empty: nothing is in the way.
	NotFresh string `json:"not_fresh,omitempty"`
	// Held says why nothing is signed at present; empty: it is.
	Held string `json:"held,omitempty"`
	// NotTold says why no alerts are sent although somebody is to be told; empty: they are.
	NotTold string `json:"not_told,omitempty"`
	// NotReached are the receivers of alerts that take no messages, and why.
	NotReached []string `json:"not_reached,omitempty"`
	// Updates says what is wrong with the project's release list; empty: nothing.
	Updates string `json:"updates,omitempty"`
	// Release is what the list tells of this monitor's own program; nil: nothing.
	Release   *Release  `json:"release,omitempty"`
	Witnesses []Witness `json:"witnesses"`
	// Bucket is where the log is pushed to; nil: nowhere.
	Bucket *Bucket `json:"bucket,omitempty"`
	Totals Totals  `json:"totals"`
	Relays []Relay `json:"relays"`
}

// Bucket is how far the log is in an object store.
type Bucket struct {
	Address string        `json:"address"`     // without secrets
	Known   bool          `json:"known"`       // it was asked since the monitor began
	Size    int64         `json:"size"`        // hours that it shows
	Behind  int64         `json:"behind"`      // sealed hours that it lacks
	At      evidence.Time `json:"at,omitzero"` // when it had the whole log; absent if the last push failed
	Error   string        `json:"error,omitempty"`
}

// Relay is one relay under judgement.
type Relay struct {
	PeerID    string        `json:"peer_id"`
	Operator  string        `json:"operator"`
	Enrolled  evidence.Hour `json:"enrolled"`
	TCP4      string        `json:"tcp4"`
	WSS       string        `json:"wss"`
	Announced string        `json:"announced,omitempty"` // when its last announcement was heard
	// Needs say why somebody should look at it, the most urgent first.
	Needs []Need `json:"needs,omitempty"`
	// DownSince is the first of the hours that are down up to now; 0: they are not, or
	// are too few to make an alert.
	DownSince evidence.Hour `json:"down_since,omitempty"`
	// DownUnknown says that the hours that are known do not tell whether it is down.
	DownUnknown bool `json:"-"`
	// Certificate is the newest that it showed, Agent how its software calls itself.
	Certificate *bounty.CertificateSeen `json:"certificate,omitempty"`
	Agent       string                  `json:"agent,omitempty"`
	Release     *Release                `json:"release,omitempty"` // nil: the release list does not tell
	Count       Count                   `json:"count"`
	Forecast    bounty.Forecast         `json:"forecast"`
	Warnings    []Warning               `json:"warnings"`
	Last        *evidence.Attempt       `json:"last,omitempty"`
	// Hours are this monitor's own votes of the last day, oldest first.
	Hours []Hour `json:"hours"`
	// MonthAgents are the versions that it reported in the running month.
	MonthAgents []bounty.AgentSeen `json:"-"`
}

// Outlook draws the running month.
func (r Relay) Outlook() chart.Outlook { return r.Count.outlook() }

// Words say in a line how the running month stands.
func (r Relay) Words() string {
	c, f := r.Count, r.Forecast
	switch {
	case c.Needed == 0:
		return fmt.Sprintf("%s has its %d hours, %d are up", c.Month, c.Required, c.Up)
	case c.Late():
		return fmt.Sprintf("%d hours of %s are up; it is enrolled for too few to reach %d", c.Up, c.Month, c.Required)
	case c.Lost():
		return fmt.Sprintf("%s is lost: %d hours up of %d", c.Month, c.Up, c.Required)
	}
	s := fmt.Sprintf("%d hours of %s up, %d needed, %d of %d that may be lost are used", c.Up, c.Month, c.Required, f.Used, f.Slack)
	if !f.RunsOut.IsZero() {
		s += ", and at this pace all on " + f.RunsOut.UTC().Format(time.DateOnly)
	}
	return s
}

// Release is what the project's release list tells of a program.
type Release struct {
	Installed string        `json:"installed,omitempty"` // empty: a version that is not on the list
	Newest    string        `json:"newest"`
	Published evidence.Time `json:"published"` // when the newest was
	Days      int           `json:"days"`      // since then
}

// Hour is this monitor's vote of one hour. It is not the verdict: other
// monitors vote too.
type Hour struct {
	Hour evidence.Hour `json:"hour"`
	Vote bounty.Value  `json:"vote"`
	Why  string        `json:"why,omitempty"`
	Open bool          `json:"open,omitempty"` // not sealed yet
	// Attempts is how often the relay was tried.
	Attempts int `json:"attempts"`
}

// ErrNotFound is a [Source]'s answer for a relay, a month or an hour that it does
// not know.
var ErrNotFound = errors.New("not found")

// Source knows what there is to show. Its errors other than [ErrNotFound] say that
// the log cannot be read.
type Source interface {
	// Now says which month is the running one.
	Now() time.Time
	Overview() (Overview, error)
	// Health says why nothing is judged at present, and why what is judged is not signed
	// yet; empty: all is well.
	Health() (fault, held string)
	Month(relay string, month evidence.Month) (Month, error)
	Hour(relay string, hour evidence.Hour) (history.Story, error)
}

//go:embed *.html
var files embed.FS

var pages = template.Must(template.Must(template.New("").Funcs(template.FuncMap{
	"ms":     func(us int64) string { return fmt.Sprintf("%.1f ms", float64(us)/1000) },
	"time":   func(t evidence.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"day":    func(t evidence.Time) string { return t.UTC().Format(time.DateOnly) },
	"hour":   func(h evidence.Hour) string { return h.Start().Format("2006-01-02 15:00 UTC") },
	"span":   func(s bounty.Span) string { return s.String() },
	"sign":   sign,
	"short":  short,
	"inc":    func(i int) int { return i + 1 },
	"advice": evidence.Class.Advice,
	"means":  evidence.Class.Meaning,
	"add":    func(a, b int) int { return a + b },
	"clock":  clock,
	"linked": linked,
	"meaning": func(vote string, r *bounty.Rules) (string, error) {
		var v bounty.Value
		err := v.UnmarshalText([]byte(vote))
		return v.Meaning(r), err
	},
	"mark":  func(o evidence.Outcome) string { return outcomeSigns[o] },
	"tried": func(o evidence.Outcome) string { return outcomeSigns[o] + " " + outcomeWords[o] },
}).ParseFS(files, "*.html")).Parse(chart.HTML))

// view is what a template sees: what is shown, and how far up the root is. Links
// are relative, because the pages may stand below a path of somebody else's.
type view struct {
	Root  string
	Title string
	Data  any
}

// title says of a lab that it is one.
func title(n evidence.Network, s string) string {
	if n == evidence.Lab {
		return "LAB · " + s
	}
	return s
}

// wordsShown says which of the two words for a vote stand on a page, which then explains
// them, by the rules if it knows them.
type wordsShown struct {
	Unknown, Busy bool
	Rules         *bounty.Rules
}

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

// short abbreviates a peer ID, of which the end tells more than the beginning.
func short(id string) string {
	if len(id) > 16 {
		return id[:6] + "…" + id[len(id)-6:]
	}
	return id
}

// hourLayout is how an hour is named in a page's address.
const hourLayout = "2006-01-02T15"

// handler serves what a source knows.
type handler struct {
	source Source
	log    *slog.Logger
	shared shared
}

// Handler serves the pages: / for people, /status.json for machines, both in parts of
// 100 relays (?page=2), /healthz for watchdogs (503 while the monitor judges nothing, "ok" while it signs);
// each relay's months and hours, as pages and as JSON; and badges.
func Handler(source Source, log *slog.Logger) http.Handler {
	h := &handler{source: source, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.overview("text/html; charset=utf-8", byNeed, func(b *bytes.Buffer, p part) error {
		return pages.ExecuteTemplate(b, "overview.html", view{"./", title(p.Network, "relaymon "+p.Monitor), p})
	}))
	mux.HandleFunc("GET /status.json", h.overview("application/json", asIs, func(b *bytes.Buffer, p part) error {
		return json.NewEncoder(b).Encode(p)
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fault, held := h.source.Health()
		if fault != "" {
			http.Error(w, fault, http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, cmp.Or(held, "ok"))
	})
	mux.HandleFunc("GET /relay/{relay}", h.month("", func(w http.ResponseWriter, m Month) { h.page(w, "month.html", monthView(m, "../")) }))
	mux.HandleFunc("GET /relay/{relay}/{month}", h.month("", func(w http.ResponseWriter, m Month) { h.page(w, "month.html", monthView(m, "../../")) }))
	mux.HandleFunc("GET /relay/{relay}/hour/{hour}", h.hour(func(w http.ResponseWriter, s history.Story) {
		h.page(w, "hour.html", hourView(s, "../../../"))
	}))
	mux.HandleFunc("GET /badge/{relay}", h.month(".svg", h.badge))
	mux.HandleFunc("GET /api/relays/{relay}", h.month("", func(w http.ResponseWriter, m Month) { h.json(w, m) }))
	mux.HandleFunc("GET /api/relays/{relay}/{month}", h.month("", func(w http.ResponseWriter, m Month) { h.json(w, m) }))
	mux.HandleFunc("GET /api/relays/{relay}/hour/{hour}", h.hour(func(w http.ResponseWriter, s history.Story) { h.json(w, s) }))
	mux.Handle("GET /style.css", http.FileServerFS(page.Files))
	mux.Handle("GET /icon.svg", http.FileServerFS(page.Files))
	return secure(mux)
}

// month asks for the month of the path, or for the running one; the relay's name
// ends in suffix.
func (h *handler) month(suffix string, show func(http.ResponseWriter, Month)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		relay, named := strings.CutSuffix(r.PathValue("relay"), suffix)
		month := evidence.MonthOf(h.source.Now())
		var err error
		if s := r.PathValue("month"); s != "" {
			month, err = evidence.ParseMonth(s)
		}
		if err != nil || !named {
			http.NotFound(w, r)
			return
		}
		m, err := h.source.Month(relay, month)
		if h.failed(w, err) {
			return
		}
		show(w, m)
	}
}

func (h *handler) hour(show func(http.ResponseWriter, history.Story)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at, err := time.Parse(hourLayout, r.PathValue("hour"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		s, err := h.source.Hour(r.PathValue("relay"), evidence.HourOf(at))
		if h.failed(w, err) {
			return
		}
		show(w, s)
	}
}

// failed answers a request that the source could not.
func (h *handler) failed(w http.ResponseWriter, err error) bool {
	switch {
	case errors.Is(err, ErrNotFound):
		http.Error(w, "this monitor knows nothing of that", http.StatusNotFound)
	case err != nil:
		h.log.Error("status page", "err", err)
		http.Error(w, "the evidence log cannot be read; the monitor's own log says why", http.StatusInternalServerError)
	}
	return err != nil
}

func (h *handler) page(w http.ResponseWriter, name string, v view) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, v); err != nil {
		h.log.Error("status page", "page", name, "err", err)
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

func (h *handler) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// secure sets what every answer has: nothing but our own style is loaded, and no
// page is framed or guessed at.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
