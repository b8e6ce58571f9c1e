package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/internal/release"
)

// fetched is a file of the committee's that a monitor reads: the settings name a
// file, or a URL that it is fetched from.
type fetched struct{ key, from string }

func (m MonitorSettings) fetched() []fetched {
	return []fetched{{"roster", m.Roster}, {"rules", m.Rules}, {"releases", m.Releases}}
}

// path is where the file is on the machine.
func (f fetched) path() string {
	if f.from == "" || filepath.IsAbs(f.from) {
		return f.from
	}
	return "/etc/relaymon/" + f.key + ".yaml"
}

const fetchTime = 30 * time.Second

// Fetch looks for newer files where the settings name them by URL. The monitor
// reads anew what has changed.
func (m *Machine) Fetch(ctx context.Context, say func(string, ...any)) error {
	s, err := m.Settings()
	if errors.Is(err, errNoSettings) || err == nil && !s.Role.Monitors() {
		return nil
	}
	if err != nil {
		return err
	}
	return m.fetch(ctx, s, say)
}

// fetch brings what the settings name by URL. The monitor checks the signatures
// and takes over what is new. Without an answer the file that is there serves on.
func (m *Machine) fetch(ctx context.Context, s Settings, say func(string, ...any)) error {
	for _, f := range s.Monitor.fetched() {
		if f.path() == "" {
			continue
		}
		if f.path() == f.from {
			if !m.has(f.from) {
				return fmt.Errorf("monitor.%s: there is no file %s: put it there, or name its URL", f.key, f.from)
			}
			continue
		}
		text, err := m.get(ctx, f.from)
		if err != nil {
			err = fmt.Errorf("%w: %w", err, errLater)
		} else {
			err = m.tryFetched(ctx, s, f, text)
		}
		if err != nil && m.has(f.path()) {
			say("could not fetch monitor.%s, the one from before serves on: %v", f.key, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("fetch monitor.%s: %w", f.key, err)
		}
		if old, err := m.readFile(f.path()); err == nil && bytes.Equal(old, text) {
			continue
		}
		if err := m.write(f.path(), text, 0o644); err != nil {
			return err
		}
		say("fetched %s from %s", f.path(), download.Shown(f.from))
	}
	return nil
}

// tryFetched looks at a file before it takes the place of a good one: with a bad one,
// such as the page of a server that is being mended, relaymon would not start again.
func (m *Machine) tryFetched(ctx context.Context, s Settings, f fetched, text []byte) error {
	if f.key == "releases" {
		_, err := release.Parse(download.Shown(f.from), text)
		return err
	}
	candidate := filepath.Join(runDir, f.key+".yaml")
	if err := m.write(candidate, text, 0o644); err != nil {
		return err
	}
	defer os.Remove(m.path(candidate))
	args := []string{"relaymon", "roster", "check", m.path(candidate)}
	if f.key == "rules" {
		args = append(args, "--rules")
	}
	if s.Monitor.Committee != "" {
		args = append(args, "--committee", s.Monitor.Committee)
	}
	r, err := m.run(ctx, Command{User: "relaymon", Args: args})
	if err != nil {
		return err
	}
	return r.failed("relaymon refuses it")
}

func (m *Machine) get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	client := m.Client
	if client == nil {
		client = http.DefaultClient
	}
	return download.Get(ctx, client, url, buildinfo.Agent("relay-appliance"), maxSaid)
}
