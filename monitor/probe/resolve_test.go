package probe

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/miekg/dns"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A resolver that is in trouble with the relay's name alone: it knows all controls.
// Votes are the rules' own: two attempts, as far apart as they must be.
func TestResolverInTrouble(t *testing.T) {
	t.Parallel()
	truth := says("A 127.0.0.1")
	gone, nowhere, failing := rcode(dns.RcodeNameError), says("A 127.0.0.99"), rcode(dns.RcodeServerFailure)
	for what, test := range map[string]struct {
		own    dns.HandlerFunc
		second []dns.HandlerFunc // nil: one that cannot be reached
		portal bool
		// impostor: what is met at the second resolver's address has another certificate.
		impostor bool
		vote     bounty.Value
		class    evidence.Class
		said     string
	}{
		"SERVFAIL":                 {own: failing, second: []dns.HandlerFunc{truth}, class: evidence.Resolver, said: "own name-lookup, second 127.0.0.1"},
		"REFUSED":                  {own: rcode(dns.RcodeRefused), second: []dns.HandlerFunc{truth}, class: evidence.Resolver, said: "own name-lookup, second 127.0.0.1"},
		"nothing":                  {own: mute, second: []dns.HandlerFunc{truth}, class: evidence.Resolver},
		"another address":          {own: nowhere, second: []dns.HandlerFunc{truth}, class: evidence.Resolver, said: "own 127.0.0.99, second 127.0.0.1"},
		"an old address, too":      {own: says("A 127.0.0.98", "A 127.0.0.99"), second: []dns.HandlerFunc{nowhere}, class: evidence.Resolver, said: "own 127.0.0.98 127.0.0.99, second 127.0.0.99"},
		"NXDOMAIN, a blocklist":    {own: gone, second: []dns.HandlerFunc{truth}, class: evidence.Resolver, said: "own name-not-found, second 127.0.0.1"},
		"no address":               {own: says(), second: []dns.HandlerFunc{truth}, class: evidence.Resolver, said: "own no-a-record, second 127.0.0.1"},
		"a captive portal":         {own: says("A 127.0.0.2"), portal: true, second: []dns.HandlerFunc{truth}, class: evidence.Resolver, said: "own 127.0.0.2, second 127.0.0.1"},
		"a closed captive portal":  {own: says("A 127.0.0.2"), portal: true, second: []dns.HandlerFunc{nil}, class: evidence.Resolver, said: "own 127.0.0.2, second no answer"},
		"a portal for resolvers":   {own: says("A 127.0.0.2"), portal: true, second: []dns.HandlerFunc{truth}, impostor: true, class: evidence.Resolver, said: "own 127.0.0.2, second no answer"},
		"two that disagree":        {own: gone, second: []dns.HandlerFunc{gone, truth}, class: evidence.Resolver, said: "own name-not-found, second name-not-found, second 127.0.0.1"},
		"nobody else answers":      {own: gone, second: []dns.HandlerFunc{mute, nil}, class: evidence.Resolver, said: "own name-not-found, second no answer, second no answer"},
		"only the other knows it":  {own: failing, second: []dns.HandlerFunc{gone}, class: evidence.Resolver, said: "own name-lookup, second name-not-found"},
		"the name is gone":         {own: gone, second: []dns.HandlerFunc{gone}, vote: bounty.Down, class: evidence.NameNotFound, said: "own name-not-found, second name-not-found"},
		"gone, and one is silent":  {own: gone, second: []dns.HandlerFunc{nil, gone}, vote: bounty.Down, class: evidence.NameNotFound, said: "own name-not-found, second no answer, second name-not-found"},
		"its address is gone":      {own: says(), second: []dns.HandlerFunc{gone}, vote: bounty.Down, class: evidence.NoARecord, said: "own no-a-record, second name-not-found"},
		"the domain is broken":     {own: failing, second: []dns.HandlerFunc{failing}, vote: bounty.Down, class: evidence.NameLookup, said: "own name-lookup, second name-lookup"},
		"it leads nowhere for all": {own: nowhere, second: []dns.HandlerFunc{nowhere}, vote: bounty.Down, class: evidence.Refused, said: "own 127.0.0.99, second 127.0.0.99"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			o := ca.options()
			relay := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr}).Target
			roster := &bounty.Roster{Network: evidence.Lab}
			var controls []ControlHost
			for i := range 3 {
				host := fmt.Sprintf("control%d.test", i)
				cert := ca.leaf(t, func(c *x509.Certificate) { c.DNSNames = []string{host} })
				port := listenAnd(t, func(l net.Listener) { status(http.StatusNotFound)(t, l, cert) })
				h := bounty.ControlHost{Name: host, Operator: host, TCP4: fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port), WSS: fmt.Sprintf("/dns4/%s/tcp/%d/wss", host, port)}
				control, err := ParseControl(host, h.TCP4, h.WSS)
				if err != nil {
					t.Fatal(err)
				}
				controls, roster.Controls = append(controls, control), append(roster.Controls, h)
			}
			if test.portal {
				l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.2:%d", port(relay.WSS)))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				status(http.StatusFound)(t, l, newAuthority(t).leaf(t, func(c *x509.Certificate) { c.DNSNames = []string{"portal.test"} }))
			}
			lookedUp(&o, nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
				if q.Question[0].Name == name+"." {
					test.own(w, q)
					return
				}
				m := replyTo(q)
				if strings.HasPrefix(q.Question[0].Name, "control") {
					addRecords(m, "A 127.0.0.1")
				} else {
					m.Rcode = dns.RcodeNameError
				}
				w.WriteMsg(m)
			}))
			for _, handle := range test.second {
				s := NameServer{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.53"), 1), secondName}
				if handle != nil {
					issuer := ca
					if test.impostor {
						issuer = newAuthority(t)
					}
					s = secondServer(t, issuer, handle)
				}
				o.Second = append(o.Second, s)
			}
			// What nobody answers takes as long as it is given.
			o.Deadlines = map[string]time.Duration{}
			if test.said == "" {
				o.Deadlines["wss"] = soon
			}
			if strings.Contains(test.said, "no answer") && !test.impostor {
				o.Deadlines[secondOpinion] = 2 * soon
			}
			member := bounty.Relay{
				PeerID: relay.PeerID.String(), Operator: "another", Enrolled: evidence.HourOf(time.Now()),
				Address: bounty.Address{IPv4: "127.0.0.1", TCPPort: int(port(relay.TCP4)), Domain: name, WSSPort: int(port(relay.WSS))},
			}
			roster.Relays = []bounty.Relay{member}
			rules := bounty.Defaults()
			rec := &evidence.Record{PeerID: member.PeerID}
			for i := range rules.DownAttempts {
				a := Run(within(t), relay, o)
				a.Controls = Controls(within(t), controls, Needed(a), o)
				if got := rungOf(t, a, "wss"); got.Class != test.class || (got.Outcome == evidence.Fail) != (test.vote == bounty.Down) {
					t.Errorf("wss: got %+v, want class %s", got, test.class)
				}
				if got := strings.Join(lookups(a), ", "); got != test.said {
					t.Errorf("look-ups: got %q, want %q", got, test.said)
				}
				if test.vote != bounty.Down && (a.Facts.Certificate != nil || a.Facts.ResolvedIPv4 != nil) {
					t.Errorf("what was met in the relay's place is kept as its own: %+v", a.Facts)
				}
				checkShape(t, a)
				later := time.Duration(i) * rules.DownSpacing
				a.Started = evidence.TimeOf(a.Started.Add(later))
				for k := range a.Controls {
					a.Controls[k].Started = evidence.TimeOf(a.Controls[k].Started.Add(later))
				}
				rec.Attempts = append(rec.Attempts, a)
			}
			rec.Hour = evidence.HourOf(rec.Attempts[0].Started.Time)
			ballot := bounty.VoteOf(rules, roster, nil, &member, rec, nil)
			if ballot.Value != test.vote || test.vote == bounty.Unknown && ballot.Why != bounty.BlindLine {
				t.Errorf("vote: got %s (%s) %v, want %s", ballot.Value, ballot.Why, ballot.Causes, test.vote)
			}
		})
	}
}

