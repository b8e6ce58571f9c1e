package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"relaymon": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// The scripts meet a relay of go-libp2p on loopback: $TCP4 and $WSS are its
// addresses, $ID its peer ID, ca.pem the CA of its certificate for relay.test.
func TestProbe(t *testing.T) {
	h, root := startRelay(t)
	var tcp4, wss string
	for _, a := range h.Network().ListenAddresses() {
		port, err := a.ValueForProtocol(ma.P_TCP)
		if err != nil {
			continue
		}
		if _, err := a.ValueForProtocol(ma.P_WS); err == nil {
			wss = "/dns4/relay.test/tcp/" + port + "/wss/p2p/" + h.ID().String()
		} else {
			tcp4 = a.String() + "/p2p/" + h.ID().String()
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/probe",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TCP4", tcp4)
			env.Setenv("WSS", wss)
			env.Setenv("ID", h.ID().String())
			return os.WriteFile(filepath.Join(env.WorkDir, "ca.pem"), root, 0o644)
		},
	})
}

// A class that --help leaves out is no word of the format.
func TestHelpListsAllClasses(t *testing.T) {
	help := probeCmd{}.Help()
	seen := map[evidence.Class]bool{}
	for _, c := range evidence.Classes() {
		if seen[c] {
			t.Errorf("class %s is listed twice", c)
		}
		seen[c] = true
		if c.Meaning() == "" || c.Advice() == "" || !strings.Contains(help, "  "+string(c)+": "+c.Meaning()) {
			t.Errorf("class %s is not explained", c)
		}
	}
}

func startRelay(t *testing.T) (host.Host, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// A root may sign for a server itself; the chain is not what is tested here.
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test leaf"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter, DNSNames: []string{"relay.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/tls/ws"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSConfig(&tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{leafDER, rootDER}, PrivateKey: key}},
		})),
		libp2p.DisableMetrics(), libp2p.UserAgent("test-relay/1"),
		libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	sub, err := h.EventBus().Subscribe(new(event.EvtLocalProtocolsUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	late := time.After(20 * time.Second)
	for {
		for _, p := range h.Mux().Protocols() {
			if p == proto.ProtoIDv2Hop {
				return h, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
			}
		}
		select {
		case <-sub.Out():
		case <-late:
			t.Fatal("the relay service did not start")
		}
	}
}

// What other resolvers said stands below the ladder.
func TestPrintLookups(t *testing.T) {
	a := evidence.Attempt{Rungs: []evidence.Rung{{Name: "wss", Outcome: evidence.Blind, Class: evidence.Resolver, Detail: "seen"}}, Facts: evidence.Facts{
		Lookups: []evidence.Lookup{{Resolver: evidence.OwnResolver, IPv4: []string{"203.0.113.9"}}, {Resolver: "1.1.1.1#cloudflare-dns.com", Class: evidence.NameNotFound}},
	}}
	var b strings.Builder
	if err := printAttempt(&b, a); err != nil {
		t.Fatal(err)
	}
	if want := "what resolvers say of the name:\n  own: 203.0.113.9\n  1.1.1.1#cloudflare-dns.com: name-not-found\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("got %s\nwant at its end %s", b.String(), want)
	}
}
