package probe

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/psf-relay/relay-appliance/internal/publicip"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Names are looked up here and not by package net, whose errors are texts: they do
// not tell whether a name server has said something, or this machine has failed.
// What no name server has said never counts against a relay.

// NameServer is a recursive resolver.
type NameServer struct {
	Addr netip.AddrPort
	// Name is that of its certificate. It is then asked over TLS (RFC 7858), else
	// over UDP and TCP.
	Name string
}

const (
	plainPort = 53
	tlsPort   = 853
)

// ParseNameServer reads ADDR#NAME or ADDR:PORT#NAME, as systemd-resolved does: a
// resolver that is asked over TLS.
func ParseNameServer(s string) (NameServer, error) {
	fault := fmt.Errorf("resolver %q: want ADDR#NAME or ADDR:PORT#NAME, such as 1.1.1.1#cloudflare-dns.com", clip(s))
	addr, name, _ := strings.Cut(s, "#")
	if len(s) > maxText || checkName(name) != nil {
		return NameServer{}, fault
	}
	if ip, err := netip.ParseAddr(addr); err == nil && !ip.IsUnspecified() {
		return NameServer{netip.AddrPortFrom(ip, tlsPort), name}, nil
	}
	at, err := netip.ParseAddrPort(addr)
	if err != nil || at.Port() == 0 || at.Addr().IsUnspecified() {
		return NameServer{}, fault
	}
	return NameServer{at, name}, nil
}

// String writes the resolver as ParseNameServer reads it.
func (s NameServer) String() string {
	at := s.Addr.String()
	if s.Name != "" && s.Addr.Port() == tlsPort {
		at = s.Addr.Addr().String()
	}
	if s.Name == "" {
		return at
	}
	return at + "#" + s.Name
}

// SystemNameServers are those of a resolv.conf. /etc/hosts has no say: a relay's
// visitors do not see it.
func SystemNameServers(file string, port uint16) ([]NameServer, error) {
	conf, err := dns.ClientConfigFromFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		conf, err = new(dns.ClientConfig), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the name servers of this machine: %w", err)
	}
	var list []NameServer
	for _, s := range conf.Servers {
		if ip, err := netip.ParseAddr(s); err == nil && len(list) < maxServers {
			list = append(list, NameServer{Addr: netip.AddrPortFrom(ip, port)})
		}
	}
	if len(list) == 0 {
		// resolv.conf(5): without one, the name server on this machine.
		list = append(list, NameServer{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)})
	}
	return list, nil
}

// maxServers is how many name servers of resolv.conf the C library uses, too.
const maxServers = 3

// servers are the resolvers that are asked first.
func (o *Options) servers() ([]NameServer, error) {
	if o.Resolver != nil {
		return o.Resolver()
	}
	return SystemNameServers("/etc/resolv.conf", plainPort)
}

// answer is what came of a look-up.
type answer struct {
	ips []netip.Addr // the A records, sorted
	// class says why there are none. NameNotFound, NoARecord and NameLookup are a
	// resolver's words; with Resolver there were none.
	class evidence.Class
	err   error
	// retries is how often the question was asked again, and silences how often it was
	// asked of all servers and none said a word.
	retries, silences int
}

// said says whether a resolver has answered at all.
func (a answer) said() bool { return a.class != evidence.Resolver }

// agrees says whether other confirms a: the name has no address there either, or
// all addresses of a.
func (a answer) agrees(other answer) bool {
	none := []evidence.Class{evidence.NameNotFound, evidence.NoARecord}
	switch {
	case a.class == "":
		return other.class == "" && !slices.ContainsFunc(a.ips, func(ip netip.Addr) bool { return !slices.Contains(other.ips, ip) })
	case slices.Contains(none, a.class):
		return slices.Contains(none, other.class)
	}
	return a.class == other.class
}

// fact is the answer as it is recorded.
func (a answer) fact(resolver string) evidence.Lookup {
	l := evidence.Lookup{Resolver: resolver, Class: a.class}
	for _, ip := range a.ips {
		l.IPv4 = append(l.IPv4, ip.String())
	}
	return l
}

