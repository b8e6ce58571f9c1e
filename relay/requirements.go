package relay

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Outcome says whether a requirement of the bounty is met.
type Outcome string

// The outcomes. Unknown is what cannot be told from here, or not yet.
const (
	Met     Outcome = "met"
	NotMet  Outcome = "not met"
	Unknown Outcome = "unknown"
)

// Requirement is one thing that the bounty wants of a relay, what was found about
// it on this relay, and what mends it. The status page and `relayd doctor` show
// the same list.
type Requirement struct {
	Name    string  `json:"name"`  // stable, for programs
	Title   string  `json:"title"` // for people
	Outcome Outcome `json:"outcome"`
	Found   string  `json:"found"`
	Cure    string  `json:"cure,omitempty"`
}

// What is asked of the machine.
const (
	diskFree     = 200 << 20
	certTime     = 7 * 24 * time.Hour // a certificate that is closer to its end was not renewed
	clockOff     = 5 * time.Second
	updateEvery  = 31 * 24 * time.Hour
	announceLate = 5 * time.Minute
	measuredLate = 15 * time.Minute // PSF peers measure a relay once in two minutes
)

// requirements judges what is known. s is nil when the relay does not run.
func requirements(cfg Config, s *Status, f findings) []Requirement {
	j := judge{cfg: cfg, s: s, f: f}
	var out []Requirement
	for _, r := range []struct {
		name, title string
		of          func() Requirement
	}{
		{"service", "Reservations are served", j.service},
		{"ipv4", "A public IPv4 address of its own", j.ipv4},
		{"records", "The domain leads to that address", j.records},
		{"tcp", "Reached by TCP", j.tcp},
		{"wss", "Reached by browsers (WSS)", j.wss},
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
		q.Name, q.Title = r.name, r.title
		if q.Outcome == Met {
			q.Cure = ""
		}
		out = append(out, q)
	}
	return out
}

type judge struct {
	cfg Config
	s   *Status
	f   findings
}

func met(found string, args ...any) Requirement {
	return Requirement{Outcome: Met, Found: fmt.Sprintf(found, args...)}
}

func notMet(cure, found string, args ...any) Requirement {
	return Requirement{Outcome: NotMet, Found: fmt.Sprintf(found, args...), Cure: cure}
}

func unknown(cure, found string, args ...any) Requirement {
	return Requirement{Outcome: Unknown, Found: fmt.Sprintf(found, args...), Cure: cure}
}

// notRunning stands where only a relay that runs can tell.
func notRunning() Requirement {
	return unknown("Start relayd and ask again.", "relayd does not run")
}

func (j judge) service() Requirement {
	switch {
	case j.s == nil && j.f.ports != nil:
		return notMet("Free the ports as said, then start relayd.", "relayd does not run, and could not listen: %s", oneLine(j.f.ports))
	case j.s == nil:
		return notMet("Start it (systemctl start relayd); if it ends by itself, its log says why (journalctl -u relayd).", "relayd does not run: %s", j.f.silent)
	case j.s.PSF != nil && j.s.PSF.Lost:
		return notMet("Start it again; systemd does, where it watches over relayd.", "all PSF neighbours were lost, though %d peers are connected", j.s.PSF.Speakers)
	case !j.s.Healthy:
		return notMet("Look into the log (journalctl -u relayd) and start it again.", "relayd runs, but offers no reservations")
	case j.s.Reservations.Members+j.s.Reservations.Guests >= j.s.Reservations.Places:
		return notMet("Raise limits.reservations if the machine has memory left: a monitor that gets no place reads the relay as busy.", "all %d places are taken", j.s.Reservations.Places)
	}
	return met("since %s; %d of %d places taken", j.s.Started.Format("2006-01-02 15:04 MST"), j.s.Reservations.Members+j.s.Reservations.Guests, j.s.Reservations.Places)
}

// own is the relay's public IPv4 addresses, as configuration and interfaces have them.
func (j judge) own() []netip.Addr {
	var out []netip.Addr
	for _, ap := range j.cfg.tcp4Addrs(j.f.interfaces) {
		if !slices.Contains(out, ap.Addr()) {
			out = append(out, ap.Addr())
		}
	}
	return out
}

