package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	coretest "github.com/libp2p/go-libp2p/core/test"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// sound is a relay on the internet at which nothing is amiss.
func sound(t testing.TB) (config.Config, *status.Status, findings) {
	t.Helper()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	id := coretest.RandPeerIDFatal(t)
	ip := netip.MustParseAddr("198.41.0.4")
	cfg := config.DefaultConfig()
	cfg.Domain = "relay.example.org"
	const tcp, wss = "/ip4/198.41.0.4/tcp/4001", "/dns4/relay.example.org/tcp/443/tls/ws"
	s := &status.Status{
		PeerID: id.String(), Version: "v1.2.3", VersionSince: now.AddDate(0, 0, -3), Healthy: true, Ready: true, Started: now.Add(-time.Hour),
		Addrs:        []string{tcp + "/p2p/" + id.String(), wss + "/p2p/" + id.String()},
		Reservations: status.Reservations{Members: 3, Max: 1024, GuestMax: 256},
		Capacity:     status.Capacity{Connections: 2000, OpenFiles: 65536, FilesUsed: 40},
		Traffic:      status.Traffic{Month: "2026-11", Bytes: 1e9, Budget: 1e12},
		PSF:          &status.PSFStatus{Neighbours: 4, LastAnnounced: now.Add(-time.Minute), LastMeasured: now.Add(-2 * time.Minute)},
		Observed:     []status.Observed{{IP: ip, Peers: 3}},
		Reach:        []status.Reach{{Addr: tcp, Outcome: status.Met, At: now.Add(-time.Hour)}, {Addr: wss, Outcome: status.Met, At: now.Add(-time.Hour)}},
		Certificate:  &status.Certificate{Domain: "relay.example.org"},
	}
	f := findings{
		at: now, looked: now.Add(-5 * time.Minute), id: id, interfaces: []netip.Addr{netip.MustParseAddr("127.0.0.1"), ip, netip.MustParseAddr("2001:7fd::1")},
		records:   records{a: []netip.Addr{ip}, aaaa: []netip.Addr{netip.MustParseAddr("2001:7fd::1")}},
		presented: presented{addr: "127.0.0.1:443", issuer: "R11", notAfter: now.AddDate(0, 0, 60), life: 90 * 24 * time.Hour},
		clock:     clock{synced: true}, disk: disk{free: 1 << 40, files: 1000}, version: "v1.2.3", since: now.AddDate(0, 0, -3),
		updates: published(now, "v1.2.3", 4),
	}
	return cfg, s, f
}

func TestSoundRelayMeetsAll(t *testing.T) {
	for _, r := range requirements(sound(t)) {
		want := status.Met
		if r.Name == "uptime" || r.Name == "region" { // seen from outside only
			want = status.Unknown
		}
		if r.Outcome != want {
			t.Errorf("%s: %s: %s", r.Name, r.Outcome, r.Found)
		}
	}
}

