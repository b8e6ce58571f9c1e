package appliance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/psf-relay/relay-appliance/relay/status"
)

// Where login shows its pages: /etc/issue.d has a link to the first one, pam_motd
// looks into the folder of the second one.
const (
	issuePath = runDir + "/issue"
	motdPath  = "/run/motd.d/relay-appliance"
	// noLoginPath is there until one can log in. By then cloud-init has written the settings.
	noLoginPath = "/run/nologin"
)

// Text is the status as people read it, on the console and where they ask for it.
func (s Status) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Relay appliance %s%s", s.Version, s.title())
	if p := s.Progress; p != nil && p.Steps[0].Outcome == status.NotMet {
		line("\nNETWORK: %s\n  -> %s", p.Steps[0].Found, p.Steps[0].Cure)
	}
	if s.Fault != "" {
		line("\nNOT SET UP: %s", indent(s.Fault))
		line("\nMend it in %s, then run: relay-appliance first-boot", SettingsPath)
	} else if !s.Set && !s.early {
		line("\n%s", notSetUp)
	}
	if s.Progress != nil {
		s.Progress.text(line)
	}
	// What set-up said may have passed between two looks, before anybody logged in.
	if b := s.Boot; b != nil && b.Set && !b.Running {
		for i, said := range b.Said {
			line("  %-12s %s", []string{"Set-up said", ""}[min(i, 1)], oneLine(said))
		}
	}
	for _, v := range s.Services {
		line("  %-12s %s", v.Name, v.State)
	}
	if r := s.Relay; r != nil {
		r.text(line)
	}
	if m := s.Monitor; m != nil {
		line("  %-12s %s", "Monitor", m.Name)
		if m.LogKey != "" {
			line("  %-12s %s", "Log key", m.LogKey)
			line("  %-12s %s", "Plan key", m.PlanKey)
			line("  %-12s %s", "Witness key", m.WitnessKey)
		}
		if m.Fault != "" {
			line("  %-12s %s", "", oneLine(m.Fault))
		}
	}
	for _, u := range s.Updates {
		line("  %-12s %s", "Updates", u)
	}
	for i, b := range s.Backup.lines(time.Now()) {
		line("  %-12s %s", []string{"Backup", ""}[min(i, 1)], b)
	}
	if len(s.Ports) > 0 {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, p.short())
		}
		line("  %-12s %s, and SSH", "Open ports", strings.Join(ports, " "))
	}
	if s.Enrol != "" {
		line("  %-12s %s", "Enrol", s.Enrol)
	}
	if s.Domain != "" && s.Fault == "" {
		line("  %-12s https://%s/", "Status page", s.Domain)
	}
	return printable(b.String())
}

