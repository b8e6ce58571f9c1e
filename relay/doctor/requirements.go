package doctor

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/certs"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/refusal"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// What is asked of the machine.
const (
	diskFree     = 200 << 20
	clockOff     = 5 * time.Second
	updateEvery  = 31 * 24 * time.Hour
	announceLate = 5 * time.Minute
	measuredLate = 15 * time.Minute // PSF peers measure a relay once in two minutes
)

// requirements judges what is known. s is nil when the relay does not run.
func requirements(cfg config.Config, s *status.Status, f findings) []status.Requirement {
	j := judge{cfg: cfg, s: s, f: f}
	var out []status.Requirement
	for _, r := range []struct {
		name, title string
		of          func() status.Requirement
	}{
		{"service", "Reservations are served", j.service},
		{"ipv4", "A public IPv4 address of its own", j.ipv4},
		{"records", "The domain leads to that address", j.records},
		{"tcp", titleOf("tcp"), j.tcp},
		{"wss", titleOf("wss"), j.wss},
		{"certificate", "A certificate that browsers trust", j.certificate},
		{"announcement", "Announced to the PSF network, and heard", j.announcement},
		{"names", "No address that PSF peers pass by", j.names},
		{"software", "A release, not older than a month", j.software},
		{"clock", "The clock is right", j.clock},
		{"disk", "Room on the disk", j.disk},
		{"files", "Open files for all connections", j.files},
		{"budget", "Transfer left in this month", j.budget},
		{"uptime", "600 hours up in the month", j.uptime},
		{"region", "An eligible country", j.region},
	} {
		q := r.of()
		if age := f.at.Sub(f.looked); slices.Contains(byLook, r.name) && age > lookLate {
			q = unknown("Start relayd again, and look into the log: something on this machine hangs.", "last looked at %s ago", InWords(age))
		}
		q.Name, q.Title = r.name, r.title
		if q.Outcome == status.Met {
			q.Cure = ""
		}
		out = append(out, q)
	}
	return out
}

// titleOf is the title of what the bounty asks of a transport.
func titleOf(transport string) string {
	i := slices.IndexFunc(config.Transports, func(t config.Transport) bool { return t.Name == transport })
	return config.Transports[i].Requirement
}

// byLook are the requirements that rest on what was found on the machine and around
// it, and on nothing else.
var byLook = []string{"records", "certificate", "software", "clock", "disk"}

type judge struct {
	cfg config.Config
	s   *status.Status
	f   findings
}

func met(found string, args ...any) status.Requirement {
	return status.Requirement{Outcome: status.Met, Found: fmt.Sprintf(found, args...)}
}

func notMet(cure, found string, args ...any) status.Requirement {
	return status.Requirement{Outcome: status.NotMet, Found: fmt.Sprintf(found, args...), Cure: cure}
}

func unknown(cure, found string, args ...any) status.Requirement {
	return status.Requirement{Outcome: status.Unknown, Found: fmt.Sprintf(found, args...), Cure: cure}
}

// notRunning stands where only a relay that runs can tell.
func notRunning() status.Requirement {
	return unknown("Start relayd and ask again.", "relayd does not run")
}

