package relay

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// certs obtains and serves the certificate of the relay's domain.
type certs struct {
	domain string
	log    *slog.Logger
	loaded chan struct{} // closed with the first certificate

	newManager func() *autocert.Manager

	mu      sync.Mutex
	manager *autocert.Manager
	leaf    *x509.Certificate
	err     error // of the last attempt, nil after a success
}

// Certificate is the state of the certificate, for people and programs.
type Certificate struct {
	Domain   string    `json:"domain"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Issuer   string    `json:"issuer,omitempty"`
	Error    string    `json:"error,omitempty"`
}

func newCerts(cfg Config, log *slog.Logger) (*certs, error) {
	client, root, err := acmeHTTP(cfg.ACME)
	if err != nil {
		return nil, err
	}
	c := &certs{domain: cfg.Domain, log: log, loaded: make(chan struct{})}
	// What one CA issued is worth nothing under another one; a private CA may
	// have the old URL and a new root.
	sum := sha256.Sum256(append([]byte(cfg.ACME.Directory+"\n"), root...))
	cache := autocert.DirCache(filepath.Join(cfg.DataDir, "acme", hex.EncodeToString(sum[:8])))
	c.newManager = func() *autocert.Manager {
		return &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			HostPolicy: autocert.HostWhitelist(cfg.Domain),
			Cache:      cache,
			Email:      cfg.ACME.Email,
			Client:     &acme.Client{DirectoryURL: cfg.ACME.Directory, HTTPClient: client},
		}
	}
	c.manager = c.newManager()
	return c, nil
}

// acmeHTTP is the client for the CA, and the roots it was told to trust.
func acmeHTTP(cfg ACME) (*http.Client, []byte, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	var root []byte
	if cfg.CAFile != "" {
		var err error
		if root, err = os.ReadFile(cfg.CAFile); err != nil {
			return nil, nil, fmt.Errorf("read acme.ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(root) {
			return nil, nil, fmt.Errorf("acme.ca_file %s holds no certificate: want PEM", cfg.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &http.Client{Transport: transport, Timeout: time.Minute}, root, nil
}

// tlsConfig is for the WSS port, where HTTPS and the CA's TLS-ALPN-01 validation
// arrive too.
func (c *certs) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: c.get,
		NextProtos:     []string{"h2", "http/1.1", acme.ALPNProto},
	}
}

func (c *certs) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	m := c.manager
	c.mu.Unlock()
	cert, err := m.GetCertificate(hello)
	if err != nil {
		c.log.Debug("no certificate for a client", "server_name", hello.ServerName, "error", err)
		return nil, err
	}
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acme.ALPNProto {
		c.served(cert)
	}
	return cert, nil
}

// served notes the certificate that is in use, since renewals happen unseen.
func (c *certs) served(cert *tls.Certificate) {
	leaf := cert.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return
		}
	}
	c.mu.Lock()
	first := c.leaf == nil
	c.leaf, c.err = leaf, nil
	c.mu.Unlock()
	if first {
		c.log.Info("certificate loaded", "domain", c.domain, "issuer", leaf.Issuer.CommonName, "not_after", leaf.NotAfter)
		close(c.loaded)
	}
}

// keep obtains the certificate before the first visitor needs it, and tries
// again, ever less often, until there is one. The WSS listener must be up.
func (c *certs) keep(ctx context.Context) {
	wait := 15 * time.Second
	for {
		_, err := c.get(c.hello())
		if err == nil {
			return
		}
		c.mu.Lock()
		c.err = err
		// A manager remembers a failure for a minute of its own; a new one asks at once.
		c.manager = c.newManager()
		c.mu.Unlock()
		c.log.Error("no certificate", "domain", c.domain, "error", err, "next_try", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Hour)
	}
}

// hello is a client that takes ECDSA, as all do by now: for one that does not, a
// second certificate would be ordered.
func (c *certs) hello() *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        c.domain,
		SupportedProtos:   []string{"h2", "http/1.1"},
		CipherSuites:      []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.CurveP256},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
	}
}

func (c *certs) state() Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Certificate{Domain: c.domain}
	if c.leaf != nil {
		s.NotAfter, s.Issuer = c.leaf.NotAfter, c.leaf.Issuer.CommonName
	}
	if c.err != nil && !errors.Is(c.err, context.Canceled) {
		s.Error = c.err.Error()
	}
	return s
}
