package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// A restart asks the CA for nothing; another CA under the same URL does not
// inherit what the first one issued.
func TestCertificateIsKept(t *testing.T) {
	c, ca := withDomain(t, relaytest.LimitConfig(t), pebble.Options{BadNonces: 30})
	r := start(t, c)
	first := r.Status().Certificate
	if first.DaysLeft != 89 || first.Error != "" {
		t.Errorf("certificate %+v", first)
	}
	relaytest.Must(t, r.stop())
	orders := ca.Orders() // an order refused for its nonce is made again
	r = start(t, c)
	if again := r.Status().Certificate; !again.NotAfter.Equal(first.NotAfter) || ca.Orders() != orders {
		t.Errorf("after a restart %+v with %d more orders, want the first one's %s", again, ca.Orders()-orders, first.NotAfter)
	}
	relaytest.Must(t, r.stop())

	data := c.DataDir
	c, other := withDomain(t, c, pebble.Options{})
	c.DataDir = data
	r = start(t, c)
	if resp, _ := get(t, r.Relay, other.RootPEM, "/healthz"); resp.StatusCode != http.StatusOK {
		t.Errorf("under another root: %s", resp.Status)
	}
}

// Whatever is wrong at the CA, the relay serves by its other transports, says
// what is wrong, and has a certificate as soon as that is mended.
func TestCertificateFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(ca *pebble.Server)
		mend  func(ca *pebble.Server)
		want  string
	}{
		"rate limit": {
			func(ca *pebble.Server) { ca.Refuse(http.StatusTooManyRequests) },
			func(ca *pebble.Server) { ca.Refuse(0) },
			"rateLimited",
		},
		"wrong A record": {
			func(ca *pebble.Server) { ca.SetName(domain, netip.MustParseAddr("127.0.0.9")) },
			func(ca *pebble.Server) { ca.SetName(domain, netip.MustParseAddr("127.0.0.2")) },
			"the CA's check by tls-alpn-01 failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := relaytest.LimitConfig(t)
			c.Test.RetryFirst, c.Test.CertificateWait = 300*time.Millisecond, 10*time.Millisecond
			c, ca := withDomain(t, c, pebble.Options{})
			tc.spoil(ca)
			r := start(t, c)
			if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, nil), dialable(t, r.Relay)["tcp"]); err != nil {
				t.Errorf("by tcp: %v", err)
			}
			relaytest.Eventually(t, "the status names the fault", func() bool {
				return strings.Contains(r.Status().Certificate.Error, tc.want)
			})
			tc.mend(ca)
			relaytest.Eventually(t, "there is a certificate", func() bool { return r.Status().Certificate.Loaded() })
			if s := r.Status().Certificate; s.Error != "" {
				t.Errorf("certificate %+v", s)
			}
		})
	}
}

func TestCertificateWithoutCA(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Test.CertificateWait = 10 * time.Millisecond
	c, ca := withDomain(t, c, pebble.Options{})
	relaytest.Must(t, ca.Close())
	r := start(t, c)
	if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, nil), dialable(t, r.Relay)["tcp"]); err != nil {
		t.Errorf("by tcp: %v", err)
	}
	relaytest.Eventually(t, "the status names the fault", func() bool {
		s := r.Status().Certificate
		return strings.Contains(s.Error, "the CA was not reached") && s.NextTry.After(time.Now())
	})
}

// A CA that takes connections and never answers does not hold up a stop.
func TestStopWhileCAHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	defer l.Close()
	asked := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			asked <- struct{}{}
		}
	}()
	c, ca := withDomain(t, relaytest.LimitConfig(t), pebble.Options{})
	c.Test.CertificateWait = 10 * time.Millisecond
	c.ACME.Directory = strings.Replace(ca.DirectoryURL, strings.Split(ca.DirectoryURL, "/")[2], l.Addr().String(), 1)
	r := start(t, c)
	<-asked
	relaytest.Must(t, r.stop()) // an error if something did not end in time
}

// A certificate is renewed under a WSS connection, which stays up past the end of
// the first one's life.
func TestCertificateRenewal(t *testing.T) {
	t.Parallel() // it waits for a certificate of a few seconds to grow old
	c, ca := withDomain(t, relaytest.LimitConfig(t), pebble.Options{ValidFor: 6 * time.Second})
	r := start(t, c)
	first := r.Status().Certificate
	h := relaytest.NewPeer(t, ca.RootPEM)
	wss := dialable(t, r.Relay)["wss"]
	// On a slow machine the first certificate may expire meanwhile. The next one will do.
	relaytest.Eventually(t, "it connects", func() bool { return h.Connect(relaytest.Context(t), wss) == nil })
	conn := h.Network().ConnsToPeer(r.ID())[0]
	relaytest.Eventually(t, "another certificate is in use, and the first one has expired", func() bool {
		return time.Now().After(first.NotAfter) && r.Status().Certificate.NotAfter.After(time.Now())
	})
	if ca.Orders() < 2 {
		t.Errorf("%d orders", ca.Orders())
	}
	if res := <-ping.Ping(relaytest.Context(t), h, r.ID()); res.Error != nil {
		t.Errorf("ping after the renewal: %v", res.Error)
	}
	if conns := h.Network().ConnsToPeer(r.ID()); len(conns) != 1 || conns[0].ID() != conn.ID() {
		t.Error("the connection is another one")
	}
}

