// Package pebble runs Let's Encrypt's test CA inside the process, for `make run`
// and for tests: a real ACME server (RFC 8555) that validates over the loopback.
//
// Its root is made anew at every [Start]: Pebble keeps no keys. Whoever keeps
// certificates across runs must therefore keep them by root, as relayd does with
// its cache; a chain to an earlier root is worth nothing.
package pebble

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Options says what the CA is to find. The zero value issues nothing, since no
// name resolves.
type Options struct {
	// TLSPort and HTTPPort are where challenges are looked for: TLS-ALPN-01 and
	// HTTP-01. A CA on the internet knows only 443 and 80; Pebble takes one port
	// each for all names, so the port must be known before the CA starts.
	TLSPort, HTTPPort int
	// Names are the A records of its resolver. All other names do not exist.
	Names map[string]netip.Addr
	// ValidFor is the certificates' life; 0 stands for 90 days.
	ValidFor time.Duration
	// BadNonces is the share of good nonces, in percent, that are refused all the
	// same, as a busy CA may do.
	BadNonces int
	// Listen is the address of the ACME directory; empty: a port of 127.0.0.1
	// that the kernel chooses.
	Listen string
	// Hosts are further names and IP addresses under which its clients find it, as
	// those do that reach it through a forwarded port.
	Hosts []string
	// Log receives Pebble's own log; nil: nobody does.
	Log io.Writer
}

// Server is a CA that runs.
type Server struct {
	// DirectoryURL is what an ACME client is configured with.
	DirectoryURL string
	// RootPEM is the root of the certificates it issues and of its own HTTPS.
	RootPEM []byte
	// Resolver is the host:port of its DNS server, which answers over TCP only.
	Resolver string

	mu      sync.Mutex
	names   map[string]netip.Addr
	refuse  int // HTTP status for every request, 0: serve
	orders  int
	closers []func() error
}

// newOrder is where Pebble takes orders.
const newOrder = "/order-plz"

// environment serialises the environment variables through which alone Pebble
// takes some of its settings, at the moment a CA is made.
var environment sync.Mutex

// Start runs a CA until ctx ends or [Server.Close] is called.
func Start(ctx context.Context, o Options) (*Server, error) {
	s := &Server{names: map[string]netip.Addr{}}
	for name, addr := range o.Names {
		s.names[dns.Fqdn(name)] = addr
	}
	if err := s.start(o); err != nil {
		return nil, errors.Join(fmt.Errorf("start the test CA: %w", err), s.Close())
	}
	context.AfterFunc(ctx, func() { s.Close() })
	return s, nil
}

func (s *Server) start(o Options) error {
	if err := s.serveDNS(); err != nil {
		return err
	}
	out := o.Log
	if out == nil {
		out = io.Discard
	}
	logger := log.New(out, "pebble ", log.LstdFlags)
	validity := uint64(o.ValidFor / time.Second)
	store := db.NewMemoryStore()
	// RSA, because Pebble hands out no other key of its own, and with its
	// intermediate's key its HTTPS can stand under the very same root.
	authority := ca.New(logger, store, "", "rsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: validity}})

	environment.Lock()
	for k, v := range map[string]string{
		"PEBBLE_VA_NOSLEEP":      "1",
		"PEBBLE_AUTHZREUSE":      "0", // percent; see once
		"PEBBLE_WFE_NONCEREJECT": strconv.Itoa(o.BadNonces),
	} {
		os.Setenv(k, v)
	}
	validator := va.New(logger, o.HTTPPort, o.TLSPort, true, s.Resolver, store)
	front := wfe.New(logger, store, validator, authority, []string{"pebble.letsencrypt.org"}, true, false, 1, 1)
	environment.Unlock()

	cert, err := endpointCertificate(authority, o.Hosts)
	if err != nil {
		return err
	}
	listen := o.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	l, err := tls.Listen("tcp", listen, &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return fmt.Errorf("listen for ACME: %w", err)
	}
	handler := once(store, front.Handler())
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status := s.count(r.URL.Path); status != 0 {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(status)
				kind := "serverInternal"
				if status == http.StatusTooManyRequests {
					kind = "rateLimited"
				}
				fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":"this CA was told to refuse","status":%d}`, kind, status)
				return
			}
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          logger,
	}
	go srv.Serve(l)
	s.closers = append(s.closers, srv.Close)
	s.DirectoryURL = "https://" + l.Addr().String() + wfe.DirectoryPath
	s.RootPEM = authority.GetRootCert(0).PEM()
	return nil
}

