package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/psf-relay/relay-appliance/internal/listen/listentest"
	"github.com/psf-relay/relay-appliance/internal/pebble"
)

const (
	domain   = "relay.test"
	needed   = "what needs it"
	patience = 60 * time.Second
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// said is a log that a test reads.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), text)
}

// house is a CA and a server that it checks. Keepers come and go, as when a program
// is started again.
type house struct {
	t      *testing.T
	ca     *pebble.Server
	addr   string // of the server
	cfg    Config
	said   *said
	keeper atomic.Pointer[Keeper]

	eager     atomic.Bool // new managers want to renew at once
	tried     atomic.Int64
	validated atomic.Pointer[func()] // called when the CA checks
}

func newHouse(t *testing.T, o pebble.Options) *house {
	l, err := net.Listen("tcp", "127.0.0.4:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	h := &house{t: t, addr: l.Addr().String(), said: new(said)}
	o.TLSPort = l.Addr().(*net.TCPAddr).Port
	o.Names = map[string]netip.Addr{domain: netip.MustParseAddr("127.0.0.4")}
	h.ca, err = pebble.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { h.ca.Close() })
	roots := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(roots, h.ca.RootPEM, 0o600))
	h.cfg = Config{
		Domain: domain, Needed: needed, Log: slog.New(slog.NewTextHandler(h.said, nil)),
		Directory: h.ca.DirectoryURL, CAFile: roots, DataDir: t.TempDir(),
	}
	server := &http.Server{}
	t.Cleanup(func() { server.Close() })
	go server.Serve(tls.NewListener(l, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if f := h.validated.Load(); f != nil && validates(hello) {
				(*f)()
			}
			return h.keeper.Load().TLSConfig(), nil
		},
	}))
	return h
}

// open is a keeper that the server uses from now on.
func (h *house) open() *Keeper {
	h.t.Helper()
	k, err := New(h.cfg)
	must(h.t, err)
	plain := k.newManager
	k.newManager = func() *autocert.Manager {
		m := plain()
		m.Client.HTTPClient = &http.Client{Transport: watch{k.ca, &h.tried}}
		if h.eager.Load() {
			m.RenewBefore = 30 * 24 * time.Hour
		}
		return m
	}
	k.renewManager()
	h.keeper.Store(k)
	return k
}

// keep runs a keeper until the test ends, or the result is called.
func (h *house) keep(k *Keeper) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Keep(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	h.t.Cleanup(stop)
	return stop
}

// current is the certificate that visitors are shown, obtained if there is none.
func (h *house) current(k *Keeper) *x509.Certificate {
	h.t.Helper()
	cert, err := k.get(modern(domain))
	must(h.t, err)
	return cert.Leaf
}

// again makes a new manager, as after a failure, that wants to renew at once, and waits
// until it tried.
func (h *house) again(k *Keeper) *x509.Certificate {
	h.t.Helper()
	h.eager.Store(true)
	defer h.eager.Store(false)
	tried := h.tried.Load()
	k.renewManager()
	leaf := h.current(k)
	eventually(h.t, "the library wants to renew", func() bool { return h.tried.Load() > tried })
	return leaf
}

func (h *house) folder() string {
	h.t.Helper()
	list, err := filepath.Glob(filepath.Join(h.cfg.DataDir, "acme", "*"))
	must(h.t, err)
	if len(list) != 1 {
		h.t.Fatalf("folders for certificates: %v", list)
	}
	return list[0]
}

// watch counts the orders that managers want to make, before a keeper may refuse them.
type watch struct {
	next  http.RoundTripper
	tried *atomic.Int64
}

func (w watch) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if r.URL.Path == "/order-plz" {
		w.tried.Add(1)
	}
	return resp, err
}

