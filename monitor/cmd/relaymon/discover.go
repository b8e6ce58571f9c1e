package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/coord"
	"github.com/psf-relay/relay-appliance/internal/publicip"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

type discoverCmd struct {
	JSON         bool          `xor:"form" help:"Print JSON."`
	YAML         bool          `name:"yaml" xor:"form" help:"Print entries for the relays of the committee's roster. What cannot be one is a comment."`
	Wait         time.Duration `default:"130s" help:"How long to listen; relays announce themselves every two minutes."`
	Via          []string      `placeholder:"ADDR" sep:"none" help:"Listen through this member of the network: its domain, if it runs relayd, or /ip4/../tcp/../p2p/ID or /dns4/../tcp/../wss/p2p/ID. Repeatable."`
	Config       string        `type:"path" placeholder:"FILE" help:"Listen through the relays of this monitor's roster, and say which relays are in it."`
	CA           string        `name:"ca" placeholder:"FILE" help:"Trust the CA certificates in this PEM file as well."`
	Resolve      []string      `placeholder:"NAME:ADDR" sep:"none" help:"Take ADDR for NAME instead of asking DNS. Repeatable."`
	AllowPrivate bool          `help:"Admit loopback and private addresses, as in a lab."`
}

// Help is the long part of `relaymon discover --help`.
func (discoverCmd) Help() string {
	return `Listens on the coordination topic of the PSF network and lists the peers that say they are relays, with what
they claim. Nothing of that is checked: try a relay with "relaymon probe" before it is enrolled. A relay that
its operator enrols by the statement of "relayd enrol" needs no such entry.

An interrupt (Ctrl-C) ends the wait; what was heard by then is printed.

Exit code: 0 a relay was heard, 1 none was, 2 usage or bad input.`
}

// claim is what a relay says about itself.
type claim struct {
	PeerID string `json:"peer_id"`
	Name   string `json:"name"`
	// Version is that of the service that announces itself, as it says.
	Version    string        `json:"version"`
	IPv4       string        `json:"ipv4"`
	TCPPort    int           `json:"tcp_port"`
	Domain     string        `json:"domain"`
	WSSPort    int           `json:"wss_port"`
	Multiaddrs []string      `json:"multiaddrs"`
	Heard      evidence.Time `json:"heard"`
	// InRoster says that the roster has this relay; null: there is no roster.
	InRoster *bool `json:"in_roster"`
	// Faults are why the address cannot be enrolled as it stands.
	Faults []string `json:"faults"`
}

