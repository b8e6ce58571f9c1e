package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/release"
)

func peerOf(t testing.TB) peer.ID {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// sound is a relay on the internet at which nothing is amiss.
func sound(t testing.TB) (Config, *Status, findings) {
	t.Helper()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	id := peerOf(t)
	ip := netip.MustParseAddr("198.41.0.4")
	cfg := DefaultConfig()
	cfg.Domain = "relay.example.org"
	const tcp, wss = "/ip4/198.41.0.4/tcp/4001", "/dns4/relay.example.org/tcp/443/tls/ws"
	s := &Status{
		PeerID: id.String(), Version: "v1.2.3", VersionSince: now.AddDate(0, 0, -3), Healthy: true, Ready: true, Started: now.Add(-time.Hour),
		Addrs:        []string{tcp + "/p2p/" + id.String(), wss + "/p2p/" + id.String()},
		Reservations: Reservations{Members: 3, Places: 1024, GuestPlaces: 256},
		Capacity:     Capacity{Connections: 2000, OpenFiles: 65536, FilesUsed: 40},
		Traffic:      Traffic{Month: "2026-11", Bytes: 1e9, Budget: 1e12},
		PSF:          &PSFStatus{Neighbours: 4, LastAnnounced: now.Add(-time.Minute), LastMeasured: now.Add(-2 * time.Minute)},
		Observed:     []Observed{{ip, 3}},
		Reach:        []Reach{{tcp, Met, now.Add(-time.Hour)}, {wss, Met, now.Add(-time.Hour)}},
		Certificate:  &Certificate{Domain: "relay.example.org"},
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
		want := Met
		if r.Name == "uptime" || r.Name == "region" { // seen from outside only
			want = Unknown
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
		change      func(*Config, *Status, *findings)
		requirement string
		outcome     Outcome
		found, cure string
	}{
		"no HOP":               {func(_ *Config, s *Status, _ *findings) { s.Healthy = false }, "service", NotMet, "no reservations", "journalctl"},
		"full":                 {func(_ *Config, s *Status, _ *findings) { s.Reservations.Guests = 1021 }, "service", NotMet, "all 1024 places", "limits.reservations"},
		"guests full":          {func(_ *Config, s *Status, _ *findings) { s.Reservations.Guests = 256 }, "service", NotMet, "all 256 places for guests", "limits.guest_reservations"},
		"1:1 NAT":              {func(_ *Config, _ *Status, f *findings) { f.interfaces[1] = ip("10.0.0.5") }, "ipv4", NotMet, "3 peers see 198.41.0.4", "announce.ip4: 198.41.0.4"},
		"behind CGNAT, unseen": {func(_ *Config, s *Status, f *findings) { f.interfaces[1], s.Observed = ip("100.64.0.5"), nil }, "ipv4", NotMet, "no public IPv4", "announce.ip4"},
		"seen as another": {func(c *Config, s *Status, f *findings) {
			c.Announce.IP4, f.interfaces[1], s.Observed, s.Reach = ip("198.41.0.9"), ip("10.0.0.5"), []Observed{{ip("198.41.0.4"), 3}}, nil
		}, "ipv4", NotMet, "announced is 198.41.0.9, but 3 peers see 198.41.0.4", "relayd move"},
		"one peer contradicts": {func(c *Config, s *Status, f *findings) {
			c.Announce.IP4, f.interfaces[1], s.Observed = ip("198.41.0.9"), ip("10.0.0.5"), []Observed{{ip("198.41.0.4"), 1}}
		}, "ipv4", Unknown, "but 1 peers see 198.41.0.4", "relaymon probe"},
		"peers lie, one agrees": {func(_ *Config, s *Status, _ *findings) {
			s.Observed = []Observed{{ip("192.5.5.241"), 50}, {ip("198.41.0.4"), 1}}
		}, "ipv4", Met, "198.41.0.4: strangers have come in by it", ""},
		"no domain":           {func(c *Config, _ *Status, _ *findings) { c.Domain = "" }, "records", NotMet, "no domain", "Register"},
		"no domain, no wss":   {func(c *Config, _ *Status, _ *findings) { c.Domain = "" }, "wss", NotMet, "no domain", "Register"},
		"record elsewhere":    {func(_ *Config, _ *Status, f *findings) { f.records.a = []netip.Addr{ip("192.5.5.241")} }, "records", NotMet, "A record is 192.5.5.241", "to 198.41.0.4 alone"},
		"a second record":     {func(_ *Config, _ *Status, f *findings) { f.records.a = append(f.records.a, ip("192.5.5.241")) }, "records", NotMet, "192.5.5.241", "alone"},
		"no record":           {func(_ *Config, _ *Status, f *findings) { f.records.a = nil }, "records", NotMet, "has no A record", "set the A record"},
		"AAAA elsewhere":      {func(_ *Config, _ *Status, f *findings) { f.records.aaaa = []netip.Addr{ip("2001:500::1")} }, "records", NotMet, "2001:500::1", "AAAA"},
		"own /etc/hosts":      {func(_ *Config, _ *Status, f *findings) { f.records.a = []netip.Addr{ip("127.0.1.1")} }, "records", Unknown, "/etc/hosts", "--resolver"},
		"no DNS":              {func(_ *Config, _ *Status, f *findings) { f.records = records{err: errors.New("timeout")} }, "records", Unknown, "timeout", "resolv.conf"},
		"TCP closed":          {func(_ *Config, s *Status, _ *findings) { s.Reach[0].Outcome = NotMet }, "tcp", NotMet, "could not dial back", "Open TCP port 4001"},
		"TCP unknown":         {func(_ *Config, s *Status, _ *findings) { s.Reach = nil }, "tcp", Unknown, "no stranger", "relaymon probe /ip4/198.41.0.4/tcp/4001/p2p/"},
		"no TCP":              {func(_ *Config, s *Status, _ *findings) { s.Addrs = s.Addrs[1:] }, "tcp", NotMet, "no TCP address", "listen.tcp"},
		"no WSS":              {func(_ *Config, s *Status, _ *findings) { s.Addrs = s.Addrs[:1] }, "wss", NotMet, "no WSS", "listen.wss"},
		"WSS closed":          {func(_ *Config, s *Status, _ *findings) { s.Reach[1].Outcome = NotMet }, "wss", NotMet, "could not dial back", "Open TCP port 443"},
		"WSS on another port": {func(_ *Config, s *Status, _ *findings) { s.Addrs[1] = strings.Replace(s.Addrs[1], "443", "8443", 1) }, "wss", NotMet, "8443", "443"},
		"no TLS":              {func(_ *Config, _ *Status, f *findings) { f.presented.err = errors.New("handshake failure") }, "wss", NotMet, "handshake failure", "certificate"},
		"untrusted":           {func(_ *Config, _ *Status, f *findings) { f.presented.untrusted = errors.New("unknown authority") }, "certificate", NotMet, "unknown authority", "whole chain"},
		"CA says no": {func(_ *Config, s *Status, f *findings) {
			f.presented.err, s.Certificate.Error = errors.New("handshake failure"), "the CA refused: rateLimited"
		}, "certificate", NotMet, "rateLimited", "ports 443 and 80"},
		"not renewed": {func(_ *Config, _ *Status, f *findings) { f.presented.notAfter = f.at.AddDate(0, 0, 5) }, "certificate", NotMet, "expires on 2026-11-28", "443"},
		"PSF off":     {func(c *Config, _ *Status, _ *findings) { c.PSF.Enabled = false }, "announcement", NotMet, "switched off", "psf.enabled"},
		"alone":       {func(_ *Config, s *Status, _ *findings) { s.PSF.Neighbours = 0 }, "announcement", NotMet, "no PSF peer", "psf.bootstrap"},
		"silent":      {func(_ *Config, s *Status, _ *findings) { s.PSF.LastAnnounced = time.Time{} }, "announcement", NotMet, "not announced", "Wait"},
		"deaf": {func(_ *Config, s *Status, f *findings) {
			s.PSF.Neighbours, s.PSF.Speakers, s.PSF.Silent = 0, 3, f.at.Add(-7*time.Minute)
		}, "announcement", NotMet, "3 peers that speak gossipsub", "psf.bootstrap"},
		"lost": {func(_ *Config, s *Status, _ *findings) {
			s.Healthy, s.PSF.Neighbours, s.PSF.Speakers, s.PSF.Lost = false, 0, 3, true
		}, "service", NotMet, "neighbours were lost", "again"},
		"stuck":               {func(_ *Config, s *Status, f *findings) { s.PSF.LastAnnounced = f.at.Add(-time.Hour) }, "announcement", NotMet, "60 min ago", "log"},
		"nobody measures":     {func(_ *Config, s *Status, _ *findings) { s.PSF.LastMeasured = time.Time{} }, "announcement", Unknown, "none has measured", "ten minutes"},
		"peer ID with quic":   {func(c *Config, _ *Status, _ *findings) { c.Domain = "quick-relay.example.org" }, "names", NotMet, "\"quic\"", "choose another"},
		"172.104":             {func(_ *Config, _ *Status, f *findings) { f.interfaces[1] = ip("172.104.1.1") }, "names", NotMet, "172.1", "another one"},
		"development version": {func(_ *Config, s *Status, _ *findings) { s.Version = "v0.0.0-dev+0123456789ab" }, "software", NotMet, "no release", "Install"},
		"old version": {func(_ *Config, s *Status, f *findings) {
			s.VersionSince, f.updates = f.at.AddDate(0, 0, -40), updates{}
		}, "software", Unknown, "40 days", "newest"},
		"the newest":          {func(_ *Config, _ *Status, f *findings) { f.updates = published(f.at, "v1.2.3", 40) }, "software", Met, "v1.2.3, the newest, published 40 days ago; here since 2026-", ""},
		"newer than the list": {func(_ *Config, _ *Status, f *findings) { f.updates = published(f.at, "v1.2.2", 4) }, "software", Met, "v1.2.3, the newest", ""},
		"a newer one is due":  {func(_ *Config, _ *Status, f *findings) { f.updates = published(f.at, "v1.2.4", 3) }, "software", NotMet, "v1.2.4 is out for 3 days", "Install"},
		"a newer one is out":  {func(_ *Config, _ *Status, f *findings) { f.updates = published(f.at, "v1.2.4", 2) }, "software", Met, "must run from", ""},
		"list out of reach":   {func(_ *Config, _ *Status, f *findings) { f.updates = updates{known: true, err: errors.New("no route")} }, "software", Unknown, "no route", "fetched"},
		"list near its end": {func(_ *Config, _ *Status, f *findings) {
			f.updates = published(f.at, "v1.2.3", 40)
			f.updates.list.ValidUntil = release.Time{Time: f.at.AddDate(0, 0, 19)}
		}, "software", Unknown, "for 19 days", "maintainers"},
		"a list of others": {func(_ *Config, _ *Status, f *findings) {
			f.updates = published(f.at, "v9.0.0", 40)
			f.updates.list.Products[0].Agent = "other/*"
		}, "software", Unknown, "no list of releases says how old it is; here", "updates"},
		"clock off":      {func(_ *Config, _ *Status, f *findings) { f.clock = clock{offset: -90 * time.Second} }, "clock", NotMet, "1m30s", "timedatectl"},
		"clock unkept":   {func(_ *Config, _ *Status, f *findings) { f.clock = clock{offset: time.Second} }, "clock", Met, "no time service", ""},
		"clock unknown":  {func(_ *Config, _ *Status, f *findings) { f.clock = clock{err: errors.New("no route")} }, "clock", Unknown, "no route", "timedatectl"},
		"clock in doubt": {func(_ *Config, s *Status, _ *findings) { s.Traffic.Doubt = "the clock says 1970" }, "clock", NotMet, "1970", "timedatectl"},
		"clock before the build": {func(_ *Config, _ *Status, f *findings) {
			f.clock, f.built = clock{err: errors.New("no route")}, f.at.Add(time.Hour)
		}, "clock", NotMet, "but this program was made on 2026-11-23", "timedatectl"},
		"certificate not stored": {func(_ *Config, s *Status, _ *findings) { s.Certificate.StoreError = "no space left on device" }, "disk", NotMet, "no space left", "Make room"},
		"count not stored":       {func(_ *Config, s *Status, _ *findings) { s.Traffic.StoreError = "read-only file system" }, "disk", NotMet, "read-only", "mend the file system"},
		"disk full":              {func(_ *Config, _ *Status, f *findings) { f.disk.free = 1 << 20 }, "disk", NotMet, "1.05 MB free", "Make room"},
		"no inodes":              {func(_ *Config, _ *Status, f *findings) { f.disk.files = 0 }, "disk", NotMet, "inode", "Remove"},
		"no disk":                {func(_ *Config, _ *Status, f *findings) { f.disk.err = errors.New("no such folder") }, "disk", Unknown, "no such folder", "data_dir"},
		"few files":              {func(_ *Config, s *Status, _ *findings) { s.Capacity.OpenFiles = 1024 }, "files", NotMet, "1024 open files", "LimitNOFILE"},
		"small machine":          {func(_ *Config, s *Status, _ *findings) { s.Capacity.Connections = 500 }, "files", NotMet, "500 connections", "limits.reservations"},
		"budget spent":           {func(_ *Config, s *Status, _ *findings) { s.Traffic.Bytes = 1e12 }, "budget", NotMet, "all of 1 TB", "limits.month"},
		"no budget":              {func(_ *Config, s *Status, _ *findings) { s.Traffic.Budget = 0 }, "budget", Met, "no budget", ""},
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
	o := newObservers(DefaultConfig(), func() []ma.Multiaddr { return nil })
	now := time.Now()
	local := multiaddrs(t, "/ip4/10.0.0.5/tcp/443/tls/ws")[0]
	note := func(remote, observed string, dir network.Direction, at time.Time) {
		o.note(multiaddrs(t, remote)[0], local, multiaddrs(t, observed)[0], dir, at)
	}
	note("/ip4/198.41.0.4/tcp/1", "/ip4/192.5.5.241/tcp/443", network.DirInbound, now)
	note("/ip4/198.41.0.4/tcp/2", "/ip4/192.5.5.241/tcp/9", network.DirOutbound, now) // the same network
	note("/ip4/199.7.91.13/tcp/1", "/ip4/192.5.5.241/tcp/9", network.DirOutbound, now)
	note("/ip4/192.203.230.10/tcp/1", "/ip4/9.9.9.9/tcp/9", network.DirOutbound, now)
	note("/ip4/10.0.0.9/tcp/1", "/ip4/10.0.0.5/tcp/443", network.DirInbound, now) // no stranger
	note("/ip4/193.0.14.129/tcp/1", "/ip4/8.8.8.8/tcp/1", network.DirOutbound, now.Add(-25*time.Hour))
	seen, _ := o.seen(now)
	want := []Observed{{netip.MustParseAddr("192.5.5.241"), 2}, {netip.MustParseAddr("9.9.9.9"), 1}}
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
	o := newObservers(DefaultConfig(), func() []ma.Multiaddr { return nil })
	now := time.Now()
	local := multiaddrs(t, "/ip6/2001:503:c27::2:30/tcp/4001")[0]
	note := func(remote, observed string) {
		o.note(multiaddrs(t, remote)[0], local, multiaddrs(t, observed)[0], network.DirOutbound, now)
	}
	for i := range 2 * maxObservers {
		liar := fmt.Sprintf("/ip6/2001:500:2f:%x::1/tcp/1", i)
		note(liar, "/ip4/9.9.9.9/tcp/1")
		note(liar, "/ip6/2001:503:c27::2:30/tcp/1")
	}
	note("/ip4/198.41.0.4/tcp/1", "/ip4/192.5.5.241/tcp/443")
	seen, _ := o.seen(now)
	want := []Observed{{netip.MustParseAddr("2001:503:c27::2:30"), maxObservers}, {netip.MustParseAddr("192.5.5.241"), 1}}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
}

// One relay that dials back serves another that asks, at the address it comes
// from and nowhere else.
func TestReach(t *testing.T) {
	c := labConfig(t)
	c.PSF.Enabled = false
	asked := start(t, c)
	asker := newPeer(t, nil, libp2p.ListenAddrStrings("/ip4/127.0.0.5/tcp/0"))
	r, err := newReach(asker, c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if r.ask(testContext(t), asker.Addrs()) {
		t.Error("nobody is there to ask")
	}
	if err := asker.Connect(testContext(t), dialable(t, asked.Relay)["tcp"]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reached", func() bool {
		r.ask(testContext(t), asker.Addrs())
		s := r.state(time.Now())
		return len(s) == 1 && s[0].Outcome == Met
	})
	if s := r.state(time.Now().Add(25 * time.Hour)); s[0].Outcome != Unknown {
		t.Errorf("a day later: %+v", s)
	}
	// What is no longer announced is forgotten.
	r.next(multiaddrs(t, "/ip4/127.0.0.6/tcp/1"))
	if s := r.state(time.Now()); len(s) != 1 || s[0].Addr != "/ip4/127.0.0.6/tcp/1" || s[0].Outcome != Unknown {
		t.Errorf("after a change: %+v", s)
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