func (j judge) service() status.Requirement {
	switch {
	case j.s == nil && j.f.ports != nil:
		return notMet("Free the ports as said, then start relayd.", "relayd does not run, and could not listen: %s", oneLine(j.f.ports))
	case j.s == nil:
		return notMet("Start it (systemctl start relayd); if it ends by itself, its log says why (journalctl -u relayd).", "relayd does not run: %s", j.f.silent)
	case j.s.PSF != nil && j.s.PSF.Lost:
		return notMet("Start it again; systemd does, where it watches over relayd.", "all PSF neighbours were lost, though %d peers are connected", j.s.PSF.Speakers)
	case !j.s.Healthy:
		return notMet("Look into the log (journalctl -u relayd) and start it again.", "relayd runs, but offers no reservations")
	}
	r := j.s.Reservations
	held, since := r.Members+r.Guests, j.s.Started.Format("2006-01-02 15:04 MST")
	taken := fmt.Sprintf("since %s; %d of %d reservations taken", since, held, r.Max)
	limits := j.cfg.Limits
	switch t := j.s.Traffic; {
	case held >= r.Max:
		return notMet("Raise limits.reservations if the machine has memory left: a monitor that gets no reservation reads the relay as busy.", "%s (%d)", refusal.NoPlace.Text, r.Max)
	case r.GuestMax == 0:
		return notMet("Raise limits.guest_reservations: anybody must be able to reserve.", "limits.guest_reservations is 0, so that strangers are refused")
	case limits.GuestCircuits == 0:
		return notMet("Raise limits.guest_circuits: anybody must be able to use a reservation.", "limits.guest_circuits is 0, so that circuits between strangers are refused")
	case t.Budget > 0 && t.Bytes >= t.Budget:
		return notMet(budgetCure, "reservations are refused as busy: %s", refusal.MonthSpent.Text)
	case j.s.Proxied != nil && min(limits.ReservationsPerIP, limits.ConnectionsPerIP) < r.Max:
		q := notMet(proxiedCure(j.s.Proxied), "%s", j.s.Proxied)
		if n := j.s.Proxied.Held; n >= limits.ReservationsPerIP {
			q.Found += fmt.Sprintf("; %s (%d), further peers are refused", refusal.NoPlaceForIP.Text, limits.ReservationsPerIP)
		}
		return q
	case r.Guests >= r.GuestMax:
		return notMet("Raise limits.guest_reservations if the machine has memory left: a monitor is a guest, and reads the relay as busy unless one of them gives way (limits.guest_reservation_time).", "%s (%d)", refusal.NoGuestPlace.Text, r.GuestMax)
	case j.lately(j.f.trial.at, lookLate) && j.f.trial.err != nil:
		return notMet("Look into the log (journalctl -u relayd) and start it again.", "a reservation on trial failed: %s", oneLine(j.f.trial.err))
	case j.lately(j.f.trial.at, lookLate):
		return met("%s; one more was reserved on trial %s ago", taken, Ago(j.f.at, j.f.trial.at))
	case held > 0: // each was asked for within the last hour
		return met("%s", taken)
	}
	return unknown("Ask from beside: relayd doctor reserves on trial.", "offered since %s; nobody holds one", since)
}

// lately says whether t was within the time before now. A moment in the future was
// noted while the clock was wrong.
func (j judge) lately(t time.Time, within time.Duration) bool {
	age := j.f.at.Sub(t)
	return !t.IsZero() && age <= within && age > -time.Minute
}

// own is the relay's public IPv4 addresses, as configuration and interfaces have them.
func (j judge) own() []netip.Addr {
	var out []netip.Addr
	for _, ap := range j.cfg.Tcp4Addrs(j.f.interfaces) {
		if !slices.Contains(out, ap.Addr()) {
			out = append(out, ap.Addr())
		}
	}
	return out
}