// A blocklist that answers 0.0.0.0: the address is not public, but that is not the
// relay's doing.
func TestBlocklistOfZeros(t *testing.T) {
	t.Parallel()
	for second, want := range map[string]evidence.Class{"A 198.41.0.4": evidence.Resolver, "A 0.0.0.0": evidence.NotPublic} {
		ca := newAuthority(t)
		o := ca.options()
		tgt := newRelay(t, ca.leaf(t, nil), true, nil).Target
		tgt.TCP4, o.AllowPrivate = nil, false
		lookedUp(&o, nameServer(t, says("A 0.0.0.0")), secondServer(t, ca, says(second)))
		if got := rungOf(t, Run(within(t), tgt, o), "wss"); got.Class != want {
			t.Errorf("second resolver says %s: got %+v, want class %s", second, got, want)
		}
	}
}

// Without a tcp4 address the second peer of the circuit goes by the name, too.
func TestResolverFailsLater(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	o := ca.options()
	tgt := newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr}).Target
	tgt.TCP4 = nil
	var asked atomic.Int32
	lookedUp(&o, nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if asked.Add(1) == 1 {
			says("A 127.0.0.1")(w, q)
			return
		}
		says()(w, q)
	}), secondServer(t, ca, says("A 127.0.0.1")))
	a := Run(within(t), tgt, o)
	if got := rungOf(t, a, "circuit"); got.Outcome != evidence.Blind || got.Class != evidence.Resolver || a.Facts.Certificate == nil {
		t.Errorf("circuit: got %+v, want blind (resolver), with the certificate of wss", got)
	}
}

