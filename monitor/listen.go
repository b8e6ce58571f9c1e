package monitor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/psf-relay/relay-appliance/internal/certs"
	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/monitor/tiles/tileserver"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// A monitor is reached in one of three ways: on loopback only; by a name of its
// own, for which it has a certificate; or through the relay on the same machine,
// which passes /monitor/ and /witness/ on to its loopback address. So the paths
// are the same everywhere.

// conns bounds the connections of each listener. Those of a relay on this machine,
// or another proxy, come from loopback, which only the whole bounds.
var conns = listen.Bounds{All: 256, PerAddress: 32}

// pageRates are how many pages a second are made; the witness has rates of its own.
var pageRates = listen.Rates{PerClient: 10, Burst: 100, All: 50, AllBurst: 200}

// public is what anybody may ask for.
func (m *Monitor) public() http.Handler {
	mux := http.NewServeMux()
	pages := listen.Paced(pageRates, m.pages())
	mux.Handle("/monitor/", http.StripPrefix("/monitor", pages))
	mux.Handle("/", pages)
	// The log, for others to follow.
	log := tileserver.Handler(m.store, m.log)
	mux.Handle("/log/", http.StripPrefix("/log", log))
	mux.Handle("/monitor/log/", http.StripPrefix("/monitor/log", log))
	mux.HandleFunc("GET /robots.txt", robots)
	if m.witness != nil {
		mux.Handle("/witness/", http.StripPrefix("/witness", m.remembering(witness.Handler(m.witness, m.cosigned, m.log))))
	}
	return mux
}

// remembering answers nobody while the log came out of a backup and was not compared: what
// this witness remembers is as old, and would speak for older copies of other logs.
func (m *Monitor) remembering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.witnessing != nil && m.witnessing.older && m.store.Held() {
			http.Error(w, "this witness came out of a backup, and its own log was not compared with others yet", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// robots keeps crawlers out of what is for programs, and never ends.
func robots(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, "User-agent: *\nDisallow: /log/\nDisallow: /monitor/log/\nDisallow: /witness/\n")
}

// serve opens the listeners that the configuration names, and serves until stop.
func (m *Monitor) serve(ctx context.Context) (stop func(), err error) {
	var servers []*http.Server
	m.mu.Lock()
	m.refusals = nil
	m.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	stop = func() {
		cancel()
		for _, s := range servers {
			_ = s.Close()
		}
		running.Wait()
	}
	open := func(what, addr string, h http.Handler, conf *tls.Config) error {
		bounds := conns
		bounds.LoopbackCounts = m.cfg.loopbackCounts
		srv, tcp, err := serveAt(what, addr, bounds, h, conf, m.log, &running)
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.refusals = append(m.refusals, tcp.Refusals)
		m.mu.Unlock()
		servers = append(servers, srv)
		return nil
	}

	if m.cfg.Listen != "" {
		h := m.public()
		if loopback(m.cfg.Listen) {
			h = m.local(h)
		}
		if err := open("pages", m.cfg.Listen, h, nil); err != nil {
			stop()
			return nil, err
		}
	}
	if p := m.cfg.Public; p.Domain != "" {
		keeper, err := newCerts(m.cfg, m.log)
		if err == nil {
			err = open("https", p.HTTPS, m.public(), keeper.TLSConfig())
		}
		if err == nil && p.HTTP != "" {
			err = open("http", p.HTTP, keeper.HTTPHandler(), nil)
		}
		if err != nil {
			stop()
			return nil, err
		}
		m.mu.Lock()
		m.certs = keeper
		m.mu.Unlock()
		running.Go(func() { keeper.Keep(ctx) })
	}
	return stop, nil
}

// serveAt listens at once, so that what cannot be had is said at the start, and serves until
// the server is closed.
func serveAt(what, addr string, bounds listen.Bounds, h http.Handler, conf *tls.Config, log *slog.Logger, running *sync.WaitGroup) (*http.Server, *listen.Listener, error) {
	tcp, err := listen.TCP(what, addr, bounds, log)
	if err != nil {
		return nil, nil, fmt.Errorf("serve %s: %w: free the address, or configure another", what, err)
	}
	log.Info("serving", "what", what, "addr", tcp.Addr().String())
	var l net.Listener = tcp
	if conf != nil {
		l = tls.NewListener(tcp, conf)
	}
	srv := listen.Server(h, log)
	running.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("serving ended", "what", what, "err", err)
		}
	})
	return srv, tcp, nil
}

// newCerts is who serves the certificate of the monitor's own name.
func newCerts(cfg Config, log *slog.Logger) (*certs.Keeper, error) {
	p := cfg.Public
	k, err := certs.New(certs.Config{
		Domain:    p.Domain,
		Needed:    "nobody reaches the monitor by its name without a valid one: does its A record lead here, and are ports 443 and 80 open?",
		Log:       log,
		Directory: p.ACME.Directory,
		CAFile:    p.ACME.CAFile,
		Email:     p.ACME.Email,
		DataDir:   cfg.DataDir,
		HTTP:      p.HTTP != "",
	})
	if err != nil {
		return nil, fmt.Errorf("public.%w", err) // it names acme.ca_file
	}
	return k, nil
}

// outward is the client for what the monitor asks others by HTTP. A lab has its own
// CA and names.
func outward(cfg Config) (*http.Client, error) {
	client, _, err := certs.Client(cfg.Lab.CA)
	if err != nil {
		return nil, fmt.Errorf("the lab's CA: %w", err)
	}
	if len(cfg.Lab.Resolve) > 0 {
		var d net.Dialer
		client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(addr)
			if ip, ok := cfg.Lab.Resolve[host]; ok && err == nil {
				addr = net.JoinHostPort(ip.String(), port)
			}
			return d.DialContext(ctx, network, addr)
		}
	}
	return client, nil
}