func (j judge) ipv4() status.Requirement {
	own := j.own()
	var seen []status.Observed // by peers, the most frequent first
	if j.s != nil {
		for _, o := range j.s.Observed {
			if o.IP.Is4() && j.cfg.Public(o.IP) {
				seen = append(seen, o)
			}
		}
	}
	// What peers see of connections that the relay made shows by which address it goes
	// out. Behind a router that many share, none comes in by that one.
	agrees := 0
	var other status.Observed // the most frequent
	var shown, onInterface []netip.Addr
	for _, ip := range own {
		if slices.Contains(j.f.interfaces, ip) || j.cfg.Network.AllowPrivate && ip.IsLoopback() {
			onInterface = append(onInterface, ip)
		}
		if j.cameInBy(ip) {
			shown = append(shown, ip)
		}
	}
	var agreed []netip.Addr
	for _, o := range seen {
		if slices.Contains(own, o.IP) {
			agrees += o.Peers
			agreed = append(agreed, o.IP)
		} else {
			other = cmp.Or(other, o)
		}
	}
	ask := "Ask from outside: relaymon probe with the address of this relay."
	if j.cfg.Domain != "" {
		ask = fmt.Sprintf("Ask from outside: relaymon probe %s.", j.cfg.Domain)
	}
	switch {
	case len(own) == 0 && len(seen) > 0:
		return notMet(fmt.Sprintf("If %s leads to this machine alone (1:1 NAT, or a router that forwards the ports), set announce.ip4: %[1]s. If the provider shares it among customers (CGNAT), no relay can be reached: rent a machine with an address of its own.", seen[0].IP),
			"the interfaces have private addresses only; %d peers see %s", seen[0].Peers, seen[0].IP)
	case len(own) == 0:
		return notMet("If the provider maps a public IPv4 to this machine, set announce.ip4 to it; else rent a machine that has one.",
			"the interfaces have no public IPv4 address, and announce.ip4 is empty")
	case len(shown) > 0:
		return met("%s: strangers have come in by it", joinAddrs(shown))
	case agrees > other.Peers && slices.ContainsFunc(agreed, func(ip netip.Addr) bool { return slices.Contains(onInterface, ip) }):
		return met("%s, of an interface, as %d peers see it", joinAddrs(agreed), agrees)
	case agrees > other.Peers:
		return unknown(ask, "announced is %s, as %d peers see it, but it is on no interface, and nobody has come in by it within a day: an address that many share (CGNAT) looks the same", joinAddrs(agreed), agrees)
	case other.Peers > 1 && len(onInterface) == 0:
		return notMet(fmt.Sprintf("See which address the provider gave this machine now; if it is %s, set announce.ip4 to it, point the domain there, and tell the committee (relayd move).", other.IP),
			"announced is %s, but %d peers see %s", joinAddrs(own), other.Peers, other.IP)
	case other.Peers > 0:
		return unknown(ask, "announced is %s, but %d peers see %s", joinAddrs(own), other.Peers, other.IP)
	case len(onInterface) > 0:
		return unknown(ask, "%s, of an interface; no peer has said yet that it sees the same", joinAddrs(onInterface))
	default:
		return unknown(ask, "announced is %s, which is on no interface; no peer has said yet that it sees the same", joinAddrs(own))
	}
}

// cameInBy says whether somebody outside has reached the relay by this address.
func (j judge) cameInBy(ip netip.Addr) bool {
	if j.s == nil {
		return false
	}
	begins := "/ip4/" + ip.String() + "/"
	for _, r := range j.s.Reach {
		if r.Outcome == status.Met && strings.HasPrefix(r.Addr, begins) && j.lately(r.At, evidenceFor) {
			return true
		}
	}
	for _, in := range j.s.Incoming {
		if strings.HasPrefix(in.Addr, begins) && j.lately(in.Last, evidenceFor) {
			return true
		}
	}
	return false
}

func (j judge) records() status.Requirement {
	if j.cfg.Domain == "" {
		return notMet("Register a domain, point its A record to this machine, and set domain.", "no domain is configured")
	}
	r, own := j.f.records, j.own()
	point := "at the provider of the domain, set the A record of " + j.cfg.Domain + " to the relay's IPv4 address"
	if len(own) == 1 {
		point = fmt.Sprintf("at the provider of the domain, set the A record of %s to %s", j.cfg.Domain, own[0])
	}
	point = strings.ToUpper(point[:1]) + point[1:] + " alone; it may take an hour until all see it."
	switch {
	case r.err != nil:
		return unknown("See that the machine reaches its DNS server (/etc/resolv.conf), or name another: relayd doctor --resolver 9.9.9.9.", "the domain could not be looked up: %v", r.err)
	case len(r.a) == 0:
		return notMet(point, "%s has no A record", j.cfg.Domain)
	case !j.cfg.Network.AllowPrivate && slices.ContainsFunc(r.a, netip.Addr.IsLoopback):
		return unknown("Ask a server outside: relayd doctor --resolver 9.9.9.9.", "the DNS server answers with %s, probably from this machine's /etc/hosts", joinAddrs(r.a))
	case len(own) == 0:
		return unknown("First mend the public IPv4 address.", "the A record is %s; the relay's own address is not known", joinAddrs(r.a))
	case slices.ContainsFunc(r.a, func(ip netip.Addr) bool { return !slices.Contains(own, ip) }):
		return notMet(point, "the A record is %s, the relay is at %s", joinAddrs(r.a), joinAddrs(own))
	}
	var elsewhere []netip.Addr
	for _, ip := range r.aaaa {
		if !j.cfg.Public(ip) || !slices.Contains(j.f.interfaces, ip) && ip != j.cfg.Announce.IP6 {
			elsewhere = append(elsewhere, ip)
		}
	}
	listens6 := slices.ContainsFunc(j.cfg.Listen.WSS, func(a ma.Multiaddr) bool { return a[0].Code() == ma.P_IP6 })
	if len(elsewhere) > 0 {
		return notMet("Remove the AAAA record, or set it to this machine's IPv6 address (announce.ip6 if the provider translates it): browsers and the CA try IPv6 first.", "the A record is right, but the AAAA record %s is none of this machine's public addresses", joinAddrs(elsewhere))
	}
	if len(r.aaaa) > 0 && !listens6 {
		return notMet("Remove the AAAA record, or give listen.wss an IPv6 address (/ip6/::/tcp/443/tls/ws): browsers and the CA try IPv6 first.", "the A record is right, but there is an AAAA record, %s, and listen.wss has no IPv6 address", joinAddrs(r.aaaa))
	}
	if len(r.aaaa) > 0 {
		return met("A %s, AAAA %s", joinAddrs(r.a), joinAddrs(r.aaaa))
	}
	return met("A %s, no AAAA", joinAddrs(r.a))
}