func (j judge) ipv4() Requirement {
	own := j.own()
	var seen []Observed // by peers, the most frequent first
	if j.s != nil {
		for _, o := range j.s.Observed {
			if o.IP.Is4() && j.cfg.public(o.IP) {
				seen = append(seen, o)
			}
		}
	}
	agrees := 0
	for _, o := range seen {
		if slices.Contains(own, o.IP) {
			agrees += o.Peers
		}
	}
	switch {
	case len(own) == 0 && len(seen) > 0:
		return notMet(fmt.Sprintf("If the provider maps %s to this machine alone (1:1 NAT), set announce.ip4: %[1]s. Behind a router at home or a provider's shared address (CGNAT) no relay can be reached: rent one with an address of its own.", seen[0].IP),
			"the interfaces have private addresses only; %d peers see %s", seen[0].Peers, seen[0].IP)
	case len(own) == 0:
		return notMet("If the provider maps a public IPv4 to this machine, set announce.ip4 to it; else rent a machine that has one.",
			"the interfaces have no public IPv4 address, and announce.ip4 is empty")
	case agrees > 0:
		return met("%s, as %d peers see it", joinAddrs(own), agrees)
	case slices.ContainsFunc(own, func(ip netip.Addr) bool { return slices.Contains(j.f.interfaces, ip) || ip.IsLoopback() }):
		return met("%s, of an interface; no peer has said yet that it sees the same", joinAddrs(own))
	case len(seen) > 0 && seen[0].Peers > 1:
		return notMet(fmt.Sprintf("See which address the provider gave this machine now; if it is %s, set announce.ip4 to it, point the domain there, and tell the committee (relayd move).", seen[0].IP),
			"announced is %s, but %d peers see %s", joinAddrs(own), seen[0].Peers, seen[0].IP)
	default:
		return unknown("Ask from outside: relaymon probe with the address of this relay.", "announced is %s, which is on no interface; no peer has said yet that it sees the same", joinAddrs(own))
	}
}

func (j judge) records() Requirement {
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
		if !slices.Contains(j.f.interfaces, ip) && ip != j.cfg.Announce.IP6 {
			elsewhere = append(elsewhere, ip)
		}
	}
	if len(elsewhere) > 0 {
		return notMet("Remove the AAAA record, or set it to this machine's IPv6 address (announce.ip6 if the provider translates it): browsers and the CA try IPv6 first.", "the A record is right, but the AAAA record %s is none of this machine's addresses", joinAddrs(elsewhere))
	}
	if len(r.aaaa) > 0 {
		return met("A %s, AAAA %s", joinAddrs(r.a), joinAddrs(r.aaaa))
	}
	return met("A %s, no AAAA", joinAddrs(r.a))
}

const openPort = "Open %s in the provider's firewall (security group) and in the machine's (nft list ruleset, ufw status)."

func (j judge) tcp() Requirement {
	if j.s == nil {
		return notRunning()
	}
	addr, port := j.announced(func(a announcedAddr) bool { return a.kind == "tcp" && a.ip.Is4() })
	if addr == "" {
		return notMet("Give listen.tcp an IPv4 address, such as /ip4/0.0.0.0/tcp/4001, and mend the public IPv4 address.", "no TCP address over IPv4 is announced")
	}
	return j.reached(addr, "TCP port "+port)
}

func (j judge) wss() Requirement {
	if j.cfg.Domain == "" {
		return notMet("Register a domain, point its A record to this machine, and set domain.", "no domain is configured")
	}
	if j.s == nil {
		return notRunning()
	}
	addr, port := j.announced(func(a announcedAddr) bool { return a.kind == "wss" })
	if addr == "" {
		return notMet("Give listen.wss an address, such as /ip4/0.0.0.0/tcp/443/tls/ws.", "no WSS address is announced")
	}
	if port != "443" && !j.cfg.Network.AllowPrivate {
		return notMet("Listen on port 443, or have 443 forwarded and name it in announce.addrs.", "announced is port %s, but PSF peers look for browsers' relays on 443 alone", port)
	}
	if j.f.presented.err != nil {
		return notMet("Look at the certificate below, and into the log.", "no TLS on %s: %v", j.f.presented.addr, j.f.presented.err)
	}
	return j.reached(addr, "TCP port "+port)
}