// A resolver that is this machine's own is no second opinion.
func TestNoIndependentResolver(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	o := ca.options()
	tgt := newRelay(t, ca.leaf(t, nil), true, nil).Target
	second := secondServer(t, ca, rcode(dns.RcodeNameError))
	own := nameServer(t, rcode(dns.RcodeNameError))
	o.Resolve, o.Second = nil, []NameServer{second}
	o.Resolver = asks(own, NameServer{Addr: netip.AddrPortFrom(second.Addr.Addr(), 53)})
	a := Run(within(t), tgt, o)
	if got := rungOf(t, a, "wss"); got.Outcome != evidence.Blind || got.Class != evidence.Resolver || !strings.Contains(got.Detail, "no second resolver") {
		t.Errorf("wss: got %+v, want blind (resolver)", got)
	}
}

// Lost packets cost a look-up time, and nothing else; the first is not the last word
// of a resolver that has just started either.
func TestLostQuestions(t *testing.T) {
	t.Parallel()
	for what, lost := range map[string]dns.HandlerFunc{"lost": mute, "SERVFAIL": rcode(dns.RcodeServerFailure)} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			o := ca.options()
			var asked atomic.Int32
			lookedUp(&o, nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
				if asked.Add(1) == 1 {
					lost(w, q)
					return
				}
				says("A 127.0.0.1")(w, q)
			}))
			a := Run(within(t), newRelay(t, ca.leaf(t, nil), true, []relayv2.Option{everyAddr}).Target, o)
			if want := int(asked.Load()) - 1; a.Level != evidence.LevelEchoed || want == 0 || a.Facts.LookupRetries != want {
				t.Errorf("%d retries, want %d; level %d: %+v", a.Facts.LookupRetries, want, a.Level, a.Rungs)
			}
		})
	}
}

