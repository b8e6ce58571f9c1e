package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/cashaddr"
	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// Signed is a statement for the bounty's committee.
type Signed struct {
	// Text is the signed envelope in base64, the line that goes to the committee.
	Text string `json:"statement"`
	// Says is what it says.
	Says statement.Statement `json:"says"`
}

// Claim is what the operator says besides what the configuration knows. Zero
// values are taken from there, as far as it is clear.
type Claim struct {
	Operator string     // the name under which the roster lists him
	IP4      netip.Addr // where the relay is, or moves to
	TCPPort  int
	WSSPort  int
	From     time.Time // the hour at which it takes effect; zero: the next one
	Payout   string    // of an enrolment
	Region   string    // of an enrolment
}

// Enrol signs that the relay enters the bounty.
func Enrol(cfg config.Config, c Claim, now time.Time) (Signed, error) {
	if c.Payout == "" {
		return Signed{}, errors.New("enrol: name the address to which payments go (simpleledger:...)")
	}
	if err := cashaddr.Check(c.Payout); err != nil {
		return Signed{}, fmt.Errorf("enrol: payout: %w", err)
	}
	if c.Region == "" {
		return Signed{}, errors.New("enrol: name the country that the relay stands in, such as SG")
	}
	return sign(cfg, statement.Enrol, c, now)
}

// Move signs that the relay's address changes. The committee must have it before
// it takes effect, so that it lies ahead.
func Move(cfg config.Config, c Claim, now time.Time) (Signed, error) {
	c.Payout, c.Region = "", "" // those of the enrolment stay
	return sign(cfg, statement.Move, c, now)
}

// Appeal signs the operator's objection to how a month, such as 2026-11, was counted or
// decided. An empty operator is the relay's name.
func Appeal(c config.Config, operator, month, text string, now time.Time) (Signed, error) {
	fail := func(err error) (Signed, error) { return Signed{}, fmt.Errorf("%s: %w", statement.Appeal, err) }
	key, err := LoadIdentity(c.DataDir)
	if err != nil {
		return fail(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return fail(err)
	}
	s := statement.Statement{
		Kind: statement.Appeal, Network: networkOf(c), PeerID: id.String(), Operator: operator,
		Month: month, Text: text, Made: now.UTC().Truncate(time.Second),
	}
	if s.Operator == "" {
		s.Operator = c.DisplayName(id)
	}
	envelope, err := statement.Sign(s, key)
	if err != nil {
		return fail(err)
	}
	return Signed{statement.Text(envelope), s}, nil
}

// networkOf is the one for which a relay of this configuration signs.
func networkOf(c config.Config) string {
	if c.Network.AllowPrivate {
		return "lab"
	}
	return "psf"
}

func sign(c config.Config, kind statement.Kind, claim Claim, now time.Time) (Signed, error) {
	fail := func(format string, args ...any) (Signed, error) {
		return Signed{}, fmt.Errorf("%s: %w", kind, fmt.Errorf(format, args...))
	}
	if c.Domain == "" {
		return fail("the bounty wants an address for browsers: set domain")
	}
	key, err := LoadIdentity(c.DataDir)
	if err != nil {
		return fail("%w", err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return fail("%w", err)
	}
	s := statement.Statement{
		Kind: kind, Network: networkOf(c), PeerID: id.String(), Operator: claim.Operator,
		TCPPort: claim.TCPPort, Domain: c.Domain, WSSPort: claim.WSSPort,
		Region: claim.Region, Payout: claim.Payout,
		From: claim.From.UTC(), Made: now.UTC().Truncate(time.Second),
	}
	if s.Operator == "" {
		s.Operator = c.DisplayName(id)
	}
	if s.WSSPort == 0 {
		if s.WSSPort = c.WssPort(); s.WSSPort == 0 {
			return fail("the port for browsers is not known: give listen.wss one, or name it")
		}
	}
	ip, port, err := placeOf(c, claim)
	if err != nil {
		return fail("%w", err)
	}
	s.IPv4, s.TCPPort = ip.String(), port
	next := s.Made.Truncate(time.Hour).Add(time.Hour)
	if claim.From.IsZero() {
		s.From = next
	}
	if s.From.Before(next) {
		return fail("from: %s is not ahead: nothing is changed in retrospect, the next hour is %s", s.From.Format(time.RFC3339), next.Format(time.RFC3339))
	}
	envelope, err := statement.Sign(s, key)
	if err != nil {
		return fail("%w", err)
	}
	return Signed{statement.Text(envelope), s}, nil
}

// place is the relay's IPv4 address and TCP port: as claimed, else as configured.
func placeOf(c config.Config, claim Claim) (netip.Addr, int, error) {
	ip, port := claim.IP4, claim.TCPPort
	if ip.IsValid() && !(ip.Is4() && c.Public(ip)) {
		return ip, 0, fmt.Errorf("%s is no public IPv4 address: the bounty wants one", ip)
	}
	interfaces, err := config.InterfaceIPs()
	if err != nil {
		return ip, 0, err
	}
	known := c.Tcp4Addrs(interfaces)
	if !ip.IsValid() {
		var ips []netip.Addr
		for _, ap := range known {
			if len(ips) == 0 || ips[len(ips)-1] != ap.Addr() {
				ips = append(ips, ap.Addr())
			}
		}
		switch len(ips) {
		case 0:
			return ip, 0, errors.New("this machine shows no public IPv4 address: set announce.ip4, or name the address")
		case 1:
			ip = ips[0]
		default:
			return ip, 0, fmt.Errorf("this machine has several public IPv4 addresses (%v): set announce.ip4, or name the one to register", ips)
		}
	}
	if port == 0 {
		// A relay that moves knows its port, not yet its address.
		for _, ap := range known {
			if ap.Addr() == ip {
				port = int(ap.Port())
				break
			}
		}
		for _, a := range c.Listen.TCP {
			if ap, ok := config.AddrPort(a); ok && port == 0 {
				port = int(ap.Port())
			}
		}
	}
	if port == 0 {
		return ip, 0, errors.New("the TCP port is not fixed: give listen.tcp one, or name it")
	}
	return ip, port, nil
}
