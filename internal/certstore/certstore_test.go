package certstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/pebble"
)

const (
	domain   = "store.test"
	patience = 60 * time.Second
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is a CA and a server that it validates. Managers come and go, as they do in
// a program that makes a new one after a failure.
type house struct {
	t       *testing.T
	ca      *pebble.Server
	client  *http.Client
	manager atomic.Pointer[autocert.Manager]
	tried   atomic.Int64 // orders that managers wanted to make
}

func newHouse(t *testing.T, life time.Duration) *house {
	l, err := net.Listen("tcp", "127.0.0.4:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	h := &house{t: t}
	h.ca, err = pebble.Start(t.Context(), pebble.Options{
		TLSPort: l.Addr().(*net.TCPAddr).Port, ValidFor: life,
		Names: map[string]netip.Addr{domain: netip.MustParseAddr("127.0.0.4")},
	})
	must(t, err)
	t.Cleanup(func() { h.ca.Close() })
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(h.ca.RootPEM)
	h.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	server := &http.Server{}
	t.Cleanup(func() { server.Close() })
	go server.Serve(tls.NewListener(l, &tls.Config{
		NextProtos: []string{"http/1.1", acme.ALPNProto},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return h.manager.Load().GetCertificate(hello)
		},
	}))
	return h
}

// serve takes a new manager into use and gets its certificate. One that is eager
// wants to renew at once.
func (h *house) serve(s *Store, eager bool) (*x509.Certificate, error) {
	h.t.Helper()
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(domain), Cache: s,
		Client: &acme.Client{DirectoryURL: h.ca.DirectoryURL, HTTPClient: &http.Client{Transport: watch{s.Transport(h.client.Transport), &h.tried}}},
	}
	if eager {
		m.RenewBefore = 30 * 24 * time.Hour
	}
	h.manager.Store(m)
	cert, err := m.GetCertificate(&tls.ClientHelloInfo{
		ServerName: domain, SupportedProtos: []string{"h2"},
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	})
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(cert.Certificate[0])
}

// watch counts what comes before the store's own transport.
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

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// fill makes a store's disk full for the given names, or for all.
func fill(s *Store, names ...string) (room func()) {
	var mu sync.Mutex
	full := true
	s.replace = func(path string, data []byte, perm fs.FileMode) error {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			if full && filepath.Base(path) == name {
				return fmt.Errorf("write %s: %w", path, syscall.ENOSPC)
			}
		}
		return durable.Replace(path, data, perm)
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		full = false
	}
}

// The disk fills up while a certificate is renewed: what was issued is served, and
// nothing more is ordered until it could be kept.
func TestRenewedWhileTheDiskFillsUp(t *testing.T) {
	h := newHouse(t, 20*24*time.Hour)
	dir := filepath.Join(t.TempDir(), "acme", "ca")
	s := New(dir, domain)
	first, err := h.serve(s, false)
	must(t, err)
	if n := h.ca.Orders(); n != 1 || s.Check() != nil {
		t.Fatalf("%d orders for the first certificate, %v", n, s.Check())
	}
	room := fill(s, domain) // but the probe before the order still finds room
	before := h.tried.Load()
	_, err = h.serve(s, true)
	must(t, err)
	// An eager library wants the next renewal at once. It is refused, and tries again
	// after half an hour at the earliest.
	eventually(t, "the library renews, and wants to again", func() bool { return h.tried.Load() == before+2 })
	if s.Certificate().Leaf.Equal(first) {
		t.Fatal("the renewed certificate is not current")
	}
	renewed := s.Certificate().Leaf
	if err := s.Check(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the fault is not told: %v", err)
	}
	if onDisk := New(dir, domain).Certificate().Leaf; !onDisk.Equal(first) {
		t.Error("the disk took it after all: this test shows nothing")
	}
	for range 5 { // as after failures, and each time that the library tries again
		tried := h.tried.Load()
		got, err := h.serve(s, true)
		must(t, err)
		if !got.Equal(renewed) {
			t.Errorf("served is the certificate %s, want %s", got.SerialNumber, renewed.SerialNumber)
		}
		eventually(t, "the library wants to renew", func() bool { return h.tried.Load() > tried })
	}
	if n := h.ca.Orders(); n != 2 {
		t.Errorf("the CA saw %d orders, want 2", n)
	}
	room()
	must(t, s.Check())
	info, err := os.Stat(filepath.Join(dir, domain))
	must(t, err)
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %v", mode)
	}
	if _, err := os.Stat(filepath.Join(dir, probeFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the probe stays: %v", err)
	}
	// A restart goes on with it, and so does a version that has autocert's own cache.
	again := New(dir, domain)
	if got, err := h.serve(again, false); err != nil || !got.Equal(renewed) {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	data, err := autocert.DirCache(dir).Get(t.Context(), domain)
	must(t, err)
	if pair, err := tls.X509KeyPair(data, data); err != nil || !pair.Leaf.Equal(renewed) {
		t.Errorf("for autocert.DirCache: %v", err)
	}
	if n := h.ca.Orders(); n != 2 {
		t.Errorf("%d orders after the restart", n)
	}
}

// A folder that cannot be written when the renewal is due: nothing is ordered while
// the certificate lasts.
func TestRenewalWaitsForTheFolder(t *testing.T) {
	h := newHouse(t, 20*24*time.Hour)
	dir := filepath.Join(t.TempDir(), "acme", "ca")
	s := New(dir, domain)
	first, err := h.serve(s, false)
	must(t, err)
	must(t, os.Rename(dir, dir+".aside")) // a file where the folder should be
	must(t, os.WriteFile(dir, nil, 0o600))
	for range 3 {
		tried := h.tried.Load()
		got, err := h.serve(s, true)
		must(t, err)
		if !got.Equal(first) {
			t.Error("another certificate is served")
		}
		eventually(t, "the library wants to renew", func() bool { return h.tried.Load() > tried })
	}
	if n := h.ca.Orders(); n != 1 {
		t.Errorf("the CA saw %d orders, want 1", n)
	}
	if err := s.Check(); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("the fault is not told: %v", err)
	}
	must(t, os.Remove(dir))
	must(t, os.Rename(dir+".aside", dir))
	must(t, s.Check())
}