// reached is what peers that dialled back say about an announced address.
func (j judge) reached(addr, what string) Requirement {
	bare, _, _ := strings.Cut(addr, "/p2p/")
	for _, r := range j.s.Reach {
		if r.Addr != bare {
			continue
		}
		switch r.Outcome {
		case Met:
			return met("%s: a peer dialled back %s ago", bare, ago(j.f.at, r.At))
		case NotMet:
			return notMet(fmt.Sprintf(openPort, what), "%s: peers could not dial back (%s ago)", bare, ago(j.f.at, r.At))
		}
	}
	if j.s.Incoming[kindOf(addr)] > 0 {
		return met("%s: strangers have connected there since the start", bare)
	}
	return unknown("Ask from outside: relaymon probe "+addr, "%s: listening; no peer that could dial back (AutoNAT v2) is connected, and no stranger has come yet", bare)
}

func (j judge) certificate() Requirement {
	if j.cfg.Domain == "" {
		return notMet("Register a domain and set domain: relayd obtains the certificate.", "no domain is configured")
	}
	p := j.f.presented
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
		return notMet("With a certificate of your own (tls.cert), give the whole chain, issued for "+j.cfg.Domain+" by a public CA; else see acme.directory.", "browsers do not trust it: %v", p.untrusted)
	case left < certTime && p.life > 2*certTime:
		return notMet("See that ports 443 and 80 are open to all, and look into the log; with a certificate of your own, put a new one in its place.", "it expires on %s and is not renewed%s", p.notAfter.Format(time.DateOnly), behind("; ", said))
	}
	return met("by %s, valid until %s (%d days)", p.issuer, p.notAfter.Format(time.DateOnly), int(left.Hours()/24))
}

func (j judge) announcement() Requirement {
	if !j.cfg.PSF.Enabled {
		return notMet("Set psf.enabled: true.", "the PSF network is switched off")
	}
	if h := j.f.heard; h != nil && h.err == nil {
		return met("%s", h.found)
	}
	if j.s == nil {
		return notRunning()
	}
	p, h := j.s.PSF, j.f.heard
	if p == nil {
		return notMet("Start relayd again: it runs with another configuration.", "relayd is not in the PSF network")
	}
	late := j.f.at.Sub(p.LastAnnounced)
	switch {
	case !p.Silent.IsZero():
		return notMet("If psf.bootstrap names peers that live, start relayd again; look into the log.", "%d peers that speak gossipsub are connected, and for %s none of them is on the coordination topic: announced, and nobody heard", p.Speakers, inWords(j.f.at.Sub(p.Silent)))
	case p.Neighbours == 0:
		return notMet("See that the machine may dial out (TCP 4001 and 443), and that psf.bootstrap names peers that live.", "no PSF peer is connected that could hear it")
	case p.LastAnnounced.IsZero():
		return notMet("Wait a minute after the start; then look into the log.", "not announced yet")
	case late > announceLate:
		return notMet("Start relayd again and look into the log.", "the last announcement was %s ago, it should be two minutes", inWords(late))
	case j.f.at.Sub(p.LastMeasured) <= measuredLate:
		return met("announced %s ago to %d neighbours; a peer measured the relay %s ago, as those do that heard it", ago(j.f.at, p.LastAnnounced), p.Neighbours, ago(j.f.at, p.LastMeasured))
	case h != nil && h.reached:
		return notMet("Look whether the log tells of the PSF network; give it ten minutes after the start.", "announced to %d neighbours, but not heard through the network: %v", p.Neighbours, h.err)
	}
	return unknown("Wait ten minutes after the start; relayd doctor listens for it from beside.", "announced %s ago to %d neighbours; none has measured the relay yet", ago(j.f.at, p.LastAnnounced), p.Neighbours)
}

func (j judge) names() Requirement {
	var found []string
	if j.s != nil {
		if id, err := peer.Decode(j.s.PeerID); err == nil {
			found = j.cfg.warnings(id)
		}
	} else {
		found = j.cfg.warnings(j.f.id)
	}
	for _, ip := range j.own() {
		if part := droppedIP4(ip.String()); part != "" && ip != j.cfg.Announce.IP4 {
			found = append(found, fmt.Sprintf("PSF peers silently ignore %s, because it contains %q", ip, part))
		}
	}
	if len(found) > 0 {
		return notMet("An address: ask the provider for another one. A domain: choose another one. A peer ID: a new data_dir gets a new one.", "%s", strings.Join(found, "; "))
	}
	return met("none of the strings for which PSF peers ignore an address")
}

