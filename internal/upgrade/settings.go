package upgrade

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Settings say when a machine is kept up to date, and from where.
type Settings struct {
	// Automatic: updates are installed without being asked for.
	Automatic bool `yaml:"automatic"`
	// Window is the time of day, in UTC, in which updates are installed and the machine
	// may restart: "02:00-05:00". The minute is drawn by lot each day.
	Window Window `yaml:"window"`
	// Reboot: the machine restarts by itself when an update needs that, not more often
	// than RebootEvery.
	Reboot      bool          `yaml:"reboot"`
	RebootEvery time.Duration `yaml:"reboot_every"`
	// Siblings are the domains of the operator's other appliances. Each day is one
	// appliance's turn to be updated, and none is while another one is down.
	Siblings []string `yaml:"siblings"`
	// Own is the machine's own domain, or its name where it has none.
	Own string `yaml:"-"`
	// Repository is the address of the signed apt repository. Empty: that of the site
	// which the installed release names; where that names none, only the distribution's
	// updates are installed.
	Repository string `yaml:"repository"`
	// Key is the keyring that the repository must be signed with.
	Key string `yaml:"key"`
	// A new version is to work for the time of HealthyFor without a break, and that
	// within HealthyWithin. Else it is taken back.
	HealthyFor    time.Duration `yaml:"healthy_for"`
	HealthyWithin time.Duration `yaml:"healthy_within"`
}

// DefaultSettings are those of a machine that nobody has configured.
func DefaultSettings() Settings {
	return Settings{
		Automatic: true, Window: Window{2 * time.Hour, 5 * time.Hour}, Reboot: true, RebootEvery: 72 * time.Hour,
		Key:        "/usr/share/keyrings/relay-appliance-archive-keyring.gpg",
		HealthyFor: time.Minute, HealthyWithin: 3 * time.Minute,
	}
}

// maxSiblings bounds how long a machine waits for its turn: a week.
const maxSiblings = 6

// Validate names all that is wrong.
func (s Settings) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.RebootEvery < 0 {
		fault("updates.reboot_every: %s is negative", s.RebootEvery)
	}
	if s.HealthyFor < 0 || s.HealthyWithin <= s.HealthyFor {
		fault("updates.healthy_within: want a time that is longer than healthy_for (%s), not %s", s.HealthyFor, s.HealthyWithin)
	}
	if s.HealthyWithin > time.Hour {
		fault("updates.healthy_within: at most an hour: meanwhile nothing else can be installed")
	}
	if len(s.Siblings) > maxSiblings {
		fault("updates.siblings: at most %d, so that each has its turn every week", maxSiblings)
	}
	for i, d := range s.Siblings {
		if u, err := url.Parse("https://" + d + "/"); err != nil || u.Host != d || !strings.Contains(d, ".") || d != strings.ToLower(d) {
			fault("updates.siblings: %q is no domain such as relay2.example.org", d)
		} else if d == s.Own || slices.Contains(s.Siblings[:i], d) {
			fault("updates.siblings: %s stands for one machine: name each other one once", d)
		}
	}
	if len(s.Siblings) > 0 && s.Own == "" {
		fault("updates.siblings: this machine needs a domain or a name of its own to have its turn")
	}
	if s.Repository != "" {
		if u, err := url.Parse(s.Repository); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(s.Repository, " \t\n") {
			fault("updates.repository: want an address such as https://apt.example.org/apt, not %q", s.Repository)
		}
		if !strings.HasPrefix(s.Key, "/") || strings.ContainsAny(s.Key, " \t\n") {
			fault("updates.key: want the absolute path of a keyring, not %q", s.Key)
		}
	}
	return errors.Join(faults...)
}

// Window is a time of day, in UTC.
type Window struct {
	From, To time.Duration // since midnight; To may be on the day after
}

const (
	day       = 24 * time.Hour
	minWindow = 30 * time.Minute
)

// UnmarshalText reads a window such as 02:00-05:00. 00:00-24:00 is the whole day.
func (w *Window) UnmarshalText(text []byte) error {
	var h1, m1, h2, m2 int
	_, err := fmt.Sscanf(string(text), "%d:%d-%d:%d", &h1, &m1, &h2, &m2)
	v := Window{clock(h1, m1), clock(h2, m2)}
	if v.To <= v.From {
		v.To += day
	}
	if err != nil || v.String() != string(text) || h1 < 0 || h1 > 23 || m1 > 59 || m2 > 59 || h2 > 24 || h2 == 24 && m2 > 0 {
		return fmt.Errorf("want a time of day in UTC such as 02:00-05:00, not %q", text)
	}
	if v.To-v.From < minWindow {
		return fmt.Errorf("%s is shorter than %s: an update takes a while", text, minWindow)
	}
	*w = v
	return nil
}

func clock(h, m int) time.Duration { return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute }

func (w Window) String() string {
	to := w.To
	if to > day {
		to -= day
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", int(w.From.Hours()), int(w.From.Minutes())%60, int(to.Hours()), int(to.Minutes())%60)
}

// MarshalText is the form that UnmarshalText reads.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// at returns the window that t is in, or else the next one.
func (w Window) at(t time.Time) (from, to time.Time) {
	t = t.UTC()
	// One that began yesterday may still be open.
	for start := t.Truncate(day).Add(-day); ; start = start.Add(day) {
		if from, to = start.Add(w.From), start.Add(w.To); t.Before(to) {
			return from, to
		}
	}
}
