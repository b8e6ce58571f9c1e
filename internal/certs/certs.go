// Package certs serves the certificate of one domain: one that it obtains from a CA and
// renews, or the operator's own. A CA allows few orders and few failures for one name.
// So visitors have no say in when and what is ordered, failed attempts come ever less
// often, and nothing that was issued is lost when the disk does not take it.
package certs

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

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/listen"
)

const (
	// The pause between attempts to obtain a certificate. Each failure doubles it, and a
	// CA that names a time is given it.
	retryFirst = 30 * time.Second
	retryLast  = 4 * time.Hour
	// hurryEvery is how often the pause may be ended early.
	hurryEvery = 10 * time.Minute
	// lookEvery is the pause between looks at the certificate, and whether it is stored.
	lookEvery = 2 * time.Second
)

// RenewalWindow is the last part of a certificate's life, in which it is renewed: a
// third, and at most 30 days. The library has the same rule and does not tell it.
func RenewalWindow(life time.Duration) time.Duration { return min(life/3, 30*24*time.Hour) }

// Overdue says whether a certificate should have been renewed by now: half of the
// window has passed, and somebody should look.
func Overdue(notBefore, notAfter, now time.Time) bool {
	return notAfter.Sub(now) < RenewalWindow(notAfter.Sub(notBefore))/2
}

// Config says whose certificate it is, and where it comes from.
type Config struct {
	Domain string
	// Needed says what there is not without a valid certificate, for the log.
	Needed string
	Log    *slog.Logger

	// Cert and Key are the files of the operator's own certificate (tls.cert, tls.key);
	// empty: it is obtained from a CA.
	Cert, Key string

	Directory string // the CA's URL
	CAFile    string // the roots by which the CA is known, in PEM; empty: the system's
	Email     string // for the CA; may be empty
	DataDir   string // what the CA issues is stored in its folder acme
	HTTP      bool   // [Keeper.HTTPHandler] is served, and the CA may check by it

	RetryFirst time.Duration // the first pause after a failure; 0: that of a real CA
}

// State is how the certificate is, for people and programs.
type State struct {
	Domain              string
	Issuer              string
	NotBefore, NotAfter time.Time // zero: there is none
	DaysLeft            int       // below 0: expired; 0 without a certificate
	Error               string    // of the last attempt
	NextTry             time.Time
	StoreError          string // why what the CA issues cannot be stored
}

// Keeper serves the certificate and looks after it. Whatever goes wrong with it,
// nothing else is touched.
type Keeper struct {
	cfg    Config
	loaded chan struct{} // closed with the first certificate

	own        *ownCertificate          // nil: from the CA
	newManager func() *autocert.Manager // nil: the operator's own
	ca         *caWatch
	store      *store // of what the CA issued

	mu      sync.Mutex
	manager *autocert.Manager
	leaf    *x509.Certificate // in use
	err     error             // of the last attempt, nil after a success
	retry   time.Time         // of the next attempt after err
	pause   time.Duration     // from the next failure to the attempt after it
	allowed time.Time         // when the CA allows that attempt
	hurried time.Time         // when the pause was last ended early
	unkept  string            // why what the CA issues cannot be stored
}

// New checks what it is given, and asks nobody yet.
func New(cfg Config) (*Keeper, error) {
	cfg.RetryFirst = cmp.Or(cfg.RetryFirst, retryFirst)
	k := &Keeper{cfg: cfg, loaded: make(chan struct{}), pause: cfg.RetryFirst}
	if cfg.Cert != "" {
		k.own = &ownCertificate{certFile: cfg.Cert, keyFile: cfg.Key, domain: cfg.Domain}
		cert, err := k.own.reload(time.Now())
		if err != nil {
			return nil, err
		}
		k.use(cert.Leaf)
		return k, nil
	}
	client, root, err := Client(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("acme.ca_file: %w", err)
	}
	// What one CA issued is worth nothing under another one; a private CA may
	// have the old URL and a new root.
	sum := sha256.Sum256(append([]byte(cfg.Directory+"\n"), root...))
	k.store = newStore(filepath.Join(cfg.DataDir, "acme", hex.EncodeToString(sum[:8])), cfg.Domain)
	k.ca = &caWatch{next: client.Transport, store: k.store, life: context.Background()}
	client.Transport = k.ca
	k.newManager = func() *autocert.Manager {
		m := &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			HostPolicy: autocert.HostWhitelist(cfg.Domain),
			Cache:      k.store,
			Email:      cfg.Email,
			Client:     &acme.Client{DirectoryURL: cfg.Directory, HTTPClient: client, RetryBackoff: backoff},
		}
		if cfg.HTTP {
			m.HTTPHandler(nil) // lets it try HTTP-01 where TLS-ALPN-01 fails
		}
		return m
	}
	k.manager = k.newManager()
	return k, nil
}

