package monitor

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/psf-relay/relay-appliance/internal/certstore"
	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
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
	log := tiles.Handler(m.store, m.log)
	mux.Handle("/log/", http.StripPrefix("/log", log))
	mux.Handle("/monitor/log/", http.StripPrefix("/monitor/log", log))
	mux.HandleFunc("GET /robots.txt", robots)
	if m.witness != nil {
		mux.Handle("/witness/", http.StripPrefix("/witness", witness.Handler(m.witness, m.cosigned, m.log)))
	}
	return mux
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
	// open listens at once, so that what cannot be had is said at the start.
	open := func(what, addr string, h http.Handler, conf *tls.Config) error {
		bounds := conns
		bounds.LoopbackCounts = m.cfg.loopbackCounts
		tcp, err := listen.TCP(what, addr, bounds, m.log)
		if err != nil {
			return fmt.Errorf("serve %s: %w: free the address, or configure another", what, err)
		}
		m.log.Info("serving", "what", what, "addr", tcp.Addr().String())
		m.mu.Lock()
		m.refusals = append(m.refusals, tcp.Refusals)
		m.mu.Unlock()
		var l net.Listener = tcp
		if conf != nil {
			l = tls.NewListener(tcp, conf)
		}
		srv := listen.Server(h, m.log)
		servers = append(servers, srv)
		running.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				m.log.Error("serving ended", "what", what, "err", err)
			}
		})
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
		cert, err := newCertificate(p, m.cfg.DataDir, m.log)
		if err == nil {
			err = open("https", p.HTTPS, m.public(), cert.tlsConfig())
		}
		if err == nil && p.HTTP != "" {
			err = open("http", p.HTTP, cert.httpHandler(), nil)
		}
		if err != nil {
			stop()
			return nil, err
		}
		running.Go(func() { cert.keep(ctx) })
	}
	return stop, nil
}

// certificate is that of the monitor's own name, from a CA.
type certificate struct {
	domain  string
	log     *slog.Logger
	manager *autocert.Manager
	store   *certstore.Store
	unkept  string // why what the CA issues cannot be stored; keep's own
}

func newCertificate(p PublicConfig, dataDir string, log *slog.Logger) (*certificate, error) {
	client, root, err := trusting(p.ACME.CAFile)
	if err != nil {
		return nil, fmt.Errorf("public.acme.ca_file: %w", err)
	}
	// What one CA issued is worth nothing under another one; a private CA may have
	// the old URL and a new root.
	sum := sha256.Sum256(append([]byte(p.ACME.Directory+"\n"), root...))
	store := certstore.New(filepath.Join(dataDir, "acme", hex.EncodeToString(sum[:8])), p.Domain)
	client.Transport = store.Transport(client.Transport)
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		HostPolicy: autocert.HostWhitelist(p.Domain),
		Cache:      store,
		Email:      p.ACME.Email,
		Client:     &acme.Client{DirectoryURL: p.ACME.Directory, HTTPClient: client},
	}
	if p.HTTP != "" {
		m.HTTPHandler(nil) // lets it try HTTP-01 where TLS-ALPN-01 fails
	}
	return &certificate{domain: p.Domain, log: log, manager: m, store: store}, nil
}

// trusting is a client that trusts the roots (PEM) in a file instead of the
// system's; an empty name: the system's.
func trusting(file string) (*http.Client, []byte, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	if file == "" {
		return client, nil, nil
	}
	root, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, nil, fmt.Errorf("%s holds no certificate: want PEM", file)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return client, root, nil
}

// outward is the client for what the monitor asks others by HTTP. A lab has its own
// CA and names.
func outward(cfg Config) (*http.Client, error) {
	client, _, err := trusting(cfg.Lab.CA)
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

func (c *certificate) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.manager.GetCertificate, NextProtos: []string{"h2", "http/1.1", acme.ALPNProto}}
}

// httpHandler serves the CA's HTTP-01 validation, and sends everybody else to https.
func (c *certificate) httpHandler() http.Handler {
	return c.manager.HTTPHandler(listen.ToHTTPS(c.domain))
}

const (
	certFirst = time.Minute // a manager remembers a failure for so long
	certLast  = 4 * time.Hour
	certLook  = 12 * time.Hour
	// storeLook is the pause between looks whether what the CA issued is stored.
	storeLook = 10 * time.Second
)

// keep gets the certificate before the first visitor needs it and says what is
// wrong with it; the CA is asked ever less often while it does not issue one.
func (c *certificate) keep(ctx context.Context) {
	hello := &tls.ClientHelloInfo{
		ServerName: c.domain,
		// As of a client that takes ECDSA: for one that does not, a second
		// certificate would be ordered.
		SupportedProtos:   []string{"h2", "http/1.1"},
		CipherSuites:      []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.CurveP256},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
	}
	for pause := certFirst; ; {
		wait := certLook
		cert, err := c.manager.GetCertificate(hello)
		switch {
		case err != nil:
			wait, pause = pause, min(2*pause, certLast)
			c.log.Error("no certificate for the monitor's name: does its A record lead here, and are ports 443 and 80 open?", "domain", c.domain, "err", err, "next_try", wait)
		case cert.Leaf != nil && time.Until(cert.Leaf.NotAfter) < cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/6:
			// The manager renews when a third of the life is left.
			c.log.Error("the certificate is not renewed", "domain", c.domain, "not_after", cert.Leaf.NotAfter)
		default:
			pause = certFirst
			c.log.Debug("certificate", "domain", c.domain)
		}
		look := time.NewTicker(storeLook)
		due := time.After(wait)
		for waiting := true; waiting; {
			c.stored(c.store.Check())
			select {
			case <-ctx.Done():
				look.Stop()
				return
			case <-look.C:
			case <-due:
				waiting = false
			}
		}
		look.Stop()
	}
}

// stored says once whether what the CA issues can be stored.
func (c *certificate) stored(err error) {
	var now string
	if err != nil {
		now = err.Error()
	}
	switch {
	case now != "" && now != c.unkept:
		c.log.Error("the folder for certificates cannot be written: what the CA issues is kept in memory, a restart would lose it, and no more is ordered than needed; make room, or mend the file system", "domain", c.domain, "err", err)
	case now == "" && c.unkept != "":
		c.log.Info("the folder for certificates can be written again, what the CA issued is in it", "domain", c.domain)
	}
	c.unkept = now
}
