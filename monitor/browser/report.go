package browser

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// RungName is the name under which a browser's check stands in the evidence log
// (rule R15).
const RungName = "browser"

// Report is what the check page found, in its own JSON.
type Report struct {
	Format  string    `json:"format"`
	Started time.Time `json:"started"`
	Browser string    `json:"browser"`           // the user agent
	Version string    `json:"version,omitempty"` // of the browser that was driven
	Relays  []Relay   `json:"relays"`
}

// Relay is one relay's part of a report.
type Relay struct {
	Name         string       `json:"name"`
	PeerID       string       `json:"peer_id"`
	Addrs        []string     `json:"addrs"`
	OK           bool         `json:"ok"` // all steps passed but the optional ones
	AgentVersion string       `json:"agent_version,omitempty"`
	Reservation  *Reservation `json:"reservation,omitempty"`
	Steps        []Step       `json:"steps"`
}

// Reservation is what the relay granted.
type Reservation struct {
	Expires      time.Time `json:"expires"`
	LimitBytes   int64     `json:"limit_bytes"`
	LimitSeconds int64     `json:"limit_seconds"`
}

// Step is one step of the page, in the words of the evidence log.
type Step struct {
	Name       string           `json:"name"`
	Optional   bool             `json:"optional,omitempty"`
	Addr       string           `json:"addr,omitempty"`
	Outcome    evidence.Outcome `json:"outcome"`
	Class      evidence.Class   `json:"class,omitempty"`
	Detail     string           `json:"detail,omitempty"`
	Advice     string           `json:"advice,omitempty"`
	DurationMS float64          `json:"duration_ms,omitempty"`
}

// Failed is the step at which the check ended; nil when the relay passed.
func (r *Relay) Failed() *Step {
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Outcome == evidence.Fail && !s.Optional {
			return s
		}
	}
	return nil
}

// Rung is the check as it is recorded beside an attempt's ladder. A relay that was
// full is busy, and what was this machine's own fault says nothing: blind.
func (r *Relay) Rung(version string) evidence.Rung {
	g := evidence.Rung{Name: RungName, Outcome: evidence.OK, Detail: version}
	for _, s := range r.Steps {
		if !s.Optional {
			g.DurationUS += int64(s.DurationMS * 1000)
		}
	}
	s := r.Failed()
	switch {
	case r.OK:
		return g
	case s == nil:
		g.Outcome, g.Class = evidence.Blind, evidence.OwnFault
		return g
	}
	switch g.Class = s.Class; s.Class {
	case evidence.NameLookup:
		// It is looked at only after the ladder has found the name, and asks no other resolver.
		g.Outcome, g.Class = evidence.Blind, evidence.Resolver
	case evidence.OwnFault, evidence.Stopped:
		g.Outcome = evidence.Blind
	case evidence.ReserveRefused, evidence.ReserveLimit, evidence.CircuitBusy:
		g.Outcome = evidence.Busy
	default:
		g.Outcome = evidence.Fail
	}
	g.Detail = clip(fmt.Sprintf("%s, step %s: %s", version, s.Name, s.Detail))
	return g
}

// maxDetail is what the evidence log's format allows for a detail.
const maxDetail = 300

// reasons are the network errors that the browser wrote to its console, by host
// and port.
type reasons struct {
	mu   sync.Mutex
	seen map[string]string
}

var failedSocket = regexp.MustCompile(`WebSocket connection to '(wss://[^']+)' failed:.*?(net::ERR_[A-Z0-9_]+)`)

func (c *reasons) note(text string) {
	m := failedSocket.FindStringSubmatch(text)
	if m == nil {
		return
	}
	u, err := url.Parse(m[1])
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]string{}
	}
	c.seen[u.Host] = m[2]
}

