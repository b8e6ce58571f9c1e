// Package monitors asks the status pages of monitors what they say of this relay.
//
// A monitor is a stranger to the relay. What it says is read within bounds, shown as its
// claim, and steers nothing but the status page and the operator's alerts.
package monitors

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/relay/status"
)

const (
	askEvery  = 10 * time.Minute // each of them
	askFirst  = 20 * time.Second // between two while some were not asked yet
	askTime   = 15 * time.Second
	maxAnswer = 1 << 20
	// staleAfter is how long an answer says something about now.
	staleAfter = 2 * time.Hour
)

// Monitors asks one monitor after the other. Make it with [New].
type Monitors struct {
	relay  string        // peer ID
	pause  time.Duration // between two; 0: as it should be
	log    *slog.Logger
	client *http.Client

	mu   sync.Mutex
	list []status.Monitor
}

// New makes one that asks nobody yet, for the relay with this peer ID. A pause other than
// 0 is for tests.
func New(relay string, pause time.Duration, log *slog.Logger) *Monitors {
	return &Monitors{relay: relay, pause: pause, log: log, client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true},
		// The operator said who is asked; a monitor does not say who is asked instead.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Use says which monitors there are, by the addresses of their status pages. What is
// known from those that stay is kept.
func (m *Monitors) Use(urls []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := map[string]status.Monitor{}
	for _, k := range m.list {
		known[k.URL] = k
	}
	m.list = nil
	for _, u := range urls {
		k, ok := known[u]
		if !ok {
			k = status.Monitor{URL: u}
			if strings.HasPrefix(u, "https://") {
				k.Page = below(u, "relay/"+m.relay)
			}
		}
		m.list = append(m.list, k)
	}
}

// below is an address below that of a status page.
func below(base, path string) string { return strings.TrimSuffix(base, "/") + "/" + path }

// Run asks until ctx ends, never two at the same time.
func (m *Monitors) Run(ctx context.Context) {
	for {
		u, pause := m.next()
		pause = cmp.Or(m.pause, pause)
		// At random, so that relays that began together do not ask together.
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause)):
		}
		if u != "" {
			m.ask(ctx, u)
		}
	}
}

// next is the monitor that was not asked for longest, and the pause before it is asked.
// Without monitors it is empty: one may be configured meanwhile.
func (m *Monitors) next() (url string, pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.list) == 0 {
		return "", askFirst
	}
	first := m.list[0]
	for _, k := range m.list[1:] {
		if k.Asked.Before(first.Asked) {
			first = k
		}
	}
	if first.Asked.IsZero() {
		return first.URL, askFirst
	}
	return first.URL, askEvery / time.Duration(len(m.list))
}

// ask asks one monitor and notes what came of it.
func (m *Monitors) ask(ctx context.Context, base string) {
	within, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var claim *status.Claim
	data, err := download.Get(within, m.client, below(base, "api/relays/"+url.PathEscape(m.relay)), buildinfo.Agent("relayd"), maxAnswer)
	if err == nil {
		claim, err = read(data, m.relay)
	}
	if ctx.Err() != nil {
		return
	}
	m.note(base, claim, err, time.Now())
}

// note keeps the claim, or why there is none. A claim of before stays until it is too old.
func (m *Monitors) note(base string, claim *status.Claim, err error, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		k := &m.list[i]
		if k.URL != base {
			continue
		}
		was := k.Error
		k.Asked, k.Error, k.NotEnrolled = now.UTC().Truncate(time.Second), "", false
		switch {
		case err == nil:
			k.Answered, k.Claim = k.Asked, claim
		case errors.Is(err, download.ErrNotFound):
			k.Answered, k.Claim, k.NotEnrolled = k.Asked, nil, true
			k.Error = "it does not know this relay: the relay is not enrolled there, or the address is not that of a monitor's status page"
		default:
			k.Error = shown(err)
			if k.Error != was {
				m.log.Warn("a monitor says nothing of this relay", "monitor", k.Host(), "error", clean(download.Words(err, askTime), maxWords))
			}
		}
	}
}

// shown is the error for everybody: the network that this machine is in stays in its log.
func shown(err error) string {
	var of *net.OpError
	var name *net.DNSError
	var late net.Error
	switch {
	case errors.As(err, &name):
		return "its name leads to no address (the log says more)"
	case errors.As(err, &late) && late.Timeout():
		return "it does not answer in time"
	case errors.As(err, &of):
		return "it cannot be reached (the log says more)"
	}
	return clean(download.Words(err, askTime), maxWords)
}

// Said is what is known from each monitor now.
func (m *Monitors) Said(now time.Time) []status.Monitor {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []status.Monitor
	for _, k := range m.list {
		if k.Claim != nil && now.Sub(k.Answered) > staleAfter {
			k.Claim = nil
			k.Error = strings.TrimSuffix("its last answer is older than two hours: "+k.Error, ": ")
		}
		out = append(out, k)
	}
	return out
}