const openPort = "Open %s in the provider's firewall (security group) and in the machine's (nft list ruleset, ufw status)."

func (j judge) tcp() status.Requirement {
	if j.s == nil {
		return notRunning()
	}
	addr, port := j.announced(func(a announcedAddr) bool { return a.kind == "tcp" && a.ip.Is4() })
	if addr == "" {
		return notMet("Give listen.tcp an IPv4 address, such as /ip4/0.0.0.0/tcp/4001, and mend the public IPv4 address.", "no TCP address over IPv4 is announced")
	}
	return j.reached(addr, port)
}

func (j judge) wss() status.Requirement {
	if j.cfg.Domain == "" {
		return notMet("Register a domain, point its A record to this machine, and set domain.", "no domain is configured")
	}
	if j.s == nil {
		return notRunning()
	}
	// By another domain, or by dns6, a monitor would not come.
	ours := func(a announcedAddr) bool {
		return a.kind == "wss" && a.host == j.cfg.Domain && (a.first == "dns4" || a.first == "dns")
	}
	addr, port := j.announced(func(a announcedAddr) bool { return ours(a) && a.port == "443" })
	if addr == "" {
		addr, port = j.announced(ours)
	}
	if addr == "" {
		return notMet("Give listen.wss an address, such as /ip4/0.0.0.0/tcp/443/tls/ws.", "no WSS address is announced for %s", j.cfg.Domain)
	}
	if port != "443" && !j.cfg.Network.AllowPrivate {
		return notMet("Listen on port 443, or have 443 forwarded and name it in announce.addrs.", "announced is port %s, but PSF peers look for browsers' relays on 443 alone", port)
	}
	if j.f.presented.err != nil {
		return notMet("Look at the certificate below, and into the log.", "no TLS on %s: %v", j.f.presented.addr, j.f.presented.err)
	}
	return j.reached(addr, port)
}

// reached is what is known of an announced TCP address over IPv4, which is what the
// bounty asks for: that peers dialled it back (AutoNAT v2 counts a dial only if it
// arrived by the family that was asked for), or that a stranger came to it.
func (j judge) reached(addr, port string) status.Requirement {
	bare, _, _ := strings.Cut(addr, "/p2p/")
	seen := map[string]time.Time{} // the last visit, by family
	for _, in := range j.s.Incoming {
		if j.leadsTo(bare, in.Addr, port) && j.lately(in.Last, evidenceFor) && in.Last.After(seen[in.Family]) {
			seen[in.Family] = in.Last
		}
	}
	for _, r := range j.s.Reach {
		if r.Addr != bare || !j.lately(r.At, evidenceFor) {
			continue
		}
		switch {
		case r.Outcome == status.Met:
			return met("%s: a peer dialled back over IPv4 %s ago", bare, Ago(j.f.at, r.At))
		case r.Outcome == status.NotMet && !seen["ip4"].After(r.At): // anybody may say that it could not
			return notMet(fmt.Sprintf(openPort, "TCP port "+port), "%s: peers could not dial back over IPv4 (%s ago)", bare, Ago(j.f.at, r.At))
		}
	}
	if at := seen["ip4"]; !at.IsZero() {
		return met("%s: a stranger came over IPv4 %s ago", bare, Ago(j.f.at, at))
	}
	found := bare + ": listening; no peer that could dial back (AutoNAT v2) is connected, and no stranger has come over IPv4 within a day"
	if at := seen["ip6"]; !at.IsZero() {
		found += fmt.Sprintf(" (over IPv6 one did, %s ago)", Ago(j.f.at, at))
	}
	return unknown("Ask from outside: relaymon probe "+addr, "%s", found)
}

