package relay

import (
	"cmp"
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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/psf-relay/relay-appliance/internal/certstore"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// How long the relay waits between attempts to obtain a certificate; each failure
// doubles the pause, and a CA that names a time is given it.
const (
	retryFirst = 30 * time.Second
	retryLast  = 4 * time.Hour
)

// certs serves the certificate of the relay's domain: one that it obtains from a
// CA, or the operator's own. Whatever goes wrong with it, the relay's other
// transports are not touched.
type certs struct {
	domain     string
	log        *slog.Logger
	loaded     chan struct{} // closed with the first certificate
	retryFirst time.Duration
	pause      time.Duration // the next one, of keep alone

	own        *ownCertificate          // nil: from the CA
	newManager func() *autocert.Manager // nil: the operator's own
	ca         *caWatch
	store      *certstore.Store // of what the CA issued

	mu      sync.Mutex
	manager *autocert.Manager
	leaf    *x509.Certificate // in use
	err     error             // of the last attempt, nil after a success
	retry   time.Time         // of the next attempt after err
	unkept  string            // why what the CA issues cannot be stored
}

func newCerts(cfg config.Config, log *slog.Logger) (*certs, error) {
	c := &certs{domain: cfg.Domain, log: log, loaded: make(chan struct{}), retryFirst: cmp.Or(cfg.Test.RetryFirst, retryFirst)}
	c.pause = c.retryFirst
	if cfg.TLS.Cert != "" {
		c.own = &ownCertificate{cfg: cfg.TLS, domain: cfg.Domain}
		cert, err := c.own.load()
		if err != nil {
			return nil, err
		}
		c.own.cert = cert
		c.served(cert.Leaf)
		return c, nil
	}
	client, root, err := cfg.ACME.Client()
	if err != nil {
		return nil, err
	}
	// What one CA issued is worth nothing under another one; a private CA may
	// have the old URL and a new root.
	sum := sha256.Sum256(append([]byte(cfg.ACME.Directory+"\n"), root...))
	c.store = certstore.New(filepath.Join(cfg.DataDir, "acme", hex.EncodeToString(sum[:8])), cfg.Domain)
	c.ca = &caWatch{next: client.Transport}
	client.Transport = c.store.Transport(c.ca)
	c.newManager = func() *autocert.Manager {
		m := &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			HostPolicy: autocert.HostWhitelist(cfg.Domain),
			Cache:      c.store,
			Email:      cfg.ACME.Email,
			Client:     &acme.Client{DirectoryURL: cfg.ACME.Directory, HTTPClient: client, RetryBackoff: acmeBackoff},
		}
		if cfg.Listen.HTTP != "" {
			m.HTTPHandler(nil) // lets it try HTTP-01 where TLS-ALPN-01 fails
		}
		return m
	}
	c.manager = c.newManager()
	return c, nil
}

// acmeBackoff repeats a request over bad nonces and short breaks of the CA. The
// library would go on for minutes, also against a CA that asks to be left alone.
func acmeBackoff(n int, _ *http.Request, resp *http.Response) time.Duration {
	if resp.StatusCode == http.StatusTooManyRequests || n > 6 {
		return -1
	}
	if resp.StatusCode == http.StatusBadRequest { // a nonce went stale
		return 10 * time.Millisecond
	}
	return time.Duration(n) * 500 * time.Millisecond
}

// tlsConfig is for the WSS port, where HTTPS and the CA's TLS-ALPN-01 validation
// arrive too.
func (c *certs) tlsConfig() *tls.Config {
	protos := []string{"h2", "http/1.1"}
	if c.own == nil {
		protos = append(protos, acme.ALPNProto)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: protos}
}

func (c *certs) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.own != nil {
		return c.own.get(), nil
	}
	cert, err := c.fromManager(hello, time.Now())
	if err == nil {
		return cert, nil
	}
	// The visitor's clock decides about the last certificate, and not this machine's,
	// which may be wrong.
	if last := c.store.Certificate(); last != nil && strings.EqualFold(hello.ServerName, c.domain) && !validates(hello) {
		return last, nil
	}
	c.log.Debug("no certificate for a client", "server_name", hello.ServerName, "error", err)
	return nil, err
}

// validates says whether it is the CA that asks, to see who answers under the domain.
func validates(hello *tls.ClientHelloInfo) bool {
	return slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto})
}

var errPaused = errors.New("there is no certificate, and the next attempt is not due")