// Each fault shows in its requirement, with words that help.
func TestFaultsAreFound(t *testing.T) {
	ip := netip.MustParseAddr
	for name, tc := range map[string]struct {
		change      func(*config.Config, *status.Status, *findings)
		requirement string
		outcome     status.Outcome
		found, cure string
	}{
		"no HOP":      {func(_ *config.Config, s *status.Status, _ *findings) { s.Healthy = false }, "service", status.NotMet, "no reservations", "journalctl"},
		"full":        {func(_ *config.Config, s *status.Status, _ *findings) { s.Reservations.Guests = 1021 }, "service", status.NotMet, "all reservations are taken (1024)", "limits.reservations"},
		"guests full": {func(_ *config.Config, s *status.Status, _ *findings) { s.Reservations.Guests = 256 }, "service", status.NotMet, "the guests' reservations are taken (256)", "limits.guest_reservations"},
		"1:1 NAT":     {func(_ *config.Config, _ *status.Status, f *findings) { f.interfaces[1] = ip("10.0.0.5") }, "ipv4", status.NotMet, "3 peers see 198.41.0.4", "announce.ip4: 198.41.0.4"},
		"behind CGNAT, unseen": {func(_ *config.Config, s *status.Status, f *findings) {
			f.interfaces[1], s.Observed = ip("100.64.0.5"), nil
		}, "ipv4", status.NotMet, "no public IPv4", "announce.ip4"},
		"seen as another": {func(c *config.Config, s *status.Status, f *findings) {
			c.Announce.IP4, f.interfaces[1], s.Observed, s.Reach = ip("198.41.0.9"), ip("10.0.0.5"), []status.Observed{{IP: ip("198.41.0.4"), Peers: 3}}, nil
		}, "ipv4", status.NotMet, "announced is 198.41.0.9, but 3 peers see 198.41.0.4", "relayd move"},
		"one peer contradicts": {func(c *config.Config, s *status.Status, f *findings) {
			c.Announce.IP4, f.interfaces[1], s.Observed = ip("198.41.0.9"), ip("10.0.0.5"), []status.Observed{{IP: ip("198.41.0.4"), Peers: 1}}
		}, "ipv4", status.Unknown, "but 1 peers see 198.41.0.4", "relaymon probe"},
		"peers lie, one agrees": {func(_ *config.Config, s *status.Status, _ *findings) {
			s.Observed = []status.Observed{{IP: ip("192.5.5.241"), Peers: 50}, {IP: ip("198.41.0.4"), Peers: 1}}
		}, "ipv4", status.Met, "198.41.0.4: strangers have come in by it", ""},
		"no domain":         {func(c *config.Config, _ *status.Status, _ *findings) { c.Domain = "" }, "records", status.NotMet, "no domain", "Register"},
		"no domain, no wss": {func(c *config.Config, _ *status.Status, _ *findings) { c.Domain = "" }, "wss", status.NotMet, "no domain", "Register"},
		"record elsewhere":  {func(_ *config.Config, _ *status.Status, f *findings) { f.records.a = []netip.Addr{ip("192.5.5.241")} }, "records", status.NotMet, "A record is 192.5.5.241", "to 198.41.0.4 alone"},
		"a second record": {func(_ *config.Config, _ *status.Status, f *findings) {
			f.records.a = append(f.records.a, ip("192.5.5.241"))
		}, "records", status.NotMet, "192.5.5.241", "alone"},
		"no record": {func(_ *config.Config, _ *status.Status, f *findings) { f.records.a = nil }, "records", status.NotMet, "has no A record", "set the A record"},
		"AAAA elsewhere": {func(_ *config.Config, _ *status.Status, f *findings) {
			f.records.aaaa = []netip.Addr{ip("2001:500::1")}
		}, "records", status.NotMet, "2001:500::1", "AAAA"},
		"own /etc/hosts": {func(_ *config.Config, _ *status.Status, f *findings) { f.records.a = []netip.Addr{ip("127.0.1.1")} }, "records", status.Unknown, "/etc/hosts", "--resolver"},
		"no DNS":         {func(_ *config.Config, _ *status.Status, f *findings) { f.records = records{err: errors.New("timeout")} }, "records", status.Unknown, "timeout", "resolv.conf"},
		"TCP closed":     {func(_ *config.Config, s *status.Status, _ *findings) { s.Reach[0].Outcome = status.NotMet }, "tcp", status.NotMet, "could not dial back", "Open TCP port 4001"},
		"TCP unknown":    {func(_ *config.Config, s *status.Status, _ *findings) { s.Reach = nil }, "tcp", status.Unknown, "no stranger", "relaymon probe /ip4/198.41.0.4/tcp/4001/p2p/"},
		"no TCP":         {func(_ *config.Config, s *status.Status, _ *findings) { s.Addrs = s.Addrs[1:] }, "tcp", status.NotMet, "no TCP address", "listen.tcp"},
		"no WSS":         {func(_ *config.Config, s *status.Status, _ *findings) { s.Addrs = s.Addrs[:1] }, "wss", status.NotMet, "no WSS", "listen.wss"},
		"WSS closed":     {func(_ *config.Config, s *status.Status, _ *findings) { s.Reach[1].Outcome = status.NotMet }, "wss", status.NotMet, "could not dial back", "Open TCP port 443"},
		"WSS on another port": {func(_ *config.Config, s *status.Status, _ *findings) {
			s.Addrs[1] = strings.Replace(s.Addrs[1], "443", "8443", 1)
		}, "wss", status.NotMet, "8443", "443"},
		"no TLS": {func(_ *config.Config, _ *status.Status, f *findings) {
			f.presented.err = errors.New("handshake failure")
		}, "wss", status.NotMet, "handshake failure", "certificate"},
		"untrusted": {func(_ *config.Config, _ *status.Status, f *findings) {
			f.presented.untrusted = errors.New("unknown authority")
		}, "certificate", status.NotMet, "unknown authority", "whole chain"},
		"CA says no": {func(_ *config.Config, s *status.Status, f *findings) {
			f.presented.err, s.Certificate.Error = errors.New("handshake failure"), "the CA refused: rateLimited"
		}, "certificate", status.NotMet, "rateLimited", "ports 443 and 80"},
		"not renewed": {func(_ *config.Config, _ *status.Status, f *findings) { f.presented.notAfter = f.at.AddDate(0, 0, 5) }, "certificate", status.NotMet, "expires on 2026-11-28", "443"},
		"PSF off":     {func(c *config.Config, _ *status.Status, _ *findings) { c.PSF.Enabled = false }, "announcement", status.NotMet, "switched off", "psf.enabled"},
		"alone":       {func(_ *config.Config, s *status.Status, _ *findings) { s.PSF.Neighbours = 0 }, "announcement", status.NotMet, "no PSF peer", "psf.bootstrap"},
		"silent":      {func(_ *config.Config, s *status.Status, _ *findings) { s.PSF.LastAnnounced = time.Time{} }, "announcement", status.NotMet, "not announced", "Wait"},
		"deaf": {func(_ *config.Config, s *status.Status, f *findings) {
			s.PSF.Neighbours, s.PSF.Speakers, s.PSF.Silent = 0, 3, f.at.Add(-7*time.Minute)
		}, "announcement", status.NotMet, "3 peers that speak gossipsub", "psf.bootstrap"},
		"lost": {func(_ *config.Config, s *status.Status, _ *findings) {
			s.Healthy, s.PSF.Neighbours, s.PSF.Speakers, s.PSF.Lost = false, 0, 3, true
		}, "service", status.NotMet, "neighbours were lost", "again"},
		"stuck":               {func(_ *config.Config, s *status.Status, f *findings) { s.PSF.LastAnnounced = f.at.Add(-time.Hour) }, "announcement", status.NotMet, "60 min ago", "log"},
		"nobody measures":     {func(_ *config.Config, s *status.Status, _ *findings) { s.PSF.LastMeasured = time.Time{} }, "announcement", status.Unknown, "none has measured", "ten minutes"},
		"peer ID with quic":   {func(c *config.Config, _ *status.Status, _ *findings) { c.Domain = "quick-relay.example.org" }, "names", status.NotMet, "\"quic\"", "choose another"},
		"172.104":             {func(_ *config.Config, _ *status.Status, f *findings) { f.interfaces[1] = ip("172.104.1.1") }, "names", status.NotMet, "172.1", "another one"},
		"development version": {func(_ *config.Config, s *status.Status, _ *findings) { s.Version = "v0.0.0-dev+0123456789ab" }, "software", status.NotMet, "no release", "Install"},
		"old version": {func(_ *config.Config, s *status.Status, f *findings) {
			s.VersionSince, f.updates = f.at.AddDate(0, 0, -40), updates{}
		}, "software", status.Unknown, "40 days", "newest"},
		"the newest":          {func(_ *config.Config, _ *status.Status, f *findings) { f.updates = published(f.at, "v1.2.3", 40) }, "software", status.Met, "v1.2.3, the newest, published 40 days ago; here since 2026-", ""},
		"newer than the list": {func(_ *config.Config, _ *status.Status, f *findings) { f.updates = published(f.at, "v1.2.2", 4) }, "software", status.Met, "v1.2.3, the newest", ""},
		"a newer one is due":  {func(_ *config.Config, _ *status.Status, f *findings) { f.updates = published(f.at, "v1.2.4", 3) }, "software", status.NotMet, "v1.2.4 is out for 3 days", "Install"},
		"a newer one is out":  {func(_ *config.Config, _ *status.Status, f *findings) { f.updates = published(f.at, "v1.2.4", 2) }, "software", status.Met, "must run from", ""},
		"list out of reach": {func(_ *config.Config, _ *status.Status, f *findings) {
			f.updates = updates{known: true, err: errors.New("no route")}
		}, "software", status.Unknown, "no route", "fetched"},
		"list near its end": {func(_ *config.Config, _ *status.Status, f *findings) {
			f.updates = published(f.at, "v1.2.3", 40)
			f.updates.list.ValidUntil = release.Time{Time: f.at.AddDate(0, 0, 19)}
		}, "software", status.Unknown, "for 19 days", "maintainers"},
		"a list of others": {func(_ *config.Config, _ *status.Status, f *findings) {
			f.updates = published(f.at, "v9.0.0", 40)
			f.updates.list.Products[0].Agent = "other/*"
		}, "software", status.Unknown, "no list of releases says how old it is; here", "updates"},
		"clock off":      {func(_ *config.Config, _ *status.Status, f *findings) { f.clock = clock{offset: -90 * time.Second} }, "clock", status.NotMet, "1m30s", "timedatectl"},
		"clock unkept":   {func(_ *config.Config, _ *status.Status, f *findings) { f.clock = clock{offset: time.Second} }, "clock", status.Met, "no time service", ""},
		"clock unknown":  {func(_ *config.Config, _ *status.Status, f *findings) { f.clock = clock{err: errors.New("no route")} }, "clock", status.Unknown, "no route", "timedatectl"},
		"clock in doubt": {func(_ *config.Config, s *status.Status, _ *findings) { s.Traffic.Doubt = "the clock says 1970" }, "clock", status.NotMet, "1970", "timedatectl"},
		"clock before the build": {func(_ *config.Config, _ *status.Status, f *findings) {
			f.clock, f.built = clock{err: errors.New("no route")}, f.at.Add(time.Hour)
		}, "clock", status.NotMet, "but this program was made on 2026-11-23", "timedatectl"},
		"certificate not stored": {func(_ *config.Config, s *status.Status, _ *findings) {
			s.Certificate.StoreError = "no space left on device"
		}, "disk", status.NotMet, "no space left", "Make room"},
		"count not stored": {func(_ *config.Config, s *status.Status, _ *findings) { s.Traffic.StoreError = "read-only file system" }, "disk", status.NotMet, "read-only", "mend the file system"},
		"disk full":        {func(_ *config.Config, _ *status.Status, f *findings) { f.disk.free = 1 << 20 }, "disk", status.NotMet, "1.05 MB free", "Make room"},
		"no inodes":        {func(_ *config.Config, _ *status.Status, f *findings) { f.disk.files = 0 }, "disk", status.NotMet, "inode", "Remove"},
		"no disk":          {func(_ *config.Config, _ *status.Status, f *findings) { f.disk.err = errors.New("no such folder") }, "disk", status.Unknown, "no such folder", "data_dir"},
		"few files":        {func(_ *config.Config, s *status.Status, _ *findings) { s.Capacity.OpenFiles = 1024 }, "files", status.NotMet, "1024 open files", "LimitNOFILE"},
		"small machine":    {func(_ *config.Config, s *status.Status, _ *findings) { s.Capacity.Connections = 500 }, "files", status.NotMet, "500 connections", "limits.reservations"},
		"budget spent":     {func(_ *config.Config, s *status.Status, _ *findings) { s.Traffic.Bytes = 1e12 }, "budget", status.NotMet, "all of 1 TB", "limits.month"},
		"no budget":        {func(_ *config.Config, s *status.Status, _ *findings) { s.Traffic.Budget = 0 }, "budget", status.Met, "no budget", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, s, f := sound(t)
			tc.change(&cfg, s, &f)
			for _, r := range requirements(cfg, s, f) {
				if r.Name != tc.requirement {
					continue
				}
				if r.Outcome != tc.outcome || !strings.Contains(r.Found, tc.found) || !strings.Contains(r.Cure, tc.cure) {
					t.Errorf("got %+v, want %s with %q and %q", r, tc.outcome, tc.found, tc.cure)
				}
			}
		})
	}
}