// Where no UDP comes through, or an answer is too long for it, TCP is used; and what
// others send to the port is no answer.
func TestLookupOverTCP(t *testing.T) {
	t.Parallel()
	isTCP := func(w dns.ResponseWriter) bool { return w.RemoteAddr().Network() == "tcp" }
	for what, udp := range map[string]dns.HandlerFunc{
		"no UDP": mute,
		"cut":    func(w dns.ResponseWriter, q *dns.Msg) { m := replyTo(q); m.Truncated = true; w.WriteMsg(m) },
		"forged": func(w dns.ResponseWriter, q *dns.Msg) {
			m := replyTo(q)
			addRecords(m, "A 127.0.0.99")
			m.Id++
			w.WriteMsg(m)
			m.Id--
			m.Question[0].Name = "other.test."
			w.WriteMsg(m)
			w.Write([]byte("no message"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := Options{}
			lookedUp(&o, nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
				if isTCP(w) {
					says("CNAME elsewhere.test.", "A 127.0.0.1")(w, q)
				} else {
					udp(w, q)
				}
			}))
			servers, _ := o.Resolver()
			got := dialer{&o, new(evidence.Facts), new(line)}.ask(within(t), servers, name)
			if got.class != "" || !slices.Equal(got.ips, []netip.Addr{netip.MustParseAddr("127.0.0.1")}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// The control asks for what no cache holds.
func TestUncachedControl(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert := ca.leaf(t, nil)
	web := listenAnd(t, func(l net.Listener) { status(http.StatusNotFound)(t, l, cert) })
	hosts := []ControlHost{{"web", Target{WSS: wssAt(web)}}, {"relay", newRelay(t, cert, true, nil).Target}}
	for what, test := range map[string]struct {
		fresh dns.HandlerFunc
		ok    bool
	}{
		"NXDOMAIN":   {rcode(dns.RcodeNameError), true},
		"no address": {rcode(dns.RcodeSuccess), true},
		"wildcard":   {func(w dns.ResponseWriter, q *dns.Msg) { m := replyTo(q); addRecords(m, "A 127.0.0.1"); w.WriteMsg(m) }, true},
		"SERVFAIL":   {rcode(dns.RcodeServerFailure), false},
		"nothing":    {mute, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := ca.options()
			var mu sync.Mutex
			var fresh []string
			lookedUp(&o, nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
				if asked := q.Question[0].Name; asked != name+"." {
					mu.Lock()
					fresh = append(fresh, asked)
					mu.Unlock()
					test.fresh(w, q)
					return
				}
				says("A 127.0.0.1")(w, q)
			}))
			ctx, cancel := within(t), func() {}
			if !test.ok { // however long it waits
				ctx, cancel = context.WithTimeout(ctx, 2*soon)
			}
			defer cancel()
			list := Controls(ctx, hosts, []evidence.Component{evidence.WSS}, o)
			for _, c := range list {
				if (c.Outcome == evidence.OK) != test.ok {
					t.Errorf("%s: got %s, want ok: %v", c.Name, c.Outcome, test.ok)
				}
			}
			if len(list) != 2 {
				t.Errorf("got %+v, want two controls", list)
			}
			mu.Lock()
			defer mu.Unlock()
			if test.ok && len(fresh) != 2 || test.ok && fresh[0] == fresh[len(fresh)-1] {
				t.Errorf("asked for %v, want a new name each time", fresh)
			}
			for _, s := range fresh {
				if label, rest, _ := strings.Cut(s, "."); len(label) != 16 || rest != name+"." {
					t.Errorf("asked for %s, want 16 hex digits below %s", s, name)
				}
			}
		})
	}
}

func TestUncachedLongName(t *testing.T) {
	t.Parallel()
	o := Options{}
	var asked atomic.Value
	lookedUp(&o, nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Store(q.Question[0].Name)
		rcode(dns.RcodeNameError)(w, q)
	}))
	long := strings.Repeat("abcdefghi.", 25) + "tst"
	if err := (dialer{&o, new(evidence.Facts), new(line)}).uncached(within(t), long, 443); err != nil {
		t.Error(err)
	}
	if got := asked.Load().(string); len(got)-1 > maxName || !strings.HasSuffix(long+".", got[17:]) {
		t.Errorf("asked for %s", got)
	}
}

