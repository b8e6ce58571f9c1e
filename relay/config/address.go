package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Public says whether strangers can reach ip: a public unicast address, in a lab
// any address.
func (c Config) Public(ip netip.Addr) bool {
	if c.Network.AllowPrivate {
		return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast()
	}
	a, err := manet.FromIP(ip.AsSlice())
	return err == nil && ip.IsGlobalUnicast() && manet.IsPublicAddr(a)
}

// PrefixOf is what counts as one address: an IPv4 address, or the /64 that an
// IPv6 customer has at the least.
func PrefixOf(a ma.Multiaddr) (netip.Prefix, error) {
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return netip.Prefix{}, errors.New("a relayed address")
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Prefix{}, err
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}, errors.New("no IP address")
	}
	return NetworkOf(addr)
}

// NetworkOf is what counts as one address, as in prefixOf.
func NetworkOf(ip netip.Addr) (netip.Prefix, error) {
	if ip = ip.Unmap(); ip.Is4() {
		return ip.Prefix(32)
	}
	return ip.Prefix(64)
}

// InterfaceIPs lists the addresses of this machine's interfaces.
func InterfaceIPs() ([]netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}

// Tcp4Addrs is where the configuration makes the relay reachable by TCP over
// IPv4, the announced addresses first. Port 0 stands for one that the system
// will choose.
func (c Config) Tcp4Addrs(interfaces []netip.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	add := func(ip netip.Addr, port uint16) {
		if ap := netip.AddrPortFrom(ip, port); ip.Is4() && c.Public(ip) && !slices.Contains(out, ap) {
			out = append(out, ap)
		}
	}
	for _, a := range c.Announce.Addrs {
		if ap, ok := AddrPort(a); ok && len(a) == 2 {
			add(ap.Addr(), ap.Port())
		}
	}
	for _, a := range c.Listen.TCP {
		ap, ok := AddrPort(a)
		switch {
		case !ok || !ap.Addr().Is4():
		case c.Announce.IP4.IsValid():
			add(c.Announce.IP4, ap.Port())
		case !ap.Addr().IsUnspecified():
			add(ap.Addr(), ap.Port())
		default:
			for _, ip := range interfaces {
				if !c.Network.AllowPrivate || !ip.IsLoopback() || len(interfaces) == 1 {
					add(ip, ap.Port())
				}
			}
		}
	}
	return out
}

// WssPort is the port on which browsers find the relay; 0: there is none.
func (c Config) WssPort() int {
	if c.Domain == "" {
		return 0
	}
	for _, a := range c.Listen.WSS {
		if ap, ok := AddrPort(a); ok {
			return int(ap.Port())
		}
	}
	return 0
}

// AddrPort is the address and TCP port that a multiaddr begins with. A domain is
// none: the library would look it up, which takes its time, and peers could name any.
func AddrPort(a ma.Multiaddr) (netip.AddrPort, bool) {
	if len(a) < 2 || a[0].Protocol().Code != ma.P_IP4 && a[0].Protocol().Code != ma.P_IP6 || a[1].Protocol().Code != ma.P_TCP {
		return netip.AddrPort{}, false
	}
	na, err := manet.ToNetAddr(a[:2])
	if err != nil {
		return netip.AddrPort{}, false
	}
	ap, err := netip.ParseAddrPort(na.String())
	return ap, err == nil
}

// OwnWSS is where this machine reaches its own WSS port, by IPv4 if it can, as the
// bounty wants it; "": nowhere.
func (c Config) OwnWSS() string {
	ip4First := slices.SortedStableFunc(slices.Values(c.Listen.WSS), func(a, b ma.Multiaddr) int { return a[0].Code() - b[0].Code() })
	for _, a := range ip4First {
		ap, ok := AddrPort(a)
		if !ok {
			continue
		}
		ip := ap.Addr()
		switch {
		case ip.IsUnspecified() && ip.Is4():
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		case ip.IsUnspecified():
			ip = netip.IPv6Loopback()
		}
		return netip.AddrPortFrom(ip, ap.Port()).String()
	}
	return ""
}

// IsWSS says whether an address is one of secure WebSockets.
func IsWSS(a ma.Multiaddr) bool { return KindOf(a) == "wss" }
