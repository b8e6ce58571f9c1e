package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/upgrade"
)

// Report is what the last first boot did. It is kept until the machine goes down.
type Report struct {
	At    time.Time `json:"at"`
	Set   bool      `json:"set"` // there are settings
	Said  []string  `json:"said,omitempty"`
	Fault string    `json:"fault,omitempty"`
}

const reportPath = runDir + "/first-boot.json"

// bootTime bounds the whole: a certificate is waited for, a slow machine boots.
const bootTime = 10 * time.Minute

// FirstBoot puts the settings into effect, and tells say what it does. Without
// settings it changes nothing. It leaves a report for [Machine.Status], and its
// fault where cloud-init finds it.
func (m *Machine) FirstBoot(ctx context.Context, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	r := Report{At: time.Now().UTC().Truncate(time.Second), Set: true}
	note := func(format string, args ...any) {
		r.Said = append(r.Said, fmt.Sprintf(format, args...))
		say(format, args...)
	}
	err := m.settle(ctx, note)
	if errors.Is(err, errNoSettings) {
		r.Set, err = false, m.userDataFault()
		if err == nil {
			say("%s", notSetUp)
		}
	}
	if err != nil {
		r.Fault = err.Error()
	}
	text, marshalErr := json.MarshalIndent(r, "", "  ")
	err = errors.Join(err, marshalErr, m.write(reportPath, append(text, '\n'), 0o600), m.tellCloudInit(r.Fault))
	// What the relay says of itself takes a while; a unit of its own fills it in.
	st := Status{Version: buildinfo.Version(), Set: r.Set, Fault: r.Fault}
	return errors.Join(err, m.ShowPages(ctx, st), m.do(ctx, "systemctl", "start", "--no-block", "relay-appliance-status.service"))
}

// Fault is why the last first boot failed; empty: it did not.
func (m *Machine) Fault() (string, error) {
	r, err := m.report()
	if err != nil || r == nil {
		return "", err
	}
	return r.Fault, nil
}

var errNoSettings = errors.New("there are no settings")

const notSetUp = `This appliance is not set up yet: nothing runs, and only SSH can get in.
Write ` + SettingsPath + ` and run "relay-appliance first-boot", or
give the machine user-data; "relay-appliance settings" prints all settings.`

// Settings reads the operator's settings.
func (m *Machine) Settings() (Settings, error) {
	b, err := m.readFile(SettingsPath)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultSettings(), fmt.Errorf("%w: write %s: %w", errNoSettings, SettingsPath, err)
	}
	if err != nil {
		return DefaultSettings(), fmt.Errorf("read the settings: %w", err)
	}
	return ParseSettings(SettingsPath, b)
}

func (m *Machine) settle(ctx context.Context, say func(string, ...any)) error {
	s, err := m.Settings()
	if err != nil {
		return err
	}
	w, err := m.loadWritten()
	if err != nil {
		return err
	}
	changed := map[string]bool{}
	for _, p := range programs {
		if p.needed(s.Role) {
			if changed[p.name], err = m.configure(ctx, p, s, w, say); err != nil {
				return err
			}
		}
	}
	if s.Role.Monitors() {
		if err := m.fetch(ctx, s, say); err != nil {
			return err
		}
	}
	for _, p := range programs {
		if !p.needed(s.Role) {
			continue
		}
		made, err := m.identity(ctx, p)
		if err != nil {
			return err
		}
		if made {
			say("made the identity of %s: back it up", p.name)
		}
	}
	if err := m.firewall(ctx, s, w, say); err != nil {
		return err
	}
	if again, err := m.ownDomain(s); err != nil {
		return err
	} else if again {
		changed["relaymon"] = true
	}
	// When and from where updates are installed.
	if err := s.updates().Configure(m.updates()); err != nil {
		return err
	}
	if err := m.do(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	if err := m.do(ctx, "systemctl", "try-restart", "apt-daily.timer", "apt-daily-upgrade.timer"); err != nil {
		return err
	}
	return m.services(ctx, s, changed, say)
}

func (m *Machine) updates() upgrade.Machine {
	return upgrade.Machine{Root: m.path("/"), Log: slog.New(slog.DiscardHandler)}
}

// UpdateSettings are the settings for updates. Those of settings that are missing or
// wrong are the defaults: what is wrong there must not keep a bad update installed.
func (m *Machine) UpdateSettings() (upgrade.Settings, error) {
	s, err := m.Settings()
	if err != nil {
		return upgrade.DefaultSettings(), err
	}
	return s.updates(), nil
}

// configure writes a program's configuration, after the program itself has found
// it good.
func (m *Machine) configure(ctx context.Context, p *program, s Settings, w written, say func(string, ...any)) (changed bool, err error) {
	if !m.has("/usr/bin/" + p.name) {
		return false, fmt.Errorf("role %s: %s is not installed: apt-get install %s", s.Role, p.name, p.name)
	}
	text, err := p.text(s)
	if err != nil {
		return false, err
	}
	if err := m.try(ctx, p, text); err != nil {
		return false, err
	}
	became, err := m.put(ctx, w, p.config, text, fs.FileMode(p.mode))
	if err != nil {
		return false, err
	}
	switch became {
	case wrote:
		say("wrote %s", p.config)
	case leftAlone:
		say("%s was changed by hand and is left alone: to have it written from the settings, move it away and run this again", p.config)
	}
	if p.mode&0o004 == 0 && became != leftAlone {
		_, gid, err := m.user(p.name)
		if err == nil {
			err = os.Chown(m.path(p.config), -1, gid)
		}
		if err != nil {
			return false, fmt.Errorf("let %s read %s: %w", p.name, p.config, err)
		}
	}
	return became == wrote, nil
}

// report reads what the last first boot did; none: it has not run since the
// machine is up.
func (m *Machine) report() (*Report, error) {
	b, err := m.readFile(reportPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var r Report
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read the report of the first boot: %w", err)
	}
	return &r, nil
}

// oneLine is text for a place that has one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
