package doctor

import (
	"net"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-netroute"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/relay/status"
)

// A few peers of one address are no sign: a monitor beside the relay comes from
// there, too.
const proxiedPeers = 8

// proxied looks at who is connected; nil: nothing hides the peers' addresses.
func proxied(conns []network.Conn, public func(netip.Addr) bool, gateway func(netip.Addr) bool) *status.Proxied {
	type at struct {
		ip netip.Addr
		id peer.ID
	}
	all, peers, from := map[peer.ID]bool{}, map[at]bool{}, map[netip.Addr]int{}
	for _, c := range conns {
		ip, err := manet.ToIP(c.RemoteMultiaddr())
		if err != nil || c.Stat().Direction != network.DirInbound {
			continue
		}
		all[c.RemotePeer()] = true
		if a := (at{plainIP(ip), c.RemotePeer()}); !public(a.ip) && !peers[a] {
			peers[a] = true
			from[a.ip]++
		}
	}
	for ip, n := range from {
		if n >= proxiedPeers && 10*n >= 9*len(all) {
			return &status.Proxied{IP: ip, Gateway: gateway(ip), Peers: n, Of: len(all)}
		}
	}
	return nil
}

// isGateway says whether ip is where this machine sends what goes to the internet.
func isGateway(ip netip.Addr) bool {
	far := net.IPv4(198, 51, 100, 1) // of the documentation's networks: only the default route leads there
	if ip.Is6() {
		far = net.ParseIP("2001:db8::1")
	}
	routes, err := netroute.New()
	if err != nil {
		return false
	}
	_, gateway, _, err := routes.Route(far)
	return err == nil && plainIP(gateway) == ip
}

const raiseLimits = " As a last resort raise limits.reservations_per_ip and connections_per_ip to at least the number of reservations, and connects_per_second, circuits_per_ip and ip_day with them."

func proxiedCure(p *status.Proxied) string {
	if p.Gateway {
		return "Have the peers' own addresses reach relayd: give the container the host's network (network_mode: host), or the engine a port forwarding that keeps addresses: Docker with root and iptables, IPv6 switched on in the container's network; rootless Podman with --network=pasta." + raiseLimits
	}
	return "Have the peers' own addresses reach relayd: with Docker, network_mode: host (or \"userland-proxy\": false in the daemon's settings); put no proxy in front." + raiseLimits
}

// lookForProxy notes whether a proxy hides the peers' addresses, and warns once.
func (c *Checkup) lookForProxy(h host.Host) {
	cfg := c.of.Config()
	if cfg.Network.AllowPrivate {
		return // in a lab all may well be on one machine
	}
	found := proxied(h.Network().Conns(), cfg.Public, isGateway)
	if found != nil {
		found.Held = c.of.HeldFrom(found.IP)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proxied = found
	if found != nil && !c.warned {
		c.warned = true
		c.log.Warn(found.String(), "cure", proxiedCure(found))
	}
}