// leadsTo says whether a visit at this address shows that the announced one is
// reached: it is the same, or it is where the domain's record leads.
func (j judge) leadsTo(announced, visited, port string) bool {
	if visited == announced {
		return true
	}
	v, r := parseAnnounced(visited), j.f.records
	return kindOf(announced) == "wss" && v.kind == "wss" && v.port == port && r.err == nil &&
		(slices.Contains(r.a, v.ip) || slices.Contains(r.aaaa, v.ip))
}

func (j judge) certificate() status.Requirement {
	if j.cfg.Domain == "" {
		return notMet("Register a domain and set domain: relayd obtains the certificate.", "no domain is configured")
	}
	p, where := j.f.presented, "by the relay's own listener"
	ours := false // what is presented where the domain leads
	if o := j.f.outside; o != nil {
		where = "at " + o.addr + ", where the domain leads"
		if ours = bytes.Equal(o.leaf, p.leaf); !ours {
			where += ", by something else than relayd"
		}
		p = *o // which is what browsers are shown
	}
	var said string
	if j.s != nil && j.s.Certificate != nil && j.s.Certificate.Error != "" {
		said = j.s.Certificate.Error
	}
	left := p.notAfter.Sub(j.f.at)
	switch {
	case p.err != nil && j.s == nil:
		return notRunning()
	case said != "" && (p.err != nil || p.untrusted != nil):
		return notMet("See that the A record is right and that ports 443 and 80 are open to all: the CA checks by them. relayd tries again by itself.", "%s", said)
	case p.err != nil:
		return notMet("Wait a minute after the first start; then look into the log.", "none is presented on %s: %v", p.addr, p.err)
	case p.untrusted != nil:
		return notMet("With a certificate of your own (tls.cert), give the whole chain, issued for "+j.cfg.Domain+" by a public CA; else see acme.directory.", "browsers do not trust it, presented %s: %v", where, p.untrusted)
	case certs.Overdue(p.notAfter.Add(-p.life), p.notAfter, j.f.at):
		return notMet("See that ports 443 and 80 are open to all, and look into the log; with a certificate of your own, put a new one in its place.", "it expires on %s and is not renewed%s", p.notAfter.Format(time.DateOnly), behind("; ", said))
	case !ours && j.records().Outcome != status.Met:
		return unknown("First see that the domain leads to this relay.", "one by %s, valid until %s, is presented %s; that the domain leads to the relay is not shown", p.issuer, p.notAfter.Format(time.DateOnly), where)
	}
	return met("by %s, valid until %s (%d days), presented %s", p.issuer, p.notAfter.Format(time.DateOnly), int(left.Hours()/24), where)
}

func (j judge) announcement() status.Requirement {
	if !j.cfg.PSF.Enabled {
		return notMet("Set psf.enabled: true.", "the PSF network is switched off")
	}
	if j.s == nil {
		return notRunning()
	}
	if h := j.f.heard; h != nil && h.err == nil {
		if !slices.ContainsFunc(h.addrs, func(a string) bool { return slices.Contains(j.s.Addrs, a) }) {
			return notMet("See that no second relay runs with this identity, and ask again.", "%s, but none of them is this relay's", h.found)
		}
		return met("%s", h.found)
	}
	p, h := j.s.PSF, j.f.heard
	if p == nil {
		return notMet("Start relayd again: it runs with another configuration.", "relayd is not in the PSF network")
	}
	switch {
	case !p.Silent.IsZero():
		return notMet("If psf.bootstrap names peers that live, start relayd again; look into the log.", "%d peers that speak gossipsub are connected, and for %s none of them is on the coordination topic: announced, and nobody heard", p.Speakers, InWords(j.f.at.Sub(p.Silent)))
	case p.Neighbours == 0:
		return notMet("See that the machine may dial out (TCP 4001 and 443), and that psf.bootstrap names peers that live.", "no PSF peer is connected that could hear it")
	case p.LastAnnounced.IsZero():
		return notMet("Wait a minute after the start; then look into the log.", "not announced yet")
	case !j.lately(p.LastAnnounced, announceLate):
		return notMet("Start relayd again and look into the log.", "the last announcement was %s ago, it should be two minutes", Ago(j.f.at, p.LastAnnounced))
	case j.lately(p.LastMeasured, measuredLate):
		return met("announced %s ago to %d neighbours; a peer measured the relay %s ago, as those do that heard it", Ago(j.f.at, p.LastAnnounced), p.Neighbours, Ago(j.f.at, p.LastMeasured))
	case h != nil && h.reached:
		return notMet("Look whether the log tells of the PSF network; give it ten minutes after the start.", "announced to %d neighbours, but not heard through the network: %v", p.Neighbours, h.err)
	}
	return unknown("Wait ten minutes after the start; relayd doctor listens for it from beside.", "announced %s ago to %d neighbours; none has measured the relay yet", Ago(j.f.at, p.LastAnnounced), p.Neighbours)
}

