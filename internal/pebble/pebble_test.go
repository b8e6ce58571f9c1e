package pebble

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const name = "ca.test"

// client trusts the CA's root, and nothing else.
func client(t *testing.T, s *Server) *acme.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.RootPEM) {
		t.Fatal("no root")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &acme.Client{
		Key: key, DirectoryURL: s.DirectoryURL,
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
		RetryBackoff: func(n int, _ *http.Request, _ *http.Response) time.Duration { return time.Duration(2-n) * time.Second },
	}
}

// start makes a CA that looks for name at the listener.
func start(t *testing.T, o Options) (*Server, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o.TLSPort = l.Addr().(*net.TCPAddr).Port
	o.Names = map[string]netip.Addr{name: netip.MustParseAddr("127.0.0.3")}
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, l
}

// The CA issues to who answers under the name, for as long as it was told.
func TestIssues(t *testing.T) {
	s, l := start(t, Options{ValidFor: time.Hour})
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(name), Client: client(t, s)}
	go (&http.Server{}).Serve(tls.NewListener(l, m.TLSConfig()))

	pool := x509.NewCertPool()
	block, _ := pem.Decode(s.RootPEM)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(root)
	d := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: pool}}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < 59*time.Minute || life > time.Hour {
		t.Errorf("the certificate lives %s", life)
	}
	if s.Orders() == 0 {
		t.Error("no order was counted")
	}
}

// before calls do before each request.
type before struct {
	next http.RoundTripper
	do   func(*http.Request)
}

func (b before) RoundTrip(r *http.Request) (*http.Response, error) {
	b.do(r)
	return b.next.RoundTrip(r)
}

// The CA checks for each order, also if it checked the client before.
func TestValidatesEachOrder(t *testing.T) {
	s, l := start(t, Options{})
	c, other := client(t, s), client(t, s)
	if _, err := other.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	// Orders of others come while the first one is under way.
	polled := before{c.HTTPClient.Transport, func(r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/my-order/") {
			if _, err := other.AuthorizeOrder(t.Context(), acme.DomainIDs(name)); err != nil {
				t.Error(err)
			}
		}
	}}
	c.HTTPClient = &http.Client{Transport: polled}
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(name), Client: c}
	go (&http.Server{}).Serve(tls.NewListener(l, m.TLSConfig()))
	if _, err := m.GetCertificate(&tls.ClientHelloInfo{
		ServerName:       name,
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	}); err != nil {
		t.Fatal(err)
	}
	// By itself Pebble takes one order in a hundred without a check.
	for range 1000 {
		order, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs(name))
		if err != nil {
			t.Fatal(err)
		}
		if order.Status != acme.StatusPending {
			t.Fatalf("the order %s is %s before the CA checked", order.URI, order.Status)
		}
	}
}

// It refuses when told to, and each start has a root of its own.
func TestRefuses(t *testing.T) {
	a, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	c := client(t, a)
	a.Refuse(http.StatusTooManyRequests)
	if _, err := c.Discover(t.Context()); err == nil {
		t.Error("it serves all the same")
	}
	a.Refuse(0)
	if _, err := c.Discover(t.Context()); err != nil {
		t.Errorf("it does not serve again: %v", err)
	}
	b, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if string(a.RootPEM) == string(b.RootPEM) {
		t.Error("two starts, one root")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := client(t, b).Discover(t.Context()); err == nil {
		t.Error("it serves after Close")
	}
}

// Who reaches it under another address is served all the same, with the URLs of
// that address.
func TestHosts(t *testing.T) {
	s, err := Start(t.Context(), Options{Hosts: []string{"192.0.2.7", "ca.example"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	real := strings.TrimSuffix(strings.TrimPrefix(s.DirectoryURL, "https://"), "/dir")
	for _, host := range []string{"192.0.2.7", "ca.example"} {
		c := client(t, s)
		c.DirectoryURL = "https://" + host + ":14000/dir"
		c.HTTPClient.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, real)
		}
		d, err := c.Discover(t.Context())
		if err != nil {
			t.Errorf("%s: %v", host, err)
		} else if !strings.HasPrefix(d.OrderURL, "https://"+host+":14000/") {
			t.Errorf("%s: orders go to %s", host, d.OrderURL)
		}
	}
}
