package monitor

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
)

// DefaultConfig is the file with the defaults: the one place where each field is
// described.
//
//go:embed default.yaml
var DefaultConfig []byte

// Config is what an operator decides; see [DefaultConfig] for what each field means.
type Config struct {
	Name        string           `yaml:"name"`
	Network     evidence.Network `yaml:"network"`
	DataDir     string           `yaml:"data_dir"`
	Roster      string           `yaml:"roster"`
	Rules       string           `yaml:"rules"`
	Releases    string           `yaml:"releases"`
	Updates     string           `yaml:"updates"`
	Committee   string           `yaml:"committee"`
	Listen      string           `yaml:"listen"`
	Public      PublicConfig     `yaml:"public"`
	Drand       []string         `yaml:"drand"`
	Alerts      alert.Config     `yaml:"alerts"`
	Maintenance string           `yaml:"maintenance"`
	Publish     PublishConfig    `yaml:"publish"`
	Verdicts    VerdictsConfig   `yaml:"verdicts"`
	Concurrency int              `yaml:"concurrency"`
	Second      []string         `yaml:"second_resolvers"`
	Browser     string           `yaml:"browser"`
	LogLevel    slog.Level       `yaml:"log_level"`
	Lab         LabConfig        `yaml:"lab"`

	// loopbackCounts lifts the exemption of loopback addresses from the bounds per
	// address, which otherwise no test could reach.
	loopbackCounts bool
}

// PublicConfig is how the monitor is reached by a name of its own.
type PublicConfig struct {
	Domain string     `yaml:"domain"`
	HTTPS  string     `yaml:"https"`
	HTTP   string     `yaml:"http"`
	ACME   ACMEConfig `yaml:"acme"`
}

// ACMEConfig is how the name's certificate is obtained.
type ACMEConfig struct {
	Directory string `yaml:"directory"`
	Email     string `yaml:"email"`
	CAFile    string `yaml:"ca_file"`
}

// LabConfig is what only a lab may have.
type LabConfig struct {
	CA      string                `yaml:"ca"`
	Resolve map[string]netip.Addr `yaml:"resolve"`
}

