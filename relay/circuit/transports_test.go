package circuit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// way is one way to reach a relay: an address of it, and the handshake over that.
type way struct {
	name     string
	form     string // of the address
	security libp2p.Option
}

var ways = []way{
	{"tcp, noise", "/tcp", libp2p.Security(noise.ID, noise.New)},
	{"tcp, tls", "/tcp", libp2p.Security(libp2ptls.ID, libp2ptls.New)},
	{"ws", "/tcp/ws", libp2p.Security(noise.ID, noise.New)},
	{"wss", "/tcp/tls/ws", libp2p.Security(noise.ID, noise.New)},
	{"quic", "/udp/quic-v1", libp2p.DefaultSecurity},
	{"webtransport", "/udp/quic-v1/webtransport", libp2p.DefaultSecurity},
}

// Whatever transports the two ends of a circuit have: each may close its direction and
// still reads all that the other one says, and a reset comes through with its code.
func TestCircuitsBetweenTransports(t *testing.T) {
	t.Parallel()
	c := relaytest.LimitConfig(t)
	c.Limits.GuestCircuitData = 0
	certificate, roots := certificateFor(t, net.IPv4(127, 0, 0, 2))
	transports := func(config *tls.Config) libp2p.Option {
		return libp2p.ChainOptions(libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(quic.NewTransport),
			libp2p.Transport(webtransport.New), libp2p.Transport(websocket.New, websocket.WithTLSConfig(config)),
			libp2p.ListenAddrStrings("/ip4/127.0.0.2/tcp/0/ws", "/ip4/127.0.0.2/tcp/0/tls/ws", "/ip4/127.0.0.2/udp/0/quic-v1", "/ip4/127.0.0.2/udp/0/quic-v1/webtransport"))
	}
	r := startLogging(t, c, relaytest.Log(t), transports(&tls.Config{Certificates: []tls.Certificate{certificate}}))

	holders, askers := map[string]host.Host{}, map[string]host.Host{}
	relayBy := func(w way) peer.AddrInfo {
		for _, a := range r.host.Addrs() {
			if formOf(a) == w.form {
				return peer.AddrInfo{ID: r.ID(), Addrs: []ma.Multiaddr{a}}
			}
		}
		t.Fatalf("the relay has no address for %s: %v", w.name, r.host.Addrs())
		return peer.AddrInfo{}
	}
	heard := make(chan string, 1)
	for _, w := range ways {
		for _, of := range []map[string]host.Host{holders, askers} {
			h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.DisableMetrics(), relaytest.PatientDials, w.security,
				libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(quic.NewTransport), libp2p.Transport(webtransport.New),
				libp2p.Transport(websocket.New, websocket.WithTLSClientConfig(&tls.Config{RootCAs: roots})))
			relaytest.Must(t, err)
			t.Cleanup(func() { h.Close() })
			relaytest.Must(t, h.Connect(relaytest.Context(t), relayBy(w)))
			of[w.name] = h
		}
		_, err := relaytest.Reserve(t, holders[w.name], relayBy(w))
		relaytest.Must(t, err)
		relaytest.AcceptRaw(holders[w.name], func(s network.Stream) { heard <- answerAfterTheEnd(s) })
	}
	for _, a := range ways {
		for _, b := range ways {
			t.Run(a.name+" to "+b.name, func(t *testing.T) {
				reset := func(code int) string {
					if a.name == "webtransport" || b.name == "webtransport" {
						code = 0 // libp2p's WebTransport has none
					}
					return fmt.Sprintf("reset with code %d", code)
				}
				open := func() network.Stream {
					s := relaytest.MustOpenRaw(t, askers[a.name], r.ID(), holders[b.name].ID())
					relaytest.Must(t, s.SetDeadline(time.Now().Add(relaytest.Patience)))
					return s
				}
				s := open()
				_, err := io.WriteString(s, "a question")
				relaytest.Must(t, err)
				relaytest.Must(t, s.CloseWrite())
				if got, err := io.ReadAll(s); string(got) != "an answer to: a question" || err != nil {
					t.Errorf("half-closed: got %q, %v", got, err)
				}
				<-heard

				s = open()
				_, err = io.WriteString(s, "hold")
				relaytest.Must(t, err)
				_, err = io.ReadFull(s, make([]byte, 4)) // or the reset overtakes it
				relaytest.Must(t, err)
				relaytest.Must(t, s.ResetWithError(77))
				if got := <-heard; got != reset(77) {
					t.Errorf("after a reset by the one that asked: %s", got)
				}

				s = open()
				_, err = io.WriteString(s, "cut!")
				relaytest.Must(t, err)
				if _, err := io.ReadAll(s); endOf(err) != reset(78) {
					t.Errorf("after a reset by the one that was asked: %s", endOf(err))
				}
				<-heard
			})
		}
	}
	r.wantNothingOpen(t)
}

// answerAfterTheEnd answers when the other end has said its last word, and tells how the
// stream ended. Two words are orders.
func answerAfterTheEnd(s network.Stream) string {
	first := make([]byte, 4)
	if _, err := io.ReadFull(s, first); err != nil {
		return endOf(err)
	}
	switch string(first) {
	case "hold":
		_, _ = s.Write(first)
	case "cut!":
		_ = s.ResetWithError(78)
		return ""
	}
	rest, err := io.ReadAll(s)
	if err == nil {
		_, err = io.WriteString(s, "an answer to: "+string(first)+string(rest))
	}
	_ = s.Close()
	return endOf(err)
}

// formOf is an address without its values.
func formOf(a ma.Multiaddr) (form string) {
	for _, c := range a {
		if name := c.Protocol().Name; !strings.HasPrefix(name, "ip") && name != "certhash" {
			form += "/" + name
		}
	}
	return form
}

func certificateFor(t *testing.T, ip net.IP) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	relaytest.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{ip}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	relaytest.Must(t, err)
	parsed, err := x509.ParseCertificate(der)
	relaytest.Must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}
