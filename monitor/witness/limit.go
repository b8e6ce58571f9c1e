package witness

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// A log asks about once an hour, and a few times more when something is amiss.
const (
	clientRate  = 1 // requests a second
	clientBurst = 20
	totalRate   = 50
	totalBurst  = 200
	maxClients  = 4096
)

// limits keeps one client from crowding out the others, and all of them from
// keeping the disk busy.
type limits struct {
	total   *rate.Limiter
	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
}

func newLimits() *limits {
	return &limits{total: rate.NewLimiter(totalRate, totalBurst), clients: map[netip.Prefix]*rate.Limiter{}}
}

func (l *limits) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !l.client(clientOf(r)).Allow() || !l.total.Allow() {
			w.Header().Set("Retry-After", "10")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (l *limits) client(p netip.Prefix) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clients[p] == nil {
		if len(l.clients) >= maxClients {
			clear(l.clients) // forgets who was fast; the total still holds
		}
		l.clients[p] = rate.NewLimiter(clientRate, clientBurst)
	}
	return l.clients[p]
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
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}
