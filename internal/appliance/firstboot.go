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
	"syscall"
	"time"

	"github.com/psf-relay/relay-appliance/internal/upgrade"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// Report is what the last first boot did. It is kept until the machine goes down.
type Report struct {
	At    time.Time `json:"at"`
	Set   bool      `json:"set"` // there are settings
	Said  []string  `json:"said,omitempty"`
	Fault string    `json:"fault,omitempty"`
	// Running says that it is under way, Again that it lacked the network, and is run
	// again by itself.
	Running bool `json:"running,omitempty"`
	Again   bool `json:"again,omitempty"`
	// After is when it ended, or began while it is under way, in seconds since the kernel
	// started.
	After float64 `json:"after_seconds,omitempty"`
	// Limit is how long it may take, while it is under way.
	Limit float64 `json:"limit_seconds,omitempty"`
}

const reportPath = runDir + "/first-boot.json"

// bootTime bounds the whole: a certificate is waited for, a slow machine boots. What is
// under way for brokenOff more than its limit was ended.
const (
	bootTime  = 10 * time.Minute
	brokenOff = 3 * time.Minute
)

// FirstBoot puts the settings into effect, and tells say what it does. Without
// settings it changes nothing. It leaves a report for [Machine.Status], and its
// fault where cloud-init finds it.
func (m *Machine) FirstBoot(ctx context.Context, say func(string, ...any)) error {
	limit := bootTime
	if m.restores() {
		limit += restoreTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r := Report{At: time.Now().UTC().Truncate(time.Second), Set: true, Running: true, Limit: limit.Seconds()}
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	r.After, _ = m.uptime() // 0: nobody knows
	if err := m.keep(&r); err != nil {
		return err
	}
	err = m.settle(ctx, func(format string, args ...any) {
		r.Said = append(r.Said, fmt.Sprintf(format, args...))
		_ = m.keep(&r) // where it cannot be written, the end says so
		say(format, args...)
	})
	if errors.Is(err, errNoSettings) {
		r.Set, err = false, m.userDataFault()
		if err == nil {
			say("%s", notSetUp)
		}
	}
	if err != nil {
		r.Fault = err.Error()
	} else {
		// It may be run by hand, after the unit has failed.
		_, err = m.run(ctx, Command{Args: []string{"systemctl", "reset-failed", "relay-appliance-first-boot.service"}})
	}
	r.Running, r.Limit, r.Again = false, 0, errors.Is(err, errLater)
	r.After, _ = m.uptime()
	var faults []string
	if q := network(m.interfaces()); q.Outcome == status.NotMet {
		faults = append(faults, q.Name+": "+q.Found)
	}
	if r.Fault != "" {
		faults = append(faults, r.Fault)
	}
	err = errors.Join(err, m.keep(&r), m.tellCloudInit(faults...))
	// What the relay says of itself takes a while; a unit of its own fills it in.
	st, glanceErr := m.glance(ctx, new(relayAt))
	return errors.Join(err, glanceErr, m.ShowPages(ctx, st), m.do(ctx, "systemctl", "start", "--no-block", "relay-appliance-status.service"))
}

// keep leaves the report where who follows the start finds it.
func (m *Machine) keep(r *Report) error {
	r.Fault = cut(r.Fault)
	for i := range r.Said {
		r.Said[i] = cut(r.Said[i])
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return m.write(reportPath, append(text, '\n'), 0o600)
}

// cut shortens what may repeat something of a file or of a program, however long, and
// leaves out what would steer a terminal.
func cut(said string) string {
	const longest = 16 << 10
	said = strings.Map(plainRune, said)
	if len(said) <= longest {
		return said
	}
	return strings.ToValidUTF8(said[:longest], "") + fmt.Sprintf(" ... (%d bytes more)", len(said)-longest)
}

// errLater marks a fault that a network mends which comes later.
var errLater = errors.New("it is tried again by itself")

// Fault is why the machine has no network, and why the last first boot failed; empty: it
// has, and it did not.
func (m *Machine) Fault() (string, error) {
	var lines []string
	if q := network(m.interfaces()); q.Outcome == status.NotMet {
		lines = append(lines, q.Name+": "+q.Found, q.Cure)
	}
	r, err := m.report()
	if err == nil && r != nil && r.Fault != "" {
		lines = append(lines, r.Fault)
	}
	return strings.Join(lines, "\n"), err
}

// lock keeps two from doing it at the same time: systemd and a person, say.
func (m *Machine) lock() (unlock func(), err error) {
	return m.lockFile("lock", "first boot is under way already: wait until it is done")
}

func (m *Machine) lockFile(name, taken string) (unlock func(), err error) {
	if err := os.MkdirAll(m.path(runDir), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(m.path(runDir+"/"+name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New(taken), f.Close())
	}
	return func() { f.Close() }, nil // which lets go of it
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
	back, err := m.restoring(s, say)
	if err != nil {
		return err
	}
	defer back.close()
	if s.Role == "" {
		if s, err = back.settings(ctx); err != nil {
			return err
		}
	}
	// A fault of one program's does not keep the other from running.
	var faults []error
	if s, err = m.findPublic(ctx, s, say); err != nil {
		faults = append(faults, err)
	}
	changed, ready := map[string]bool{}, map[string]bool{}
	for _, p := range programs {
		if p.needed(s.Role) && !back.failed() {
			changed[p.name], err = m.prepare(ctx, p, s, w, back, say)
			ready[p.name] = err == nil
			faults = append(faults, err)
		}
	}
	if err := back.done(s.Role, faults); err != nil {
		// Nothing is to run that may not be what the backup says.
		return err
	}
	if s.Role == Relay && (s.Monitor.Name != "" || s.Monitor.Roster != "") {
		say("the settings of a monitor are not used: the role is relay, not both")
	}
	faults = append(faults, m.firewall(ctx, s, w, say))
	again, err := m.ownDomain(s)
	changed["relaymon"] = changed["relaymon"] || again
	faults = append(faults, err, m.keepUpdated(ctx, s), m.keepBackups(ctx, s, say))
	for _, p := range programs {
		if !p.needed(s.Role) {
			faults = append(faults, m.stop(ctx, p, s, say))
		} else if ready[p.name] {
			faults = append(faults, m.start(ctx, p, changed[p.name], say))
		}
	}
	return errors.Join(faults...)
}

// prepare makes all that a program needs before it is started.
func (m *Machine) prepare(ctx context.Context, p *program, s Settings, w written, back *restore, say func(string, ...any)) (changed bool, err error) {
	if !m.has("/usr/bin/" + p.name) {
		return false, fmt.Errorf("role %s: %s is not installed: install its package, of the same version as relay-appliance: by apt-get install %s, or as a file of the release", s.Role, p.name, p.name)
	}
	if p.name == "relaymon" {
		if err := m.fetch(ctx, s, say); err != nil {
			return false, err
		}
	}
	// Behind what can fail for a while: who has written it restarts the service.
	if changed, err = m.configure(ctx, p, s, w, say); err != nil {
		return changed, err
	}
	made, err := m.identity(ctx, p, back)
	if made {
		say("made the identity of %s: back it up", p.name)
	}
	return changed, err
}

// keepUpdated tells apt and systemd when and from where updates are installed.
func (m *Machine) keepUpdated(ctx context.Context, s Settings) error {
	if err := s.updates().Configure(m.updates()); err != nil {
		return err
	}
	if err := m.do(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	return m.do(ctx, "systemctl", "try-restart", "apt-daily.timer", "apt-daily-upgrade.timer")
}

func (m *Machine) updates() upgrade.Machine {
	return upgrade.Machine{Root: m.path("/"), Log: slog.New(slog.DiscardHandler)}
}

// UpdateSettings are the settings for updates. Where something else in the settings
// is wrong they hold all the same, so that who has put updates off does not get them
// for a typing error in the domain; where they are missing or wrong themselves it is
// the defaults, so that this does not keep a bad update installed.
func (m *Machine) UpdateSettings() (upgrade.Settings, error) {
	s, err := m.Settings()
	u := s.updates()
	if u.Validate() != nil {
		u = upgrade.DefaultSettings()
	}
	return u, err
}

// configure writes a program's configuration, after the program itself has found
// it good.
func (m *Machine) configure(ctx context.Context, p *program, s Settings, w written, say func(string, ...any)) (changed bool, err error) {
	text, err := p.text(s)
	if err != nil {
		return false, err
	}
	if err := m.try(ctx, p, text); err != nil {
		return false, err
	}
	became, err := m.put(ctx, w, p.config, text, p.perm(s))
	if err != nil {
		return false, err
	}
	switch became {
	case wrote:
		say("wrote %s", p.config)
	case leftAlone:
		say("%s was changed by hand and is left alone: to have it written from the settings, move it away and run this again", p.config)
	}
	if p.perm(s)&0o004 == 0 && became != leftAlone {
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
