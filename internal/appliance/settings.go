package appliance

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/cashaddr"
	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/internal/upgrade"
)

// DefaultYAML holds the defaults and describes every field of [Settings].
//
//go:embed default.yaml
var DefaultYAML []byte

// Role is what the machine is.
type Role string

// The roles.
const (
	Relay   Role = "relay"
	Monitor Role = "monitor"
	Both    Role = "both"
)

// Relays says whether a relay runs here.
func (r Role) Relays() bool { return r == Relay || r == Both }

// Monitors says whether a monitor runs here.
func (r Role) Monitors() bool { return r == Monitor || r == Both }

// Settings is what an operator decides; default.yaml describes the fields.
type Settings struct {
	Role         Role             `yaml:"role"`
	Domain       string           `yaml:"domain"`
	Email        string           `yaml:"email"`
	Name         string           `yaml:"name"`
	AbuseContact string           `yaml:"abuse_contact"`
	ACME         ACME             `yaml:"acme"`
	Announce     Announce         `yaml:"announce"`
	Month        string           `yaml:"month"`
	Payout       string           `yaml:"payout"`
	Monitor      MonitorSettings  `yaml:"monitor"`
	Alerts       alert.Config     `yaml:"alerts"`
	Firewall     string           `yaml:"firewall"`
	Updates      upgrade.Settings `yaml:"updates"`
	Restore      Restore          `yaml:"restore"`
	Backup       Backup           `yaml:"backup"`
	Relayd       map[string]any   `yaml:"relayd"`
	Relaymon     map[string]any   `yaml:"relaymon"`
}

// ACME is how the domain's certificate is obtained.
type ACME struct {
	Directory string `yaml:"directory"`
	CAFile    string `yaml:"ca_file"`
}

// Announce is the machine's public addresses where its interfaces have others.
type Announce struct {
	IP4 netip.Addr `yaml:"ip4"`
	IP6 netip.Addr `yaml:"ip6"`
}

// MonitorSettings concern the monitor only.
type MonitorSettings struct {
	Name      string      `yaml:"name"`
	Roster    string      `yaml:"roster"`
	Committee string      `yaml:"committee"`
	Rules     string      `yaml:"rules"`
	Releases  string      `yaml:"releases"`
	Alerts    []alert.URL `yaml:"alerts"`
}

// DefaultSettings is what default.yaml says.
func DefaultSettings() Settings {
	var s Settings
	if err := config.Decode("default.yaml", DefaultYAML, &s); err != nil {
		panic(err) // the file is part of the program
	}
	return s
}

// ParseSettings reads data over the defaults and names every fault, with its line
// as far as it has one; name stands for the file.
func ParseSettings(name string, data []byte) (Settings, error) {
	s := DefaultSettings()
	if err := config.Decode(name, data, &s); err != nil {
		// What could not be read leaves gaps, which are no faults of their own.
		return s, err
	}
	return s, config.Located(name, data, s.Validate())
}

// Validate names every fault.
func (s Settings) Validate() error {
	var faults []error
	for _, f := range s.faults() {
		faults = append(faults, f)
	}
	return errors.Join(faults...)
}

// A fault is one value that cannot be.
type fault struct{ key, what string }

func (f *fault) Error() string { return f.key + ": " + f.what }

var (
	domainPattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	namePattern   = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$`) // as monitor/evidence has it, which this may not import
	bytesPattern  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)? ?([kMGTP]i?)?B?$`)
)

