package subject

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bench/load"
)

// Up is what a subject of this program says when it is up.
type Up struct {
	ID    peer.ID `json:",omitzero"`
	Addrs map[string]netip.AddrPort
}

func (u Up) say(out io.Writer) error { return json.NewEncoder(out).Encode(u) }

// haproxy ends TLS, and begins it again towards the back end.
func (s *starting) haproxy(ctx context.Context, chacha bool) (*Subject, error) {
	// Left to itself haproxy takes AES-256 towards the client, Go AES-128.
	cipher := " ciphersuites TLS_AES_128_GCM_SHA256"
	if chacha {
		cipher = " ciphersuites TLS_CHACHA20_POLY1305_SHA256"
	}
	config, err := s.write("haproxy.cfg",
		"global", "  nbthread 1", "  maxconn 1000",
		"defaults", "  mode tcp", "  timeout connect 10s", "  timeout client 60s", "  timeout server 60s",
		"frontend in", fmt.Sprintf("  bind %s ssl crt %s%s", s.at(portTLS), s.Cert, cipher), "  default_backend out",
		"backend out", fmt.Sprintf("  server back %s ssl verify required ca-file %s verifyhost %s%s", s.at(portBack), s.Cert, load.ServerName, cipher))
	if err != nil {
		return nil, err
	}
	p, err := s.start(ctx, false, "haproxy", "-db", "-f", config)
	if err != nil {
		return nil, err
	}
	sub := s.target(p, map[string]netip.AddrPort{"tls": s.at(portTLS), "back": s.at(portBack)})
	return sub, until(ctx, p, func() error {
		c, err := net.Dial("tcp4", s.at(portTLS).String())
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// ServeProxy is the TLS proxy in Go: what the language's own TLS costs without any
// libp2p; with chacha it costs so with noise's cipher.
func ServeProxy(ctx context.Context, ip netip.Addr, cert string, chacha bool, out io.Writer) error {
	pair, err := tls.LoadX509KeyPair(cert, cert)
	if err != nil {
		return err
	}
	pemData, err := os.ReadFile(cert)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pemData)
	front, back := netip.AddrPortFrom(ip, portTLS), netip.AddrPortFrom(ip, portBack)
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: load.ServerName}
	if chacha { // Go lets the cipher be chosen up to TLS 1.2 only
		conf.MaxVersion = tls.VersionTLS12
		conf.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}
	}
	l, err := tls.Listen("tcp4", front.String(), conf)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	if err := (Up{Addrs: map[string]netip.AddrPort{"tls": front, "back": back}}).say(out); err != nil {
		return err
	}
	for {
		in, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer in.Close()
			if err := in.(*tls.Conn).HandshakeContext(ctx); err != nil {
				return
			}
			to, err := tls.Dial("tcp4", back.String(), conf)
			if err != nil {
				return
			}
			defer to.Close()
			go func() {
				_, _ = io.Copy(in, to) // until one of them ends
				in.Close()
			}()
			_, _ = io.Copy(to, in)
		}()
	}
}
