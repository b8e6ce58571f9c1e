package monitor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/miekg/dns"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Whatever certificate a relay shows, the attempt can be kept: one that the log refuses
// would cost the monitor its word on that relay, and end its judging of all until the
// next tick.
func TestAnyCertificateIsKept(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		kept   bool // the certificate is
		silent bool // no second resolver answers
	}{
		"many names":             {func(c *x509.Certificate) { c.DNSNames = make101("relay.test") }, true, false},
		"an issuer with a tab":   {func(c *x509.Certificate) { c.Subject.CommonName = "a\tb" }, true, false},
		"an issuer that is long": {func(c *x509.Certificate) { c.Subject.Organization = []string{long} }, true, false},
		"too large": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, 65<<10)}}
		}, false, false},
		"perhaps of a captive portal": {func(*x509.Certificate) {}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			port := showing(t, test.change)
			l, err := newLadder(Config{Network: evidence.Lab})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.close() })
			l.opts.Listener = nil
			if test.silent {
				own := answering(t, "127.0.0.1")
				l.opts.Resolver = func() ([]probe.NameServer, error) { return []probe.NameServer{own}, nil }
				l.opts.Second = []probe.NameServer{{Addr: netip.MustParseAddrPort("127.0.0.53:1"), Name: "second.test"}}
				l.opts.Deadlines = map[string]time.Duration{"second": time.Second}
			} else {
				l.opts.Resolve = map[string]netip.Addr{fmt.Sprintf("relay.test:%d", port): netip.MustParseAddr("127.0.0.1")}
			}
			const id = "12D3KooWGRUVh3yqVRzTz8DxkZn1wYHzV9ZbkuZuFWS5RuHfVJPZ"
			target, err := probe.ParseTarget([]string{fmt.Sprintf("/dns4/relay.test/tcp/%d/wss/p2p/%s", port, id)})
			if err != nil {
				t.Fatal(err)
			}
			a, certs := l.climb(t.Context(), target, nil, nil)
			h := evidence.HourOf(a.Started.Time)
			store, err := store.Create(filepath.Join(t.TempDir(), "log"), store.Options{Name: "m1", Network: evidence.Lab, First: h})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			if err := store.Append(h, a, certs...); err != nil {
				t.Errorf("the attempt cannot be kept: %.300v", err)
			}
			if got := a.Facts.Certificate != nil; got != test.kept {
				t.Errorf("a certificate in the facts: %t, want %t; %+v", got, test.kept, a.Rungs)
			}
		})
	}
}

func make101(name string) []string {
	list := []string{name}
	for i := range 100 {
		list = append(list, fmt.Sprintf("n%d.test", i))
	}
	return list
}

// showing is the port of a server that shows a certificate which it signed itself.
func showing(t *testing.T, change func(*x509.Certificate)) int {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay"}, DNSNames: []string{"relay.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).Handshake()
				conn.Close()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// answering is a name server that gives every name one address.
func answering(t *testing.T, ip string) probe.NameServer {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	s := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(ip)}}
		_ = w.WriteMsg(m) // who asked may be gone
	})}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go s.ActivateAndServe()
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	return probe.NameServer{Addr: netip.MustParseAddrPort(packets.LocalAddr().String())}
}

// What the log refuses of a relay's words costs these words, not the attempt, and it
// stops nobody from being judged.
func TestUnfitFactsAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{took: time.Second, outcome: func(string, time.Time) evidence.Outcome { return evidence.Fail }}
		m, ids := newTestMonitor(t, f, 1, 1)
		var said strings.Builder
		m.log = slog.New(slog.NewTextHandler(&said, nil))
		m.climb = func(ctx context.Context, to probe.Target, look *lookout, key crypto.PrivKey) (evidence.Attempt, [][]byte) {
			a, _ := f.climb(ctx, to, look, key)
			a.Facts.AgentVersion, a.Facts.Lookups = "x", make([]evidence.Lookup, 100)
			a.Facts.Reservation = &evidence.Reservation{Peer: "x", Voucher: []byte{1}, Expires: evidence.TimeOf(time.Now()), Addrs: make([]string, 100)}
			return a, [][]byte{{1}}
		}
		h := evidence.HourOf(m.machine.Now().Wall)
		m.mu.Lock()
		err := m.begin(h, m.machine.Now().Wall)
		m.mu.Unlock()
		must(t, err)
		m.attempt(t.Context(), schedule.Job{Relay: ids[0], Hour: h})
		records, err := m.store.Records(h)
		must(t, err)
		if len(records) != 1 || len(records[0].Attempts) != 1 || records[0].Attempts[0].Facts.AgentVersion != "" {
			t.Fatalf("got %+v, want one attempt without facts", records)
		}
		if r := records[0].Attempts[0].Facts.Reservation; r == nil || len(r.Voucher) != 1 || r.Addrs != nil {
			t.Errorf("got the reservation %+v, want what the relay signed, without addresses", r)
		}
		if m.fault != nil || m.begun.IsZero() || !strings.Contains(said.String(), "facts of an attempt are left out") {
			t.Errorf("got the fault %v and %q, want that judging goes on, and that it is said", m.fault, said.String())
		}
	})
}