// When the certificate does not last, one in memory is better than none; and one is
// enough.
func TestExpiredOnAFullDisk(t *testing.T) {
	h := newHouse(t, 0)
	dir := filepath.Join(t.TempDir(), "ca")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, domain), expired(t), 0o600))
	s := New(dir, domain)
	if s.Certificate() == nil {
		t.Fatal("the certificate on disk is not current")
	}
	fill(s, domain, "acme_account+key", domain+"+token", probeFile)
	first, err := h.serve(s, false)
	must(t, err)
	for range 5 {
		tried := h.tried.Load()
		got, err := h.serve(s, false)
		must(t, err)
		if !got.Equal(first) || h.tried.Load() != tried {
			t.Error("another certificate is served, or wanted")
		}
	}
	if n := h.ca.Orders(); n != 1 {
		t.Errorf("the CA saw %d orders, want 1", n)
	}
}

func expired(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{domain}, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	return append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
}

// Without a certificate one in memory is better than none, and one is enough.
func TestTheFirstOnAFullDisk(t *testing.T) {
	h := newHouse(t, 0)
	dir := filepath.Join(t.TempDir(), "ca")
	must(t, os.WriteFile(dir, nil, 0o600))
	s := New(dir, domain)
	first, err := h.serve(s, false)
	must(t, err)
	key := account(t, s)
	for range 5 {
		got, err := h.serve(s, false)
		must(t, err)
		if !got.Equal(first) {
			t.Error("another certificate is served")
		}
	}
	if n := h.ca.Orders(); n != 1 {
		t.Errorf("the CA saw %d orders", n)
	}
	if account(t, s) != key {
		t.Error("the account is another one")
	}
	must(t, os.Remove(dir))
	must(t, s.Check())
	if got := New(dir, domain); account(t, got) != key || !got.Certificate().Leaf.Equal(first) {
		t.Error("certificate and account are not on disk")
	}
}

func account(t *testing.T, s *Store) string {
	t.Helper()
	data, err := s.Get(t.Context(), "acme_account+key")
	must(t, err)
	return string(data)
}

// On a machine whose clock is wrong nothing is ordered: autocert would discard what it
// gets as not valid yet, or renew what is still good.
func TestNothingIsOrderedByAWrongClock(t *testing.T) {
	for name, tc := range map[string]struct {
		ahead time.Duration // the CA's clock
		want  string        // "": it is ordered
	}{
		"right":             {0, ""},
		"a little behind":   {50 * time.Minute, ""},
		"two hours behind":  {2 * time.Hour, "2h0m0s behind"},
		"a month ahead":     {-30 * 24 * time.Hour, "720h0m0s ahead of"},
		"the CA says never": {1 << 62, ""},
	} {
		t.Run(name, func(t *testing.T) {
			orders := 0
			var ca *httptest.Server
			ca = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(tc.ahead).UTC().Format(http.TimeFormat))
				if tc.ahead == 1<<62 {
					w.Header().Set("Date", "never")
				}
				if r.URL.Path == "/order" {
					orders++
				}
				fmt.Fprintf(w, `{"newOrder": %q}`, ca.URL+"/order")
			}))
			defer ca.Close()
			client := &http.Client{Transport: New(t.TempDir(), domain).Transport(http.DefaultTransport)}
			resp, err := client.Get(ca.URL)
			must(t, err)
			if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "newOrder") {
				t.Errorf("the directory: %q, %v", body, err)
			}
			resp.Body.Close()
			resp, err = client.Post(ca.URL+"/order", "", nil)
			if err == nil {
				resp.Body.Close()
			}
			if tc.want == "" && (err != nil || orders != 1) || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || orders != 0) {
				t.Errorf("%d orders, %v, want %q", orders, err, tc.want)
			}
		})
	}
}

// What the CA's server could be made to fill memory with is bounded.
func TestKeepsLittle(t *testing.T) {
	s := New(t.TempDir(), domain)
	s.replace = func(string, []byte, fs.FileMode) error { return syscall.ENOSPC }
	var err error
	for i := range 100 {
		err = errors.Join(err, s.Put(context.Background(), fmt.Sprint(i), []byte("x")))
	}
	if err == nil || len(s.kept) > maxKept || len(s.unsaved) > maxKept {
		t.Errorf("%d kept, %d of them not saved, %v", len(s.kept), len(s.unsaved), err)
	}
	for i := range 100 {
		must(t, s.Delete(context.Background(), fmt.Sprint(i)))
	}
	if len(s.kept)+len(s.unsaved) != 0 {
		t.Errorf("%d kept, %d not saved after all was deleted", len(s.kept), len(s.unsaved))
	}
}

// Strangers ask for tokens by names of their own. Nothing of the file system stands in the
// answer, which is autocert's text of the error.
func TestNamesOfStrangers(t *testing.T) {
	s := New(t.TempDir(), "relay.test")
	for _, name := range []string{strings.Repeat("x", 300), "x\x00", "..", "."} {
		if _, err := s.Get(t.Context(), name+"+http-01"); err != autocert.ErrCacheMiss {
			t.Errorf("%q: %v", name, err)
		}
	}
}