// A certificate that the disk does not take is served from memory, and said to be
// there; it is written as soon as the folder can be, and a restart uses it.
func TestCertificateThatCannotBeStored(t *testing.T) {
	c, ca := withDomain(t, relaytest.LimitConfig(t), pebble.Options{})
	c.Test.RetryFirst = 300 * time.Millisecond
	_, _, err := loadOrCreateIdentity(c.DataDir)
	relaytest.Must(t, err)
	folder := filepath.Join(c.DataDir, "acme")
	relaytest.Must(t, os.WriteFile(folder, nil, 0o600)) // a file where the folder should be
	r := start(t, c)
	relaytest.Eventually(t, "the status says so", func() bool {
		return strings.Contains(r.Status().Certificate.StoreError, "not a directory")
	})
	first := r.Status().Certificate
	if first.DaysLeft != 89 || first.Error != "" {
		t.Errorf("certificate %+v", first)
	}
	resp, page := get(t, r.Relay, ca.RootPEM, "/")
	if !strings.Contains(page, "not a directory") {
		t.Error("the status page does not say so")
	}
	serial := resp.TLS.PeerCertificates[0].SerialNumber
	if n := ca.Orders(); n != 1 {
		t.Errorf("the CA saw %d orders, want 1", n)
	}
	relaytest.Must(t, os.Remove(folder))
	relaytest.Eventually(t, "it is stored", func() bool { return r.Status().Certificate.StoreError == "" })
	relaytest.Must(t, r.stop())
	r = start(t, c)
	resp, _ = get(t, r.Relay, ca.RootPEM, "/healthz")
	if got := resp.TLS.PeerCertificates[0].SerialNumber; got.Cmp(serial) != 0 || ca.Orders() != 1 {
		t.Errorf("after a restart the certificate is %s with %d orders in all, want %s with one", got, ca.Orders(), serial)
	}
}

// A certificate that expired since the CA would not renew it is renewed as soon
// as the CA does.
func TestCertificateExpires(t *testing.T) {
	t.Parallel() // it waits for a certificate of a few seconds to grow old
	c := relaytest.LimitConfig(t)
	c.Test.RetryFirst = 300 * time.Millisecond
	c, ca := withDomain(t, c, pebble.Options{ValidFor: 4 * time.Second})
	r := start(t, c)
	ca.Refuse(http.StatusTooManyRequests)
	relaytest.Eventually(t, "the status says so", func() bool {
		s := r.Status().Certificate
		return s.DaysLeft == -1 && strings.Contains(s.Error, "rateLimited")
	})
	if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, nil), dialable(t, r.Relay)["tcp"]); err != nil {
		t.Errorf("by tcp: %v", err)
	}
	ca.Refuse(0)
	relaytest.Eventually(t, "it is renewed", func() bool { return r.Status().Certificate.NotAfter.After(time.Now()) })
}

// Where the CA cannot reach the WSS port, plain HTTP on the other one will do.
func TestCertificateByHTTP(t *testing.T) {
	c := relaytest.LimitConfig(t)
	port := freePort(t)
	c, ca := withDomain(t, c, pebble.Options{HTTPPort: port})
	c.Listen.HTTP = fmt.Sprintf("127.0.0.2:%d", port)
	// Another WSS port than the CA knows.
	c.Listen.WSS = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/tcp/%d/tls/ws", freePort(t)))
	r := start(t, c)
	if resp, _ := get(t, r.Relay, ca.RootPEM, "/healthz"); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %s", resp.Status)
	}

	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get("http://" + c.Listen.HTTP + "/status.json?x=1")
	relaytest.Must(t, err)
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || to != "https://"+domain+"/status.json?x=1" {
		t.Errorf("plain HTTP: %s to %q", resp.Status, to)
	}
	post, err := client.Post("http://"+c.Listen.HTTP+"/", "text/plain", strings.NewReader("x"))
	relaytest.Must(t, err)
	defer post.Body.Close()
	if post.StatusCode != http.StatusBadRequest {
		t.Errorf("a POST by plain HTTP: %s", post.Status)
	}
}

// The operator's own certificate is read again when it changes, and only when
// both files fit.
func TestOwnCertificate(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c, _ = withDomain(t, c, pebble.Options{})
	c.ACME.CAFile = ""
	dir := t.TempDir()
	c.TLS = config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}

	write := func(name string) (cert []byte) {
		t.Helper()
		cert, key := selfSigned(t, name)
		relaytest.Must(t, os.WriteFile(c.TLS.Key, key, 0o600))
		relaytest.Must(t, os.WriteFile(c.TLS.Cert, cert, 0o600))
		return cert
	}
	write("other.test")
	if _, err := New(c, relaytest.Log(t)); err == nil || !strings.Contains(err.Error(), "not for the domain") {
		t.Errorf("a certificate for another name: %v", err)
	}
	first := write(domain)
	r := start(t, c)
	if resp, _ := get(t, r.Relay, first, "/healthz"); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %s", resp.Status)
	}

	serial := func() string {
		resp, _ := get(t, r.Relay, append(first, readFile(t, c.TLS.Cert)...), "/healthz")
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	_, strange := selfSigned(t, domain)
	relaytest.Must(t, os.WriteFile(c.TLS.Key, strange, 0o600))
	relaytest.Eventually(t, "the status says that the files do not fit", func() bool {
		return strings.Contains(r.Status().Certificate.Error, "the old certificate stays in use")
	})
	if serial() != before {
		t.Error("the old certificate did not stay")
	}
	write(domain)
	relaytest.Eventually(t, "the new certificate is read", func() bool {
		return serial() != before && r.Status().Certificate.Error == ""
	})
	if _, err := relaytest.Reserve(t, relaytest.NewPeer(t, readFile(t, c.TLS.Cert)), dialable(t, r.Relay)["wss"]); err != nil {
		t.Errorf("by wss: %v", err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	relaytest.Must(t, err)
	return data
}

func selfSigned(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	relaytest.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	relaytest.Must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	relaytest.Must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}