// selfSigned is key and certificate, as the library has them in one file.
func selfSigned(t *testing.T, notBefore, notAfter time.Time) (key, cert []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(notBefore.UnixNano()), DNSNames: []string{domain}, NotBefore: notBefore, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	raw, err := x509.MarshalECPrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestOverdue(t *testing.T) {
	const day = 24 * time.Hour
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for life, left := range map[time.Duration]time.Duration{6 * day: day, 90 * day: 15 * day, 398 * day: 15 * day} {
		end := begin.Add(life)
		if Overdue(begin, end, end.Add(-left)) || !Overdue(begin, end, end.Add(-left+time.Second)) {
			t.Errorf("of %s: overdue at another time than with %s left", life, left)
		}
	}
}

// The library begins when the window does, or up to an hour later.
func TestRenewalWindowIsTheLibrarys(t *testing.T) {
	h := newHouse(t, pebble.Options{})
	h.current(h.open())
	file := filepath.Join(h.folder(), domain)
	for days, want := range map[int]time.Duration{6: 2, 90: 30, 398: 30} {
		life := time.Duration(days) * 24 * time.Hour
		window := RenewalWindow(life)
		if window != want*24*time.Hour {
			t.Errorf("%d days: a window of %s", days, window)
		}
		begins := func(left time.Duration) *Keeper {
			end := time.Now().Add(left)
			key, cert := selfSigned(t, end.Add(-life), end)
			must(t, os.WriteFile(file, append(key, cert...), 0o600))
			k := h.open()
			h.current(k)
			return k
		}
		orders := h.ca.Orders()
		begins(window + time.Minute)
		k := begins(window - time.Hour)
		eventually(t, "it is renewed", func() bool { return k.store.certificate().Leaf.Issuer.CommonName != "" })
		if n := h.ca.Orders() - orders; n != 1 {
			t.Errorf("%d days: %d orders", days, n)
		}
	}
}

// While the next attempt is not due, visitors do not make the keeper ask the CA: a
// handful of failures an hour is all a CA allows.
func TestVisitorsOrderNothing(t *testing.T) {
	h := newHouse(t, pebble.Options{})
	h.ca.SetName(domain, netip.MustParseAddr("127.0.0.9"))
	h.cfg.RetryFirst = time.Hour
	k := h.open()
	h.keep(k)
	eventually(t, "the first attempt failed", func() bool { return !k.State(time.Now()).NextTry.IsZero() })
	if said := k.State(time.Now()).Error; !strings.Contains(said, "the CA's check by tls-alpn-01 failed") || h.said.count(needed) != 1 {
		t.Errorf("said %d times: %s", h.said.count(needed), said)
	}
	orders := h.ca.Orders()
	for range 20 {
		if conn, err := tls.Dial("tcp", h.addr, &tls.Config{ServerName: domain, InsecureSkipVerify: true}); err == nil {
			conn.Close()
			t.Fatal("a certificate was served")
		}
	}
	if n := h.ca.Orders() - orders; n != 0 {
		t.Errorf("20 visitors made %d orders", n)
	}
}

// Nor does a visitor without ECDSA make it order an RSA certificate, or one for another
// name another one.
func TestOneCertificateForAll(t *testing.T) {
	h := newHouse(t, pebble.Options{})
	k := h.open()
	h.keep(k)
	<-k.Loaded()
	orders := h.ca.Orders()
	for what, conf := range map[string]*tls.Config{
		"without ECDSA": {ServerName: domain, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
		"another name":  {ServerName: "another.test", InsecureSkipVerify: true},
		"no name":       {InsecureSkipVerify: true},
	} {
		if conn, err := tls.Dial("tcp", h.addr, conf); err == nil {
			conn.Close()
			t.Errorf("%s: served", what)
		}
	}
	if n := h.ca.Orders() - orders; n != 0 {
		t.Errorf("visitors made %d orders", n)
	}
	if s := k.State(time.Now()); s.DaysLeft != 89 || s.Error != "" || s.StoreError != "" {
		t.Errorf("state %+v", s)
	}
}

// By a clock that is wrong the certificate may seem expired, or not valid yet. The
// visitors' clocks decide, and nothing is ordered.
func TestByAWrongClock(t *testing.T) {
	h := newHouse(t, pebble.Options{})
	first := h.current(h.open())
	k := h.open()
	// autocert refuses what it holds to be out of its time; an error of the manager
	// stands for that here, since its clock cannot be set.
	k.retry = time.Now().Add(time.Hour)
	if leaf := h.current(k); !leaf.Equal(first) {
		t.Error("the certificate on disk is not served")
	}
	for _, other := range []string{"another.test", ""} {
		if _, err := k.get(modern(other)); err == nil {
			t.Errorf("it is served for %q", other)
		}
	}
	hello := modern(domain)
	hello.SupportedProtos = []string{"acme-tls/1"}
	if _, err := k.get(hello); err == nil {
		t.Error("it is served to the CA's validation")
	}
	if n := h.ca.Orders(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// A certificate that the CA does not renew is served on, and somebody is told once.
func TestNotRenewed(t *testing.T) {
	h := newHouse(t, pebble.Options{})
	h.current(h.open())
	day := 24 * time.Hour
	key, cert := selfSigned(t, time.Now().Add(-76*day), time.Now().Add(14*day))
	must(t, os.WriteFile(filepath.Join(h.folder(), domain), append(key, cert...), 0o600))
	h.ca.Refuse(http.StatusTooManyRequests)
	k := h.open()
	leaf := h.current(k)
	eventually(t, "the CA refuses to renew it", func() bool { return k.ca.explain(os.ErrInvalid) != os.ErrInvalid })
	for range 3 {
		k.checkIssued(t.Context(), time.Now())
	}
	s := k.State(time.Now())
	if !strings.Contains(s.Error, "is not renewed") || !strings.Contains(s.Error, "rateLimited") || !s.NextTry.IsZero() || !s.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("state %+v", s)
	}
	if n := h.said.count("is not renewed"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}

func TestOwn(t *testing.T) {
	dir := t.TempDir()
	log := new(said)
	cfg := Config{
		Domain: domain, Needed: needed, Log: slog.New(slog.NewTextHandler(log, nil)),
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "tls.cert") {
		t.Errorf("without files: %v", err)
	}
	now := time.Now()
	key, cert := selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour))
	must(t, os.WriteFile(cfg.Key, key, 0o600))
	must(t, os.WriteFile(cfg.Cert, cert, 0o600))
	k, err := New(cfg)
	must(t, err)
	select {
	case <-k.Loaded():
	default:
		t.Error("it is not loaded")
	}
	later := now.Add(2 * time.Hour)
	for range 3 {
		k.checkOwn(later)
	}
	if s := k.State(later); s.DaysLeft != -1 || !strings.Contains(s.Error, "tls.cert expired on") || log.count(needed) != 1 {
		t.Errorf("said %d times: %+v", log.count(needed), s)
	}
	key, cert = selfSigned(t, now.Add(-time.Minute), now.Add(12*time.Hour))
	must(t, os.WriteFile(cfg.Cert, cert, 0o600)) // before its key
	for range 3 {
		k.checkOwn(later)
	}
	if s := k.State(later); !strings.Contains(s.Error, "tls.cert expired on") || !strings.Contains(s.Error, "the old certificate stays in use") || log.count(needed) != 2 {
		t.Errorf("said %d times: %+v", log.count(needed), s)
	}
	must(t, os.WriteFile(cfg.Key, key, 0o600))
	k.checkOwn(later)
	if s := k.State(later); s.Error != "" || s.DaysLeft != 0 || !s.NotAfter.After(later) {
		t.Errorf("renewed: %+v", s)
	}
	key, cert = selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour)) // an old one, by mistake
	must(t, os.WriteFile(cfg.Key, key, 0o600))
	must(t, os.WriteFile(cfg.Cert, cert, 0o600))
	k.checkOwn(later)
	if s := k.State(later); !s.NotAfter.After(later) || !strings.Contains(s.Error, "the new tls.cert expired on") {
		t.Errorf("replaced by an expired one: %+v", s)
	}
}

