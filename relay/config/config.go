// Package config is what an operator configures of a relay, with its defaults: the fields
// and their check, what the environment of an ipfs-service-provider sets of them, where the
// relay listens and what it announces, and what the machine carries.
package config

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/config"
)

// DefaultYAML holds the defaults and describes every field of [Config].
//
//go:embed default.yaml
var DefaultYAML []byte

// Config is what an operator may decide. Its fields are described in
// default.yaml, which also holds their defaults.
type Config struct {
	Name         string       `yaml:"name"`
	DataDir      string       `yaml:"data_dir"`
	Domain       string       `yaml:"domain"`
	AbuseContact string       `yaml:"abuse_contact"`
	Listen       Listen       `yaml:"listen"`
	Announce     Announce     `yaml:"announce"`
	ACME         ACME         `yaml:"acme"`
	TLS          TLS          `yaml:"tls"`
	Network      Network      `yaml:"network"`
	PSF          PSF          `yaml:"psf"`
	Limits       Limits       `yaml:"limits"`
	Metrics      Metrics      `yaml:"metrics"`
	HTTPUpstream string       `yaml:"http_upstream"`
	Maintenance  string       `yaml:"maintenance"`
	Updates      string       `yaml:"updates"`
	Monitors     []string     `yaml:"monitors"`
	Alerts       alert.Config `yaml:"alerts"`
	Log          Log          `yaml:"log"`

	// Test is set by tests only.
	Test Test `yaml:"-"`
}

// Test is what tests need otherwise than it is.
type Test struct {
	// LoopbackCounts lifts the exemption of loopback addresses from the limits
	// per address, which otherwise no test could reach.
	LoopbackCounts bool
	// These take the place of the times of their names.
	RetryFirst, CertificateWait, NewcomerTime, StrangerStays, CloseTime time.Duration
	// CheckupEvery takes the place of all pauses of the checkup, and of those between
	// questions to monitors and looks for alerts.
	CheckupEvery time.Duration
}

// Listen is where the relay listens, by transport.
type Listen struct {
	TCP          []ma.Multiaddr `yaml:"tcp"`
	QUIC         []ma.Multiaddr `yaml:"quic"`
	WSS          []ma.Multiaddr `yaml:"wss"`
	WebTransport []ma.Multiaddr `yaml:"webtransport"`
	WebRTC       []ma.Multiaddr `yaml:"webrtc"`
	HTTP         string         `yaml:"http"`
}

// Announce is what the relay says its addresses are.
type Announce struct {
	IP4   netip.Addr     `yaml:"ip4"`
	IP6   netip.Addr     `yaml:"ip6"`
	Addrs []ma.Multiaddr `yaml:"addrs"`
}

// ACME is how the certificate is obtained.
type ACME struct {
	Directory string `yaml:"directory"`
	Email     string `yaml:"email"`
	CAFile    string `yaml:"ca_file"`
}

// TLS is the operator's own certificate.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Network says in which network the relay stands.
type Network struct {
	AllowPrivate bool `yaml:"allow_private"`
}

// PSF is the part the relay takes in the PSF coordination network.
type PSF struct {
	Enabled       bool           `yaml:"enabled"`
	IPFSCoord     bool           `yaml:"ipfs_coord"`
	Bootstrap     []ma.Multiaddr `yaml:"bootstrap"`
	BootstrapList string         `yaml:"bootstrap_list"`
}

// Limits is what the relay gives.
type Limits struct {
	Reservations         int           `yaml:"reservations"`
	GuestReservations    int           `yaml:"guest_reservations"`
	GuestReservationTime time.Duration `yaml:"guest_reservation_time"`
	ReservationsPerIP    int           `yaml:"reservations_per_ip"`
	Circuits             int           `yaml:"circuits"`
	GuestCircuits        int           `yaml:"guest_circuits"`
	CircuitsPerPeer      int           `yaml:"circuits_per_peer"`
	CircuitsPerIP        int           `yaml:"circuits_per_ip"`
	GuestCircuitData     Bytes         `yaml:"guest_circuit_data"`
	GuestCircuitTime     time.Duration `yaml:"guest_circuit_time"`
	PeerDay              Bytes         `yaml:"peer_day"`
	IPDay                Bytes         `yaml:"ip_day"`
	Month                Bytes         `yaml:"month"`
	Buffer               Bytes         `yaml:"buffer"`
	Connections          int           `yaml:"connections"`
	ConnectionsPerIP     int           `yaml:"connections_per_ip"`
	ConnectsPerSecond    float64       `yaml:"connects_per_second"`
}

// Metrics is where metrics are read.
type Metrics struct {
	Listen string `yaml:"listen"`
}

// Log is what is logged, and how.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"`
}