func (j judge) names() status.Requirement {
	var found []string
	if j.s != nil {
		if id, err := peer.Decode(j.s.PeerID); err == nil {
			found = config.Warnings(j.cfg, id)
		}
	} else {
		found = config.Warnings(j.cfg, j.f.id)
	}
	if j.s != nil { // what is announced, should the configuration have changed since
		for _, s := range j.s.Addrs {
			bare, _, _ := strings.Cut(s, "/p2p/")
			a := parseAnnounced(bare)
			part := config.Dropped(bare)
			if a.ip.Is4() {
				part = cmp.Or(part, config.DroppedIP4(a.host))
			}
			if (a.kind == "tcp" || a.kind == "wss") && part != "" && !strings.Contains(strings.Join(found, " "), a.host) && !slices.Contains(j.own(), a.ip) {
				found = append(found, fmt.Sprintf("PSF peers silently ignore %s, because it contains %q", bare, part))
			}
		}
	}
	for _, ip := range j.own() {
		if part := config.DroppedIP4(ip.String()); part != "" && ip != j.cfg.Announce.IP4 {
			found = append(found, fmt.Sprintf("PSF peers silently ignore %s, because it contains %q", ip, part))
		}
	}
	if len(found) > 0 {
		return notMet("An address: ask the provider for another one. A domain: choose another one. A peer ID: a new data_dir gets a new one.", "%s", strings.Join(found, "; "))
	}
	return met("none of the strings for which PSF peers ignore an address")
}

func (j judge) clock() status.Requirement {
	const cure = "Switch a time service on: timedatectl set-ntp true (systemd-timesyncd), or chrony."
	c := j.f.clock
	switch off := c.offset.Round(time.Second); {
	case j.s != nil && j.s.Traffic.Doubt != "":
		return notMet(cure, "%s", j.s.Traffic.Doubt)
	case !c.synced && j.f.at.Before(j.f.built):
		return notMet(cure, "it says %s, but this program was made on %s", j.f.at.UTC().Format("2006-01-02 15:04 MST"), j.f.built.UTC().Format(time.DateOnly))
	case c.synced:
		return met("kept by a time service, to within %s", max(c.within, time.Millisecond).Round(time.Millisecond))
	case c.err != nil:
		return unknown(cure, "no time service keeps it, and it could not be compared: %v", c.err)
	case off.Abs() > clockOff:
		return notMet(cure, "it is off by %s, and no time service keeps it", off.Abs())
	}
	return met("right to %s, though no time service keeps it", clockOff)
}

func (j judge) disk() status.Requirement {
	d := j.f.disk
	const room = "Make room (journalctl --vacuum-size=100M, apt-get clean), or mend the file system. relayd writes again by itself as soon as it can."
	if j.s != nil {
		if c := j.s.Certificate; c != nil && c.StoreError != "" {
			return notMet(room, "%s", c.StoreError)
		}
		if said := j.s.Traffic.StoreError; said != "" {
			return notMet(room, "%s", said)
		}
	}
	switch {
	case d.err != nil:
		return unknown("See that data_dir exists and can be read.", "%v", d.err)
	case d.sealed:
		return notMet("See why (dmesg, mount), and make it writable again: after a fault Linux may do that.", "the file system of %s can only be read", j.cfg.DataDir)
	case d.free < diskFree:
		return notMet("Make room: certificates and counters could not be written any more (journalctl --vacuum-size=100M, apt-get clean).", "%s free in %s", config.Bytes(d.free).Short(), j.cfg.DataDir)
	case d.files == 0:
		return notMet("Remove files: the file system has no room for another one.", "no inode free in %s", j.cfg.DataDir)
	}
	return met("%s free", config.Bytes(d.free).Short())
}

