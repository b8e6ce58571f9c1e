package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
// addresses, $ID its peer ID, ca.pem the CA of its certificate for relay.test. The relay
// $BEHIND stands behind sites, of which each gives other addresses.
func TestProbe(t *testing.T) {
	ca := newAuthority(t)
	good, expired := ca.leaf(t, ca.root.NotAfter), ca.leaf(t, time.Now().Add(-time.Minute))
	h := startRelay(t, good, "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/tls/ws")
	ports := portsOf(h)
	behind := startRelay(t, nil, "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws")
	all := func(wss string) []string { return []string{tcp4Of(behind), wss} }
	sites := map[string]string{
		"JS":      "relay.test:" + ports["wss"], // without a page
		"SITE":    startSite(t, good, behind, all),
		"EXPIRED": startSite(t, expired, behind, all),
		"NOTCP":   startSite(t, good, behind, func(wss string) []string { return []string{wss} }),
		"NOTHING": startSite(t, good, behind, func(string) []string { return nil }),
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/probe",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TCP4", tcp4Of(h))
			env.Setenv("WSS", "/dns4/relay.test/tcp/"+ports["wss"]+"/wss/p2p/"+h.ID().String())
			env.Setenv("ID", h.ID().String())
			env.Setenv("BEHIND", behind.ID().String())
			for name, site := range sites {
				env.Setenv(name, site)
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "ca.pem"), ca.pem, 0o644)
		},
	})
}

// portsOf are a relay's ports, by transport.
func portsOf(h host.Host) map[string]string {
	ports := map[string]string{}
	for _, a := range h.Network().ListenAddresses() {
		port, err := a.ValueForProtocol(ma.P_TCP)
		if err != nil {
			continue
		}
		kind := "tcp"
		if _, err := a.ValueForProtocol(ma.P_WS); err == nil {
			kind = "wss"
		}
		ports[kind] = port
	}
	return ports
}

func tcp4Of(h host.Host) string {
	return "/ip4/127.0.0.1/tcp/" + portsOf(h)["tcp"] + "/p2p/" + h.ID().String()
}

// startSite serves a status.json beside the relay's websocket, as relayd does, and returns
// where. addrs is given the address of that websocket.
func startSite(t *testing.T, secured *tls.Config, h host.Host, addrs func(wss string) []string) string {
	t.Helper()
	mux := http.NewServeMux()
	s := httptest.NewUnstartedServer(mux)
	s.TLS, s.Config.ErrorLog = secured.Clone(), log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "127.0.0.1:" + portsOf(h)["wss"]}))
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"peer_id": h.ID(), "addrs": addrs("/dns4/relay.test/tcp/" + port + "/tls/ws/p2p/" + h.ID().String())})
	})
	return "relay.test:" + port
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

// authority is a CA for relay.test. A root may sign for a server itself; the chain is not
// what is tested here.
type authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root.Raw = der
	return &authority{root, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// leaf is a certificate for relay.test until then.
func (a *authority) leaf(t *testing.T, until time.Time) *tls.Config {
	t.Helper()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test leaf"}, NotBefore: a.root.NotBefore, NotAfter: until, DNSNames: []string{"relay.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.root, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.root.Raw}, PrivateKey: a.key}}}
}

// startRelay starts a relay that listens on TCP, and on secure websockets or, behind a
// site, plain ones.
func startRelay(t *testing.T, secured *tls.Config, listen ...string) host.Host {
	t.Helper()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings(listen...),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New, websocket.WithTLSConfig(secured)),
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
				return h
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