// DefaultConfig is what default.yaml says.
func DefaultConfig() Config {
	var c Config
	if err := config.Decode("default.yaml", DefaultYAML, &c); err != nil {
		panic(err) // the file is part of the program
	}
	return c
}

// ReadConfig reads the operator's environment over the defaults and his file,
// unless path is empty, over both, and checks the outcome; the error names every
// fault there is.
func ReadConfig(path string) (Config, error) {
	o, err := ReadOrigin(path, os.Getenv)
	return o.Config, err
}

// Validate names every fault that can be seen without touching the machine.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if c.DataDir == "" {
		fault("data_dir: empty: name the folder for the relay's identity and certificates")
	}
	if len(c.Name) > 64 || strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		fault("name: at most 64 bytes without control characters, not %q", c.Name)
	}
	if c.Domain != "" && !isDomain(c.Domain) {
		fault("domain: want a name in lower case such as relay.example.org, not %q", c.Domain)
	}
	if a := c.AbuseContact; a != "" {
		_, mailErr := mail.ParseAddress(a)
		u, urlErr := url.Parse(a)
		if mailErr != nil && (urlErr != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
			fault("abuse_contact: want a mail address or a web page (https://...), not %q", a)
		}
	}
	for _, k := range Transports {
		for i, a := range *k.addrs(&c.Listen) {
			if err := k.check(a); err != nil {
				fault("listen.%s[%d]: %w", k.Name, i, err)
			}
		}
	}
	if !slices.ContainsFunc(Transports, c.Listens) {
		fault("listen: nothing to listen on: give at least listen.tcp an address")
	}
	checkHostPort := func(name, v string) {
		if v == "" {
			return
		}
		if _, _, err := net.SplitHostPort(v); err != nil {
			fault("%s: want host:port or :port, not %q", name, v)
		}
	}
	checkHostPort("listen.http", c.Listen.HTTP)
	checkHostPort("metrics.listen", c.Metrics.Listen)
	if v := c.HTTPUpstream; v != "" {
		if u, err := url.Parse(v); err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			fault("http_upstream: want the monitor's address such as http://127.0.0.1:8420, not %q", v)
		}
	}
	if ip := c.Announce.IP4; ip.IsValid() && !ip.Is4() {
		fault("announce.ip4: want an IPv4 address, not %s", ip)
	}
	if ip := c.Announce.IP6; ip.IsValid() && (!ip.Is6() || ip.Is4In6() || ip.Zone() != "") {
		fault("announce.ip6: want an IPv6 address, not %s", ip)
	}
	for i, a := range c.Announce.Addrs {
		if len(a) == 0 {
			fault("announce.addrs[%d]: empty multiaddr", i)
		} else if _, err := a.ValueForProtocol(ma.P_P2P); err == nil {
			fault("announce.addrs[%d]: %s: leave /p2p/ID out, it is added", i, a)
		}
	}
	if u, err := url.Parse(c.ACME.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		fault("acme.directory: want a URL that begins with https://, not %q", c.ACME.Directory)
	}
	if c.ACME.Email != "" {
		if a, err := mail.ParseAddress(c.ACME.Email); err != nil || a.Address != c.ACME.Email {
			fault("acme.email: want a mail address, not %q", c.ACME.Email)
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		fault("tls: cert and key go together: give both files or none")
	}
	if c.TLS.Cert != "" && c.Domain == "" {
		fault("tls: a certificate without a domain: set domain to the name it was issued for")
	}
	for i, a := range c.PSF.Bootstrap {
		if _, err := peer.AddrInfoFromP2pAddr(a); err != nil {
			fault("psf.bootstrap[%d]: want a multiaddr that ends in /p2p/ID, not %s", i, a)
		}
	}
	if v := c.PSF.BootstrapList; v != "" {
		if u, err := url.Parse(v); err != nil || u.Scheme != "https" || u.Host == "" {
			fault("psf.bootstrap_list: want a URL that begins with https://, not %q", v)
		}
	}
	faults = append(faults, c.Limits.validate()...)
	faults = append(faults, checkMonitors(c.Monitors)...)
	if err := c.Alerts.Validate(); err != nil {
		faults = append(faults, err)
	}
	if f := c.Log.Format; f != "text" && f != "json" {
		fault("log.format: want text or json, not %q", f)
	}
	return errors.Join(faults...)
}

// maxMonitors is more than a committee has.
const maxMonitors = 16