// LoadConfig reads a file over the defaults. Relative paths in it are taken from
// the file's own folder. The error names every fault.
func LoadConfig(path string) (Config, error) {
	data, err := bounded.ReadFile(path, config.MaxBytes)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	c, err := ParseConfig(path, data)
	if err != nil {
		return Config{}, err
	}
	c.Alerts.Subject = c.Name
	for _, p := range []*string{&c.DataDir, &c.Roster, &c.Rules, &c.Releases, &c.Updates, &c.Maintenance, &c.Lab.CA, &c.Public.ACME.CAFile} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	for _, list := range [][]string{c.Publish.From, c.Verdicts.Logs} {
		for i, from := range list {
			if !strings.Contains(from, "://") && !filepath.IsAbs(from) {
				list[i] = filepath.Join(filepath.Dir(path), from)
			}
		}
	}
	for _, p := range []*string{&c.Verdicts.Database, &c.Verdicts.Site.Decisions} {
		if *p != "" && !strings.Contains(*p, "://") && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return c, nil
}

// ParseConfig reads data over the defaults; name stands for the file in errors.
func ParseConfig(name string, data []byte) (Config, error) {
	var c Config
	if err := config.Decode("default.yaml", DefaultConfig, &c); err != nil {
		return c, err
	}
	err := config.Decode(name, data, &c)
	if invalid := c.Validate(); invalid != nil {
		err = errors.Join(err, config.Located(name, data, invalid))
	}
	return c, err
}

// maxSecond bounds the resolvers that are asked at once.
const maxSecond = 8

// SecondResolvers are those that are asked for a second opinion (see [DefaultConfig]):
// none in a lab that pins its names, which nobody else knows.
func (c *Config) SecondResolvers() ([]probe.NameServer, error) {
	if len(c.Lab.Resolve) > 0 {
		return nil, nil
	}
	list := make([]probe.NameServer, len(c.Second))
	for i, s := range c.Second {
		var err error
		if list[i], err = probe.ParseNameServer(s); err != nil {
			return nil, fmt.Errorf("second_resolvers[%d]: %w", i, err)
		}
	}
	return list, nil
}

// DefaultResolvers are the second resolvers of a monitor whose operator chose none.
func DefaultResolvers() ([]probe.NameServer, error) {
	var c Config
	if err := config.Decode("default.yaml", DefaultConfig, &c); err != nil {
		return nil, err
	}
	return c.SecondResolvers()
}

var domainPattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func isHostPort(s string) bool {
	_, port, err := net.SplitHostPort(s)
	_, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == ""
}

// Validate names every value that cannot be.
func (c *Config) Validate() error {
	var faults []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	want(evidence.IsMonitorName(c.Name), "name: want %s, not %q", evidence.MonitorNames, c.Name)
	want(c.Network == evidence.PSF || c.Network == evidence.Lab, "network: want psf or lab, not %q", c.Network)
	want(c.DataDir != "", "data_dir: want the folder of the evidence log")
	want(c.Roster != "", "roster: want the committee's roster file")
	if c.Listen != "" {
		_, err := netip.ParseAddrPort(c.Listen)
		want(err == nil, "listen: want an address and port such as 127.0.0.1:8420, not %q", c.Listen)
	}
	if p := c.Public; p.Domain != "" {
		want(domainPattern.MatchString(p.Domain), "public.domain: want a DNS name in lower case, such as monitor.example.org, not %q", p.Domain)
		want(isHostPort(p.HTTPS), "public.https: want an address and port such as :443, not %q", p.HTTPS)
		want(p.HTTP == "" || isHostPort(p.HTTP), "public.http: want an address and port such as :80, or nothing, not %q", p.HTTP)
		want(isWebURL(p.ACME.Directory), "public.acme.directory: want the CA's URL, not %q", p.ACME.Directory)
	}
	for i, u := range c.DrandServers() {
		want(isWebURL(u), "drand[%d]: want a URL such as https://api.drand.sh, not %q", i, u)
	}
	faults = append(faults, config.Each(c.Publish.check())...)
	faults = append(faults, config.Each(c.Verdicts.check())...)
	if c.Verdicts.Site != (SiteConfig{}) {
		for _, fault := range config.Each(c.site().Check()) {
			faults = append(faults, fmt.Errorf("verdicts.site.%w", fault))
		}
	}
	want(c.Verdicts.Site.Decisions == "" || c.Committee != "", "verdicts.site.decisions: its log is signed with the committee's key: set committee, too")
	want(len(c.Publish.Command) == 0 || c.Publish.Command[0] != "", "publish.command: want a program and its arguments, such as [/usr/local/bin/upload, --quiet]")
	if err := c.Alerts.Validate(); err != nil {
		faults = append(faults, err)
	}
	want(c.Concurrency >= 1 && c.Concurrency <= schedule.MaxPlaces, "concurrency: want 1 to %d, not %d", schedule.MaxPlaces, c.Concurrency)
	want(len(c.Second) <= maxSecond, "second_resolvers: want %d at most, not %d", maxSecond, len(c.Second))
	want(len(c.Second) > 0 || c.Network == evidence.Lab, "second_resolvers: want one at least: without a second opinion no name that leads elsewhere than to the registered address can fail")
	resolvers := map[probe.NameServer]bool{}
	for i, s := range c.Second {
		r, err := probe.ParseNameServer(s)
		want(err == nil, "second_resolvers[%d]: %v", i, err)
		want(err != nil || !resolvers[r], "second_resolvers[%d]: %q stands there twice", i, s)
		resolvers[r] = true
	}
	want(c.Browser != "", "browser: want auto, none or the path of a Chromium")
	if c.Network != evidence.Lab {
		want(c.Lab.CA == "" && len(c.Lab.Resolve) == 0, "lab: only a lab network may trust a CA of its own or pin names")
	}
	return errors.Join(faults...)
}