// backoff repeats a request over bad nonces and short breaks of the CA. The
// library would go on for minutes, also against a CA that asks to be left alone.
func backoff(n int, _ *http.Request, resp *http.Response) time.Duration {
	if resp.StatusCode == http.StatusTooManyRequests || n > 6 {
		return -1
	}
	if resp.StatusCode == http.StatusBadRequest { // a nonce went stale
		return 10 * time.Millisecond
	}
	return time.Duration(n) * 500 * time.Millisecond
}

// Loaded is closed as soon as there is a certificate.
func (k *Keeper) Loaded() <-chan struct{} { return k.loaded }

// TLSConfig is for the HTTPS port, where the CA's TLS-ALPN-01 validation arrives too.
func (k *Keeper) TLSConfig() *tls.Config {
	protos := []string{"h2", "http/1.1"}
	if k.own == nil {
		protos = append(protos, acme.ALPNProto)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get, NextProtos: protos}
}

func (k *Keeper) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if k.own != nil {
		return k.own.cert.Load(), nil
	}
	cert, err := k.fromManager(hello, time.Now())
	if err == nil {
		return cert, nil
	}
	// The visitor's clock decides about the last certificate, and not this machine's,
	// which may be wrong.
	if last := k.store.certificate(); last != nil && strings.EqualFold(hello.ServerName, k.cfg.Domain) && !validates(hello) {
		return last, nil
	}
	k.cfg.Log.Debug("no certificate for a client", "server_name", hello.ServerName, "error", err)
	return nil, err
}

// validates says whether it is the CA that asks, to see who answers under the domain.
func validates(hello *tls.ClientHelloInfo) bool {
	return slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto})
}

var errPaused = errors.New("there is no certificate, and the next attempt is not due")

// fromManager asks autocert, in a way that leaves visitors no say in when and what
// is ordered: for each that finds no certificate it would make a new attempt, and
// for one without ECDSA order a second certificate.
func (k *Keeper) fromManager(hello *tls.ClientHelloInfo, now time.Time) (*tls.Certificate, error) {
	k.mu.Lock()
	m, usable, paused := k.manager, k.leaf != nil && now.Before(k.leaf.NotAfter), now.Before(k.retry)
	k.mu.Unlock()
	if validates(hello) {
		return m.GetCertificate(hello)
	}
	if paused && !usable {
		return nil, errPaused
	}
	return m.GetCertificate(modern(hello.ServerName))
}

// HTTPHandler serves plain HTTP: the CA's HTTP-01 validation, and a redirect for
// everybody else.
func (k *Keeper) HTTPHandler() http.Handler {
	redirect := listen.ToHTTPS(k.cfg.Domain)
	if k.own != nil {
		return redirect
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		m := k.manager
		k.mu.Unlock()
		if host, _, err := net.SplitHostPort(r.Host); err == nil {
			r.Host = host // a CA that asks at another port than 80 names it
		}
		m.HTTPHandler(redirect).ServeHTTP(w, r)
	})
}

