package doctor

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// observers is how the relay is seen from outside: what peers say in identify,
// and to which of its addresses strangers have come. Of each network that says
// something the last word counts; all of it counts for a day.
type observers struct {
	public    func(netip.Addr) bool
	lab       bool // peers on this machine are strangers, too
	announced func() []ma.Multiaddr

	mu       sync.Mutex
	said     map[netip.Prefix]said
	incoming map[arrival]time.Time
	own      []netip.Prefix // this machine's networks
	ownAt    time.Time
}

// arrival is an announced address, and the family by which a stranger came to it.
type arrival struct{ addr, family string }

type said struct {
	ip netip.Addr
	at time.Time
}

const (
	maxObservers = 256 // of each family
	// evidenceFor is how long it counts what others have shown of the relay. Nobody
	// tells when a firewall is closed.
	evidenceFor = 24 * time.Hour
	ownEvery    = time.Minute
)

func newObservers(cfg config.Config, announced func() []ma.Multiaddr) *observers {
	return &observers{
		public: cfg.Public, lab: cfg.Network.AllowPrivate, announced: announced,
		said: map[netip.Prefix]said{}, incoming: map[arrival]time.Time{},
	}
}

// watch notes from now on what identify tells, until ctx ends. The loop it returns
// does the work.
func (o *observers) watch(ctx context.Context, h host.Host) (loop func(), err error) {
	sub, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return nil, err
	}
	visitor := visitorAgent()
	return func() {
		defer sub.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-sub.Out():
				if !ok {
					return
				}
				ev := e.(event.EvtPeerIdentificationCompleted)
				if ev.AgentVersion == visitor {
					continue // from this machine, most likely
				}
				o.note(ev.Conn.RemoteMultiaddr(), ev.Conn.LocalMultiaddr(), ev.ObservedAddr, ev.Conn.Stat().Direction, time.Now())
			}
		}
	}, nil
}

func (o *observers) note(remote, local, observed ma.Multiaddr, dir network.Direction, now time.Time) {
	from, err := config.PrefixOf(remote)
	if err != nil {
		return
	}
	if ip, err := manet.ToIP(remote); err != nil || !o.public(plainIP(ip)) {
		return
	}
	announced := o.announced()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isOwn(from, announced, now) {
		return
	}
	if dir == network.DirInbound {
		for _, v := range arrivals(announced, local, observed) {
			o.incoming[v] = now
		}
	}
	for v, at := range o.incoming {
		if now.Sub(at) > evidenceFor {
			delete(o.incoming, v)
		}
	}
	saw, err := manet.ToIP(observed)
	// Over IPv6 nobody sees the IPv4 address, and who has IPv6 has many networks.
	is4 := from.Addr().Is4()
	if err != nil || plainIP(saw).Is4() != is4 {
		return
	}
	others := 0
	for p, s := range o.said {
		if now.Sub(s.at) > evidenceFor {
			delete(o.said, p)
		} else if p.Addr().Is4() == is4 {
			others++
		}
	}
	if _, known := o.said[from]; known || others < maxObservers {
		o.said[from] = said{plainIP(saw), now}
	}
}

// isOwn says whether a connection comes from this machine itself, such as the
// doctor's, or a monitor's beside the relay: those pass no firewall.
func (o *observers) isOwn(from netip.Prefix, announced []ma.Multiaddr, now time.Time) bool {
	if o.lab {
		return false
	}
	if now.Sub(o.ownAt).Abs() >= ownEvery {
		o.own, o.ownAt = nil, now
		ips, _ := config.InterfaceIPs() // none: the announced ones remain
		for _, ip := range ips {
			if p, err := config.NetworkOf(ip); err == nil {
				o.own = append(o.own, p)
			}
		}
	}
	if slices.Contains(o.own, from) {
		return true
	}
	return slices.ContainsFunc(announced, func(a ma.Multiaddr) bool {
		p, err := config.PrefixOf(a)
		return err == nil && p == from
	})
}

// arrivals are the announced addresses to which a connection shows the way. said is
// the address that the visitor dialled, by its own word: where the provider
// translates addresses or forwards ports, the local address says nothing about the
// announced one. Without such a word only an address that arrived untranslated counts.
func arrivals(announced []ma.Multiaddr, local, said ma.Multiaddr) []arrival {
	at, ok := config.AddrPort(local)
	if !ok {
		return nil
	}
	is4 := at.Addr().Unmap().Is4()
	family := map[bool]string{true: "ip4", false: "ip6"}[is4]
	dialled := netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if word, ok := config.AddrPort(said); ok && word.Addr().Unmap().Is4() == is4 {
		dialled = netip.AddrPortFrom(word.Addr().Unmap(), word.Port())
	}
	kind := config.KindOf(local)
	ours := func(ip netip.Addr) bool {
		return slices.ContainsFunc(announced, func(a ma.Multiaddr) bool {
			known, err := manet.ToIP(a)
			return err == nil && plainIP(known) == ip
		})
	}
	var out []arrival
	for _, a := range announced {
		if config.KindOf(a) != kind {
			continue
		}
		if ap, ok := config.AddrPort(a); ok {
			if ap == dialled {
				out = append(out, arrival{a.String(), family})
			}
			continue
		}
		name, port := domainPort(a)
		switch word, wordPort := domainPort(said); {
		case name == "":
		case word == name && wordPort == port:
			out = append(out, arrival{a.String(), family})
		case word == "" && port == strconv.Itoa(int(dialled.Port())) && ours(dialled.Addr()):
			out = append(out, arrival{"/" + family + "/" + dialled.Addr().String() + "/tcp/" + port + "/tls/ws", family})
		}
	}
	return out
}

// plainIP is the zero address for what is none.
func plainIP(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// domainPort is the domain and the TCP port that a multiaddr begins with; "": it
// begins with something else.
func domainPort(a ma.Multiaddr) (name, port string) {
	if len(a) < 2 || a[1].Protocol().Code != ma.P_TCP {
		return "", ""
	}
	switch a[0].Protocol().Code {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		return a[0].Value(), a[1].Value()
	}
	return "", ""
}

// seen lists what peers see, the most frequent first, and who came where.
func (o *observers) seen(now time.Time) ([]status.Observed, []status.Incoming) {
	o.mu.Lock()
	defer o.mu.Unlock()
	count := map[netip.Addr]int{}
	for _, s := range o.said {
		if now.Sub(s.at) <= evidenceFor {
			count[s.ip]++
		}
	}
	var out []status.Observed
	for ip, n := range count {
		out = append(out, status.Observed{IP: ip, Peers: n})
	}
	slices.SortFunc(out, func(a, b status.Observed) int {
		return cmp.Or(cmp.Compare(b.Peers, a.Peers), strings.Compare(a.IP.String(), b.IP.String()))
	})
	var incoming []status.Incoming
	for v, at := range o.incoming {
		if now.Sub(at) <= evidenceFor {
			incoming = append(incoming, status.Incoming{Addr: v.addr, Family: v.family, Last: at})
		}
	}
	slices.SortFunc(incoming, func(a, b status.Incoming) int {
		return cmp.Or(strings.Compare(a.Addr, b.Addr), strings.Compare(a.Family, b.Family))
	})
	// What single peers claim beside the majority is noise, or a lie.
	return out[:min(len(out), 8)], incoming
}
