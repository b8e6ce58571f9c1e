package relay

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Observed is an address of this relay as peers say they see it.
type Observed struct {
	IP    netip.Addr `json:"ip"`
	Peers int        `json:"peers"` // in how many networks
}

// observers is how the relay is seen from outside: what peers say in identify,
// and which of its listeners strangers have come to. Of each network that says
// something the last word counts, for a day.
type observers struct {
	public func(netip.Addr) bool

	mu       sync.Mutex
	said     map[netip.Prefix]said
	incoming map[string]int // by kind of listener
}

type said struct {
	ip netip.Addr
	at time.Time
}

const (
	maxObservers = 256
	observedFor  = 24 * time.Hour
)

func newObservers(public func(netip.Addr) bool) *observers {
	return &observers{public: public, said: map[netip.Prefix]said{}, incoming: map[string]int{}}
}

// watch notes from now on what identify tells, until ctx ends. The loop it returns
// does the work.
func (o *observers) watch(ctx context.Context, h host.Host) (loop func(), err error) {
	sub, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return nil, err
	}
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
				o.note(ev.Conn.RemoteMultiaddr(), ev.Conn.LocalMultiaddr(), ev.ObservedAddr, ev.Conn.Stat().Direction, time.Now())
			}
		}
	}, nil
}

func (o *observers) note(remote, local, observed ma.Multiaddr, dir network.Direction, now time.Time) {
	from, err := prefixOf(remote)
	if err != nil || !o.public(from.Addr()) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if dir == network.DirInbound {
		o.incoming[kindOf(local.String())]++
	}
	raw, err := manet.ToIP(observed)
	if err != nil {
		return
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return
	}
	for p, s := range o.said {
		if now.Sub(s.at) > observedFor {
			delete(o.said, p)
		}
	}
	if _, known := o.said[from]; known || len(o.said) < maxObservers {
		o.said[from] = said{ip.Unmap(), now}
	}
}

// seen lists what peers see, the most frequent first, and who came where.
func (o *observers) seen(now time.Time) ([]Observed, map[string]int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	count := map[netip.Addr]int{}
	for _, s := range o.said {
		if now.Sub(s.at) <= observedFor {
			count[s.ip]++
		}
	}
	var out []Observed
	for ip, n := range count {
		out = append(out, Observed{ip, n})
	}
	slices.SortFunc(out, func(a, b Observed) int {
		return cmp.Or(cmp.Compare(b.Peers, a.Peers), strings.Compare(a.IP.String(), b.IP.String()))
	})
	incoming := map[string]int{}
	for k, n := range o.incoming {
		incoming[k] = n
	}
	// What single peers claim beside the majority is noise, or a lie.
	return out[:min(len(out), 8)], incoming
}
