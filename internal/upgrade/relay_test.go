package upgrade

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// presents has something answer at addr with a certificate for relay.test, signed by
// a CA or by itself.
func presents(t *testing.T, addr string, byItself bool) (port string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.test"}, DNSNames: []string{"relay.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	issuer, signer := leaf, key
	if !byItself {
		issuer = &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a CA of the lab"}, IsCA: true, BasicConstraintsValid: true}
		if signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.(*tls.Conn).Handshake()
			}()
		}
	}()
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// A certificate counts only where browsers are to find it, and from a CA.
func TestCertificateOfTheVeryListener(t *testing.T) {
	good := "/ip4/127.0.0.9/tcp/" + presents(t, "127.0.0.9:0", false) + "/tls/ws"
	own := "/ip4/127.0.0.9/tcp/" + presents(t, "127.0.0.9:0", true) + "/tls/ws"
	six := "/ip6/::1/tcp/" + presents(t, "[::1]:0", false) + "/tls/ws"
	closed, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(closed.Addr().String())
	closed.Close()
	dead := "/ip4/127.0.0.9/tcp/" + port + "/tls/ws"
	for what, tc := range map[string]struct {
		wss  []string
		want string // of the fault
	}{
		"by a CA":              {[]string{good}, ""},
		"IPv6 alone":           {[]string{six}, ""},
		"IPv6 besides":         {[]string{six, good}, ""},
		"by itself":            {[]string{own}, "signed its certificate itself"},
		"on IPv6, not on IPv4": {[]string{six, dead}, "refused"},
		"nowhere":              {nil, "does not listen for browsers"},
	} {
		r := relay{Domain: "relay.test"}
		r.Listen.WSS = tc.wss
		err := hasCertificate(t.Context(), r)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", what, err, tc.want)
		}
	}
}
