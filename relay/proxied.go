package relay

import (
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Proxied says that nearly all peers come from one private address. Something in
// front of the relay, such as Docker's proxy for published ports, then hides their
// own, and every limit per address is one for all of them together.
type Proxied struct {
	IP     netip.Addr `json:"ip"` // the proxy's, not a peer's
	Peers  int        `json:"peers"`
	Of     int        `json:"of"`     // all that came by themselves
	Places int        `json:"places"` // reservations that count for this address
}

// A few peers of one address are no sign: a monitor beside the relay comes from
// there, too.
const proxiedPeers = 8

// proxied looks at who is connected; nil: nothing hides the peers' addresses.
func proxied(conns []network.Conn, public func(netip.Addr) bool) *Proxied {
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
			return &Proxied{IP: ip, Peers: n, Of: len(all)}
		}
	}
	return nil
}

func (p *Proxied) String() string {
	many := fmt.Sprintf("%d of %d", p.Peers, p.Of)
	if p.Peers == p.Of {
		many = fmt.Sprintf("all %d", p.Peers)
	}
	return fmt.Sprintf("%s peers come from %s: a proxy hides their addresses, so that limits per address hit all of them together", many, p.IP)
}

const proxiedCure = "Have the peers' own addresses reach relayd: with Docker, network_mode: host (or \"userland-proxy\": false in the daemon's settings); put no proxy in front. As a last resort raise limits.reservations_per_ip and connections_per_ip to at least the number of places, and connects_per_second, circuits_per_ip and ip_day with them."

// heldFrom is how many places count for one address.
func (p *places) heldFrom(ip netip.Addr) int {
	network, err := networkOf(ip)
	if err != nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byIP[network]
}

// lookForProxy notes whether a proxy hides the peers' addresses, and warns once.
func (r *Relay) lookForProxy() {
	r.mu.Lock()
	cfg, h, g := r.cfg, r.host, r.gate
	r.mu.Unlock()
	if h == nil || g == nil || cfg.Network.AllowPrivate {
		return // in a lab all may well be on one machine
	}
	found := proxied(h.Network().Conns(), cfg.public)
	c := &r.checkup
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proxied = found
	if found == nil {
		return
	}
	found.Places = g.places.heldFrom(found.IP)
	if !c.warned {
		c.warned = true
		r.log.Warn(found.String(), "cure", proxiedCure)
	}
}
