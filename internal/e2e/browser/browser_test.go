package browser

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/monitor/browser"
	"github.com/psf-relay/relay-appliance/relay"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// patience bounds what a test waits for; nothing is measured by it.
const patience = 3 * time.Minute

// The names, and where they lead. Not 127.0.0.1: PSF software drops that one.
const (
	relayName = "relay.test" // a relayd with a certificate from an ACME CA
	otherName = "other.test" // relays that have something wrong with them
)

var addrs = map[string]netip.Addr{
	relayName: netip.MustParseAddr("127.0.0.2"),
	otherName: netip.MustParseAddr("127.0.0.3"),
}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// startBrowser runs a Chromium that knows the names and trusts the roots.
func startBrowser(t testing.TB, roots ...[]byte) *browser.Browser {
	t.Helper()
	if _, err := browser.Find(""); err != nil {
		need.Tools(t, browser.Programs[0])
	}
	need.Tools(t, "certutil")
	o := browser.Options{Resolve: addrs}
	for _, root := range roots {
		o.RootsPEM = append(o.RootsPEM, root...)
	}
	b, err := browser.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// lab is a relayd's configuration with an ACME CA that can reach it.
func lab(t testing.TB) (config.Config, *pebble.Server) {
	t.Helper()
	host := addrs[relayName]
	port := freePort(t, host)
	ca, err := pebble.Start(t.Context(), pebble.Options{TLSPort: port, Names: map[string]netip.Addr{relayName: host}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close() })
	c := config.DefaultConfig()
	c.DataDir = filepath.Join(t.TempDir(), "relayd")
	c.Domain = relayName
	c.Listen = config.Listen{WSS: []ma.Multiaddr{multiaddr(t, "/ip4/%s/tcp/%d/tls/ws", host, port)}}
	c.ACME.Directory = ca.DirectoryURL
	c.ACME.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.ACME.CAFile, ca.RootPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Network.AllowPrivate = true
	c.PSF.Bootstrap, c.PSF.BootstrapList = nil, ""
	c.Metrics.Listen = ""
	return c, ca
}

// freePort is a port that nobody uses: the CA must know it before the relay
// listens there.
func freePort(t testing.TB, host netip.Addr) int {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(host, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func multiaddr(t testing.TB, format string, args ...any) ma.Multiaddr {
	t.Helper()
	a, err := ma.NewMultiaddr(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// relayd runs a relay; the function it returns ends it and waits until it has.
func relayd(t testing.TB, c config.Config) (*relay.Relay, func()) {
	t.Helper()
	r, err := relay.New(c, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx); close(done) }()
	stop := func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the relay ended: %v", err)
			}
		case <-time.After(patience):
			t.Error("the relay does not stop")
		}
	}
	t.Cleanup(stop)
	select {
	case <-r.Ready():
	case err := <-done:
		t.Fatalf("the relay did not start: %v", err)
	case <-time.After(patience):
		t.Fatal("the relay is not ready")
	}
	return r, stop
}

// wss is the address by which browsers reach the relay.
func wss(t testing.TB, r *relay.Relay) string {
	t.Helper()
	for _, a := range r.Addrs() {
		if strings.HasPrefix(a.String(), "/dns4/") {
			return a.String()
		}
	}
	t.Fatalf("the relay has no address for browsers: %v", r.Addrs())
	return ""
}

// authority is a CA of the test's own, for certificates that no ACME CA issues.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// issue makes a certificate for a name that ends at a time.
func (a *authority) issue(t testing.TB, name string, notAfter time.Time) *tls.Config {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// otherRelay is a relay of another make at otherName, with WSS under the given
// certificate, or with plain WebSockets when there is none. service is what it
// serves; nil: it is no relay at all.
func otherRelay(t testing.TB, cert *tls.Config, service *relayv2.Resources) string {
	t.Helper()
	listen := "/ip4/%s/tcp/0/ws"
	var options []any
	if cert != nil {
		listen = "/ip4/%s/tcp/0/tls/ws"
		options = append(options, websocket.WithTLSConfig(cert))
	}
	h, err := libp2p.New(
		libp2p.ListenAddrs(multiaddr(t, listen, addrs[otherName])),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New, options...),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if service != nil {
		r, err := relayv2.New(h, relayv2.WithResources(*service))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
	}
	port, err := h.Network().ListenAddresses()[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	form := "ws"
	if cert != nil {
		form = "tls/ws"
	}
	return fmt.Sprintf("/dns4/%s/tcp/%s/%s/p2p/%s", otherName, port, form, h.ID())
}