// fromManager asks autocert, in a way that leaves visitors no say in when and what
// is ordered: for each that finds no certificate it would make a new attempt, and
// for one without ECDSA order a second certificate. A CA allows few of either.
func (c *certs) fromManager(hello *tls.ClientHelloInfo, now time.Time) (*tls.Certificate, error) {
	c.mu.Lock()
	m, usable, paused := c.manager, c.leaf != nil && now.Before(c.leaf.NotAfter), now.Before(c.retry)
	c.mu.Unlock()
	if validates(hello) {
		return m.GetCertificate(hello)
	}
	if paused && !usable {
		return nil, errPaused
	}
	return m.GetCertificate(modern(hello.ServerName))
}

// httpHandler serves plain HTTP: the CA's HTTP-01 validation, and a redirect for
// everybody else.
func (c *certs) httpHandler() http.Handler {
	redirect := listen.ToHTTPS(c.domain)
	if c.own != nil {
		return redirect
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		m := c.manager
		c.mu.Unlock()
		if host, _, err := net.SplitHostPort(r.Host); err == nil {
			r.Host = host // a CA that asks at another port than 80 names it
		}
		m.HTTPHandler(redirect).ServeHTTP(w, r)
	})
}

// served notes the certificate in use.
func (c *certs) served(leaf *x509.Certificate) {
	c.mu.Lock()
	old := c.leaf
	c.leaf, c.err, c.retry = leaf, nil, time.Time{}
	c.mu.Unlock()
	if old != nil && old.Equal(leaf) {
		return
	}
	c.log.Info("certificate loaded", "domain", c.domain, "issuer", leaf.Issuer.CommonName, "not_after", leaf.NotAfter)
	if old == nil {
		close(c.loaded)
	}
}

// keep obtains the certificate before the first visitor needs it, tries again
// ever less often until there is one, and then watches over it. The WSS listener
// must be up.
func (c *certs) keep(ctx context.Context) {
	if c.ca != nil {
		c.ca.until(ctx)
	}
	for ctx.Err() == nil {
		wait := c.check(ctx, time.Now())
		if c.store != nil {
			c.stored(c.store.Check())
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// check looks after the certificate once, and says when to look again.
func (c *certs) check(ctx context.Context, now time.Time) time.Duration {
	look := lookEvery
	if c.own != nil {
		switch cert, err := c.own.reload(); {
		case err != nil:
			c.failed(err, time.Time{})
		case cert != nil:
			c.served(cert.Leaf)
		}
		if leaf := c.own.get().Leaf; now.After(leaf.NotAfter) {
			c.failed(fmt.Errorf("tls.cert expired on %s: put a new one in its place", leaf.NotAfter.Format(time.DateOnly)), time.Time{})
		}
		return look
	}
	c.mu.Lock()
	leaf, retry := c.leaf, c.retry
	c.mu.Unlock()
	if now.Before(retry) {
		return min(look, retry.Sub(now))
	}
	if leaf != nil && now.After(leaf.NotAfter) {
		// The manager goes on with what it has. A new one finds nothing valid in the
		// cache and orders at once.
		c.renewManager()
	}
	// autocert renews by itself, unseen: this is how to see it.
	cert, err := c.fromManager(modern(c.domain), now)
	if err == nil {
		leaf = cert.Leaf
		if leaf == nil {
			leaf, err = x509.ParseCertificate(cert.Certificate[0])
		}
	}
	if err == nil && now.After(leaf.NotAfter) {
		err = fmt.Errorf("the certificate expired on %s", leaf.NotAfter.Format(time.DateOnly))
	}
	if ctx.Err() != nil {
		return look // the relay stops, which is nobody's fault
	}
	if err != nil {
		wait := c.backoff()
		c.failed(fmt.Errorf("%w%s", err, c.ca.explain()), now.Add(wait))
		// A manager remembers a failure for a minute of its own; a new one asks at once.
		c.renewManager()
		return look
	}
	c.served(leaf)
	c.pause = c.retryFirst
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	look = max(100*time.Millisecond, min(look, life/50))
	// The library tries to renew when a third of the life is left. When half of
	// that is gone too, somebody should look.
	if leaf.NotAfter.Sub(now) < life/6 {
		c.failed(fmt.Errorf("the certificate is not renewed and expires in %s%s", leaf.NotAfter.Sub(now).Round(time.Minute), c.ca.explain()), time.Time{})
	}
	return look
}

// stored notes whether what the CA issues can be stored, and says so once.
func (c *certs) stored(err error) {
	var now string
	if err != nil {
		now = "the folder for certificates cannot be written (" + durable.Reason(err) + "): what the CA issues is kept in memory, and no more is ordered than needed"
	}
	c.mu.Lock()
	was := c.unkept
	c.unkept = now
	c.mu.Unlock()
	switch {
	case now != "" && now != was:
		c.log.Error("certificate: "+now+"; a restart would lose it: make room, or mend the file system", "error", err)
	case now == "" && was != "":
		c.log.Info("certificate: the folder for certificates can be written again, what the CA issued is in it")
	}
}

func (c *certs) renewManager() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manager = c.newManager()
}

// backoff is the next pause, at least what the CA asked for.
func (c *certs) backoff() time.Duration {
	wait := c.pause
	c.pause = min(2*c.pause, retryLast)
	return max(wait, c.ca.asked())
}

func (c *certs) failed(err error, retry time.Time) {
	c.mu.Lock()
	repeated := c.err != nil && c.err.Error() == err.Error()
	c.err, c.retry = err, retry
	c.mu.Unlock()
	if repeated && retry.IsZero() {
		return
	}
	args := []any{"domain", c.domain, "error", err}
	if !retry.IsZero() {
		args = append(args, "next_try", retry.UTC().Truncate(time.Second))
	}
	c.log.Error("certificate: browsers cannot reach the relay without a valid one; its other transports go on", args...)
}

// modern is a client that takes ECDSA, as all do by now.
func modern(serverName string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        serverName,
		SupportedProtos:   []string{"h2", "http/1.1"},
		CipherSuites:      []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.CurveP256},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
	}
}