func TestParseNameServer(t *testing.T) {
	for s, want := range map[string]string{
		"1.1.1.1#cloudflare-dns.com":              "1.1.1.1:853",
		"127.0.0.1:8853#dns.test":                 "127.0.0.1:8853",
		"2606:4700:4700::1111#cloudflare-dns.com": "[2606:4700:4700::1111]:853",
		"[2620:fe::10]:8853#dns10.quad9.net":      "[2620:fe::10]:8853",
	} {
		got, err := ParseNameServer(s)
		if err != nil || got.Addr.String() != want || got.String() != s {
			t.Errorf("%s: got %s (%s) %v, want %s", s, got.Addr, got, err, want)
		}
	}
	for _, s := range []string{"", "1.1.1.1", "dns.test", "1.1.1.1#", "#dns.test", "1.1.1.1:0#dns.test", "1.1.1.1:70000#dns.test", "0.0.0.0#dns.test", "[::]:853#dns.test", "1.1.1.1#1.1.1.1", "1.1.1.1#Dns.test", "1.1.1.1#a b", strings.Repeat("1", 300) + "#dns.test"} {
		if got, err := ParseNameServer(s); err == nil {
			t.Errorf("%q: got %s, want an error", s, got)
		}
	}
}

// Without a resolv.conf, and with one that names none, the name server is on this machine.
func TestSystemNameServers(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct{ text, want string }{
		"missing": {"", "[127.0.0.1:53]"},
		"empty":   {"# nothing\n", "[127.0.0.1:53]"},
		"two":     {"nameserver 192.0.2.1\nnameserver 2001:db8::1\n", "[192.0.2.1:53 [2001:db8::1]:53]"},
		"five":    {strings.Repeat("nameserver 192.0.2.1\n", 5), "[192.0.2.1:53 192.0.2.1:53 192.0.2.1:53]"},
	} {
		file := filepath.Join(dir, name)
		if test.text != "" {
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		list, err := SystemNameServers(file, plainPort)
		if got := fmt.Sprint(list); err != nil || got != test.want {
			t.Errorf("%s: got %s %v, want %s", name, got, err, test.want)
		}
	}
}

// Which of the second resolvers do not answer, and why.
func TestUnheard(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	o := ca.options()
	o.Second = []NameServer{
		secondServer(t, ca, rcode(dns.RcodeNameError)),
		{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.53"), 1), secondName},
		secondServer(t, newAuthority(t), says()),
	}
	var got []string
	for _, err := range o.Unheard(within(t)) {
		got = append(got, err.Error())
	}
	if len(got) != 2 || !strings.Contains(got[0], "refused") || !strings.Contains(got[1], "certificate") {
		t.Errorf("got %q, want one that refuses and one with a certificate of another", got)
	}
}

// This machine's own resolver is no second one, although it answers.
func TestUnheardOfItself(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	o := ca.options()
	s := secondServer(t, ca, rcode(dns.RcodeNameError))
	o.Second = []NameServer{s}
	o.Resolver = func() ([]NameServer, error) { return []NameServer{{Addr: netip.AddrPortFrom(s.Addr.Addr(), 53)}}, nil }
	if got := o.Unheard(within(t)); len(got) != 1 || !strings.Contains(got[0].Error(), "own resolver") {
		t.Errorf("got %v, want that it is this machine's own", got)
	}
}

// A name that leads to the registered address leads to the relay: what fails there is the
// relay's, whatever other resolvers say.
func TestRegisteredAddressNeedsNoSecondOpinion(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	_, closed := boundSocket(t)
	relay := newRelay(t, ca.leaf(t, nil), false, nil).Target
	relay.WSS = wssAt(closed)
	o := ca.options()
	lookedUp(&o, nameServer(t, says("A 127.0.0.1")))
	o.Second = []NameServer{secondServer(t, ca, says("A 127.0.0.99"))}
	a := Run(within(t), relay, o)
	if got := a.Results[evidence.WSS]; got.Outcome != evidence.Fail || got.Class != evidence.Refused || a.Facts.Lookups != nil {
		t.Errorf("got %+v and the look-ups %+v, want that it failed as refused, and none", got, a.Facts.Lookups)
	}
}
