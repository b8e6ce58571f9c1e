package relay

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// Each address has its share of unfinished connections, and gets it back.
func TestHalfOpenShare(t *testing.T) {
	l := config.DefaultConfig().Limits
	c := config.Capacity{Memory: 512 << 20, Files: 4096}.Derive(l)
	m, err := resourceManager(c, l, true)
	relaytest.Must(t, err)
	defer m.Close()
	open := func(ip string) (network.ConnManagementScope, error) {
		return m.OpenConnection(network.DirInbound, true, relaytest.Multiaddrs(t, "/ip4/"+ip+"/tcp/1")[0])
	}
	share := m.perIP
	var scopes []network.ConnManagementScope
	for range share {
		s, err := open("203.0.113.1")
		relaytest.Must(t, err)
		scopes = append(scopes, s)
	}
	if _, err := open("203.0.113.1"); err == nil {
		t.Errorf("more than %d unfinished connections from one address", share)
	}
	if _, err := open("203.0.113.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
	relaytest.Must(t, scopes[0].SetPeer("peer")) // one is finished
	if _, err := open("203.0.113.1"); err != nil {
		t.Errorf("after one was finished: %v", err)
	}
	scopes[1].Done()
	scopes[1].Done() // as libp2p does now and then
	if _, err := open("203.0.113.1"); err != nil {
		t.Errorf("after one was closed: %v", err)
	}
	if _, err := open("203.0.113.1"); err == nil {
		t.Error("one that was closed twice gave room for two")
	}
	for _, s := range scopes {
		s.Done()
	}
	if n := m.addrs[netip.MustParsePrefix("203.0.113.1/32")].n; n != 2 {
		t.Errorf("%d are counted, want the 2 that are open", n)
	}
}

// When many addresses have filled the room, the one with most of it gives way, and
// nobody who has but one connection.
func TestHalfOpenGreediestGives(t *testing.T) {
	m := newHalfOpen(&network.NullResourceManager{}, 8, 16, 1000)
	open := func(ip, port int) *closed {
		t.Helper()
		c := &closed{remote: relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/203.0.113.%d/tcp/%d", ip, port))[0]}
		m.InterceptAccept(c)
		s, err := m.OpenConnection(network.DirInbound, true, c.remote)
		relaytest.Must(t, err)
		c.scope = s
		return c
	}
	first := open(1, 1)
	var two, three []*closed
	for n := range 7 {
		two = append(two, open(2, n))
	}
	for n := range 8 {
		three = append(three, open(3, n))
	}
	done := func(all []*closed) (n int) {
		for _, c := range all {
			if c.done {
				n++
			}
		}
		return n
	}
	open(4, 1)
	if !three[0].done || done(three) != 1 {
		t.Error("not the oldest one of the greediest address had to go")
	}
	if n := m.tally.Endings()[refusal.EndedUnfinished]; n != 1 {
		t.Errorf("%d are counted as ended, want 1", n)
	}
	three[0].scope.Done()
	for n := range 8 {
		open(5+n, 1).scope.Done()
	}
	if first.done || done(two)+done(three) != 9 {
		t.Errorf("closed: the only one of its address %v, %d and %d of the others", first.done, done(two), done(three))
	}
	relaytest.Must(t, first.scope.SetPeer("peer"))
	for _, c := range append(two, three[1:]...) {
		c.scope.Done()
	}
	if len(m.addrs) != 1 || m.n != 1 || len(m.seen) != 0 {
		t.Errorf("left over: %d of %d addresses, %d", m.n, len(m.addrs), len(m.seen))
	}
}

// Newcomers are taken although those that give way take a while to end. One that never
// ends holds a newcomer up for leaveTime at most.
func TestHalfOpenWaitsForThoseThatGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := config.DefaultConfig().Limits
		m, err := resourceManager(config.Capacity{Memory: 512 << 20, Files: 2048}.Derive(l), l, true)
		relaytest.Must(t, err)
		defer m.Close()
		var takes time.Duration // of one that was closed; 0: it never ends
		open := func(ip string, port int) error {
			c := &slow{closed: closed{remote: relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/%s/tcp/%d", ip, port))[0]}, takes: takes}
			m.InterceptAccept(c)
			c.scope, err = m.OpenConnection(network.DirInbound, true, c.remote)
			return err
		}
		takes = 50 * time.Millisecond
		for n := range m.all {
			relaytest.Must(t, open(fmt.Sprintf("203.0.113.%d", n/m.perIP), n+1))
		}
		for i := range m.all / 2 {
			if err := open(fmt.Sprintf("198.51.%d.%d", i/200, i%200), 1); err != nil {
				t.Fatalf("the only one of its address, after %d others: %v", i, err)
			}
		}
		takes = 0
		for i := range m.all {
			begun := time.Now()
			_ = open(fmt.Sprintf("192.0.%d.%d", i/200, i%200), 1)
			if waited := time.Since(begun); waited > leaveTime {
				t.Fatalf("it waited %v for one that does not end", waited)
			}
		}
		time.Sleep(time.Second)
	})
}

// A place is counted as free when it is free, and not before.
func TestHalfOpenCountsWhatIsTaken(t *testing.T) {
	places := &counted{}
	m := newHalfOpen(places, 8, 16, 32)
	places.of = m
	s, err := m.OpenConnection(network.DirInbound, true, relaytest.Multiaddrs(t, "/ip4/203.0.113.1/tcp/1")[0])
	relaytest.Must(t, err)
	s.Done()
	if places.left != 1 || m.n != 0 {
		t.Errorf("%d were counted when the place was given back, and %d afterwards, want 1 and 0", places.left, m.n)
	}
}

// counted is a resource manager that looks at how many are counted when a place is given
// back to it.
type counted struct {
	network.NullResourceManager
	of   *halfOpen
	left int
}

func (c *counted) OpenConnection(network.Direction, bool, ma.Multiaddr) (network.ConnManagementScope, error) {
	return countedScope{&network.NullScope{}, c}, nil
}

type countedScope struct {
	*network.NullScope
	of *counted
}

func (s countedScope) Done() { s.of.left = s.of.of.n }

// slow is a connection that ends some time after it was closed.
type slow struct {
	closed
	takes time.Duration
}

func (c *slow) Close() error {
	if c.takes > 0 {
		time.AfterFunc(c.takes, func() { c.scope.Done() })
	}
	return nil
}

// closed is a connection that knows whether it was closed.
type closed struct {
	manet.Conn
	remote ma.Multiaddr
	scope  network.ConnManagementScope
	done   bool
}

func (c *closed) RemoteMultiaddr() ma.Multiaddr { return c.remote }

func (c *closed) Close() error {
	c.done = true
	return nil
}

// Connections that never get to a handshake stop nobody else.
func TestHalfOpen(t *testing.T) {
	c := relaytest.LimitConfig(t)
	c.Limits.Connections = 512
	r := start(t, c)
	relay := dialable(t, r.Relay)["tcp"]
	_, target, err := addrOf(relay.Addrs[0])
	relaytest.Must(t, err)
	for i := range 8 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(i+1))}}
		for range 64 {
			conn, err := d.DialContext(relaytest.Context(t), "tcp", target)
			relaytest.Must(t, err)
			t.Cleanup(func() { conn.Close() })
		}
	}
	for i := range 50 {
		if _, err := relaytest.Reserve(t, relaytest.NewPeerAt(t, fmt.Sprintf("127.0.1.%d", i+1)), relay); err != nil {
			t.Fatalf("client %d of 50: %v", i+1, err)
		}
	}
}

func addrOf(a ma.Multiaddr) (network, hostPort string, err error) {
	na, err := a.ValueForProtocol(ma.P_TCP)
	if err != nil {
		return "", "", err
	}
	ip, err := a.ValueForProtocol(ma.P_IP4)
	return "tcp", net.JoinHostPort(ip, na), err
}