func (s Status) title() string {
	var parts []string
	for _, p := range []string{string(s.Role), s.Domain} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

func (r *Relaying) text(line func(string, ...any)) {
	if r.Fault != "" {
		line("  %-12s %s", "Relay", oneLine(r.Fault))
	}
	if r.Diagnosis == nil {
		return
	}
	if r.PeerID != "" {
		line("  %-12s %s", "Peer ID", r.PeerID)
	}
	if v := r.Status; v != nil {
		line("  %-12s %s, %s", "Relay", v.Version, map[bool]string{true: "healthy", false: "not healthy"}[v.Healthy])
		// Those with hashes of certificates in them are for programs, and long.
		short := slices.DeleteFunc(slices.Clone(v.Addrs), func(a string) bool { return strings.Contains(a, "/certhash/") })
		for i, a := range short {
			line("  %-12s %s", []string{"Addresses", ""}[min(i, 1)], a)
		}
		if n := len(v.Addrs) - len(short); n > 0 {
			line("  %-12s and %d for WebTransport and WebRTC: relay-appliance status --json", "", n)
		}
		if c := v.Certificate; c != nil {
			switch {
			case c.Loaded() && !c.Valid(time.Now()):
				line("  %-12s EXPIRED on %s: %s", "Certificate", c.NotAfter.UTC().Format("2006-01-02 15:04 MST"), oneLine(c.Error))
			case c.Loaded():
				line("  %-12s until %s, by %s", "Certificate", c.NotAfter.UTC().Format("2006-01-02 15:04 MST"), c.Issuer)
			default:
				line("  %-12s none yet: %s", "Certificate", oneLine(c.Error))
			}
		}
	}
	if v := r.Software; v.Version != "" {
		line("  %-12s %s", "Software", software(v, time.Now()))
		if v.Fault != "" {
			line("  %-12s %s", "", oneLine(v.Fault))
		}
	}
	for i, w := range r.Warnings() {
		line("  %-12s %s", []string{"Warnings", ""}[min(i, 1)], oneLine(w))
	}
	for i, q := range r.Requirements {
		line("  %-12s %-8s %s", []string{"Bounty", ""}[min(i, 1)], q.Outcome, q.Title)
		if q.Outcome == status.NotMet {
			line("  %-12s          %s", "", oneLine(q.Found))
			if q.Cure != "" {
				line("  %-12s          -> %s", "", oneLine(q.Cure))
			}
		}
	}
}

func software(v status.Software, now time.Time) string {
	days := func(t time.Time) int { return int(now.Sub(t).Hours() / 24) }
	out := "relayd " + v.Version
	if !v.Since.IsZero() {
		out += fmt.Sprintf(", here since %s, for %d days", v.Since.Format(time.DateOnly), days(v.Since))
	}
	if v.Newest != "" {
		out += fmt.Sprintf("; the newest is %s, out for %d days", v.Newest, days(v.Published))
	}
	return out
}

func indent(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") }

// maxPage is below what pam_motd shows.
const maxPage = 32 << 10

// ShowPages puts a status where whoever logs in sees it.
func (m *Machine) ShowPages(ctx context.Context, s Status) error {
	// They stay if the next look fails, and must not pass for news then.
	asOf := fmt.Sprintf("  %-12s %s; now: sudo relay-appliance status\n", "As of", time.Now().UTC().Format("2006-01-02 15:04 MST"))
	text := s.Text() + asOf
	// To agetty a backslash begins an escape.
	issue := "\n" + strings.ReplaceAll(text, `\`, `\\`) + "\n"
	old, _ := m.readFile(issuePath) // none: all is new
	upTo := len(issue) - len(asOf) - 1
	same := len(old) == len(issue) && string(old[:upTo]) == issue[:upTo]
	err := errors.Join(m.write(issuePath, []byte(issue), 0o644), m.write(motdPath, []byte("\n"+text+"\n"), 0o644))
	if err != nil {
		return err
	}
	if same || !m.has("/sbin/agetty") { // a container has no console
		return nil
	}
	// Consoles that wait for a login show it at once. A serial one does so below what it
	// showed before, so it is not for the time of day that they do.
	return m.do(ctx, "agetty", "--reload")
}

// tell is for the log, and for each console where nobody is asked to log in yet: the
// others have the page.
func (f *follower) tell(after float64, text string) {
	text = inWords(after) + ": " + text
	f.say("%s", text)
	active, err := f.readFile("/sys/class/tty/console/active")
	if err != nil {
		return // a container has no console
	}
	for _, name := range strings.Fields(string(active)) {
		if f.asksLogin(name) {
			continue
		}
		// One that nobody reads, with flow control, must not hold up what follows.
		c, err := os.OpenFile(f.path("/dev/"+name), os.O_WRONLY|os.O_APPEND|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.WriteString("relay-appliance: " + printable(text) + "\n")
		c.Close()
	}
}

// asksLogin says whether there is a login on a console, by the processes that systemd has
// for it. tty0 is whichever screen is shown.
func (f *follower) asksLogin(console string) bool {
	if console == "tty0" {
		console = "tty*"
	}
	found, _ := filepath.Glob(f.path("/sys/fs/cgroup/system.slice/system-*getty.slice/*getty@" + console + ".service"))
	return len(found) > 0
}

// plainRune takes the place of what would steer a terminal.
func plainRune(r rune) rune {
	if r != '\n' && (r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0) {
		return '?'
	}
	return r
}

// printable leaves out what would steer a terminal: some of the text comes from
// outside.
func printable(text string) string {
	text = strings.Map(plainRune, text)
	if len(text) > maxPage {
		text = strings.ToValidUTF8(text[:maxPage], "") + "...\n"
	}
	return text
}
