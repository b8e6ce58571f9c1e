package probe

import (
	"net/netip"
	"strings"
	"testing"
)

const (
	idA = "12D3KooWRCnFveR7Lp5jYtVaapu2LjYPYw5rLgjNHen33QewuK2t"
	idB = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
)

func TestParseTarget(t *testing.T) {
	const tcp4, wss = "/ip4/198.41.0.4/tcp/4001", "/dns4/relay.example/tcp/443/wss"
	for _, test := range []struct {
		addrs     []string
		id        string
		tcp4, wss string
	}{
		{[]string{tcp4 + "/p2p/" + idA, wss + "/p2p/" + idA}, idA, tcp4, wss},
		{[]string{wss + "/ipfs/" + idA, tcp4 + "/ipfs/" + idA}, idA, tcp4, wss},
		{[]string{tcp4 + "/p2p/" + idB}, idB, tcp4, ""},
		{[]string{"/dns4/relay.example/tcp/443/tls/ws/p2p/" + idB}, idB, "", wss},
		{[]string{"/dns4/relay.example/tcp/443/tls/sni/relay.example/ws/p2p/" + idA}, idA, "", wss},
		{[]string{"/dns4/Relay.Example/tcp/443/wss/p2p/" + idA}, idA, "", wss},
		{[]string{"/dns4/relay.example/tcp/8443/wss/p2p/" + idA}, idA, "", "/dns4/relay.example/tcp/8443/wss"},
	} {
		got, err := ParseTarget(test.addrs)
		if err != nil {
			t.Errorf("%q: %v", test.addrs, err)
			continue
		}
		var tcp4, wss string
		if got.TCP4 != nil {
			tcp4 = got.TCP4.String()
		}
		if got.WSS != nil {
			wss = got.WSS.String()
		}
		if got.PeerID.String() != test.id || tcp4 != test.tcp4 || wss != test.wss {
			t.Errorf("%q: %s %s %s", test.addrs, got.PeerID, tcp4, wss)
		}
	}
}

// Each mistake has one message, and all of them are told at once.
func TestParseTargetFaults(t *testing.T) {
	const p2p = "/p2p/" + idA
	for _, test := range []struct {
		addrs []string
		want  []string
	}{
		{nil, []string{"no address given"}},
		{[]string{"relay.example"}, []string{"not a multiaddr"}},
		{[]string{""}, []string{"not a multiaddr"}},
		{[]string{"/ip4/300.1.1.1/tcp/1" + p2p}, []string{"not a multiaddr"}},
		{[]string{"/ip4/198.41.0.4/tcp/4001"}, []string{"append /p2p/ID"}},
		{[]string{p2p}, []string{"append /p2p/ID"}},
		{[]string{"/ip4/198.41.0.4/tcp/4001/p2p/nobody"}, []string{"not a multiaddr"}},
		{[]string{"/ip4/198.41.0.4/tcp/0" + p2p}, []string{"port 0"}},
		{[]string{"/ip6/2001:db8::1/tcp/4001" + p2p}, []string{"over IPv4"}},
		{[]string{"/dns6/relay.example/tcp/443/wss" + p2p}, []string{"over IPv4"}},
		{[]string{"/dns/relay.example/tcp/443/wss" + p2p}, []string{"several addresses"}},
		{[]string{"/dnsaddr/relay.example" + p2p}, []string{"several addresses"}},
		{[]string{"/dns4/relay.example/tcp/4001" + p2p}, []string{"literal public one"}},
		{[]string{"/dns4/relay.example/tcp/80/ws" + p2p}, []string{"plain websocket"}},
		{[]string{"/ip4/198.41.0.4/tcp/443/wss" + p2p}, []string{"a certificate is for a name"}},
		{[]string{"/dns4/198.41.0.4/tcp/443/wss" + p2p}, []string{"holds an IP address"}},
		{[]string{"/dns4/relay_1.example/tcp/443/wss" + p2p}, []string{"not a host name"}},
		{[]string{"/dns4/relay.example./tcp/443/wss" + p2p}, []string{"not a host name"}},
		{[]string{"/dns4/relay.example/tcp/443/tls/sni/other.example/ws" + p2p}, []string{"differs from"}},
		{[]string{"/ip4/198.41.0.4/udp/4001/quic-v1" + p2p}, []string{"only TCP and secure websockets"}},
		{[]string{"/ip4/198.41.0.4/tcp/4001" + p2p + "/p2p-circuit"}, []string{"another relay"}},
		{[]string{"/ip4/198.41.0.4/tcp/4001/http" + p2p}, []string{"this form is not probed"}},
		{[]string{"/unix/tmp" + p2p}, []string{"append /p2p/ID"}},
		{[]string{"/ip4/198.41.0.4/tcp/4001" + p2p, "/ip4/198.41.0.4/tcp/4002" + p2p}, []string{"two tcp4 addresses"}},
		{[]string{"/ip4/198.41.0.4/tcp/4001" + p2p, "/dns4/relay.example/tcp/443/wss/p2p/" + idB}, []string{"the peer IDs differ"}},
		{[]string{"/ip4/" + strings.Repeat("1", 600)}, []string{"at most 512 are read"}},
		{
			[]string{"/ip4/198.41.0.4/tcp/0" + p2p, "hello", "/dns4/relay.example/tcp/80/ws/p2p/" + idB},
			[]string{"port 0", "not a multiaddr", "plain websocket", "the peer IDs differ"},
		},
	} {
		got, err := ParseTarget(test.addrs)
		if err == nil {
			t.Errorf("%q: no fault: %+v", test.addrs, got)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(test.want) {
			t.Errorf("%q: %d faults, want %d:\n%v", test.addrs, len(lines), len(test.want), err)
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v; want %q in it", test.addrs, err, want)
			}
		}
		if got.PeerID != "" || got.TCP4 != nil || got.WSS != nil {
			t.Errorf("%q: a target in spite of %v", test.addrs, err)
		}
	}
}

