package appliance

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/psf-relay/relay-appliance/internal/alert"
)

// A program of the appliance: what its configuration is, and how it is set up.
type program struct {
	name   string
	config string
	mode   fs.FileMode
	needed func(Role) bool
	// fixed is what the appliance decides; settings is what the operator's settings
	// say in its words; more is what they say in the program's own.
	fixed    func(Settings) map[string]any
	settings func(Settings) map[string]any
	more     func(Settings) map[string]any
	// check, exists and create are its commands for the configuration FILE: is it
	// good, is there an identity, make one.
	check, exists, create []string
	public                []string // prints what others know it by
}

// monitorListen is where the monitor serves its pages on this machine.
func (s Settings) monitorListen() string {
	if l, ok := s.Relaymon["listen"].(string); ok {
		return l
	}
	return "127.0.0.1:8420"
}

var programs = []*program{
	{
		name: "relayd", config: "/etc/relayd/relayd.yaml", mode: 0o644,
		needed: Role.Relays,
		fixed: func(s Settings) map[string]any {
			if s.Role.Monitors() {
				return map[string]any{"http_upstream": "http://" + s.monitorListen()}
			}
			return nil
		},
		settings: func(s Settings) map[string]any {
			return given(map[string]any{
				"name": s.Name, "domain": s.Domain, "abuse_contact": s.AbuseContact,
				"acme":     s.acme(),
				"announce": given(map[string]any{"ip4": addr(s.Announce.IP4), "ip6": addr(s.Announce.IP6)}),
				"limits":   given(map[string]any{"month": s.Month}),
				"alerts":   s.alerts(nil),
			})
		},
		more:   func(s Settings) map[string]any { return s.Relayd },
		check:  []string{"relayd", "config", "--config", "FILE"},
		exists: []string{"relayd", "id", "--config", "FILE"},
		create: []string{"relayd", "init", "--config", "FILE"},
		public: []string{"relayd", "id", "--config", "/etc/relayd/relayd.yaml"},
	},
	{
		name: "relaymon", config: "/etc/relaymon/relaymon.yaml", mode: 0o640,
		needed: Role.Monitors,
		fixed: func(s Settings) map[string]any {
			// A browser does not run inside of the service's sandbox.
			return map[string]any{"data_dir": "/var/lib/relaymon", "browser": "none", "listen": s.monitorListen()}
		},
		settings: func(s Settings) map[string]any {
			c := map[string]any{
				"name": s.Monitor.Name, "committee": s.Monitor.Committee,
				"alerts": s.alerts(s.Monitor.Alerts),
			}
			for _, f := range s.Monitor.fetched() {
				c[f.key] = f.path()
			}
			if s.Role == Monitor && s.Domain != "" {
				c["public"] = map[string]any{"domain": s.Domain, "acme": s.acme()}
			}
			return given(c)
		},
		more:   func(s Settings) map[string]any { return s.Relaymon },
		check:  []string{"relaymon", "config", "FILE"},
		exists: []string{"relaymon", "keys", "--config", "FILE"},
		create: []string{"relaymon", "init", "--config", "FILE"},
		public: []string{"relaymon", "keys", "--json", "--config", "/etc/relaymon/relaymon.yaml"},
	},
}

// alerts is who a program tells of alerts, with webhooks that are its own. Here, and
// nowhere else, stand the addresses with their secrets.
func (s Settings) alerts(own []alert.URL) map[string]any {
	a := s.Alerts
	a.Webhooks = append(slices.Clone(a.Webhooks), own...)
	if !a.Any() {
		return nil
	}
	c := map[string]any{"quiet": a.Quiet, "digest": a.Digest, "time_zone": a.TimeZone}
	for key, list := range map[string][]alert.URL{"receivers": a.Receivers, "webhooks": a.Webhooks, "alertmanagers": a.Alertmanagers} {
		var plain []string
		for _, u := range list {
			plain = append(plain, string(u))
		}
		c[key] = plain
	}
	return given(c)
}

