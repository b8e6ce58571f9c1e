package probe

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// named is a good relay over tcp4 whose wss name is looked up in a zone of faults. The
// second resolver says the same of it.
func named(host string) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, o *Options) Target {
		o.Resolver = asks(nameServer(t, answerDNS))
		o.Second = []NameServer{secondServer(t, ca, answerDNS)}
		tgt := newRelay(t, ca.leaf(t, nil), true, nil).Target
		parsed, err := ParseTarget([]string{"/dns4/" + host + "/tcp/443/wss/p2p/" + tgt.PeerID.String()})
		if err != nil {
			t.Fatal(err)
		}
		tgt.WSS = parsed.WSS
		return tgt
	}
}

// lookedUp takes the pins away: name, and other names, are looked up.
func lookedUp(o *Options, own NameServer, second ...NameServer) {
	o.Resolve = nil
	o.Resolver = asks(own)
	o.Second = second
}

func asks(servers ...NameServer) func() ([]NameServer, error) {
	return func() ([]NameServer, error) { return servers, nil }
}

// nameServer is one on loopback that is asked over UDP and TCP.
func nameServer(t testing.TB, handle dns.HandlerFunc) NameServer {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	conn, err := net.ListenPacket("udp4", at)
	for tries := 0; err != nil && tries < 20; tries++ { // another has the port for UDP
		l.Close()
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		at = l.Addr().String()
		conn, err = net.ListenPacket("udp4", at)
	}
	if err != nil {
		t.Fatal(err)
	}
	serveDNS(t, &dns.Server{Listener: l, Handler: handle})
	serveDNS(t, &dns.Server{PacketConn: conn, Handler: handle})
	return NameServer{Addr: netip.MustParseAddrPort(at)}
}

const secondName = "dns.test"

// secondServer is a resolver on loopback that is asked over TLS. Its address is not
// that of a nameServer, with which it would not be asked.
func secondServer(t testing.TB, ca *authority, handle dns.HandlerFunc) NameServer {
	t.Helper()
	cert := ca.leaf(t, func(c *x509.Certificate) { c.DNSNames = []string{secondName} })
	l, err := net.Listen("tcp4", "127.0.0.53:0")
	if err != nil {
		t.Fatal(err)
	}
	serveDNS(t, &dns.Server{Listener: tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}), Handler: handle})
	return NameServer{netip.MustParseAddrPort(l.Addr().String()), secondName}
}

func serveDNS(t testing.TB, srv *dns.Server) {
	t.Helper()
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	go srv.ActivateAndServe()
	<-started
	t.Cleanup(func() { srv.Shutdown() })
}

// says answers every question for an A record of name, and gone to all others.
func says(records ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := replyTo(q)
		if q.Question[0].Name != name+"." {
			m.Rcode = dns.RcodeNameError
		} else if q.Question[0].Qtype == dns.TypeA {
			addRecords(m, records...)
		}
		w.WriteMsg(m)
	}
}

func rcode(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := replyTo(q)
		m.Rcode = code
		w.WriteMsg(m)
	}
}

func mute(dns.ResponseWriter, *dns.Msg) {}

func replyTo(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	return m
}

func addRecords(m *dns.Msg, records ...string) {
	for _, s := range records {
		rr, err := dns.NewRR(m.Question[0].Name + " 60 IN " + s)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
}

func answerDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := replyTo(q)
	ask := q.Question[0]
	record := func(s string) { addRecords(m, s) }
	switch ask.Name {
	case "six.test.":
		if ask.Qtype == dns.TypeAAAA {
			record("AAAA 2001:db8::1")
		}
	case "private.test.":
		if ask.Qtype == dns.TypeA {
			record("A 198.41.0.4")
			record("A 127.0.0.1")
		}
	case "relay.test.":
		if ask.Qtype == dns.TypeA {
			record("A 127.0.0.3") // nobody is there
			record("A 127.0.0.1")
		}
	case "broken.test.":
		m.Rcode = dns.RcodeServerFailure
	case "silent.test.":
		return
	default:
		m.Rcode = dns.RcodeNameError
	}
	w.WriteMsg(m)
}

// lookups are the answers that were recorded, as text.
func lookups(a evidence.Attempt) (list []string) {
	for _, l := range a.Facts.Lookups {
		who := l.Resolver
		if who != evidence.OwnResolver {
			who = "second"
		}
		list = append(list, who+" "+l.Words())
	}
	return list
}