// What peers say is counted by network, for a day, and bounded.
func TestObservers(t *testing.T) {
	o := newObservers(config.DefaultConfig(), func() []ma.Multiaddr { return nil })
	now := time.Now()
	local := relaytest.Multiaddrs(t, "/ip4/10.0.0.5/tcp/443/tls/ws")[0]
	note := func(remote, observed string, dir network.Direction, at time.Time) {
		o.note(relaytest.Multiaddrs(t, remote)[0], local, relaytest.Multiaddrs(t, observed)[0], dir, at)
	}
	note("/ip4/198.41.0.4/tcp/1", "/ip4/192.5.5.241/tcp/443", network.DirInbound, now)
	note("/ip4/198.41.0.4/tcp/2", "/ip4/192.5.5.241/tcp/9", network.DirOutbound, now) // the same network
	note("/ip4/199.7.91.13/tcp/1", "/ip4/192.5.5.241/tcp/9", network.DirOutbound, now)
	note("/ip4/192.203.230.10/tcp/1", "/ip4/9.9.9.9/tcp/9", network.DirOutbound, now)
	note("/ip4/10.0.0.9/tcp/1", "/ip4/10.0.0.5/tcp/443", network.DirInbound, now) // no stranger
	note("/ip4/193.0.14.129/tcp/1", "/ip4/8.8.8.8/tcp/1", network.DirOutbound, now.Add(-25*time.Hour))
	seen, _ := o.seen(now)
	want := []status.Observed{{IP: netip.MustParseAddr("192.5.5.241"), Peers: 2}, {IP: netip.MustParseAddr("9.9.9.9"), Peers: 1}}
	if len(seen) != 2 || seen[0] != want[0] || seen[1] != want[1] {
		t.Errorf("seen %v, want %v", seen, want)
	}
	for i := range 2 * maxObservers {
		ip := netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1})
		note("/ip4/"+ip.String()+"/tcp/1", "/ip4/"+ip.String()+"/tcp/1", network.DirInbound, now)
	}
	if seen, _ := o.seen(now); len(o.said) > maxObservers || len(seen) > 8 || seen[0] != want[0] {
		t.Errorf("%d kept, %v", len(o.said), seen)
	}
	o.note(ma.Multiaddr{}, local, nil, network.DirInbound, now)
}

