package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Target is a relay to be probed. The addresses stand without their /p2p part;
// one of them may be nil. [ParseTarget] makes it.
type Target struct {
	PeerID peer.ID
	TCP4   ma.Multiaddr // /ip4/A.B.C.D/tcp/PORT
	WSS    ma.Multiaddr // /dns4/NAME/tcp/PORT/wss
}

// ParseTarget reads the addresses of one relay: /ip4/../tcp/../p2p/ID and
// /dns4/../tcp/../wss/p2p/ID, in any order, one of each at most. The older
// spelling /ipfs/ID and the equal forms /tls/ws and /tls/sni/NAME/ws are read
// too. All faults are reported at once.
func ParseTarget(addrs []string) (Target, error) {
	if len(addrs) == 0 {
		return Target{}, errors.New("no address given: want /ip4/../tcp/../p2p/ID, /dns4/../tcp/../wss/p2p/ID, or both")
	}
	return parseAddrs(addrs, true)
}

// parseAddrs reads the addresses of one host; needID says whether each must name
// its peer ID.
func parseAddrs(addrs []string, needID bool) (Target, error) {
	var t Target
	var faults []error
	var first string // the address that named t.PeerID
	for _, s := range addrs {
		addr, id, wss, err := parseAddr(s, needID)
		if err != nil {
			faults = append(faults, err)
		}
		switch {
		case id == "":
		case t.PeerID == "":
			t.PeerID, first = id, s
		case t.PeerID != id:
			faults = append(faults, fmt.Errorf("the peer IDs differ: %s in %s, %s in %s: give the addresses of one relay", t.PeerID, clip(first), id, clip(s)))
		}
		if err != nil {
			continue
		}
		into, kind := &t.TCP4, "tcp4"
		if wss {
			into, kind = &t.WSS, "wss"
		}
		if *into != nil {
			faults = append(faults, fmt.Errorf("two %s addresses: probe one at a time (%s)", kind, clip(s)))
		}
		*into = addr
	}
	if err := errors.Join(faults...); err != nil {
		return Target{}, err
	}
	return t, nil
}

// maxAddr bounds an address as it is read: a DNS name has at most 253 bytes.
const maxAddr = 512

// clip keeps messages short when the input is not.
func clip(s string) string {
	if len(s) > maxAddr {
		return s[:maxAddr] + "..."
	}
	return s
}

