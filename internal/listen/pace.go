package listen

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// maxClients bounds how many clients' rates are remembered.
const maxClients = 4096

// Rates are how many requests a second are served, and how many at one stroke.
type Rates struct {
	PerClient, Burst int
	All, AllBurst    int
}

// pace keeps one client from crowding out the others, and all of them from keeping
// the machine busy.
type pace struct {
	rates   Rates
	total   *rate.Limiter
	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
}

func newPace(r Rates) *pace {
	return &pace{rates: r, total: rate.NewLimiter(rate.Limit(r.All), r.AllBurst), clients: map[netip.Prefix]*rate.Limiter{}}
}

// Paced refuses requests beyond the rates.
func Paced(r Rates, next http.Handler) http.Handler {
	p := newPace(r)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.client(clientOf(r)).Allow() || !p.total.Allow() {
			w.Header().Set("Retry-After", "10")
			http.Error(w, "too many requests: try again later", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (p *pace) client(c netip.Prefix) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[c] == nil {
		if len(p.clients) >= maxClients {
			clear(p.clients) // forgets who was fast; the total still holds
		}
		p.clients[c] = rate.NewLimiter(rate.Limit(p.rates.PerClient), p.rates.Burst)
	}
	return p.clients[c]
}

// clientOf is the IPv4 address or IPv6 /64 that a request comes from. A relay on
// this machine that passes requests on says for whom; nobody else is believed.
func clientOf(r *http.Request) netip.Prefix {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	if addr.Unmap().IsLoopback() {
		if forwarded, err := netip.ParseAddr(r.Header.Get("X-Forwarded-For")); err == nil {
			addr = forwarded
		}
	}
	return prefixOf(addr.Unmap())
}