// The name that plain HTTP leads to is the domain, whatever the visitor says.
func TestRedirectsToTheDomainOnly(t *testing.T) {
	dir := t.TempDir()
	own := Config{Domain: domain, Log: slog.New(slog.DiscardHandler), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	key, cert := selfSigned(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	must(t, os.WriteFile(own.Key, key, 0o600))
	must(t, os.WriteFile(own.Cert, cert, 0o600))
	for name, cfg := range map[string]Config{
		"own":  own,
		"acme": {Domain: domain, Log: own.Log, DataDir: dir, HTTP: true},
	} {
		k, err := New(cfg)
		must(t, err)
		server := httptest.NewServer(k.HTTPHandler())
		defer server.Close()
		listentest.Redirects(t, name, server.Listener.Addr().String(), domain)
	}
}

// Who has mended what the CA complained of does not wait for the next attempt, and
// cannot be made to ask the CA time and again.
func TestTryNow(t *testing.T) {
	h := newHouse(t, pebble.Options{})
	h.cfg.RetryFirst = time.Hour
	h.ca.SetName(domain, netip.MustParseAddr("127.0.0.5")) // nothing listens there
	k := h.open()
	now := time.Now()
	k.checkIssued(t.Context(), now)
	if s := k.State(now); s.Error == "" || s.NextTry.Sub(now) != time.Hour {
		t.Fatalf("the first attempt: %+v", s)
	}
	k.TryNow(now)
	if s := k.State(now); s.NextTry.After(now) {
		t.Fatalf("told to try, it waits until %s", s.NextTry)
	}
	k.checkIssued(t.Context(), now)
	k.TryNow(now.Add(hurryEvery - time.Second))
	if s := k.State(now); s.NextTry.Sub(now) != time.Hour {
		t.Errorf("told so again and again, it waits %s, want an hour", s.NextTry.Sub(now))
	}
	h.ca.SetName(domain, netip.MustParseAddr("127.0.0.4"))
	now = now.Add(hurryEvery)
	k.TryNow(now)
	k.checkIssued(t.Context(), now)
	if s := k.State(now); s.Error != "" || s.NotAfter.IsZero() {
		t.Errorf("after it was mended: %+v", s)
	}
	k.TryNow(now.Add(2 * hurryEvery))
	if s := k.State(now); !s.NextTry.IsZero() {
		t.Errorf("with a certificate it would try at %s", s.NextTry)
	}
}
