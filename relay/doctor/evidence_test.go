package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// unseen is a relay that is configured well, of which nobody has seen anything yet.
func unseen(t testing.TB) (config.Config, *status.Status, findings) {
	t.Helper()
	cfg, s, f := sound(t)
	s.Reservations.Members = 0
	s.Reach, s.Observed, s.Incoming = nil, nil, nil
	s.PSF.LastAnnounced, s.PSF.LastMeasured = time.Time{}, time.Time{}
	s.Capacity.FilesUsed = 0
	s.Traffic.Bytes = s.Traffic.Budget
	f.records, f.presented = records{err: errors.New("not asked")}, presented{err: errors.New("no answer")}
	f.clock, f.disk = clock{err: errors.New("not compared")}, disk{err: errors.New("not looked at")}
	f.updates = updates{}
	return cfg, s, f
}

// For each requirement: the least by which it is met, and what comes near to it but
// is about something else, or old.
func TestEvidenceIsOfTheVeryThing(t *testing.T) {
	type change = func(*config.Config, *status.Status, *findings)
	const tcp, wss = "/ip4/198.41.0.4/tcp/4001", "/dns4/relay.example.org/tcp/443/tls/ws"
	ip := netip.MustParseAddr
	reach := func(addr string, age time.Duration) change {
		return func(_ *config.Config, s *status.Status, f *findings) {
			s.Reach = []status.Reach{{Addr: addr, Outcome: status.Met, At: f.at.Add(-age)}}
		}
	}
	visited := func(addr, family string, age time.Duration) change {
		return func(_ *config.Config, s *status.Status, f *findings) {
			s.Incoming = []status.Incoming{{Addr: addr, Family: family, Last: f.at.Add(-age)}}
			s.Traffic.Bytes = 0
		}
	}
	refused := func(addr string, age time.Duration) change { // by two peers that need not speak the truth
		return func(_ *config.Config, s *status.Status, f *findings) {
			s.Reach = []status.Reach{{Addr: addr, Outcome: status.NotMet, At: f.at.Add(-age)}}
		}
	}
	both := func(changes ...change) change {
		return func(c *config.Config, s *status.Status, f *findings) {
			for _, ch := range changes {
				ch(c, s, f)
			}
		}
	}
	tls := func(_ *config.Config, _ *status.Status, f *findings) {
		f.presented = presented{leaf: []byte("ours"), issuer: "R11", notAfter: f.at.AddDate(0, 0, 60), life: 90 * 24 * time.Hour}
	}
	dns := func(a ...string) change {
		return func(_ *config.Config, _ *status.Status, f *findings) {
			f.records = records{}
			for _, text := range a {
				if ip := ip(text); ip.Is4() {
					f.records.a = append(f.records.a, ip)
				} else {
					f.records.aaaa = append(f.records.aaaa, ip)
				}
			}
		}
	}
	outside := func(leaf string, untrusted error) change {
		return func(_ *config.Config, _ *status.Status, f *findings) {
			f.outside = &presented{addr: "198.41.0.4:443", leaf: []byte(leaf), issuer: "R11", notAfter: f.at.AddDate(0, 0, 60), life: 90 * 24 * time.Hour, untrusted: untrusted}
		}
	}
	tried := func(age time.Duration, err error) change {
		return func(_ *config.Config, s *status.Status, f *findings) {
			s.Traffic.Bytes, f.trial = 0, trial{f.at.Add(-age), err}
		}
	}
	announced := func(ago, measured time.Duration) change {
		return func(_ *config.Config, s *status.Status, f *findings) {
			s.PSF.LastAnnounced, s.PSF.LastMeasured = f.at.Add(-ago), f.at.Add(-measured)
		}
	}
	heardOf := func(addrs ...string) change {
		return both(announced(time.Minute, time.Hour), func(_ *config.Config, s *status.Status, f *findings) {
			f.heard = &heard{reached: true, found: "heard back", addrs: addrs}
			if len(addrs) == 0 {
				f.heard.addrs = s.Addrs
			}
		})
	}
	translated := func(c *config.Config, _ *status.Status, f *findings) {
		c.Announce.IP4, f.interfaces[1] = ip("198.41.0.4"), ip("10.0.0.5")
	}
	seenAs := func(o ...status.Observed) change {
		return func(_ *config.Config, s *status.Status, _ *findings) { s.Observed = o }
	}
	const day, minute = 25 * time.Hour, time.Minute

	for name, tc := range map[string]struct{ least, misses map[string]change }{
		"service": {map[string]change{
			"held":     func(_ *config.Config, s *status.Status, _ *findings) { s.Traffic.Bytes, s.Reservations.Guests = 0, 1 },
			"on trial": tried(minute, nil),
		}, map[string]change{
			"offered only":     func(_ *config.Config, s *status.Status, _ *findings) { s.Traffic.Bytes = 0 },
			"tried long ago":   tried(time.Hour, nil),
			"tried in vain":    both(func(_ *config.Config, s *status.Status, _ *findings) { s.Reservations.Guests = 1 }, tried(minute, errors.New("refused"))),
			"transfer is gone": func(_ *config.Config, s *status.Status, _ *findings) { s.Reservations.Members = 1 },
			"members only": func(_ *config.Config, s *status.Status, _ *findings) {
				s.Traffic.Bytes, s.Reservations.Members, s.Reservations.GuestMax = 0, 1, 0
			},
			"circuits of members only": func(c *config.Config, s *status.Status, _ *findings) {
				s.Traffic.Bytes, s.Reservations.Members, c.Limits.GuestCircuits = 0, 1, 0
			},
			"behind a proxy": func(_ *config.Config, s *status.Status, _ *findings) {
				s.Traffic.Bytes, s.Reservations.Guests, s.Proxied = 0, 64, &status.Proxied{IP: ip("172.17.0.1"), Peers: 64, Of: 64, Held: 64}
			},
		}},
		"ipv4": {map[string]change{
			"seen so":            seenAs(status.Observed{IP: ip("198.41.0.4"), Peers: 1}),
			"dialled back":       both(translated, reach(tcp, 23*time.Hour)),
			"a stranger came":    both(translated, visited(tcp, "ip4", 23*time.Hour)),
			"a stranger, by WSS": both(translated, visited("/ip4/198.41.0.4/tcp/443/tls/ws", "ip4", minute)),
		}, map[string]change{
			"of an interface only":         func(*config.Config, *status.Status, *findings) {},
			"loopback":                     func(_ *config.Config, _ *status.Status, f *findings) { f.interfaces = f.interfaces[:1] },
			"more see another":             seenAs(status.Observed{IP: ip("192.5.5.241"), Peers: 5}, status.Observed{IP: ip("198.41.0.4"), Peers: 1}),
			"seen over IPv6":               seenAs(status.Observed{IP: ip("2001:7fd::1"), Peers: 9}),
			"goes out by it, a shared one": both(translated, seenAs(status.Observed{IP: ip("198.41.0.4"), Peers: 9})),
			"dialled back long ago":        both(translated, reach(tcp, day)),
			"another was dialled back":     both(translated, reach("/ip4/198.41.0.40/tcp/4001", minute)),
			"IPv6 was dialled back":        both(translated, reach("/ip6/2001:7fd::1/tcp/4001", minute)),
			"a stranger by IPv6":           both(translated, visited("/ip6/2001:7fd::1/tcp/4001", "ip6", minute)),
			"a stranger long ago":          both(translated, visited(tcp, "ip4", day)),
		}},
		"records": {map[string]change{
			"A": dns("198.41.0.4"), "A and AAAA": dns("198.41.0.4", "2001:7fd::1"),
		}, map[string]change{
			"AAAA only": dns("2001:7fd::1"),
			"AAAA is link-local": both(func(_ *config.Config, _ *status.Status, f *findings) {
				f.interfaces = append(f.interfaces, ip("fe80::1"))
			}, dns("198.41.0.4", "fe80::1")),
			"AAAA, IPv4 listener": both(func(c *config.Config, _ *status.Status, _ *findings) { c.Listen.WSS = c.Listen.WSS[:1] }, dns("198.41.0.4", "2001:7fd::1")),
			"old":                 both(dns("198.41.0.4"), func(_ *config.Config, _ *status.Status, f *findings) { f.looked = f.at.Add(-time.Hour) }),
		}},
		"tcp": {map[string]change{
			"dialled back": reach(tcp, 23*time.Hour), "a stranger came": visited(tcp, "ip4", 23*time.Hour),
			"a stranger came, since peers could not": both(refused(tcp, time.Hour), visited(tcp, "ip4", minute)),
		}, map[string]change{
			"peers could not, since a stranger came": both(refused(tcp, minute), visited(tcp, "ip4", time.Hour)),
			"dialled back long ago":                  reach(tcp, day),
			"dialled back tomorrow":                  reach(tcp, -time.Hour),
			"IPv6 dialled back":                      reach("/ip6/2001:7fd::1/tcp/4001", minute),
			"QUIC dialled back":                      reach("/ip4/198.41.0.4/udp/4001/quic-v1", minute),
			"another port dialled back":              reach("/ip4/198.41.0.4/tcp/14001", minute),
			"WSS dialled back":                       reach(wss, minute),
			"a stranger by IPv6":                     visited("/ip6/2001:7fd::1/tcp/4001", "ip6", minute),
			"a stranger by WSS":                      visited("/ip4/198.41.0.4/tcp/443/tls/ws", "ip4", minute),
			"a stranger at another port":             visited("/ip4/198.41.0.4/tcp/14001", "ip4", minute),
			"a stranger at another address":          visited("/ip4/198.41.0.40/tcp/4001", "ip4", minute),
			"a stranger long ago":                    visited(tcp, "ip4", day),
		}},
		"wss": {map[string]change{
			"dialled back":              both(tls, reach(wss, 23*time.Hour)),
			"a stranger by name":        both(tls, visited(wss, "ip4", 23*time.Hour)),
			"a stranger where it leads": both(tls, dns("198.41.0.4"), visited("/ip4/198.41.0.4/tcp/443/tls/ws", "ip4", minute)),
		}, map[string]change{
			"dialled back long ago":      both(tls, reach(wss, day)),
			"TCP dialled back":           both(tls, reach(tcp, minute)),
			"dialled back, no TLS":       reach(wss, minute),
			"a stranger by name, IPv6":   both(tls, visited(wss, "ip6", minute)),
			"a stranger by IPv6":         both(tls, dns("198.41.0.4", "2001:7fd::1"), visited("/ip6/2001:7fd::1/tcp/443/tls/ws", "ip6", minute)),
			"a stranger elsewhere":       both(tls, dns("198.41.0.9"), visited("/ip4/198.41.0.4/tcp/443/tls/ws", "ip4", minute)),
			"no record known":            both(tls, visited("/ip4/198.41.0.4/tcp/443/tls/ws", "ip4", minute)),
			"a stranger at another port": both(tls, dns("198.41.0.4"), visited("/ip4/198.41.0.4/tcp/8443/tls/ws", "ip4", minute)),
			"a stranger by TCP":          both(tls, dns("198.41.0.4"), visited(tcp, "ip4", minute)),
			"a stranger long ago":        both(tls, visited(wss, "ip4", day)),
			"of another domain": both(tls, reach("/dns4/other.example.org/tcp/443/tls/ws", minute), func(_ *config.Config, s *status.Status, _ *findings) {
				s.Addrs[1] = strings.Replace(s.Addrs[1], "relay.", "other.", 1)
			}),
			"without TLS": both(tls, reach("/dns4/relay.example.org/tcp/443/ws", minute), func(_ *config.Config, s *status.Status, _ *findings) {
				s.Addrs[1] = strings.Replace(s.Addrs[1], "/tls/ws", "/ws", 1)
			}),
			"over IPv6 alone": both(tls, reach("/dns6/relay.example.org/tcp/443/tls/ws", minute), func(_ *config.Config, s *status.Status, _ *findings) {
				s.Addrs[1] = strings.Replace(s.Addrs[1], "dns4", "dns6", 1)
			}),
		}},
		"certificate": {map[string]change{
			"where the domain leads":        both(tls, outside("ours", nil)),
			"by a proxy":                    both(tls, dns("198.41.0.4"), outside("another", nil)),
			"here, and the domain leads so": both(tls, dns("198.41.0.4")),
		}, map[string]change{
			"here only":                both(tls),
			"the domain leads away":    both(tls, dns("198.41.0.9")),
			"another machine's":        both(tls, dns("198.41.0.9"), outside("another", nil)),
			"a proxy's that is bad":    both(tls, dns("198.41.0.4"), outside("another", errors.New("self-signed"))),
			"seen long ago":            both(tls, dns("198.41.0.4"), func(_ *config.Config, _ *status.Status, f *findings) { f.looked = f.at.Add(-time.Hour) }),
			"nothing is presented now": dns("198.41.0.4"),
		}},
		"announcement": {map[string]change{
			"measured": announced(minute, minute), "heard": heardOf(),
		}, map[string]change{
			"announced only":         announced(minute, time.Hour),
			"measured, long silent":  announced(time.Hour, minute),
			"another with this ID":   heardOf("/ip4/198.41.0.9/tcp/4001/p2p/another"),
			"announced, clock wrong": announced(-time.Hour, minute),
		}},
		"names": {map[string]change{
			"no such string": func(*config.Config, *status.Status, *findings) {},
		}, map[string]change{
			"announced besides": func(_ *config.Config, s *status.Status, _ *findings) {
				s.Addrs = append(s.Addrs, "/ip4/172.104.1.1/tcp/4001/p2p/"+s.PeerID)
			},
			"announced still": func(_ *config.Config, s *status.Status, _ *findings) {
				s.Addrs[1] = "/dns4/quick.example.org/tcp/443/tls/ws/p2p/" + s.PeerID
			},
		}},
		"software": {map[string]change{
			"the newest": func(_ *config.Config, _ *status.Status, f *findings) { f.updates = published(f.at, "v1.2.3", 40) },
		}, map[string]change{
			"put here lately": func(*config.Config, *status.Status, *findings) {},
			"a list of others": func(_ *config.Config, _ *status.Status, f *findings) {
				f.updates = published(f.at, "v1.2.3", 40)
				f.updates.list.Products[0].Agent = "other/*"
			},
			"an old list": func(_ *config.Config, _ *status.Status, f *findings) {
				f.updates = published(f.at, "v1.2.3", 40)
				f.updates.err = errors.New("not fetched")
			},
		}},
		"clock": {map[string]change{
			"kept": func(_ *config.Config, _ *status.Status, f *findings) {
				f.clock = clock{synced: true, within: time.Second}
			},
			"compared": func(_ *config.Config, _ *status.Status, f *findings) { f.clock = clock{offset: 4 * time.Second} },
		}, map[string]change{
			"off": func(_ *config.Config, _ *status.Status, f *findings) { f.clock = clock{offset: -6 * time.Second} },
			"kept, seen long ago": func(_ *config.Config, _ *status.Status, f *findings) {
				f.clock, f.looked = clock{synced: true}, f.at.Add(-time.Hour)
			},
		}},
		"disk": {map[string]change{
			"room": func(_ *config.Config, _ *status.Status, f *findings) { f.disk = disk{free: diskFree, files: 1} },
		}, map[string]change{
			"room, read-only": func(_ *config.Config, _ *status.Status, f *findings) {
				f.disk = disk{free: diskFree, files: 1, sealed: true}
			},
			"room, seen long ago": func(_ *config.Config, _ *status.Status, f *findings) {
				f.disk, f.looked = disk{free: diskFree, files: 1}, f.at.Add(-time.Hour)
			},
		}},
		"files": {map[string]change{
			"counted": func(_ *config.Config, s *status.Status, _ *findings) { s.Capacity.FilesUsed = 2100 },
		}, map[string]change{
			"the limit only": func(*config.Config, *status.Status, *findings) {},
			"all used":       func(_ *config.Config, s *status.Status, _ *findings) { s.Capacity.FilesUsed = s.Capacity.OpenFiles - 1 },
		}},
		"budget": {map[string]change{
			"some left": func(_ *config.Config, s *status.Status, _ *findings) { s.Traffic.Bytes-- },
		}, map[string]change{
			"all spent": func(*config.Config, *status.Status, *findings) {},
			"not all is counted": func(_ *config.Config, s *status.Status, f *findings) {
				s.Traffic.Bytes, s.Traffic.Lost = s.Traffic.Bytes-1, f.at.Add(-time.Hour)
			},
		}},
		// Only the monitors can tell.
		"uptime": {nil, map[string]change{"up": func(*config.Config, *status.Status, *findings) {}}},
		"region": {nil, map[string]change{"somewhere": func(*config.Config, *status.Status, *findings) {}}},
	} {
		of := func(t *testing.T, ch change) status.Requirement {
			cfg, s, f := unseen(t)
			ch(&cfg, s, &f)
			all := requirements(cfg, s, f)
			i := slices.IndexFunc(all, func(r status.Requirement) bool { return r.Name == name })
			if i < 0 || len(all) != 15 {
				t.Fatalf("%s is not among the %d requirements", name, len(all))
			}
			return all[i]
		}
		for what, ch := range tc.least {
			if r := of(t, ch); r.Outcome != status.Met {
				t.Errorf("%s, %s: got %+v, want met", name, what, r)
			}
		}
		for what, ch := range tc.misses {
			if r := of(t, ch); r.Outcome == status.Met || r.Cure == "" {
				t.Errorf("%s, %s: got %+v, want not met or unknown, with a cure", name, what, r)
			}
		}
	}
}

