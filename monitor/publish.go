package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// PublishConfig is what is done with the bundles of past months.
type PublishConfig struct {
	Command []string `yaml:"command"`
	Daily   bool     `yaml:"daily"`
	From    []string `yaml:"from"`
}

const (
	// publishEvery is between two bundles of one relay and month.
	publishEvery = 24 * time.Hour
	// maxOutput is how much of what the command says goes into the log.
	maxOutput = 8 << 10
)

// publishTimeout bounds one run of the command. Tests shorten it.
var publishTimeout = 10 * time.Minute

// publication is what is known of a relay's month, on disk.
type publication struct {
	Tried time.Time `json:"tried"`
	Final bool      `json:"final"` // the final bundle was published
}

// publish writes the bundles that are due and runs the command with each. A month
// is due once, when it is final; and, if so configured, every day until then. What
// fails, or is not final yet although it is time, is tried again the next day.
func (m *Monitor) publish(ctx context.Context, now time.Time) {
	if len(m.cfg.Publish.Command) == 0 || ctx.Err() != nil {
		return
	}
	known, err := m.publications()
	if err != nil {
		m.log.Error("publish", "err", err)
		return
	}
	this := evidence.MonthOf(now)
	b := m.basis()
	for i := range b.roster.Relays {
		r := &b.roster.Relays[i]
		for _, month := range []evidence.Month{this - 1, this} {
			if r.Enrolled >= month.End() || r.Until != nil && *r.Until <= month.First() || m.store.First() >= month.End() {
				continue
			}
			name := bundle.Name(r.PeerID, month)
			p := known[name]
			due := !now.Before(month.End().Start().Add(b.rulesOf(month).FinalAfter))
			if p.Final || !due && !m.cfg.Publish.Daily || now.Sub(p.Tried) < publishEvery && now.After(p.Tried) {
				continue
			}
			final, err := m.publishOne(ctx, BundleRequest{Relay: r.PeerID, Month: month, AsOf: now, From: m.cfg.Publish.From}, name)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				m.log.Error("publish", "bundle", name, "err", err)
			}
			// A month that is lost is final before its end; its hours go on.
			known[name] = publication{Tried: now.UTC(), Final: due && final && err == nil}
			if err := m.keepPublications(b.roster, known, this); err != nil {
				m.log.Error("publish", "err", err)
				return // or it would be published again and again
			}
		}
	}
}

func (m *Monitor) publicationsFile() string { return filepath.Join(m.cfg.DataDir, "published.json") }

func (m *Monitor) publications() (map[string]publication, error) {
	known := map[string]publication{}
	b, err := os.ReadFile(m.publicationsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &known)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was published: %w: remove %s, and the last month is published again", err, m.publicationsFile())
	}
	return known, nil
}

// keepPublications forgets the months that are not looked at any more.
func (m *Monitor) keepPublications(roster *bounty.Roster, known map[string]publication, this evidence.Month) error {
	keep := map[string]publication{}
	for _, r := range roster.Relays {
		for _, month := range []evidence.Month{this - 1, this} {
			if p, ok := known[bundle.Name(r.PeerID, month)]; ok {
				keep[bundle.Name(r.PeerID, month)] = p
			}
		}
	}
	b, err := json.MarshalIndent(keep, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(m.publicationsFile(), append(b, '\n'), 0o644)
}

// publishOne writes a bundle and runs the command with its path as the last
// argument. There is no shell in between: names stay names. Whether the verdict is final
// the logs tell, and no clock: one that is not is published only if that is configured.
func (m *Monitor) publishOne(ctx context.Context, q BundleRequest, name string) (final bool, err error) {
	dir := filepath.Join(m.cfg.DataDir, "bundles")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("make the folder of the bundles: %w", err)
	}
	file := filepath.Join(dir, name)
	q.Tell = func(s string) { m.log.Info("publish", "bundle", name, "note", s) }
	v, err := WriteBundle(ctx, m.cfg, q, file)
	if err != nil {
		return false, err
	}
	if !v.Final && !m.cfg.Publish.Daily {
		return false, fmt.Errorf("the verdict is %s as of %s, so it is not published yet: it is made again in %s; see that this log is sealed, and that a witness of another operator cosigns it", v.Headline, v.AsOf, publishEvery)
	}
	argv := append(append([]string{}, m.cfg.Publish.Command...), file)
	running, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	cmd := exec.CommandContext(running, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "RELAYMON_RELAY="+q.Relay, "RELAYMON_MONTH="+q.Month.String())
	// What it has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var output firstBytes
	cmd.Stdout, cmd.Stderr = &output, &output
	err = cmd.Run()
	if running.Err() != nil && err != nil {
		err = fmt.Errorf("%w: it was given %s", err, publishTimeout)
	}
	if err != nil {
		return v.Final, fmt.Errorf("%s: %w: it says: %s", argv[0], err, output.text)
	}
	m.log.Info("published", "bundle", name, "verdict", v.Headline, "output", string(output.text))
	return v.Final, nil
}

// firstBytes keeps the beginning of what is written.
type firstBytes struct{ text []byte }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.text = append(f.text, p[:min(len(p), maxOutput-len(f.text))]...)
	return len(p), nil
}