func (j judge) clock() Requirement {
	const cure = "Switch a time service on: timedatectl set-ntp true (systemd-timesyncd), or chrony."
	c := j.f.clock
	switch off := c.offset.Round(time.Second); {
	case c.synced:
		return met("kept by a time service")
	case c.err != nil:
		return unknown(cure, "no time service keeps it, and it could not be compared: %v", c.err)
	case off.Abs() > clockOff:
		return notMet(cure, "it is off by %s, and no time service keeps it", off.Abs())
	}
	return met("right to %s, though no time service keeps it", clockOff)
}

func (j judge) disk() Requirement {
	d := j.f.disk
	switch {
	case d.err != nil:
		return unknown("See that data_dir exists and can be read.", "%v", d.err)
	case d.free < diskFree:
		return notMet("Make room: certificates and counters could not be written any more (journalctl --vacuum-size=100M, apt-get clean).", "%s free in %s", Bytes(d.free).Short(), j.cfg.DataDir)
	case d.files == 0:
		return notMet("Remove files: the file system has no room for another one.", "no inode free in %s", j.cfg.DataDir)
	}
	return met("%s free", Bytes(d.free).Short())
}

func (j judge) files() Requirement {
	if j.s == nil {
		return notRunning()
	}
	c := j.s.Capacity
	switch {
	case c.OpenFiles < c.Connections+ownFiles:
		return notMet("Raise the limit: LimitNOFILE=65536 in the systemd unit.", "%d open files, too few for %d connections", c.OpenFiles, c.Connections)
	case c.Connections < j.s.Reservations.Places:
		return notMet("Lower limits.reservations, or give the machine more memory or open files (LimitNOFILE=65536 in the systemd unit).", "%d connections fit this machine, fewer than the %d places", c.Connections, j.s.Reservations.Places)
	}
	return met("%d for at most %d connections", c.OpenFiles, c.Connections)
}

func (j judge) budget() Requirement {
	if j.s == nil {
		return notRunning()
	}
	t := j.s.Traffic
	const cure = "Raise limits.month if the provider allows more; until the month ends the relay answers as busy, of which 72 hours count as up (rule R8)."
	switch {
	case t.Budget == 0:
		return met("%s carried, no budget is set", Bytes(t.Bytes).Short())
	case t.Bytes >= t.Budget:
		return notMet(cure, "%s carried, all of %s", Bytes(t.Bytes).Short(), Bytes(t.Budget).Short())
	}
	return met("%s of %s carried (%d %%)", Bytes(t.Bytes).Short(), Bytes(t.Budget).Short(), t.Percent())
}

func (j judge) uptime() Requirement {
	found := "relayd does not run now"
	if j.s != nil {
		found = "up since " + j.s.Started.Format("2006-01-02 15:04 MST")
	}
	return unknown("The monitors' reports say it: only what is seen from outside counts (rule R10).", "%s", found)
}

func (j judge) region() Requirement {
	return unknown("The monitors' reports say it: they measure how far the relay is (rule R14).", "not to be told from the relay's own machine")
}

// announcedAddr is what an announced address is made of.
type announcedAddr struct {
	kind string // tcp, wss, or something else
	ip   netip.Addr
	port string
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
		a.ip, _ = netip.ParseAddr(parts[2])
		a.port = parts[4]
	}
	return a
}

// kindOf is the kind of listener behind a multiaddr, or of a connection by one.
func kindOf(addr string) string {
	switch {
	case strings.Contains(addr, "/webrtc-direct"):
		return "webrtc"
	case strings.Contains(addr, "/webtransport"):
		return "webtransport"
	case strings.Contains(addr, "/quic-v1"):
		return "quic"
	case strings.Contains(addr, "/ws"):
		return "wss"
	case strings.Contains(addr, "/tcp/"):
		return "tcp"
	}
	return "other"
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

func ago(now, t time.Time) string { return inWords(max(0, now.Sub(t))) }