// fault is the answer as the end of a rung. A look-up that no resolver answered
// says nothing of the name.
func (a answer) fault() error {
	switch a.class {
	case "":
		return nil
	case evidence.Resolver:
		return blind(evidence.Resolver, a.err)
	}
	return fail(a.class, a.err)
}

// The patience with one question, and how it grows: a lost packet costs little time,
// and a resolver that has to ask the whole way gets enough.
const (
	firstPatience = 2 * time.Second
	morePatience  = time.Second
	mostPatience  = 5 * time.Second
	// leastPause is between two rounds that failed at once.
	leastPause = time.Second
)

// ask looks up the A records of name at the first of the servers that gives an
// answer. What was not answered is asked again for two thirds of the time that ctx
// has; the rest is for the connection.
func (d dialer) ask(ctx context.Context, servers []NameServer, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, share(ctx, 3)*2)
	defer cancel()
	result := answer{class: evidence.Resolver, retries: -1}
	var refused error // a server's word that it cannot tell
	patience := firstPatience
	for round := 0; ; round++ {
		next := time.NewTimer(leastPause)
		silent := 0
		for _, s := range servers {
			result.retries++
			// A network that lets no UDP through lets TCP through at times.
			msg, err := d.exchange(ctx, s, name, patience, round%3 == 2)
			if err != nil {
				silent++
				// This machine's own fault is kept before all, and that time is up after all.
				if result.err == nil || ownFault(err) || !isTimeout(err) && !ownFault(result.err) {
					result.err = fmt.Errorf("look up %s at %s: %w", name, s, err)
				}
			} else if result.read(name, s, msg) {
				next.Stop()
				return result
			} else {
				refused, result.err = result.err, nil
			}
			if ctx.Err() != nil {
				break
			}
		}
		if silent == len(servers) {
			result.silences++
		}
		switch {
		case result.err != nil && (ownFault(result.err) || isImpostor(result.err)):
			next.Stop()
			return result // of class Resolver; asFault sees what it is
		case refused != nil && (ctx.Err() != nil || silent == 0 && round > 0):
			next.Stop()
			result.class, result.err = evidence.NameLookup, refused
			return result
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			if refused != nil {
				result.class, result.err = evidence.NameLookup, refused
			} else if result.err == nil {
				result.err = fmt.Errorf("look up %s: %w", name, ctx.Err())
			}
			return result
		}
		patience = min(patience+morePatience, mostPatience)
	}
}

// read takes over what a server says, and says whether that is final. If not, the
// reason is in a.err.
func (a *answer) read(name string, s NameServer, msg *dns.Msg) bool {
	usable := msg.RecursionAvailable || msg.Authoritative
	switch {
	case msg.Rcode == dns.RcodeNameError:
		a.class, a.err = evidence.NameNotFound, fmt.Errorf("%s says that %s does not exist", s, name)
		return true
	case msg.Rcode != dns.RcodeSuccess:
		a.err = fmt.Errorf("look up %s: %s answers %s", name, s, dns.RcodeToString[msg.Rcode])
		return false
	}
	for _, rr := range msg.Answer {
		if r, ok := rr.(*dns.A); ok {
			if ip, ok := netip.AddrFromSlice(r.A); ok && ip.Unmap().Is4() {
				a.ips = append(a.ips, ip.Unmap())
			}
		}
	}
	switch {
	case len(a.ips) > 0:
		slices.SortFunc(a.ips, netip.Addr.Compare)
		a.ips = slices.Compact(a.ips)
		a.ips = a.ips[:min(len(a.ips), maxIPs)]
		a.class, a.err = "", nil
		return true
	case usable:
		a.class, a.err = evidence.NoARecord, fmt.Errorf("%s says that %s has no IPv4 address", s, name)
		return true
	}
	a.err = fmt.Errorf("look up %s: %s knows nothing and asks nobody else", name, s)
	return false
}