func (c *discoverCmd) Run(ctx context.Context, out *cli.IO) error {
	d, err := c.read()
	if err != nil {
		return cli.BadInput(err)
	}
	if err := d.find(ctx); err != nil {
		return err
	}
	listener, err := probe.NewListener(nil, d.opts)
	if err != nil {
		return err
	}
	defer listener.Close()
	listener.Watch(d.via)
	fmt.Fprintf(out.Stderr, "listening for %s through %d peers ...\n", c.Wait, len(d.via))
	waiting, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	claims := d.listen(waiting, listener, out.Stderr)
	if len(claims) == 0 {
		return nothingHeard(c.Wait, listener.Connected(), len(d.via))
	}
	switch {
	case c.JSON:
		err = out.JSON(claims)
	case c.YAML:
		err = printEntries(out.Stdout, claims, evidence.HourOf(time.Now())+1)
	default:
		err = printClaims(out.Stdout, claims)
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func nothingHeard(wait time.Duration, connected, peers int) error {
	if connected == 0 {
		return fmt.Errorf("no relay was heard: none of %d peers is connected: see what \"relaymon probe\" says of them, or name others with --via", peers)
	}
	return fmt.Errorf("no relay was heard in %s through %d of %d peers: listen longer with --wait, or name other peers with --via", wait, connected, peers)
}

// discovery is how and through whom to listen.
type discovery struct {
	opts    probe.Options
	via     []probe.Target
	domains []probe.Domain // to be asked for their addresses, which join via
	network evidence.Network
	roster  *bounty.Roster // nil: there is none
}

// read checks all that was handed in, and reports all faults at once.
func (c *discoverCmd) read() (discovery, error) {
	d := discovery{network: evidence.PSF, opts: probe.Options{AllowPrivate: c.AllowPrivate, Resolve: map[string]netip.Addr{}}}
	if c.AllowPrivate {
		d.network = evidence.Lab
	}
	var faults []error
	ca := c.CA
	if c.Config != "" {
		cfg, err := monitor.LoadConfig(c.Config)
		if err == nil {
			err = d.through(cfg)
			ca = cmp.Or(ca, cfg.Lab.CA)
		}
		faults = append(faults, err)
	} else if len(c.Via) == 0 {
		faults = append(faults, errors.New("through whom to listen? Name a member of the network with --via, or a monitor's configuration with --config"))
	}
	for _, s := range c.Resolve {
		name, ip, err := probe.ParsePin(s)
		if err == nil {
			d.opts.Resolve[name] = ip
		}
		faults = append(faults, err)
	}
	if ca != "" {
		var err error
		d.opts.ExtraCAs, err = readCAs(ca)
		faults = append(faults, err)
	}
	for _, s := range c.Via {
		if !strings.HasPrefix(s, "/") {
			domain, err := probe.ParseDomain(s)
			d.domains = append(d.domains, domain)
			faults = append(faults, err)
			continue
		}
		t, err := probe.ParseTarget([]string{s})
		if err == nil {
			d.add(t)
		}
		faults = append(faults, err)
	}
	for _, t := range d.via {
		faults = append(faults, d.opts.Check(t))
	}
	if len(d.domains) > 0 {
		faults = append(faults, d.opts.CheckPins())
	}
	if c.Wait <= 0 {
		faults = append(faults, fmt.Errorf("--wait: want a time such as 130s, not %s", c.Wait))
	}
	err := errors.Join(faults...)
	if err == nil && len(d.via)+len(d.domains) == 0 {
		err = errors.New("the roster has no relays yet to listen through: name a member of the network with --via")
	}
	return d, err
}

// find asks the domains for their relays' addresses.
func (d *discovery) find(ctx context.Context) error {
	var faults []error
	for _, domain := range d.domains {
		found, err := probe.Find(ctx, domain, d.opts)
		if err == nil && found.Unverified != "" {
			err = fmt.Errorf("%s: %s (%s): see \"relaymon probe %s\"", found.Page, found.Unverified.Meaning(), found.Unverified, domain)
		}
		if err == nil {
			d.add(found.Target)
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// through takes over the relays of a monitor's roster.
func (d *discovery) through(cfg monitor.Config) error {
	if d.network = cfg.Network; d.network == evidence.Lab {
		d.opts.AllowPrivate = true
		d.opts.Resolve = cfg.Lab.Resolve
		if d.opts.Resolve == nil {
			d.opts.Resolve = map[string]netip.Addr{}
		}
	}
	file, err := bounded.ReadFile(cfg.Roster, bounty.MaxBytes)
	if err != nil {
		return fmt.Errorf("read the roster: %w", err)
	}
	if d.roster, _, err = bounty.OpenRoster(cfg.Roster, file, cfg.Committee); err != nil {
		return err
	}
	now := evidence.HourOf(time.Now())
	for _, r := range d.roster.Relays {
		if r.Until != nil && *r.Until <= now {
			continue
		}
		tcp4, wss := r.At(now).Multiaddrs(r.PeerID)
		t, err := probe.ParseTarget([]string{tcp4, wss})
		if err != nil {
			return fmt.Errorf("the roster's addresses of %s: %w", r.PeerID, err)
		}
		d.add(t)
	}
	return nil
}

// add joins the two addresses of one peer.
func (d *discovery) add(t probe.Target) {
	for i := range d.via {
		if have := &d.via[i]; have.PeerID == t.PeerID {
			if t.TCP4 != nil {
				have.TCP4 = t.TCP4
			}
			if t.WSS != nil {
				have.WSS = t.WSS
			}
			return
		}
	}
	d.via = append(d.via, t)
}

// listen returns, when ctx ends, what the relays that were heard claim, by peer
// ID. It tells of each new one.
func (d *discovery) listen(ctx context.Context, l *probe.Listener, progress io.Writer) []claim {
	told := map[peer.ID]bool{}
	for {
		news := l.News()
		for _, h := range l.Heard() {
			if h.IsCircuitRelay && !told[h.PeerID] {
				told[h.PeerID] = true
				fmt.Fprintf(progress, "heard %s %q\n", h.PeerID, h.JSONLD.Name)
			}
		}
		select {
		case <-news:
			continue
		case <-ctx.Done():
		}
		var claims []claim
		for _, h := range l.Heard() {
			if h.IsCircuitRelay {
				claims = append(claims, d.claim(h))
			}
		}
		slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.PeerID, b.PeerID) })
		return claims
	}
}

// claim reads an announcement. What it leaves open of the address stands, with
// most senders, among the multiaddrs.
func (d *discovery) claim(h coord.Heard) claim {
	info := h.CircuitRelayInfo
	c := claim{
		PeerID: h.PeerID.String(), Name: h.JSONLD.Name, Version: h.JSONLD.Version,
		IPv4: info.IP4, TCPPort: info.TCPPort, Domain: strings.ToLower(info.CRDomain),
		Multiaddrs: slices.Clone(h.Multiaddrs), Heard: evidence.TimeOf(h.At), Faults: []string{},
	}
	for _, s := range h.Multiaddrs {
		t, err := probe.ParseTarget([]string{s})
		if err != nil || t.PeerID != h.PeerID {
			continue // another transport, or through another relay
		}
		if t.TCP4 != nil && c.IPv4 == "" {
			if ip, err := netip.ParseAddr(t.TCP4[0].Value()); err == nil && (d.opts.AllowPrivate || publicip.Is4(ip)) {
				c.IPv4, c.TCPPort = ip.String(), portOf(t.TCP4[1].Value())
			}
		}
		if t.WSS != nil && (c.Domain == "" || c.Domain == t.WSS[0].Value()) && c.WSSPort == 0 {
			c.Domain, c.WSSPort = t.WSS[0].Value(), portOf(t.WSS[1].Value())
		}
	}
	if c.Domain != "" && c.WSSPort == 0 {
		c.WSSPort = 443 // where peers look for it
	}
	if err := c.address().Validate(d.network); err != nil {
		c.Faults = strings.Split(err.Error(), "\n")
	}
	if d.roster != nil {
		in := d.roster.Relay(c.PeerID) != nil
		c.InRoster = &in
	}
	return c
}

func portOf(s string) int {
	n, _ := strconv.Atoi(s) // of a multiaddr, which has checked it
	return n
}

func (c claim) address() bounty.Address {
	return bounty.Address{IPv4: c.IPv4, TCPPort: c.TCPPort, Domain: c.Domain, WSSPort: c.WSSPort}
}

// printClaims writes what a person reads. What a stranger has sent is quoted: it
// may hold what a terminal obeys.
func printClaims(w io.Writer, claims []claim) error {
	var b strings.Builder
	for _, c := range claims {
		fmt.Fprintf(&b, "%s\n  says it is %q, version %q; heard %s\n", c.PeerID, c.Name, c.Version, c.Heard)
		switch {
		case c.InRoster != nil && *c.InRoster:
			b.WriteString("  is in the roster\n")
		case len(c.Faults) > 0:
			b.WriteString("  cannot be enrolled as it stands:\n")
			for _, f := range c.Faults {
				fmt.Fprintf(&b, "    %s\n", f)
			}
		default:
			tcp4, wss := c.address().Multiaddrs(c.PeerID)
			fmt.Fprintf(&b, "  try it: relaymon probe %s %s\n", tcp4, wss)
		}
		for _, a := range c.Multiaddrs {
			fmt.Fprintf(&b, "  %q\n", a)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printEntries writes what goes under relays: of a roster. Who operates a relay no
// announcement says: the committee fills that in.
func printEntries(w io.Writer, claims []claim, from evidence.Hour) error {
	type entry struct {
		PeerID   string `yaml:"peer_id"`
		Operator string `yaml:"operator"`
		IPv4     string `yaml:"ipv4"`
		TCPPort  int    `yaml:"tcp_port"`
		Domain   string `yaml:"domain"`
		WSSPort  int    `yaml:"wss_port"`
		Enrolled string `yaml:"enrolled"`
	}
	var b strings.Builder
	for _, c := range claims {
		fmt.Fprintf(&b, "# says it is %q, version %q; heard %s\n", c.Name, c.Version, c.Heard)
		switch {
		case c.InRoster != nil && *c.InRoster:
			fmt.Fprintf(&b, "# %s is in the roster\n", c.PeerID)
			continue
		case len(c.Faults) > 0:
			fmt.Fprintf(&b, "# %s cannot be enrolled as it stands: %s\n", c.PeerID, strings.Join(c.Faults, "; "))
			continue
		}
		text, err := yaml.Marshal([]entry{{c.PeerID, "", c.IPv4, c.TCPPort, c.Domain, c.WSSPort, from.String()}})
		if err != nil {
			return err
		}
		b.Write(text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
