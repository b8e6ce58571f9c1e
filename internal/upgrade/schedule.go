package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
)

const (
	sourcesFile  = "etc/apt/sources.list.d/relay-appliance.sources"
	listsTimer   = "etc/systemd/system/apt-daily.timer.d/relay-appliance.conf"
	upgradeTimer = "etc/systemd/system/apt-daily-upgrade.timer.d/relay-appliance.conf"
)

// Configure writes what apt and systemd read of the settings: the repository, and
// the times. It can be done again and again.
func (s Settings) Configure(m Machine) error {
	files := map[string]string{
		// The lists are fetched in the hour before, so that all the world's machines do
		// not come at once.
		listsTimer: timer(s.Window.From-time.Hour, 50*time.Minute),
		// The last quarter is left for the installing itself.
		upgradeTimer: timer(s.Window.From, (s.Window.To-s.Window.From)*3/4),
	}
	from, err := s.repository(m)
	if err != nil {
		return fmt.Errorf("configure updates: %w", err)
	}
	if from != "" {
		files[sourcesFile] = fmt.Sprintf("# Written by relay-appliance from its settings (updates.repository).\nTypes: deb\nURIs: %s\nSuites: stable\nComponents: main\nSigned-By: %s\n", from, s.Key)
	} else if err := removed(m.path(sourcesFile)); err != nil {
		return fmt.Errorf("configure updates: %w", err)
	}
	var errs []error
	for name, text := range files {
		path := m.path(name)
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), durable.Replace(path, []byte(text), 0o644))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configure updates: %w", err)
	}
	return nil
}

// repository is where the packages come from: what the settings say, else the site
// that the installed release names. Empty: nowhere.
func (s Settings) repository(m Machine) (string, error) {
	if s.Repository != "" {
		return s.Repository, nil
	}
	site, err := feed.Load(m.path(feed.DefaultFile))
	if err != nil || !site.Known() {
		return "", err
	}
	return site.Apt(), nil
}

// timer is the drop-in that lets a timer go off at a random minute of each day's
// span. A machine that was off then does not make up for it: it would restart its
// programs at any time of the day.
func timer(from, span time.Duration) string {
	if from < 0 {
		from += day
	}
	return fmt.Sprintf("# Written by relay-appliance from its settings (updates.window).\n[Timer]\nOnCalendar=\nOnCalendar=*-*-* %02d:%02d:00 UTC\nRandomizedDelaySec=%d\nPersistent=false\n",
		int(from.Hours()), int(from.Minutes())%60, int(span.Seconds()))
}
