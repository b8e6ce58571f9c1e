package relay

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
)

const (
	// trimEvery is the pause between looks at how many connections there are.
	trimEvery = time.Second
	// strangerStays is how long a connection may take to become of use.
	strangerStays = 30 * time.Second
	// memberStays is how long a member's connection stays at the least. It is of use to
	// the network as it is, and would come back at once.
	memberStays = 10 * time.Minute
)

// trimmer closes idle connections, so that newcomers find room: when nine tenths of all
// connections are taken, and when nine tenths of those of one address are. A connection is
// idle when its peer has no reservation and no circuit and is not kept for another
// reason. Only as many are closed as exceed the nine tenths, strangers' before members',
// the oldest first; of one address only strangers'.
//
// It stands in for the library's connection manager, which closes all idle connections
// down to a lower mark, says nothing about it, and knows no addresses; and which keeps
// 1 KiB for each connection.
type trimmer struct {
	connmgr.NullConnMgr     // takes no tags: nobody is worth more than others
	all, perIP          int // above these idle connections are closed
	exempt              func(netip.Addr) bool
	stays               time.Duration // strangerStays, or another in tests

	mu   sync.Mutex
	n    int
	byIP map[netip.Prefix]int
	full map[netip.Prefix]int // addresses above perIP, and how many connections they have
	kept map[peer.ID][]string // peers that are not idle, and why: by tags
}

// newTrimmer makes the connection manager of a host with these limits.
func newTrimmer(connections, perIP int, exempt func(netip.Addr) bool) *trimmer {
	mark := func(n int) int { return max(1, n*9/10) }
	return &trimmer{
		all: mark(connections), perIP: mark(perIP), exempt: exempt,
		byIP: map[netip.Prefix]int{}, full: map[netip.Prefix]int{}, kept: map[peer.ID][]string{},
	}
}

// Protect has the peer's connections kept, for one reason more.
func (t *trimmer) Protect(p peer.ID, tag string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.kept[p], tag) {
		t.kept[p] = append(t.kept[p], tag)
	}
}

// Unprotect takes a reason back and says whether others are left.
func (t *trimmer) Unprotect(p peer.ID, tag string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := slices.DeleteFunc(t.kept[p], func(other string) bool { return other == tag })
	if len(left) == 0 {
		delete(t.kept, p)
		return false
	}
	t.kept[p] = left
	return true
}

// IsProtected says whether the peer is kept for this reason, or for any if tag is empty.
func (t *trimmer) IsProtected(p peer.ID, tag string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return tag == "" && len(t.kept[p]) > 0 || slices.Contains(t.kept[p], tag)
}

// Notifee is how the host tells of connections, from the first one on.
func (t *trimmer) Notifee() network.Notifiee {
	return &network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { t.count(c, 1) },
		DisconnectedF: func(_ network.Network, c network.Conn) { t.count(c, -1) },
	}
}

func (t *trimmer) count(c network.Conn, by int) {
	ip, counts := t.address(c)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += by
	if !counts {
		return
	}
	n := t.byIP[ip] + by
	if t.byIP[ip] = n; n <= 0 {
		delete(t.byIP, ip)
	}
	if n > t.perIP {
		t.full[ip] = n
	} else {
		delete(t.full, ip)
	}
}

// address is where a connection comes from, and whether the limit of one address
// holds for it.
func (t *trimmer) address(c network.Conn) (netip.Prefix, bool) {
	ip, err := config.PrefixOf(c.RemoteMultiaddr())
	return ip, err == nil && c.Stat().Direction == network.DirInbound && (t.exempt == nil || !t.exempt(ip.Addr()))
}

// crowded says whether there is anything to trim.
func (t *trimmer) crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n > t.all || len(t.full) > 0
}

// excess is by how much connections exceed the nine tenths: of all, and of each address.
func (t *trimmer) excess() (all int, ofIP map[netip.Prefix]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ofIP = map[netip.Prefix]int{}
	for ip, n := range t.full {
		ofIP[ip] = n - t.perIP
	}
	return t.n - t.all, ofIP
}

// trimmed is a connection to be closed, and why.
type trimmed struct {
	conn   network.Conn
	reason string
}

// pick chooses the connections to close.
func (t *trimmer) pick(conns []network.Conn, member func(peer.ID) bool, now time.Time) (out []trimmed) {
	all, ofIP := t.excess()
	if all <= 0 && len(ofIP) == 0 {
		return nil
	}
	type idle struct {
		network.Conn
		member bool
	}
	var idlers []idle
	for _, c := range conns {
		p := c.RemotePeer()
		if t.IsProtected(p, "") {
			continue
		}
		i, stays := idle{c, member(p)}, t.stays
		if i.member {
			stays = memberStays
		}
		if now.Sub(c.Stat().Opened) >= stays {
			idlers = append(idlers, i)
		}
	}
	slices.SortFunc(idlers, func(a, b idle) int {
		if a.member != b.member {
			if a.member {
				return 1
			}
			return -1
		}
		return a.Stat().Opened.Compare(b.Stat().Opened)
	})
	for _, i := range idlers {
		switch ip, counts := t.address(i.Conn); {
		case counts && !i.member && ofIP[ip] > 0:
			ofIP[ip]--
			out = append(out, trimmed{i.Conn, refusal.EndedIdleForIP})
		case all > 0:
			out = append(out, trimmed{i.Conn, refusal.EndedIdle})
		default:
			continue
		}
		all--
	}
	return out
}

// trim closes idle connections when there are too many, until ctx ends.
func (t *trimmer) trim(ctx context.Context, h host.Host, member func(peer.ID) bool, tally *refusal.Tally) {
	look := time.NewTicker(trimEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			if t.crowded() {
				closeIdle(t.pick(h.Network().Conns(), member, now), tally)
			}
		}
	}
}

func closeIdle(conns []trimmed, tally *refusal.Tally) {
	count := map[string]int{}
	for _, c := range conns {
		count[c.reason]++
		tally.Ended(c.reason, refusal.Peer(c.conn.RemotePeer()))
		go c.conn.CloseWithError(network.ConnGarbageCollected)
	}
	for reason, n := range count {
		tally.Seldom("idle " + reason).Do(func() {
			tally.Log.Warn("idle connections are closed to make room for newcomers", "limit", "limits."+reason, slog.Int("closed", n))
		})
	}
}
