package probe

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func TestParseDomain(t *testing.T) {
	for in, want := range map[string]Domain{
		"relay.example.org":                       {"relay.example.org", 443},
		"Relay.Example.org:8443":                  {"relay.example.org", 8443},
		"relay.example.org.":                      {"relay.example.org", 443},
		"https://relay.example.org":               {"relay.example.org", 443},
		"HTTPS://relay.example.org:8443/check/?x": {"relay.example.org", 8443},
	} {
		if got, err := ParseDomain(in); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                         "not a domain",
		"relay":                    "not a domain",
		"relay_1.example.org":      "not a domain",
		"me:sesame@example.org":    "not a domain",
		"relay.example.org:0":      "wrong port",
		"relay.example.org:":       "wrong port",
		"relay.example.org:https":  "wrong port",
		"198.41.0.4":               "this is an IP address",
		"http://relay.example.org": "over https alone",
		strings.Repeat("a.", 600):  "not a domain",
	} {
		if got, err := ParseDomain(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

const (
	findID  = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	otherID = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
	findTCP = "/ip4/198.41.0.4/tcp/4001/p2p/" + findID
	findWSS = "/dns4/relay.test/tcp/443/tls/ws/p2p/" + findID
)

// gives is a page on which a relay gives these addresses.
func gives(id string, addrs ...string) string {
	b, err := json.Marshal(map[string]any{"name": "a relay", "peer_id": id, "addrs": addrs})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestFind(t *testing.T) {
	ca := newAuthority(t)
	for what, tc := range map[string]struct {
		page         string
		private      bool
		tcp4, wss    string // as found; without /p2p
		missing, err string
	}{
		"all": {page: gives(findID, "/ip4/10.0.0.1/tcp/4001/p2p/"+findID, "/ip4/198.41.0.4/udp/4001/quic-v1/p2p/"+findID, "nonsense", "/ip6/2001:db8::1/tcp/4001/p2p/"+findID, findTCP, findWSS),
			tcp4: "/ip4/198.41.0.4/tcp/4001", wss: "/dns4/relay.test/tcp/443/wss"},
		"the first public ones": {page: gives(findID, findTCP, "/ip4/198.41.0.5/tcp/4001/p2p/"+findID, findWSS, "/dns4/relay.test/tcp/8443/wss/p2p/"+findID),
			tcp4: "/ip4/198.41.0.4/tcp/4001", wss: "/dns4/relay.test/tcp/443/wss"},
		"private, where that is admitted": {page: gives(findID, "/ip4/10.0.0.1/tcp/4001/p2p/"+findID, findWSS), private: true,
			tcp4: "/ip4/10.0.0.1/tcp/4001", wss: "/dns4/relay.test/tcp/443/wss"},
		"public before private": {page: gives(findID, "/ip4/10.0.0.1/tcp/4001/p2p/"+findID, findTCP, findWSS), private: true,
			tcp4: "/ip4/198.41.0.4/tcp/4001", wss: "/dns4/relay.test/tcp/443/wss"},
		"no TCP": {page: gives(findID, findWSS), wss: "/dns4/relay.test/tcp/443/wss", missing: "no public IPv4 address for TCP: set announce.ip4"},
		"a private one alone": {page: gives(findID, "/ip4/10.0.0.1/tcp/4001/p2p/"+findID, findWSS), wss: "/dns4/relay.test/tcp/443/wss",
			missing: "no public IPv4 address for TCP (10.0.0.1 is not public): set announce.ip4"},
		"no secure websocket": {page: gives(findID, findTCP), tcp4: "/ip4/198.41.0.4/tcp/4001", missing: "no secure websocket of relay.test: set domain"},
		"another domain": {page: gives(findID, findTCP, "/dns4/other.test/tcp/443/wss/p2p/"+findID), tcp4: "/ip4/198.41.0.4/tcp/4001",
			missing: "no secure websocket of relay.test, but of other.test: probe that domain"},
		"no address":     {page: gives(findID), err: "no address that can be probed\n  the relay gives no public IPv4"},
		"two peer IDs":   {page: gives(findID, findTCP, "/dns4/relay.test/tcp/443/wss/p2p/"+otherID), err: "the peer IDs differ: peer_id is " + findID + ", and /dns4/relay.test/tcp/443/wss/p2p/" + otherID},
		"no peer ID":     {page: gives(""), err: "JSON without a peer_id"},
		"a bad peer ID":  {page: gives("\x1b[2J"), err: `peer_id "\x1b[2J" is not a peer ID`},
		"a monitor's":    {page: `{"monitor": "m1", "relays": []}`, err: "JSON without a peer_id"},
		"another JSON":   {page: `[1]`, err: "not the JSON of a relay"},
		"a web page":     {page: "\n<!doctype html><title>Welcome</title>", err: "a web page (HTML) instead of JSON"},
		"no JSON":        {page: "hello \x1b[2J", err: "not the JSON of a relay"},
		"nothing":        {page: "", err: "the document is empty"},
		"too large":      {page: gives(findID, strings.Repeat("x", maxPage)), err: "more than 1048576 bytes"},
		"many addresses": {page: gives(findID, append(make([]string, 10_000), findTCP, findWSS)...), tcp4: "/ip4/198.41.0.4/tcp/4001", wss: "/dns4/relay.test/tcp/443/wss"},
	} {
		t.Run(what, func(t *testing.T) {
			port := listenAnd(t, func(l net.Listener) {
				https(t, l, ca.leaf(t, nil), func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/status.json" || r.Method != http.MethodGet {
						t.Errorf("the relay is asked %s %s", r.Method, r.URL)
					}
					_, _ = w.Write([]byte(tc.page))
				})
			})
			at := Domain{name, uint16(port)}
			found, err := Find(within(t), at, ca.options())
			if tc.err == "" && err == nil {
				// The port is the test's, the addresses are those of a real relay.
				target, missing, err := readPage([]byte(tc.page), Domain{"relay.test", 443}, tc.private)
				if got := without(target); err != nil || got != [2]string{tc.tcp4, tc.wss} {
					t.Errorf("got %v, %v; want %s and %s", got, err, tc.tcp4, tc.wss)
				}
				if got := strings.Join(missing, "; "); !strings.Contains(got, tc.missing) || (tc.missing == "") != (got == "") {
					t.Errorf("missing is %q, want %q", got, tc.missing)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.err) || tc.err == "" {
				t.Errorf("got %+v, %v; want an error with %q", found, err, tc.err)
			} else if !strings.Contains(err.Error(), at.page()) || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("the error %q does not say where, or steers a terminal", err)
			}
		})
	}
}

// without are a target's addresses without the peer ID.
func without(t Target) [2]string {
	var list [2]string
	if t.TCP4 != nil {
		list[0] = t.TCP4.String()
	}
	if t.WSS != nil {
		list[1] = t.WSS.String()
	}
	return list
}

// Whatever keeps a page from being read is told in the words of the ladder.
func TestFindWithoutPage(t *testing.T) {
	ca := newAuthority(t)
	for what, tc := range map[string]struct {
		port   int
		change func(*Options)
		err    []string
		blind  bool
	}{
		"no such name": {443, func(o *Options) { lookedUp(o, nameServer(t, rcode(dns.RcodeNameError))) },
			[]string{"the domain name does not exist (name-not-found)", "says that relay.test does not exist", "to do: create the A record"}, false},
		"no IPv4 address": {443, func(o *Options) { lookedUp(o, nameServer(t, says())) },
			[]string{"no IPv4 address (no-a-record)"}, false},
		"an address of this network": {443, func(o *Options) {
			lookedUp(o, nameServer(t, says("A 127.0.0.1")))
			o.AllowPrivate = false
		}, []string{"(not-public)", "relay.test has the address 127.0.0.1, which is not public: not dialled"}, false},
		"an address of this network, pinned": {443, func(o *Options) { o.AllowPrivate = false }, []string{"(not-public)"}, false},
		"nobody listens":                     {closedPort(t), nil, []string{"nobody listens on the port (refused)", "to do: start the relay"}, false},
		"no TLS": {listenAnd(t, func(l net.Listener) {
			accept(t, l, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
		}), nil, []string{"(not-tls)"}, false},
		"the resolver says nothing": {443, func(o *Options) {
			lookedUp(o, NameServer{})
			o.Resolver = func() ([]NameServer, error) { return nil, errors.New("no resolv.conf") }
		}, []string{"nothing is known of the relay", "(own-fault)", "no resolv.conf"}, true},
		"not found":  {served(t, ca, status(http.StatusNotFound)), nil, []string{"the server answers 404 Not Found", "not the page of a relayd"}, false},
		"a redirect": {served(t, ca, status(http.StatusFound)), nil, []string{"the server answers 302 Found", "not the page of a relayd"}, false},
		"hangs up": {served(t, ca, overTLS(func(c *tls.Conn) {
			// With the request read: else the client may learn of the end before it asks.
			_, _ = http.ReadRequest(bufio.NewReader(c))
			c.Close()
		})), nil, []string{"/status.json: ", "EOF"}, false},
		"js-libp2p's": {served(t, ca, status(http.StatusBadRequest)), nil, []string{"400 Bad Request", "ipfs-service-provider"}, false},
	} {
		t.Run(what, func(t *testing.T) {
			o := ca.options()
			if tc.change != nil {
				tc.change(&o)
			}
			found, err := Find(within(t), Domain{"relay.test", uint16(tc.port)}, o)
			if err == nil {
				t.Fatalf("found %+v, want an error", found)
			}
			for _, want := range append(tc.err, Domain{"relay.test", uint16(tc.port)}.page()) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want in it %q", err, want)
				}
			}
			if got := errors.Is(err, ErrBlind); got != tc.blind {
				t.Errorf("blind is %t, want %t", got, tc.blind)
			}
		})
	}
}

// served is the port of a server with a good certificate.
func served(t *testing.T, ca *authority, serve func(*testing.T, net.Listener, tls.Certificate)) int {
	t.Helper()
	return listenAnd(t, func(l net.Listener) { serve(t, l, ca.leaf(t, nil)) })
}

// closedPort is one on which nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A certificate that is not valid keeps nobody from finding the addresses, and is told.
func TestFindUnverified(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	elsewhere := func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} }
	for want, cert := range map[evidence.Class]tls.Certificate{
		"":                       ca.leaf(t, nil),
		evidence.CertExpired:     ca.leaf(t, expired),
		evidence.CertWrongName:   ca.leaf(t, elsewhere),
		evidence.CertUntrusted:   stranger.leaf(t, nil),
		evidence.CertNotYetValid: ca.leaf(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }),
	} {
		port := listenAnd(t, func(l net.Listener) {
			https(t, l, cert, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(gives(findID, findTCP, findWSS))) })
		})
		found, err := Find(within(t), Domain{name, uint16(port)}, ca.options())
		if err != nil || found.Unverified != want || found.Target.PeerID.String() != findID {
			t.Errorf("got %+v, %v; want the addresses and %q", found, err, want)
		}
	}
}