// classes are Chromium's network errors in the words of the evidence log.
var classes = map[string]evidence.Class{
	"net::ERR_CERT_AUTHORITY_INVALID":                 evidence.CertUntrusted,
	"net::ERR_CERT_COMMON_NAME_INVALID":               evidence.CertWrongName,
	"net::ERR_CERT_DATE_INVALID":                      evidence.CertExpired,
	"net::ERR_CERT_INVALID":                           evidence.CertInvalid,
	"net::ERR_CERT_REVOKED":                           evidence.CertInvalid,
	"net::ERR_SSL_PROTOCOL_ERROR":                     evidence.TLSFailed,
	"net::ERR_CONNECTION_REFUSED":                     evidence.Refused,
	"net::ERR_CONNECTION_TIMED_OUT":                   evidence.ConnectTimeout,
	"net::ERR_ADDRESS_UNREACHABLE":                    evidence.Unreachable,
	"net::ERR_NAME_NOT_RESOLVED":                      evidence.NameLookup,
	"net::ERR_NAME_RESOLUTION_FAILED":                 evidence.NameLookup,
	"net::ERR_DNS_TIMED_OUT":                          evidence.NameLookup,
	"net::ERR_DNS_SERVER_FAILED":                      evidence.NameLookup,
	"net::ERR_DNS_MALFORMED_RESPONSE":                 evidence.NameLookup,
	"net::ERR_INSUFFICIENT_RESOURCES":                 evidence.OwnFault,
	"net::ERR_OUT_OF_MEMORY":                          evidence.OwnFault,
	"net::ERR_NO_BUFFER_SPACE":                        evidence.OwnFault,
	"net::ERR_ACCESS_DENIED":                          evidence.OwnFault,
	"net::ERR_NETWORK_ACCESS_DENIED":                  evidence.OwnFault,
	"net::ERR_NETWORK_IO_SUSPENDED":                   evidence.OwnFault,
	"net::ERR_ADDRESS_IN_USE":                         evidence.OwnFault,
	"net::ERR_PROXY_CONNECTION_FAILED":                evidence.OwnFault,
	"net::ERR_INTERNET_DISCONNECTED":                  evidence.OwnFault,
	"net::ERR_NETWORK_CHANGED":                        evidence.OwnFault,
	"net::ERR_BLOCKED_BY_LOCAL_NETWORK_ACCESS_CHECKS": evidence.OwnFault,
	"net::ERR_INVALID_HTTP_RESPONSE":                  evidence.UpgradeFailed,
}

// refine replaces the page's "the browser tells no reason" by the reason.
func (c *reasons) refine(r *Relay) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Class != evidence.ConnectFailed {
			continue
		}
		for host, reason := range c.seen {
			if !strings.Contains(s.Detail, "wss://"+host+"/") {
				continue
			}
			s.Detail = reason + " at " + host
			if class, ok := classes[reason]; ok {
				s.Class, s.Advice = class, class.Advice()
			}
		}
	}
}

// Look starts a browser, lets it try one relay and ends it again. What went wrong
// with the browser itself is in the rung, too, as this machine's fault.
func Look(ctx context.Context, o Options, wss string) evidence.Rung {
	began := time.Now()
	blind := func(err error) evidence.Rung {
		g := evidence.Rung{Name: RungName, Outcome: evidence.Blind, Class: evidence.OwnFault, DurationUS: time.Since(began).Microseconds()}
		if ctx.Err() != nil {
			g.Class = evidence.Stopped
		}
		g.Detail = clip(err.Error())
		return g
	}
	b, err := Start(ctx, o)
	if err != nil {
		return blind(err)
	}
	defer b.Close()
	report, err := b.Check(ctx, wss)
	if err != nil {
		return blind(err)
	}
	if len(report.Relays) != 1 {
		return blind(fmt.Errorf("the page checked %d relays instead of one", len(report.Relays)))
	}
	return report.Relays[0].Rung(report.Version)
}

// clip bounds a detail as the evidence log's format does.
func clip(s string) string {
	if len(s) > maxDetail {
		return strings.ToValidUTF8(s[:maxDetail], "")
	}
	return s
}