// Close ends the CA and its resolver.
func (s *Server) Close() error {
	s.mu.Lock()
	closers := s.closers
	s.closers = nil
	s.mu.Unlock()
	var errs []error
	for _, c := range closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// Refuse makes the CA answer every request with an HTTP status, such as 429 or
// 503; 0 lets it serve again.
func (s *Server) Refuse(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = status
}

// SetName changes an A record, as an operator does who mends a wrong one.
func (s *Server) SetName(name string, addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[dns.Fqdn(name)] = addr
}

// Orders is how many orders were asked for.
func (s *Server) Orders() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.orders
}

func (s *Server) count(path string) (refuse int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse == 0 && path == newOrder {
		s.orders++
	}
	return s.refuse
}

// once lets an authorization serve one order only, so that the CA checks for each order, as
// it does when days lie between two. Told to reuse none, Pebble v2.10.1 still reuses one for
// one order in a hundred, at random. So an authorization ends here, before the next order,
// once the certificate of its own order was fetched. Pebble calls an order invalid whose
// authorization has ended, and its client must not see that.
func once(store *db.MemoryStore, next http.Handler) http.Handler {
	var mu sync.Mutex
	seen, fetched := map[string]bool{}, map[string]bool{} // authorizations and certificates that clients asked for
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if id, ok := strings.CutPrefix(r.URL.Path, "/authZ/"); ok {
			seen[id] = true
		} else if id, ok := strings.CutPrefix(r.URL.Path, "/certZ/"); ok {
			fetched[id] = true
		} else if r.URL.Path == newOrder {
			maps.DeleteFunc(seen, func(id string, _ bool) bool {
				a := store.GetAuthorizationByID(id)
				return a == nil || end(a, fetched)
			})
		}
		mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// end lets an authorization expire if the certificate of its order was fetched, and says
// whether it did.
func end(a *core.Authorization, fetched map[string]bool) bool {
	a.Order.RLock()
	c := a.Order.CertificateObject
	a.Order.RUnlock()
	if c == nil || !fetched[c.ID] {
		return false
	}
	a.Lock()
	defer a.Unlock()
	a.ExpiresDate = time.Time{}
	return true
}

// serveDNS answers A records over TCP, which is how Pebble asks. It must answer
// AAAA too, with nothing: Pebble asks for it first and dials what it got.
func (s *Server) serveDNS() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for DNS: %w", err)
	}
	s.Resolver = l.Addr().String()
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, question := range q.Question {
			s.mu.Lock()
			addr, ok := s.names[question.Name]
			s.mu.Unlock()
			switch {
			case !ok:
				m.Rcode = dns.RcodeNameError
			case question.Qtype == dns.TypeA && addr.Is4():
				m.Answer = append(m.Answer, &dns.A{
					Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
					A:   addr.AsSlice(),
				})
			}
		}
		w.WriteMsg(m)
	})}
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	go srv.ActivateAndServe()
	<-started
	s.closers = append(s.closers, srv.Shutdown)
	return nil
}

// endpointCertificate is for the CA's own HTTPS, issued by the CA's intermediate.
func endpointCertificate(authority *ca.CAImpl, hosts []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	issuer := authority.GetIntermediateCert(0)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "test CA's own endpoint"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Cert, key.Public(), authority.GetIntermediateKey(0))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue the CA's own certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der, issuer.DER}, PrivateKey: key}, nil
}