// checkMonitors says which addresses cannot be those of monitors' status pages.
func checkMonitors(list []string) (faults []error) {
	if len(list) > maxMonitors {
		faults = append(faults, fmt.Errorf("monitors: %d addresses, want at most %d", len(list), maxMonitors))
	}
	for i, s := range list {
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(s) > 200 ||
			u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
			// Not what was given: it may hold a password.
			faults = append(faults, fmt.Errorf("monitors[%d]: want the address of a monitor's status page such as https://relay2.example.org/monitor/ (http:// on this machine alone), without a user and without ? or #", i))
		case slices.ContainsFunc(list[:i], func(other string) bool { return strings.TrimSuffix(other, "/") == strings.TrimSuffix(s, "/") }):
			faults = append(faults, fmt.Errorf("monitors[%d]: %s stands there twice", i, s))
		}
	}
	return faults
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Below these a monitor does not get through its look at the relay. It keeps one
// connection, makes two more for a look, and as many when the relay is a control for
// another one; README.md has the figures. A minute without newcomers behind its
// address must be enough for the rate to let it in again.
const (
	minConnsPerIP = 16
	minDay        = 64 << 10
)

func (l Limits) validate() (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("limits."+format, args...)) }
	for _, n := range []struct {
		name     string
		v        int
		min, max int
	}{
		{"reservations", l.Reservations, 0, 1 << 17},
		{"guest_reservations", l.GuestReservations, 0, cmp.Or(l.Reservations, 1<<17)},
		{"reservations_per_ip", l.ReservationsPerIP, 1, 1 << 17},
		{"circuits", l.Circuits, 0, 1 << 17},
		{"guest_circuits", l.GuestCircuits, 0, cmp.Or(l.Circuits, 1<<17)},
		{"circuits_per_peer", l.CircuitsPerPeer, 1, 1 << 17},
		{"circuits_per_ip", l.CircuitsPerIP, 1, 1 << 17},
		{"connections", l.Connections, 0, 1 << 20},
		{"connections_per_ip", l.ConnectionsPerIP, minConnsPerIP, 1 << 20},
	} {
		if n.v < n.min || n.v > n.max {
			fault("%s: want %d to %d, not %d", n.name, n.min, n.max, n.v)
		}
	}
	if n := l.Connections; n > 0 && n < minConnsPerIP {
		fault("connections: want %d or more, or 0 to have it worked out, not %d: one monitor needs that many", minConnsPerIP, n)
	}
	for _, n := range []struct {
		name     string
		v        Bytes
		min, max Bytes
	}{
		{"guest_circuit_data", l.GuestCircuitData, 0, 1 << 50},
		{"peer_day", l.PeerDay, 0, 1 << 60},
		{"ip_day", l.IPDay, 0, 1 << 60},
		{"month", l.Month, 0, 1 << 60},
		{"buffer", l.Buffer, 4 << 10, 1 << 20},
	} {
		if n.v < n.min || n.v > n.max {
			fault("%s: want %s to %s, not %s", n.name, n.min, n.max, n.v)
		}
	}
	if d := l.GuestCircuitData; d > 0 && d < 16<<10 {
		fault("guest_circuit_data: want 16KiB or more, or 0 for no limit, not %s: a handshake takes some KiB", d)
	}
	for _, n := range []struct {
		name string
		v    Bytes
	}{{"peer_day", l.PeerDay}, {"ip_day", l.IPDay}} {
		if n.v > 0 && n.v < minDay {
			fault("%s: want %s or more, or 0 for no budget, not %s: a monitor's look takes some KiB", n.name, Bytes(minDay), n.v)
		}
	}
	for _, n := range []struct {
		name string
		v    time.Duration
	}{{"guest_circuit_time", l.GuestCircuitTime}, {"guest_reservation_time", l.GuestReservationTime}} {
		if n.v < 10*time.Second || n.v > 24*time.Hour {
			fault("%s: want 10s to 24h, not %s", n.name, n.v)
		}
	}
	if !(l.ConnectsPerSecond >= 1 && l.ConnectsPerSecond <= 1e6) {
		fault("connects_per_second: want 1 to 1000000, not %v", l.ConnectsPerSecond)
	}
	return faults
}

// isDomain says whether s can stand in a certificate and in a multiaddr: a host
// name of at least two labels.
func isDomain(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, r := range l {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				return false
			}
		}
	}
	_, err := netip.ParseAddr(s)
	return err != nil
}

// DisplayName is the relay's name for people.
func (c Config) DisplayName(id peer.ID) string {
	switch {
	case c.Name != "":
		return c.Name
	case c.Domain != "":
		return c.Domain
	default:
		s := id.String()
		return "relay-" + s[max(0, len(s)-8):]
	}
}

// Abs makes the paths in c independent of the working directory.
func (c *Config) Abs() error {
	for _, p := range []*string{&c.DataDir, &c.ACME.CAFile, &c.TLS.Cert, &c.TLS.Key, &c.Updates} {
		if *p == "" {
			continue
		}
		a, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("find %s: %w", *p, err)
		}
		*p = a
	}
	return nil
}

// PeerListFile is, in the data folder, the last good list of further peers of the PSF
// network.
const PeerListFile = "bootstrap.json"