// Which announced address a connection shows the way to.
func TestArrivals(t *testing.T) {
	public := relaytest.Multiaddrs(t, "/ip4/198.41.0.4/tcp/4001", "/ip6/2001:7fd::1/tcp/4001", "/ip4/198.41.0.4/udp/4001/quic-v1", "/dns4/relay.example.org/tcp/443/tls/ws")
	forwarded := append(slices.Clone(public), relaytest.Multiaddrs(t, "/ip4/198.41.0.4/tcp/14001")...)
	const v4, v6, web4, web6, name = "ip4 /ip4/198.41.0.4/tcp/4001", "ip6 /ip6/2001:7fd::1/tcp/4001",
		"ip4 /ip4/198.41.0.4/tcp/443/tls/ws", "ip6 /ip6/2001:7fd::1/tcp/443/tls/ws", " /dns4/relay.example.org/tcp/443/tls/ws"
	for what, tc := range map[string]struct {
		announced   []ma.Multiaddr
		local, said string
		want        string
	}{
		"IPv4":                       {public, "/ip4/198.41.0.4/tcp/4001", "/ip4/198.41.0.4/tcp/4001", v4},
		"IPv4, no word":              {public, "/ip4/198.41.0.4/tcp/4001", "", v4},
		"IPv6":                       {public, "/ip6/2001:7fd::1/tcp/4001", "/ip6/2001:7fd::1/tcp/4001", v6},
		"QUIC is not looked at":      {public, "/ip4/198.41.0.4/udp/4001/quic-v1", "/ip4/198.41.0.4/udp/4001/quic-v1", ""},
		"another address":            {public, "/ip4/198.41.0.9/tcp/4001", "/ip4/198.41.0.9/tcp/4001", ""},
		"another port":               {public, "/ip4/198.41.0.4/tcp/4002", "/ip4/198.41.0.4/tcp/4002", ""},
		"translated":                 {public, "/ip4/10.0.0.5/tcp/4001", "/ip4/198.41.0.4/tcp/4001", v4},
		"translated, no word":        {public, "/ip4/10.0.0.5/tcp/4001", "", ""},
		"translated from another":    {public, "/ip4/10.0.0.5/tcp/4001", "/ip4/198.41.0.9/tcp/4001", ""},
		"forwarded from another":     {public, "/ip4/10.0.0.5/tcp/4001", "/ip4/198.41.0.4/tcp/14001", ""},
		"forwarded, announced":       {forwarded, "/ip4/10.0.0.5/tcp/4001", "/ip4/198.41.0.4/tcp/14001", "ip4 /ip4/198.41.0.4/tcp/14001"},
		"a word of another family":   {public, "/ip6/2001:7fd::1/tcp/4001", "/ip4/198.41.0.4/tcp/4001", v6},
		"IPv4 said, came by IPv6":    {public, "/ip6/2001:7fd::9/tcp/4001", "/ip4/198.41.0.4/tcp/4001", ""},
		"WSS by IPv4":                {public, "/ip4/198.41.0.4/tcp/443/tls/ws", "/ip4/198.41.0.4/tcp/443/tls/ws", web4},
		"WSS by IPv6":                {public, "/ip6/2001:7fd::1/tcp/443/tls/ws", "/ip6/2001:7fd::1/tcp/443/tls/ws", web6},
		"WSS by name":                {public, "/ip4/10.0.0.5/tcp/8443/tls/ws", "/dns4/relay.example.org/tcp/443/tls/ws", "ip4" + name},
		"WSS by name, IPv6":          {public, "/ip6/2001:7fd::1/tcp/443/tls/ws", "/dns4/relay.example.org/tcp/443/wss", "ip6" + name},
		"WSS by another name":        {public, "/ip4/198.41.0.4/tcp/443/tls/ws", "/dns4/other.example.org/tcp/443/tls/ws", ""},
		"WSS, translated":            {public, "/ip4/10.0.0.5/tcp/443/tls/ws", "/ip4/198.41.0.4/tcp/443/tls/ws", web4},
		"WSS, translated, no word":   {public, "/ip4/10.0.0.5/tcp/443/tls/ws", "", ""},
		"WSS at the port of TCP":     {public, "/ip4/198.41.0.4/tcp/4001/tls/ws", "/ip4/198.41.0.4/tcp/4001/tls/ws", ""},
		"TCP at the port of WSS":     {public, "/ip4/198.41.0.4/tcp/443", "/ip4/198.41.0.4/tcp/443", ""},
		"WSS at an unannounced one":  {public, "/ip4/198.41.0.9/tcp/443/tls/ws", "/ip4/198.41.0.9/tcp/443/tls/ws", ""},
		"nothing is announced (yet)": {nil, "/ip4/198.41.0.4/tcp/4001", "/ip4/198.41.0.4/tcp/4001", ""},
	} {
		var said ma.Multiaddr
		if tc.said != "" {
			said = relaytest.Multiaddrs(t, tc.said)[0]
		}
		var got []string
		for _, a := range arrivals(tc.announced, relaytest.Multiaddrs(t, tc.local)[0], said) {
			got = append(got, a.family+" "+a.addr)
		}
		if strings.Join(got, ", ") != tc.want {
			t.Errorf("%s: got %q, want %q", what, got, tc.want)
		}
	}
}