func (c *certs) state(now time.Time) status.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := status.Certificate{Domain: c.domain, NextTry: c.retry, StoreError: c.unkept}
	if c.leaf != nil {
		s.Issuer, s.NotBefore, s.NotAfter = c.leaf.Issuer.CommonName, c.leaf.NotBefore, c.leaf.NotAfter
		left := c.leaf.NotAfter.Sub(now)
		s.DaysLeft = int(left / (24 * time.Hour))
		if left < 0 {
			s.DaysLeft-- // -1 from the first second on
		}
	}
	if c.err != nil {
		s.Error = c.err.Error()
	}
	return s
}

// ownCertificate is the operator's, read again when its files change.
type ownCertificate struct {
	cfg    config.TLS
	domain string

	mu     sync.Mutex
	cert   *tls.Certificate
	stamps [2]durable.Stamp
}

func (o *ownCertificate) load() (*tls.Certificate, error) {
	stamps := [2]durable.Stamp{durable.StampOf(o.cfg.Cert), durable.StampOf(o.cfg.Key)}
	cert, err := tls.LoadX509KeyPair(o.cfg.Cert, o.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate (tls.cert, tls.key): %w", err)
	}
	if err := cert.Leaf.VerifyHostname(o.domain); err != nil {
		return nil, fmt.Errorf("tls.cert %s is not for the domain: %w", o.cfg.Cert, err)
	}
	o.mu.Lock()
	o.stamps = stamps
	o.mu.Unlock()
	return &cert, nil
}

func (o *ownCertificate) get() *tls.Certificate {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cert
}

// reload returns the new certificate, nil if the files are as they were. While
// the two files do not fit, the old certificate stays: they are not replaced at
// one stroke.
func (o *ownCertificate) reload() (*tls.Certificate, error) {
	o.mu.Lock()
	same := o.stamps == [2]durable.Stamp{durable.StampOf(o.cfg.Cert), durable.StampOf(o.cfg.Key)}
	o.mu.Unlock()
	if same {
		return nil, nil
	}
	cert, err := o.load()
	if err != nil {
		return nil, fmt.Errorf("the old certificate stays in use: %w", err)
	}
	o.mu.Lock()
	o.cert = cert
	o.mu.Unlock()
	return cert, nil
}

// serveHTTP serves plain HTTP on l until ctx ends.
func (c *certs) serveHTTP(ctx context.Context, l net.Listener) {
	s := listen.Server(c.httpHandler(), c.log)
	s.WriteTimeout, s.IdleTimeout = 10*time.Second, 10*time.Second
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		c.log.Error("plain HTTP ended: HTTP-01 and the redirect to https are not served", "error", err)
	}
}
