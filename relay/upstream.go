package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/listen"
)

// A machine that is relay and monitor has one name and one port 443. The relay
// holds them, and passes on what is the monitor's.

// upstreamPaths are the monitor's; all else is the relay's own.
var upstreamPaths = []string{"/monitor/", "/witness/"}

const (
	// maxUpstreamBody bounds what is passed on of a request; the largest is one
	// for a witness's cosignature.
	maxUpstreamBody = 64 << 10
	// maxUpstreamConns bounds the connections to the monitor, which has other
	// things to do, too.
	maxUpstreamConns = 32
)

// upstreamBounds are those of requests that are passed on. A browser makes six at once.
var upstreamBounds = listen.Bounds{All: maxUpstreamConns, PerAddress: 8}

var errMadeRoom = errors.New("given up to make room for another visitor")

// upstream passes requests for the monitor's paths on to it, as many as there is room
// for, and leaves the others to next.
func upstream(to string, next http.Handler, room *listen.Room, log *slog.Logger) http.Handler {
	if to == "" {
		return next
	}
	target, err := url.Parse(to)
	if err != nil {
		return next // Validate has said so
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			// For the witness's limit per client. What the client itself claims of it
			// is not passed on.
			if host, _, err := net.SplitHostPort(p.In.RemoteAddr); err == nil {
				p.Out.Header.Set("X-Forwarded-For", host)
			}
		},
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			ResponseHeaderTimeout: 30 * time.Second,
			IdleConnTimeout:       time.Minute,
			MaxConnsPerHost:       maxUpstreamConns,
			DisableCompression:    true, // the client's own is passed on
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, req *http.Request, err error) {
			var long *http.MaxBytesError
			if errors.As(err, &long) {
				http.Error(w, "the request is too long", http.StatusRequestEntityTooLarge)
				return
			}
			if errors.Is(context.Cause(req.Context()), errMadeRoom) {
				http.Error(w, "too many requests: try again later", http.StatusServiceUnavailable)
				return
			}
			log.Debug("http_upstream does not answer", "error", err)
			http.Error(w, "the monitor of this relay does not answer: try again later", http.StatusBadGateway)
		},
	}
	// Nothing else of the monitor's is reached by a path that only looks like one of
	// these: none of its own has a dot segment or an escape in it.
	plain := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if p := req.URL.Path; req.URL.RawPath != "" || path.Clean(p) != strings.TrimSuffix(p, "/") {
			http.NotFound(w, req)
			return
		}
		var addr netip.Addr
		if from, err := netip.ParseAddrPort(req.RemoteAddr); err == nil {
			addr = from.Addr()
		}
		ctx, end := context.WithCancelCause(req.Context())
		defer end(nil)
		visit, ok := room.Enter(addr, func() { end(errMadeRoom) })
		if !ok {
			http.Error(w, "too many requests at once: try again later", http.StatusTooManyRequests)
			return
		}
		defer visit.End()
		proxy.ServeHTTP(w, req.WithContext(ctx))
	})
	mux := http.NewServeMux()
	for _, prefix := range upstreamPaths {
		mux.Handle(prefix, http.MaxBytesHandler(plain, maxUpstreamBody))
	}
	mux.Handle("/", next)
	return mux
}