// What is read can be written, and is then read as the same target; nothing that
// is read makes the gate or the evidence stumble.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{
		"/ip4/198.41.0.4/tcp/4001/p2p/" + idA, "/dns4/relay.example/tcp/443/wss/ipfs/" + idA,
		"/dns4/relay.example/tcp/443/tls/sni/relay.example/ws/p2p/" + idB, "/dns4/a/tcp/1/tls/ws/p2p/" + idA,
		"/ip4/127.0.0.1/tcp/0/p2p/" + idA, "/ip6/::1/tcp/1/p2p/" + idA, "/p2p/" + idA, "/", "", "x",
		"/ip4/1.2.3.4/tcp/1/p2p/" + idA + "/p2p-circuit/p2p/" + idB,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTarget([]string{s})
		if err != nil {
			return
		}
		if (got.TCP4 == nil) == (got.WSS == nil) {
			t.Fatalf("%q: %+v", s, got)
		}
		_ = Options{}.Check(got)
		addr := got.TCP4
		if addr == nil {
			addr = got.WSS
			if checkName(got.host()) != nil {
				t.Fatalf("%q: host %q", s, got.host())
			}
		}
		if port(addr) == 0 {
			t.Fatalf("%q: port 0", s)
		}
		again, err := ParseTarget([]string{got.with(addr)})
		if err != nil || again.PeerID != got.PeerID || again.with(again.TCP4) != got.with(got.TCP4) || again.with(again.WSS) != got.with(got.WSS) {
			t.Fatalf("%q: written as %q, read as %+v, %v", s, got.with(addr), again, err)
		}
	})
}

// Without AllowPrivate nothing private is dialled, whoever asks for it.
func TestPrivateIsNotDialled(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRelay(t, ca.leaf(t, nil), true, nil)
	o := ca.options()
	o.AllowPrivate = false
	if err := o.Check(r.Target); err == nil || strings.Count(err.Error(), "is not a public IPv4 address") != 2 {
		t.Errorf("Check: %v", err)
	}
	a := Run(within(t), r.Target, o)
	for _, rung := range []string{"tcp4", "wss"} {
		if got := rungOf(t, a, rung); got.Class != "not-public" {
			t.Errorf("%s %+v", rung, got)
		}
	}
	l, err := NewListener(nil, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Watch([]Target{r.Target})
	if len(l.watched) != 0 {
		t.Error("the listener watches a private address")
	}
}

func TestParsePin(t *testing.T) {
	o := Options{}
	for s, want := range map[string]string{"Relay.Example:192.0.2.1": "relay.example 192.0.2.1", "a.b:443:192.0.2.2": "a.b:443 192.0.2.2"} {
		key, ip, err := ParsePin(s)
		if err != nil || key+" "+ip.String() != want {
			t.Errorf("%s: %s %s %v, want %s", s, key, ip, err, want)
		}
	}
	for _, s := range []string{"", "a", "a:b", "a:", ":192.0.2.1", "a:0:192.0.2.1", "a:65536:192.0.2.1", "a:x:192.0.2.1", "a:::1", "a b:192.0.2.1", "a:1:2:192.0.2.1", "a:[::1]"} {
		if key, ip, err := ParsePin(s); err == nil || !strings.Contains(err.Error(), "want NAME:ADDR") {
			t.Errorf("%q: %s %s %v", s, key, ip, err)
		}
	}
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	o.Resolve = map[string]netip.Addr{"a": one, "a:8443": two}
	if ip, ok := o.pin("a", 443); !ok || ip != one {
		t.Errorf("a:443: %s", ip)
	}
	if ip, ok := o.pin("a", 8443); !ok || ip != two {
		t.Errorf("a:8443: %s", ip)
	}
	if ip, ok := o.pin("b", 443); ok {
		t.Errorf("b: %s", ip)
	}
}