func (s Settings) faults() (faults []*fault) {
	want := func(ok bool, key, format string, args ...any) {
		if !ok {
			faults = append(faults, &fault{key, fmt.Sprintf(format, args...)})
		}
	}
	if s.Role == "" && s.Restore.From != "" {
		want(s.onlyRestores(), "role", "missing: write relay, monitor or both, or leave all but restore away to have the settings from the backup, too")
	} else {
		want(s.Role != "", "role", "missing: write relay, monitor or both")
	}
	want(s.Role == "" || s.Role.Relays() || s.Role.Monitors(), "role", "want relay, monitor or both, not %q", s.Role)
	switch {
	case s.Domain == "":
		want(!s.Role.Relays(), "domain", "missing: write the name whose A record leads to this machine, such as relay.example.org; browsers need it")
	case isExample(s.Domain):
		want(false, "domain", "%q is the example: write your own", s.Domain)
	default:
		want(isDomain(s.Domain), "domain", "want a name in lower case such as relay.example.org, not %q", s.Domain)
	}
	switch {
	case s.Email == "":
		want(s.Domain == "", "email", "missing: write where the certificate authority may write to about the certificate")
	case isExample(s.Email[strings.LastIndexByte(s.Email, '@')+1:]):
		want(false, "email", "%q is the example, which certificate authorities refuse: write your own", s.Email)
	default:
		want(isMail(s.Email), "email", "want a mail address, not %q", s.Email)
	}
	want(len(s.Name) <= 64 && !strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' || r == 0x7f }), "name", "at most 64 bytes without control characters, not %q", s.Name)
	want(s.AbuseContact == "" || isMail(s.AbuseContact) || isURL(s.AbuseContact, "https", "http"), "abuse_contact", "want a mail address or a web page (https://...), not %q", s.AbuseContact)
	want(isURL(s.ACME.Directory, "https"), "acme.directory", "want a URL that begins with https://, not %q", s.ACME.Directory)
	want(s.ACME.CAFile == "" || filepath.IsAbs(s.ACME.CAFile), "acme.ca_file", "want a path that begins with /, not %q", s.ACME.CAFile)
	want(!s.Announce.IP4.IsValid() || s.Announce.IP4.Is4(), "announce.ip4", "want an IPv4 address, not %s", s.Announce.IP4)
	want(!s.Announce.IP6.IsValid() || s.Announce.IP6.Is6() && !s.Announce.IP6.Is4In6() && s.Announce.IP6.Zone() == "", "announce.ip6", "want an IPv6 address, not %s", s.Announce.IP6)
	want(s.Month == "" || bytesPattern.MatchString(s.Month), "month", "want an amount such as 1TB or 500GB, not %q", s.Month)
	if s.Payout != "" {
		err := cashaddr.Check(s.Payout)
		want(err == nil, "payout", "%v", err)
	}
	want(slices.Contains([]string{"auto", "off"}, s.Firewall), "firewall", "want auto or off, not %q", s.Firewall)
	faults = slices.Concat(faults, s.Monitor.faults(s.Role), s.Restore.faults(), s.Backup.faults())
	for _, err := range []error{s.updates().Validate(), s.Alerts.Validate()} {
		for _, err := range config.Each(err) {
			key, what, _ := strings.Cut(err.Error(), ": ")
			want(false, key, "%s", what)
		}
	}
	for _, p := range programs {
		_, clashes := merge(p.settings(s), p.more(s), p.name)
		for _, key := range clashes {
			want(false, key, "stands above in these settings already: write it once")
		}
	}
	return faults
}

// updates are the settings for updates, with the name that this machine has among
// the operator's.
func (s Settings) updates() upgrade.Settings {
	s.Updates.Own = cmp.Or(s.Domain, s.Monitor.Name)
	return s.Updates
}

func (m MonitorSettings) faults(role Role) (faults []*fault) {
	want := func(ok bool, key, format string, args ...any) {
		if !ok {
			faults = append(faults, &fault{"monitor." + key, fmt.Sprintf(format, args...)})
		}
	}
	if role.Monitors() {
		want(m.Name != "", "name", "missing: write the monitor's name in the committee's roster")
		want(m.Roster != "", "roster", "missing: write the file or the URL of the committee's roster")
	}
	want(m.Name == "" || namePattern.MatchString(m.Name), "name", "want 1 to 100 lower-case letters, digits, dots, dashes and underscores, the first and last a letter or digit, not %q", m.Name)
	// These may have a secret in them: none of it is repeated.
	for _, f := range []struct{ key, value string }{{"roster", m.Roster}, {"rules", m.Rules}, {"releases", m.Releases}} {
		want(f.value == "" || filepath.IsAbs(f.value) || isURL(f.value, "https"), f.key, "want a path that begins with / or a URL that begins with https://")
	}
	for i, a := range m.Alerts {
		err := alert.CheckURL(a)
		want(err == nil, fmt.Sprintf("alerts[%d]", i), "%v", err)
	}
	return faults
}

func isDomain(s string) bool {
	_, err := netip.ParseAddr(s)
	return len(s) <= 253 && err != nil && domainPattern.MatchString(s)
}

// isExample knows the names that nobody can have (RFC 2606), but many will leave
// standing.
func isExample(domain string) bool {
	for _, e := range []string{"example.org", "example.com", "example.net"} {
		if domain == e || strings.HasSuffix(domain, "."+e) {
			return true
		}
	}
	return false
}

func isMail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s
}

func isURL(s string, schemes ...string) bool {
	u, err := url.Parse(s)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Host != ""
}