// exchange asks one server once.
func (d dialer) exchange(ctx context.Context, s NameServer, name string, patience time.Duration, stream bool) (*dns.Msg, error) {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	network := "udp"
	if stream || s.Name != "" {
		network = "tcp"
	}
	conn, err := d.socket(within, network, s.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// Package dns knows no contexts.
	stop := context.AfterFunc(within, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	over := &dns.Conn{Conn: conn}
	if s.Name != "" {
		secured := tls.Client(conn, &tls.Config{RootCAs: d.opts.roots(), ServerName: s.Name, MinVersion: tls.VersionTLS12})
		if err := secured.HandshakeContext(within); err != nil {
			return nil, err
		}
		over.Conn = secured
	}
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	if err := over.WriteMsg(question); err != nil {
		return nil, err
	}
	for {
		msg, err := over.ReadMsg()
		switch {
		case err == nil && answers(msg, question):
			if msg.Truncated && network == "udp" {
				return d.exchange(ctx, s, name, patience, true)
			}
			return msg, nil
		case within.Err() != nil || network == "tcp" && err != nil || isSocketError(err):
			return nil, errors.Join(err, within.Err())
		case network == "tcp":
			return nil, fmt.Errorf("%s answers another question", s)
		}
		// Over UDP anybody can send something: only the answer counts.
	}
}

// answers says whether msg is the answer to question.
func answers(msg, question *dns.Msg) bool {
	return msg.Response && msg.Id == question.Id && len(msg.Question) == 1 &&
		msg.Question[0].Qtype == question.Question[0].Qtype &&
		strings.EqualFold(msg.Question[0].Name, question.Question[0].Name)
}

// isImpostor says whether another server than the resolver was met: a captive portal,
// or a firewall. It will be met again.
func isImpostor(err error) bool {
	var cert *tls.CertificateVerificationError
	return errors.As(err, &cert)
}

// isSocketError tells an error of the connection from bytes that are no message.
func isSocketError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

// socket makes every connection of the prober.
func (d dialer) socket(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	return (&net.Dialer{Control: d.opts.control}).DialContext(ctx, network, to.String())
}

// lookup finds the A records of name, or its pin.
func (d dialer) lookup(ctx context.Context, name string, port uint16) ([]netip.Addr, error) {
	d.facts.ResolvedIPv4, d.facts.LookupRetries = nil, 0
	var found answer
	if ip, ok := d.opts.pin(name, port); ok {
		found.ips = []netip.Addr{ip}
	} else {
		servers, err := d.opts.servers()
		if err != nil {
			return nil, blind(evidence.OwnFault, err)
		}
		found = d.ask(ctx, servers, name)
		d.facts.LookupRetries = found.retries
		// A question that is lost is one more packet that the line lost.
		d.line.add(traffic{int64(found.silences) + 1, int64(found.silences)})
	}
	d.facts.ResolvedIPv4 = found.fact("").IPv4
	for _, ip := range found.ips {
		if !d.opts.AllowPrivate && !publicip.Is4(ip) {
			return nil, fail(evidence.NotPublic, fmt.Errorf("%s has the address %s, which is not public: not dialled", name, ip))
		}
	}
	return found.ips, found.fault()
}

// uncached looks up a new name below name, which no resolver has in its cache. Any
// answer will do: it shows that the resolver reaches the domain's name servers. A
// pinned name is not looked up.
func (d dialer) uncached(ctx context.Context, name string, port uint16) error {
	if _, ok := d.opts.pin(name, port); ok {
		return nil
	}
	servers, err := d.opts.servers()
	if err != nil {
		return blind(evidence.OwnFault, err)
	}
	label := make([]byte, 8)
	rand.Read(label) // never fails
	fresh := hex.EncodeToString(label) + "."
	for len(fresh)+len(name) > maxName && strings.Contains(name, ".") {
		_, name, _ = strings.Cut(name, ".")
	}
	found := d.ask(ctx, servers, fresh+name)
	switch found.class {
	case "", evidence.NameNotFound, evidence.NoARecord:
		return nil
	}
	return found.fault()
}

// secondOpinion is the name under which [Options.Deadlines] may replace
// secondDeadline, which bounds it.
const (
	secondOpinion  = "second"
	secondDeadline = 15 * time.Second
)

// confirm asks for a second opinion when a rung that went by the relay's name has
// failed. The failure stays one only if another resolver says of the name what the
// monitor's own says, and none says something else, or if the name led to the registered
// address alone. Else nothing is known of the
// relay, and what was met in its place is not kept as its own. Nobody is dialled at
// another resolver's address: the monitor reports what it met on its own way, and a
// relay that was not met on that way is not shown to be well.
func (c *climb) confirm(ctx context.Context, f *fault) *fault {
	name, port := c.target.host(), port(c.target.WSS)
	if _, pinned := c.opts.pin(name, port); pinned || len(c.opts.Second) == 0 {
		return f
	}
	own, err := c.opts.servers()
	if err != nil {
		return blind(evidence.OwnFault, err)
	}
	facts := &c.attempt.Facts
	first := answer{err: f}
	for _, s := range facts.ResolvedIPv4 {
		first.ips = append(first.ips, netip.MustParseAddr(s))
	}
	if len(first.ips) == 0 {
		first.class = f.class
	}
	if c.target.TCP4 != nil && slices.Equal(first.ips, []netip.Addr{c.target.tcp4().Addr()}) {
		return f // the address that is registered: it was the relay that was met
	}
	var others []NameServer
	for _, s := range c.opts.Second {
		if !s.among(own) {
			others = append(others, s)
		}
	}
	within, cancel := context.WithTimeout(ctx, c.opts.secondDeadline())
	defer cancel()
	heard := make([]answer, len(others))
	var asking sync.WaitGroup
	for i, s := range others {
		asking.Go(func() { heard[i] = c.dialer().ask(within, []NameServer{s}, name) })
	}
	asking.Wait()

	facts.Lookups = []evidence.Lookup{first.fact(evidence.OwnResolver)}
	var (
		confirmed bool
		contrary  []string
		silent    []error
	)
	for i, a := range heard {
		facts.Lookups = append(facts.Lookups, a.fact(others[i].String()))
		switch {
		case !a.said():
			silent = append(silent, a.err)
		case first.agrees(a):
			confirmed = true
		default:
			contrary = append(contrary, fmt.Sprintf("%s says %s", others[i], facts.Lookups[i+1].Words()))
		}
	}
	if confirmed && contrary == nil {
		return f
	}
	if c.outcome("wss") != evidence.OK {
		facts.ResolvedIPv4, facts.Certificate, facts.HTTPStatus = nil, nil, 0
	}
	said := fmt.Sprintf("of %s this machine's resolver says %s (then: %s)", name, facts.Lookups[0].Words(), f.class)
	switch {
	case contrary != nil:
		return blind(evidence.Resolver, fmt.Errorf("%s, but %s: %w", said, strings.Join(contrary, ", "), f))
	case len(silent) > 0:
		return blind(evidence.Resolver, fmt.Errorf("%s, and no second resolver answers: %w: %w", said, errors.Join(silent...), f))
	}
	return blind(evidence.Resolver, fmt.Errorf("%s, and there is no second resolver: all of second_resolvers are this machine's own: %w", said, f))
}

// among says whether the resolver is one of a list. The same machine is no second opinion.
func (s NameServer) among(own []NameServer) bool {
	return slices.ContainsFunc(own, func(o NameServer) bool { return o.Addr.Addr() == s.Addr.Addr() })
}

func (o *Options) secondDeadline() time.Duration {
	return o.deadlineOf(rung{name: secondOpinion, deadline: secondDeadline})
}

// Unheard says of each second resolver that gives no second opinion why; each is asked
// for its own name.
func (o Options) Unheard(ctx context.Context) []error {
	ctx, cancel := context.WithTimeout(ctx, o.secondDeadline())
	defer cancel()
	d := dialer{&o, new(evidence.Facts), new(line)}
	faults := make([]error, len(o.Second))
	own, _ := o.servers() // that it fails is told by what fails for it
	var asking sync.WaitGroup
	for i, s := range o.Second {
		if s.among(own) {
			faults[i] = fmt.Errorf("%s is this machine's own resolver", s)
			continue
		}
		asking.Go(func() {
			if a := d.ask(ctx, []NameServer{s}, s.Name); !a.said() {
				faults[i] = a.err
			}
		})
	}
	asking.Wait()
	return slices.DeleteFunc(faults, func(err error) bool { return err == nil })
}

// controlFunc is that of [net.Dialer].
type controlFunc = func(network, address string, c syscall.RawConn) error