// Keep obtains the certificate before the first visitor needs it, tries again ever
// less often until there is one, and then watches over it until ctx ends. The HTTPS
// listener must be up.
func (k *Keeper) Keep(ctx context.Context) {
	if k.ca != nil {
		k.ca.until(ctx)
	}
	for ctx.Err() == nil {
		wait := lookEvery
		if k.own != nil {
			k.checkOwn(time.Now())
		} else {
			wait = k.checkIssued(ctx, time.Now())
			k.stored(k.store.check())
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// checkOwn reads the operator's certificate again if its files changed.
func (k *Keeper) checkOwn(now time.Time) {
	cert, err := k.own.reload(now)
	if err != nil {
		err = fmt.Errorf("the old certificate stays in use: %w", err)
	}
	k.use(cert.Leaf)
	if end := cert.Leaf.NotAfter; now.After(end) {
		expired := fmt.Errorf("tls.cert expired on %s: put a new one in its place", end.Format(time.DateOnly))
		if err != nil {
			expired = fmt.Errorf("%w; %w", expired, err)
		}
		err = expired
	}
	k.note(err, time.Time{})
}

// checkIssued looks after the CA's certificate once, and says when to look again.
func (k *Keeper) checkIssued(ctx context.Context, now time.Time) time.Duration {
	k.mu.Lock()
	leaf, retry := k.leaf, k.retry
	k.mu.Unlock()
	if now.Before(retry) {
		return min(lookEvery, retry.Sub(now))
	}
	if leaf != nil && now.After(leaf.NotAfter) {
		// The manager goes on with what it has. A new one finds nothing valid in the
		// cache and orders at once.
		k.renewManager()
	}
	// autocert renews by itself, unseen: this is how to see it.
	cert, err := k.fromManager(modern(k.cfg.Domain), now)
	if err == nil && now.After(cert.Leaf.NotAfter) {
		err = fmt.Errorf("the certificate expired on %s", cert.Leaf.NotAfter.Format(time.DateOnly))
	}
	if ctx.Err() != nil {
		return lookEvery // the program stops, which is nobody's fault
	}
	if err != nil {
		asked := k.ca.asked()
		k.mu.Lock()
		wait := max(k.pause, asked)
		k.pause, k.allowed = min(2*k.pause, retryLast), now.Add(asked)
		k.mu.Unlock()
		k.note(k.ca.explain(err), now.Add(wait))
		// A manager remembers a failure for a minute of its own; a new one asks at once.
		k.renewManager()
		return lookEvery
	}
	leaf = cert.Leaf
	k.use(leaf)
	k.mu.Lock()
	k.pause = k.cfg.RetryFirst
	k.mu.Unlock()
	if Overdue(leaf.NotBefore, leaf.NotAfter, now) {
		err = k.ca.explain(fmt.Errorf("the certificate is not renewed and expires on %s", leaf.NotAfter.Format(time.DateOnly)))
	}
	k.note(err, time.Time{})
	return max(100*time.Millisecond, min(lookEvery, leaf.NotAfter.Sub(leaf.NotBefore)/50))
}

// TryNow ends the pause after a failure, since its cause seems to be mended: the next
// attempt is made at once, or when the CA allows it, and pauses are short again. Once in
// ten minutes at most, so that what comes and goes does not use up what the CA grants
// (Let's Encrypt: five failures an hour).
func (k *Keeper) TryNow(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Sub(k.hurried) < hurryEvery {
		return
	}
	k.hurried, k.pause = now, k.cfg.RetryFirst // also where an attempt is under way
	if now.Before(k.retry) && k.allowed.Before(k.retry) {
		k.retry = k.allowed
	}
}

func (k *Keeper) renewManager() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.manager = k.newManager()
}

// use notes the certificate in use.
func (k *Keeper) use(leaf *x509.Certificate) {
	k.mu.Lock()
	old := k.leaf
	k.leaf = leaf
	k.mu.Unlock()
	if old != nil && old.Equal(leaf) {
		return
	}
	k.cfg.Log.Info("certificate loaded", "domain", k.cfg.Domain, "issuer", leaf.Issuer.CommonName, "not_after", leaf.NotAfter)
	if old == nil {
		close(k.loaded)
	}
}

// note keeps what is wrong, nil if nothing is, and says what is new in it. Each attempt
// that failed is new.
func (k *Keeper) note(err error, retry time.Time) {
	k.mu.Lock()
	known := err == nil || k.err != nil && k.err.Error() == err.Error() && retry.IsZero()
	k.err, k.retry = err, retry
	k.mu.Unlock()
	if known {
		return
	}
	args := []any{"domain", k.cfg.Domain, "error", err}
	if !retry.IsZero() {
		args = append(args, "next_try", retry.UTC().Truncate(time.Second))
	}
	k.cfg.Log.Error("certificate: "+k.cfg.Needed, args...)
}

// stored notes whether what the CA issues can be stored, and says so once.
func (k *Keeper) stored(err error) {
	var now string
	if err != nil {
		now = "the folder for certificates cannot be written (" + durable.Reason(err) + "): what the CA issues is kept in memory, and no more is ordered than needed"
	}
	k.mu.Lock()
	was := k.unkept
	k.unkept = now
	k.mu.Unlock()
	switch {
	case now != "" && now != was:
		k.cfg.Log.Error("certificate: "+now+"; a restart would lose it: make room, or mend the file system", "error", err)
	case now == "" && was != "":
		k.cfg.Log.Info("certificate: the folder for certificates can be written again, what the CA issued is in it")
	}
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

// State is how the certificate is by now.
func (k *Keeper) State(now time.Time) State {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := State{Domain: k.cfg.Domain, NextTry: k.retry, StoreError: k.unkept}
	if k.leaf != nil {
		s.Issuer, s.NotBefore, s.NotAfter = k.leaf.Issuer.CommonName, k.leaf.NotBefore, k.leaf.NotAfter
		left := k.leaf.NotAfter.Sub(now)
		s.DaysLeft = int(left / (24 * time.Hour))
		if left < 0 {
			s.DaysLeft-- // -1 from the first second on
		}
	}
	if k.err != nil {
		s.Error = k.err.Error()
	}
	return s
}