// What a peer names is not looked up: identify waits meanwhile, of all peers.
func TestNoDomainIsLookedUp(t *testing.T) {
	if ap, ok := config.AddrPort(relaytest.Multiaddrs(t, "/dns4/localhost/tcp/4001")[0]); ok {
		t.Errorf("a domain became %s", ap)
	}
}

// A visit counts for a day. The relay's own machine is no stranger, by whichever of
// its addresses it comes: it passes no firewall.
func TestStrangersOnly(t *testing.T) {
	addr := func(s string) ma.Multiaddr { return relaytest.Multiaddrs(t, s)[0] }
	announced := relaytest.Multiaddrs(t, "/ip4/198.41.0.4/tcp/4001", "/ip6/2001:7fd::1/tcp/4001")
	o := newObservers(config.DefaultConfig(), func() []ma.Multiaddr { return announced })
	now := time.Now()
	for _, own := range []string{"/ip4/198.41.0.4/tcp/9", "/ip6/2001:7fd::1/tcp/9", "/ip6/2001:7fd::2/tcp/9", "/ip4/127.0.0.1/tcp/9", "/ip4/172.17.0.1/tcp/9"} {
		o.note(addr(own), announced[0], announced[0], network.DirInbound, now)
	}
	if seen, incoming := o.seen(now); len(seen)+len(incoming) > 0 {
		t.Errorf("from the machine itself: got %v and %v, want nothing", seen, incoming)
	}
	o.note(addr("/ip4/192.5.5.241/tcp/9"), announced[0], announced[0], network.DirOutbound, now)
	if _, incoming := o.seen(now); len(incoming) > 0 {
		t.Errorf("from the relay to a stranger: got %v, want nothing", incoming)
	}
	o.note(addr("/ip4/192.5.5.241/tcp/9"), announced[0], announced[0], network.DirInbound, now)
	want := status.Incoming{Addr: "/ip4/198.41.0.4/tcp/4001", Family: "ip4", Last: now}
	if _, incoming := o.seen(now.Add(23 * time.Hour)); len(incoming) != 1 || incoming[0] != want {
		t.Errorf("from a stranger: got %v, want %v", incoming, want)
	}
	if seen, incoming := o.seen(now.Add(25 * time.Hour)); len(seen)+len(incoming) > 0 {
		t.Errorf("a day later: got %v and %v, want nothing", seen, incoming)
	}
}