// Over IPv6 nobody sees the relay's IPv4 address, whatever it says of it; and who has
// many networks of IPv6 takes no room from those who do see it.
func TestObserversOfAnotherFamily(t *testing.T) {
	o := newObservers(config.DefaultConfig(), func() []ma.Multiaddr { return nil })
	now := time.Now()
	local := relaytest.Multiaddrs(t, "/ip6/2001:503:c27::2:30/tcp/4001")[0]
	note := func(remote, observed string) {
		o.note(relaytest.Multiaddrs(t, remote)[0], local, relaytest.Multiaddrs(t, observed)[0], network.DirOutbound, now)
	}
	for i := range 2 * maxObservers {
		liar := fmt.Sprintf("/ip6/2001:500:2f:%x::1/tcp/1", i)
		note(liar, "/ip4/9.9.9.9/tcp/1")
		note(liar, "/ip6/2001:503:c27::2:30/tcp/1")
	}
	note("/ip4/198.41.0.4/tcp/1", "/ip4/192.5.5.241/tcp/443")
	seen, _ := o.seen(now)
	want := []status.Observed{{IP: netip.MustParseAddr("2001:503:c27::2:30"), Peers: maxObservers}, {IP: netip.MustParseAddr("192.5.5.241"), Peers: 1}}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
}

// published is a list by which a version came out so many days ago.
func published(now time.Time, version string, days int) updates {
	return updates{known: true, list: &release.List{
		ValidUntil: release.Time{Time: now.AddDate(0, 0, 60)},
		Products: []release.Product{{Name: "relay-appliance", Agent: "relayd/*", Releases: []release.Release{
			{Version: "v1.0.0", Published: release.Time{Time: now.AddDate(-1, 0, 0)}},
			{Version: version, Published: release.Time{Time: now.AddDate(0, 0, -days)}},
		}}},
	}}
}