func (s Settings) acme() map[string]any {
	if s.Domain == "" {
		return nil
	}
	return given(map[string]any{"directory": s.ACME.Directory, "email": s.Email, "ca_file": s.ACME.CAFile})
}

// given leaves out what is empty.
func given(m map[string]any) map[string]any {
	for k, v := range m {
		switch v := v.(type) {
		case string:
			if v == "" {
				delete(m, k)
			}
		case []string:
			if len(v) == 0 {
				delete(m, k)
			}
		case map[string]any:
			if len(v) == 0 {
				delete(m, k)
			}
		}
	}
	return m
}

func addr(a interface {
	IsValid() bool
	String() string
}) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// merge puts more over base. Keys of both that are not maps are clashes.
func merge(base, more map[string]any, path string) (out map[string]any, clashes []string) {
	out = map[string]any{}
	for k, v := range base {
		out[k] = v
	}
	for k, v := range more {
		under, isMap := out[k].(map[string]any)
		over, overMap := v.(map[string]any)
		if isMap && overMap {
			merged, c := merge(under, over, path+"."+k)
			out[k], clashes = merged, append(clashes, c...)
			continue
		}
		if _, ok := out[k]; ok {
			clashes = append(clashes, path+"."+k)
		}
		out[k] = v
	}
	slices.Sort(clashes)
	return out, clashes
}

// wants is the configuration as a map.
func (p *program) wants(s Settings) map[string]any {
	said, _ := merge(p.settings(s), p.more(s), "")
	all, _ := merge(p.fixed(s), said, "")
	return all
}

const head = `# Written by relay-appliance from ` + SettingsPath + `: change it
# there and run "relay-appliance first-boot". A change that is made here stays, too,
# but this file is then yours: it is no longer written.
`

func (p *program) text(s Settings) ([]byte, error) {
	b, err := yaml.Marshal(p.wants(s))
	if err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", p.name, err)
	}
	return append([]byte(head), b...), nil
}

// perm is the mode of the program's configuration. One with addresses of receivers is not
// for everybody.
func (p *program) perm(s Settings) fs.FileMode {
	if p.wants(s)["alerts"] != nil {
		return 0o640
	}
	return p.mode
}

// with puts the configuration's path into a command.
func with(command []string, file string) []string {
	out := slices.Clone(command)
	out[slices.Index(out, "FILE")] = file
	return out
}

// try has the program itself check what is to become its configuration.
func (m *Machine) try(ctx context.Context, p *program, text []byte) error {
	candidate := filepath.Join(runDir, p.name+".yaml")
	if err := m.write(candidate, text, 0o600); err != nil {
		return err
	}
	defer os.Remove(m.path(candidate))
	r, err := m.run(ctx, Command{Args: with(p.check, m.path(candidate))})
	if err != nil || r.Code == 0 {
		return err
	}
	// The candidate's lines are nobody's; the keys are the operator's.
	said := regexp.MustCompile(regexp.QuoteMeta(m.path(candidate))+`(:\d+:\d+)?: `).ReplaceAllString(strings.TrimSpace(r.Stderr), "")
	return fmt.Errorf("%s refuses what follows from the settings: %s", p.name, strings.TrimPrefix(said, p.name+": "))
}

// identity makes the program's identity, once, unless there is a backup with it.
func (m *Machine) identity(ctx context.Context, p *program, back *restore) (made bool, err error) {
	r, err := m.run(ctx, Command{User: p.name, Args: with(p.exists, p.config)})
	if err != nil {
		return false, err
	}
	if done, err := back.program(ctx, p, r.Code == 0); done || err != nil {
		return false, err
	}
	if r.Code == 0 {
		return false, nil
	}
	if r, err = m.run(ctx, Command{User: p.name, Args: with(p.create, p.config)}); err != nil {
		return false, err
	}
	return r.Code == 0, r.failed("make the identity of " + p.name)
}
