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
	"strings"
	"syscall"
	"time"

	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// PublishConfig is where the log is pushed to, and what is done with the bundles of past
// months.
type PublishConfig struct {
	Bucket  string   `yaml:"bucket"`
	Command []string `yaml:"command"`
	Daily   bool     `yaml:"daily"`
	From    []string `yaml:"from"`
}

// check names each fault of the addresses of buckets.
func (c *PublishConfig) check() error {
	var faults []error
	if c.Bucket != "" {
		for _, fault := range config.Each(bucket.CheckTarget(c.Bucket)) {
			faults = append(faults, fmt.Errorf("publish.bucket: %w", fault))
		}
	}
	for i, from := range c.From {
		if !strings.Contains(from, "://") || isWeb(from) {
			continue
		}
		for _, fault := range config.Each(bucket.Check(from)) {
			faults = append(faults, fmt.Errorf("publish.from[%d]: %w", i, fault))
		}
	}
	return errors.Join(faults...)
}

// isWeb says whether an address is one of the web, of any form.
func isWeb(from string) bool {
	return strings.HasPrefix(from, "https://") || strings.HasPrefix(from, "http://")
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
	// What of it is done already, if not all: the command was run, the bucket has it.
	Ran  bool `json:"ran,omitempty"`
	Sent bool `json:"sent,omitempty"`
}

// publish writes the bundles that are due, puts each into the bucket and runs the command
// with it. A month is due once, when it is final; and, if so configured, every day until then. What
// fails, or is not final yet although it is time, is tried again the next day.
func (m *Monitor) publish(ctx context.Context, now time.Time) {
	if len(m.cfg.Publish.Command) == 0 && m.cfg.Publish.Bucket == "" || ctx.Err() != nil {
		return
	}
	known, err := m.publications()
	if err != nil {
		m.log.Error("publish", "err", err)
		return
	}
	this := evidence.MonthOf(now)
	b := m.basis()
	// What is read of others' logs in buckets is good for the relays of one round.
	fetched := filepath.Join(m.cfg.DataDir, fetchedDir)
	if err := os.RemoveAll(fetched); err != nil {
		m.log.Error("publish", "err", err)
		return
	}
	defer os.RemoveAll(fetched)
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
			final, err := m.publishOne(ctx, BundleRequest{Relay: r.PeerID, Month: month, AsOf: now, From: m.cfg.Publish.From, Fetched: fetched}, name, &p)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				m.log.Error("publish", "bundle", name, "err", err)
			}
			// A month that is lost is final before its end; its hours go on.
			p.Tried, p.Final = now.UTC(), due && final && err == nil
			if p.Final || !due {
				p.Ran, p.Sent = false, false
			}
			known[name] = p
			if err := m.keepPublications(b.roster, known, this); err != nil {
				m.log.Error("publish", "err", err)
				return // or it would be published again and again
			}
		}
	}
}

// fetchedDir is where a round of bundles keeps what it reads of others' logs.
const fetchedDir = "fetched"

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

// publishOne writes a bundle, puts it into the bucket and runs the command. Of a final one
// p tells what was done before, and is done no second time. Whether the verdict is final
// the logs tell, and no clock: one that is not is published only if that is configured.
func (m *Monitor) publishOne(ctx context.Context, q BundleRequest, name string, p *publication) (final bool, err error) {
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
	var unsent, unrun error
	if m.cfg.Publish.Bucket != "" && !p.Sent {
		unsent = m.sendBundle(ctx, q, file, v.Final)
		p.Sent = v.Final && unsent == nil
	}
	if len(m.cfg.Publish.Command) > 0 && !p.Ran {
		unrun = m.runWith(ctx, q, file)
		p.Ran = v.Final && unrun == nil
	}
	if err := errors.Join(unsent, unrun); err != nil {
		return v.Final, err
	}
	m.log.Info("published", "bundle", name, "verdict", v.Headline)
	return v.Final, nil
}

// sendBundle puts a bundle into the bucket.
func (m *Monitor) sendBundle(ctx context.Context, q BundleRequest, file string, final bool) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	m.pushing.turn.Lock()
	defer m.pushing.turn.Unlock()
	b, err := m.openBucket(ctx)
	if err != nil {
		return err
	}
	return b.PutBundle(ctx, q.Month.String(), filepath.Base(file), data, final)
}

// runWith runs the command with a bundle's path as its last argument. There is no shell in
// between: names stay names.
func (m *Monitor) runWith(ctx context.Context, q BundleRequest, file string) error {
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
	err := cmd.Run()
	if running.Err() != nil && err != nil {
		err = fmt.Errorf("%w: it was given %s", err, publishTimeout)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: it says: %s", argv[0], err, output.text)
	}
	m.log.Info("the command was run", "bundle", filepath.Base(file), "output", string(output.text))
	return nil
}

// firstBytes keeps the beginning of what is written.
type firstBytes struct{ text []byte }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.text = append(f.text, p[:min(len(p), maxOutput-len(f.text))]...)
	return len(p), nil
}
