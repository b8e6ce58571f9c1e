package probe

import (
	"context"
	"net"
	"testing"

	"github.com/miekg/dns"
)

// named is a good relay over tcp4 whose wss name is looked up in a zone of faults.
func named(host string) func(*testing.T, *authority, *Options) Target {
	return func(t *testing.T, ca *authority, o *Options) Target {
		o.Resolver = resolver(t)
		tgt := newRelay(t, ca.leaf(t, nil), true, nil).Target
		parsed, err := ParseTarget([]string{"/dns4/" + host + "/tcp/443/wss/p2p/" + tgt.PeerID.String()})
		if err != nil {
			t.Fatal(err)
		}
		tgt.WSS = parsed.WSS
		return tgt
	}
}

// resolver asks a name server on loopback.
func resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	srv := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(answerDNS)}
	go srv.ActivateAndServe()
	<-started
	t.Cleanup(func() { srv.Shutdown() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func answerDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	ask := q.Question[0]
	record := func(s string) {
		rr, err := dns.NewRR(ask.Name + " 60 IN " + s)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
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