// parseAddr reads one address. The peer ID is also returned with an error, when
// it could be read.
func parseAddr(s string, needID bool) (addr ma.Multiaddr, id peer.ID, wss bool, err error) {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("address %q: %w", clip(s), fmt.Errorf(format, args...))
	}
	if len(s) > maxAddr {
		return nil, "", false, fault("%d bytes, at most %d are read", len(s), maxAddr)
	}
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return nil, "", false, fault("not a multiaddr: %w", err)
	}
	var names []string
	for _, c := range a {
		names = append(names, c.Protocol().Name)
		switch c.Protocol().Code {
		case ma.P_CIRCUIT:
			return nil, "", false, fault("leads through another relay: give the relay's own address")
		case ma.P_UDP, ma.P_QUIC, ma.P_QUIC_V1, ma.P_WEBTRANSPORT, ma.P_WEBRTC_DIRECT:
			return nil, "", false, fault("only TCP and secure websockets are probed: give /ip4/../tcp/.. or /dns4/../tcp/../wss")
		}
	}
	rest, last := ma.SplitLast(a)
	switch {
	case last != nil && last.Protocol().Code == ma.P_P2P && rest != nil:
		if id, err = peer.IDFromBytes(last.RawValue()); err != nil {
			return nil, "", false, fault("peer ID: %w", err)
		}
		names = names[:len(names)-1]
	case needID:
		return nil, "", false, fault("must end with the relay's peer ID: append /p2p/ID")
	default:
		rest = a
	}
	shape := strings.Join(names, "/")
	switch shape {
	case "ip4/tcp":
		addr, err = parsePort(rest, rest[:1])
	case "dns4/tcp/wss", "dns4/tcp/tls/ws", "dns4/tcp/tls/sni/ws":
		wss = true
		name := strings.ToLower(rest[0].Value())
		if err := checkName(name); err != nil {
			return nil, id, false, fault("%w", err)
		}
		if sni, err := rest.ValueForProtocol(ma.P_SNI); err == nil && !strings.EqualFold(sni, name) {
			return nil, id, false, fault("/sni/%s differs from /dns4/%s: a browser sends the name that it looks up", sni, name)
		}
		host, cerr := ma.NewComponent("dns4", name)
		if cerr != nil {
			return nil, id, false, fault("%w", cerr)
		}
		addr, err = parsePort(rest, ma.Multiaddr{*host})
		if err == nil {
			addr = addr.AppendComponent(&wssComponent)
		}
	case "ip4/tcp/ws", "dns4/tcp/ws", "dns/tcp/ws":
		err = errors.New("a plain websocket, which browsers refuse: give the /wss address")
	case "ip4/tcp/wss", "ip4/tcp/tls/ws", "ip4/tcp/tls/sni/ws":
		err = errors.New("a certificate is for a name: give /dns4/NAME/tcp/PORT/wss")
	case "dns4/tcp", "dns/tcp":
		err = errors.New("the TCP address must be the literal public one: give /ip4/A.B.C.D/tcp/PORT")
	default:
		switch names[0] {
		case "ip6", "dns6", "ip6zone":
			err = errors.New("the relay must be reachable over IPv4: give /ip4 or /dns4")
		case "dns", "dnsaddr":
			err = fmt.Errorf("/%s may mean several addresses: give /dns4/NAME/tcp/PORT/wss", names[0])
		default:
			err = errors.New("this form is not probed: give /ip4/../tcp/../p2p/ID or /dns4/../tcp/../wss/p2p/ID")
		}
	}
	if err != nil {
		return nil, id, false, fault("%w", err)
	}
	return addr, id, wss, nil
}

var wssComponent = func() ma.Component {
	c, err := ma.NewComponent("wss", "")
	if err != nil {
		panic(err)
	}
	return *c
}()

// parsePort joins host with the address's TCP port, which must not be 0.
func parsePort(addr, host ma.Multiaddr) (ma.Multiaddr, error) {
	tcp := addr[1]
	if tcp.Value() == "0" {
		return nil, errors.New("port 0 cannot be dialled")
	}
	return append(append(ma.Multiaddr{}, host...), tcp), nil
}

// maxName bounds a DNS name as text.
const maxName = 253

// checkName refuses what cannot stand in a certificate for one host.
func checkName(name string) error {
	if _, err := netip.ParseAddr(name); err == nil {
		return errors.New("a certificate is for a name: /dns4 holds an IP address")
	}
	if len(name) > maxName {
		return fmt.Errorf("the name has more than %d bytes", maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		ok := label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for _, r := range label {
			ok = ok && ('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-')
		}
		if !ok {
			return fmt.Errorf("%q is not a host name", name)
		}
	}
	return nil
}

// tcp4 is the literal address of t.TCP4.
func (t Target) tcp4() netip.AddrPort { return addrPort(t.TCP4) }

func addrPort(a ma.Multiaddr) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(a[0].RawValue())
	return netip.AddrPortFrom(ip, port(a))
}

// port is the TCP port of an address that ParseTarget let through.
func port(a ma.Multiaddr) uint16 {
	raw := a[1].RawValue()
	return uint16(raw[0])<<8 | uint16(raw[1])
}

// host is the name of t.WSS.
func (t Target) host() string { return t.WSS[0].Value() }

// with writes an address of the target in full, as it stands in evidence.
func (t Target) with(a ma.Multiaddr) string {
	if a == nil {
		return ""
	}
	if t.PeerID == "" { // of a control
		return a.String()
	}
	return a.String() + "/p2p/" + t.PeerID.String()
}