func (j judge) files() status.Requirement {
	if j.s == nil {
		return notRunning()
	}
	c := j.s.Capacity
	switch {
	case c.OpenFiles < c.Connections+config.OwnFiles:
		return notMet("Raise the limit: LimitNOFILE=65536 in the systemd unit.", "%d open files, too few for %d connections", c.OpenFiles, c.Connections)
	case c.Connections < j.s.Reservations.Max:
		return notMet("Lower limits.reservations, or give the machine more memory or open files (LimitNOFILE=65536 in the systemd unit).", "%d connections fit this machine, fewer than the %d reservations", c.Connections, j.s.Reservations.Max)
	case c.FilesUsed == 0:
		return unknown("Ask again in a minute.", "%d for at most %d connections; not counted yet how many are open", c.OpenFiles, c.Connections)
	case c.FilesUsed > c.OpenFiles-config.OwnFiles/2:
		return notMet("Raise the limit: LimitNOFILE=65536 in the systemd unit; start relayd again if the number grows without connections.", "%d of %d open files are used, with %d connections", c.FilesUsed, c.OpenFiles, j.s.Connections)
	}
	return met("%d for at most %d connections; %d are open", c.OpenFiles, c.Connections, c.FilesUsed)
}

const budgetCure = "Raise limits.month if the provider allows more; until the month ends the relay answers as busy, of which 72 hours count as up (rule R8)."

func (j judge) budget() status.Requirement {
	if j.s == nil {
		return notRunning()
	}
	t := j.s.Traffic
	switch {
	case t.Budget == 0:
		return met("%s carried, no budget is set", config.Bytes(t.Bytes).Short())
	case t.Bytes >= t.Budget:
		return notMet(budgetCure, "%s carried, all of %s", config.Bytes(t.Bytes).Short(), config.Bytes(t.Budget).Short())
	case !t.Lost.IsZero():
		return unknown("Ask the provider how much was carried in this month.", "%s of %s counted since %s, when the count before that could not be read", config.Bytes(t.Bytes).Short(), config.Bytes(t.Budget).Short(), t.Lost.Format("2006-01-02 15:04 MST"))
	}
	return met("%s of %s carried (%d %%)", config.Bytes(t.Bytes).Short(), config.Bytes(t.Budget).Short(), t.Percent())
}

func (j judge) uptime() status.Requirement {
	found := "relayd does not run now"
	if j.s != nil {
		found = "up since " + j.s.Started.Format("2006-01-02 15:04 MST")
	}
	return unknown("The monitors' reports say it: only what is seen from outside counts (rule R10).", "%s", found)
}

func (j judge) region() status.Requirement {
	return unknown("The monitors' reports say it: they measure how far the relay is (rule R14).", "not to be told from the relay's own machine")
}

// announcedAddr is what an announced address is made of.
type announcedAddr struct {
	kind  string // tcp, wss, or something else
	first string // ip4, dns4 ...
	host  string
	ip    netip.Addr
	port  string
}

func (j judge) announced(want func(announcedAddr) bool) (addr, port string) {
	for _, s := range j.s.Addrs {
		if a := parseAnnounced(s); want(a) {
			return s, a.port
		}
	}
	return "", ""
}

// parseAnnounced reads /ip4/A/tcp/P/p2p/ID and /dns4/D/tcp/P/tls/ws/p2p/ID.
func parseAnnounced(s string) announcedAddr {
	a := announcedAddr{kind: kindOf(s)}
	parts := strings.Split(s, "/")
	if len(parts) > 4 {
		a.first, a.host, a.port = parts[1], parts[2], parts[4]
		a.ip, _ = netip.ParseAddr(a.host)
	}
	return a
}

// kindOf is the name of the transport of an address; empty: none.
func kindOf(addr string) string {
	a, _ := ma.NewMultiaddr(addr) // none is of no transport
	return config.KindOf(a)
}

func joinAddrs(ips []netip.Addr) string {
	var out []string
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return strings.Join(out, ", ")
}

func behind(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