// Where the domain leads something else may end TLS: what that presents is judged.
func TestCertificateWhereTheDomainLeads(t *testing.T) {
	other := httptest.NewUnstartedServer(http.NotFoundHandler())
	l, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	other.Listener.Close()
	other.Listener = l
	other.StartTLS()
	defer other.Close()
	c := relaytest.LabConfig(t)
	c.Domain = "relay.test"
	c.Listen.WSS = relaytest.Multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.2/tcp/%d/tls/ws", l.Addr().(*net.TCPAddr).Port))
	at := records{a: []netip.Addr{netip.MustParseAddr("127.0.0.9")}}
	_, s, f := sound(t)
	f.records = at
	if f.outside = presentOutside(relaytest.Context(t), c, at); f.outside == nil || f.outside.untrusted == nil {
		t.Fatalf("presented: %+v", f.outside)
	}
	if q := (judge{c, s, f}).certificate(); q.Outcome != status.NotMet || !strings.Contains(q.Found, "127.0.0.9") || !strings.Contains(q.Found, "by something else than relayd") {
		t.Errorf("got %+v, want not met", q)
	}
	other.Close()
	if p := presentOutside(relaytest.Context(t), c, at); p != nil {
		t.Errorf("nobody answers: got %+v", p)
	}
}
