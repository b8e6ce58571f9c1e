package monitor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/committee"
	"github.com/psf-relay/relay-appliance/monitor/decision"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/mirror"
	"github.com/psf-relay/relay-appliance/monitor/site"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// VerdictsConfig is what all relays are judged by at once: see [Committee].
type VerdictsConfig struct {
	Database string        `yaml:"database"`
	Logs     []string      `yaml:"logs"`
	Every    time.Duration `yaml:"every"`
	Months   int           `yaml:"months"`
	Site     SiteConfig    `yaml:"site"`
}

// SiteConfig is the committee's site, and what it shows besides the verdicts.
type SiteConfig struct {
	Listen    string `yaml:"listen"`
	Name      string `yaml:"name"`
	URL       string `yaml:"url"`
	Bundles   string `yaml:"bundles"`
	Decisions string `yaml:"decisions"`
}

// Bounds of what may be configured.
const (
	mostSources = 500
	mostMonths  = 120
)

func (c *VerdictsConfig) check() error {
	var faults []error
	if err := committee.CheckAddress(c.Database); err != nil {
		faults = append(faults, fmt.Errorf("verdicts.database: %w", err))
	}
	for i, from := range c.Logs {
		if !strings.Contains(from, "://") || isWeb(from) {
			continue
		}
		for _, fault := range config.Each(bucket.Check(from)) {
			faults = append(faults, fmt.Errorf("verdicts.logs[%d]: %w", i, fault))
		}
	}
	if len(c.Logs) > mostSources {
		faults = append(faults, fmt.Errorf("verdicts.logs: want %d at most, not %d", mostSources, len(c.Logs)))
	}
	if c.Every < time.Minute {
		faults = append(faults, fmt.Errorf("verdicts.every: want 1m at least, since a log grows once an hour, not %s", c.Every))
	}
	if c.Months < 1 || c.Months > mostMonths {
		faults = append(faults, fmt.Errorf("verdicts.months: want 1 to %d, not %d", mostMonths, c.Months))
	}
	if l := c.Site.Listen; l != "" {
		if _, err := netip.ParseAddrPort(l); err != nil {
			faults = append(faults, fmt.Errorf("verdicts.site.listen: want an address and port such as 127.0.0.1:8430, not %.100q", l))
		}
	}
	return errors.Join(faults...)
}

// Committee takes in many monitors' logs and judges all relays by them.
type Committee struct {
	cfg Config
	log *slog.Logger
	db  *committee.DB
	now func() time.Time
	// whose are the logs at the sources, as far as they were read
	mu    sync.Mutex
	whose map[string]string
}

func (c *Config) database() string {
	if c.Verdicts.Database == "" {
		return filepath.Join(c.DataDir, "committee.db")
	}
	return c.Verdicts.Database
}

// OpenCommittee opens the database, or makes it.
func OpenCommittee(ctx context.Context, cfg Config, log *slog.Logger) (*Committee, error) {
	db, err := committee.Open(ctx, cfg.database())
	if err != nil {
		return nil, err
	}
	return &Committee{cfg: cfg, log: log, db: db, now: time.Now, whose: map[string]string{}}, nil
}

// DropCommittee empties the database. All of it comes from the logs.
func DropCommittee(ctx context.Context, cfg Config) error { return committee.Drop(ctx, cfg.database()) }

// Close ends the use of the database.
func (c *Committee) Close() error { return c.db.Close() }

// Reader is what is known, for those who show it.
func (c *Committee) Reader() committee.Reader { return c.db }

// Site is what the committee's site shows besides the verdicts.
func (c *Committee) Site() site.Options {
	o := c.cfg.site()
	o.Log = c.log
	if dir := c.cfg.Verdicts.Site.Decisions; dir != "" {
		o.Decisions = func() (*decision.Log, error) { return decision.Read(dir, c.cfg.Committee) }
	}
	return o
}

// site are the options that are configured.
func (c *Config) site() site.Options {
	of := c.Verdicts.Site
	name, _, _ := strings.Cut(cmp.Or(of.Name, c.Committee, string(c.Network)), "+")
	return site.Options{Name: name, URL: of.URL, Bundles: of.Bundles}
}

// Serve serves the site, if it has an address, until stop.
func (c *Committee) Serve() (stop func(), err error) {
	addr := c.cfg.Verdicts.Site.Listen
	if addr == "" {
		return func() {}, nil
	}
	h, err := site.New(c.db, c.Site())
	if err != nil {
		return nil, err
	}
	var running sync.WaitGroup
	srv, _, err := serveAt("site", addr, conns, h, nil, c.log, &running)
	if err != nil {
		return nil, err
	}
	return func() { _ = srv.Close(); running.Wait() }, nil
}

// LookReport says what a look at all logs came to.
type LookReport struct {
	Logs   []LookedAt         `json:"logs"`
	Months []committee.Judged `json:"months"`
	Faults []string           `json:"faults,omitempty"` // that are of no log and no relay
}

// LookedAt is a source and what was new in it.
type LookedAt struct {
	Source string `json:"source"`
	committee.Taken
	Fault string `json:"fault,omitempty"`
	forks bool
}

// Failed says whether something did not work.
func (r *LookReport) Failed() bool {
	return len(r.Faults) > 0 || slices.ContainsFunc(r.Logs, func(l LookedAt) bool { return l.Fault != "" }) ||
		slices.ContainsFunc(r.Months, func(j committee.Judged) bool { return len(j.Faults) > 0 })
}

// Sources are where logs are read: this monitor's own, if it has one, and those that are
// configured.
func (c *Committee) Sources() []string {
	var out []string
	if own := filepath.Join(c.cfg.DataDir, "log"); store.Exists(own) {
		out = append(out, own)
	}
	for _, from := range c.cfg.Verdicts.Logs {
		if !slices.Contains(out, from) {
			out = append(out, from)
		}
	}
	return out
}

// logsAtOnce is how many logs are read at the same time.
const logsAtOnce = 4

// Look looks at all logs once, and judges what is new. What fails with one holds up no other.
// The error is of what there is nothing without. said (nil: nobody asks) hears what goes on.
func (c *Committee) Look(ctx context.Context, said func(string)) (LookReport, error) {
	r := LookReport{Logs: []LookedAt{}, Months: []committee.Judged{}}
	if said == nil {
		said = func(string) {}
	}
	bases, err := c.bases(ctx, &r)
	if err != nil {
		return r, err
	}
	if err := c.db.Forget(ctx, c.oldest()); err != nil {
		r.Faults = append(r.Faults, fmt.Sprintf("drop old months: %v", err))
	}
	sources := c.Sources()
	r.Logs = make([]LookedAt, len(sources))
	var g errgroup.Group
	g.SetLimit(logsAtOnce)
	for i, from := range sources {
		g.Go(func() error {
			r.Logs[i] = c.take(ctx, from, bases, said)
			return nil
		})
	}
	_ = g.Wait()
	if err := c.troubles(ctx, r.Logs); err != nil {
		return r, err
	}
	for _, b := range bases {
		last := time.Now()
		judged, err := c.db.Judge(ctx, b, runtime.GOMAXPROCS(0), func(relays int64) {
			if now := time.Now(); now.Sub(last) >= tellEvery {
				last = now
				said(fmt.Sprintf("%s: %d relays judged", b.Month, relays))
			}
		})
		r.Months = append(r.Months, judged)
		if err != nil {
			r.Faults = append(r.Faults, fmt.Sprintf("judge %s: %v", b.Month, err))
		}
	}
	return r, context.Cause(ctx)
}

// tellEvery is between two sentences about how far something is.
const tellEvery = 5 * time.Second

func (c *Committee) oldest() evidence.Month {
	return evidence.MonthOf(c.now()) - evidence.Month(c.cfg.Verdicts.Months) + 1
}

// bases are by what the months are judged that are kept and have relays.
func (c *Committee) bases(ctx context.Context, r *LookReport) ([]*committee.Basis, error) {
	fault := func(err error) { r.Faults = append(r.Faults, err.Error()) }
	now := evidence.HourOf(c.now())
	files, err := readFiles(c.cfg)
	if err != nil {
		return nil, err
	}
	s := shelfOf(c.cfg)
	last, err := s.lastly(files, c.cfg)
	if err != nil {
		return nil, err
	}
	inForce, unused := s.settle(files, last, c.cfg, now)
	if unused != nil {
		fault(fmt.Errorf("not used: %w", unused))
	}
	if err := s.remember(inForce, c.cfg, now); err != nil {
		return nil, err
	}
	geo, err := bundle.DefaultGeo()
	if err != nil {
		return nil, err
	}
	m := &Monitor{cfg: c.cfg, log: c.log}
	if err := m.follow(); err != nil {
		return nil, err
	}
	var out []*committee.Basis
	for month := now.Month(); month >= c.oldest(); month-- {
		if !slices.ContainsFunc(inForce.roster.Relays, func(r bounty.Relay) bool {
			return r.Enrolled < month.End() && (r.Until == nil || *r.Until > month.First())
		}) {
			continue
		}
		by, err := judgedBy(c.cfg, month)
		if err != nil {
			fault(fmt.Errorf("%s: %w", month, err))
			continue
		}
		b := &committee.Basis{Month: month, Rules: by.rules, Roster: by.roster, Geo: geo, Beacon: beacon.Quicknet()}
		_, b.RulesSignedBy = bounty.Text(by.files.rules)
		_, b.RosterSignedBy = bounty.Text(by.files.roster)
		if b.Releases, err = c.releases(m, by.roster); err != nil {
			fault(fmt.Errorf("%s: %w", month, err))
		}
		if err := c.db.Settle(ctx, b); errors.Is(err, committee.ErrOlder) {
			fault(err)
			continue
		} else if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// releases are the list that the roster names; nil: it is not at hand, and what a relay
// should have run is not known.
func (c *Committee) releases(m *Monitor, roster *bounty.Roster) (*release.List, error) {
	file, err := m.readReleases(roster)
	if err != nil || file == nil {
		return nil, err
	}
	list, err := release.Parse("releases", file)
	if err == nil && list.SHA256 != roster.Releases {
		return nil, errors.New("the release list is not the one whose SHA-256 stands in the roster: bring that one")
	}
	return list, err
}

// take takes in what is new at a source.
func (c *Committee) take(ctx context.Context, from string, bases []*committee.Basis, said func(string)) LookedAt {
	out := LookedAt{Source: from}
	c.mu.Lock()
	out.Log = c.whose[from]
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	l, done, err := c.openLog(ctx, from, bases)
	if errors.Is(err, errSourceTaken) {
		out.Busy = true
		return out
	}
	if err == nil {
		c.mu.Lock()
		c.whose[from] = l.Key()
		c.mu.Unlock()
		last := time.Now()
		out.Taken, err = c.db.Take(ctx, l, c.now(), bases, func(p committee.Progress) {
			if now := time.Now(); now.Sub(last) >= tellEvery {
				last = now
				said(fmt.Sprintf("%s: %d of %d hours of %s", l.Origin(), p.Blocks, p.Size, p.Month))
			}
		})
		err = errors.Join(err, done(err))
	}
	if err != nil {
		out.Fault, out.forks = err.Error(), errors.Is(err, committee.ErrForked)
		c.log.Warn("a log is not taken in as far as it goes", "source", from, "err", err)
	}
	return out
}

// troubles says of each log why nothing more of it is taken in: since one of its sources shows
// another history, or none of them has it.
func (c *Committee) troubles(ctx context.Context, looked []LookedAt) error {
	said := map[string]bool{}
	for _, l := range looked {
		if l.Log == "" || said[l.Log] {
			continue
		}
		said[l.Log] = true
		var good, forks bool
		fault := ""
		for _, o := range looked {
			if o.Log != l.Log {
				continue
			}
			good = good || o.Fault == "" && !o.Busy
			if o.forks && !forks || fault == "" {
				fault = o.Fault
			}
			forks = forks || o.forks
		}
		if good && !forks {
			fault = ""
		} else if fault == "" {
			continue // another process goes on with it
		}
		if err := c.db.Trouble(ctx, l.Log, fault); err != nil {
			return err
		}
	}
	return nil
}

// openLog opens the log at a source. done lets go of it, and is told how it went.
func (c *Committee) openLog(ctx context.Context, from string, bases []*committee.Basis) (l committee.Log, done func(error) error, err error) {
	if dir, ok := bucket.Folder(from); ok {
		from = dir
	}
	if bucket.Is(from) || isWeb(from) {
		return c.openRemote(ctx, from, bases)
	}
	nothing := func(error) error { return nil }
	if mirror.IsMirror(from) {
		origin, err := mirror.OriginIn(from)
		if err != nil {
			return nil, nil, err
		}
		l, err := knownLog(bases, origin, func(key string) (*mirror.Source, error) { return mirror.Open(from, key) })
		return l, nothing, err
	}
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no folder %s: want a monitor's data folder, a mirror, the URL of a log (https://) or of a bucket", from)
	}
	if inner := filepath.Join(from, "log"); isDir(inner) {
		from = inner // a monitor's data folder
	}
	s, err := store.OpenRead(from)
	if err != nil {
		return nil, nil, err
	}
	return s, func(error) error { return s.Close() }, nil
}

// knownLog opens the log with that origin, whose key a roster has.
func knownLog(bases []*committee.Basis, origin string, open func(key string) (*mirror.Source, error)) (committee.Log, error) {
	fault := fmt.Errorf("it is the log of %.200q, whose key the roster does not have", origin)
	tried := map[string]bool{}
	for _, b := range bases {
		for _, m := range b.Roster.Monitors { // a monitor may have had several keys
			if name, _, _ := strings.Cut(m.LogKey, "+"); name != origin || tried[m.LogKey] {
				continue
			}
			tried[m.LogKey] = true
			l, err := open(m.LogKey)
			if err == nil {
				return l, nil
			}
			fault = err
		}
	}
	return nil, fault
}

// openRemote opens a log elsewhere. What was read of it, and does not change, is kept in a
// folder, so that it is not asked for again: tiles and checkpoints, no records. One process at
// a time has the folder.
func (c *Committee) openRemote(ctx context.Context, from string, bases []*committee.Basis) (committee.Log, func(error) error, error) {
	sum := sha256.Sum256([]byte(from))
	dir := filepath.Join(c.cfg.DataDir, "verdicts", hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, nil, err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, nil, errors.Join(errSourceTaken, lock.Close())
	}
	var r *mirror.Remote
	var l committee.Log
	done := func(failed error) (err error) {
		if r != nil {
			err = r.Close()
		}
		if failed != nil || l == nil { // what is kept may be of another history
			err = errors.Join(err, os.RemoveAll(dir))
		} else {
			err = errors.Join(err, keepOld(dir, l.Size()))
		}
		return errors.Join(err, lock.Close())
	}
	open := func() (err error) {
		if mirror.IsMirror(dir) { // a process was killed
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
		if r, err = mirror.OpenRemote(ctx, mirror.Options{From: from, Dir: dir, Agent: buildinfo.Agent("relaymon")}); err != nil {
			return err
		}
		origin, err := r.Origin()
		if err == nil {
			l, err = knownLog(bases, origin, r.Open)
		}
		return err
	}
	if err := open(); err != nil {
		return nil, nil, errors.Join(err, done(err))
	}
	return l, done, nil
}

// errSourceTaken: another process reads the same log with the same data folder.
var errSourceTaken = errors.New("another process reads this log")

// lateCheckpoints is of how many blocks the checkpoints are asked for again: cosignatures may
// have come in since.
const lateCheckpoints = 48

// keepOld removes from a folder what may be another one the next time, or is large.
func keepOld(dir string, size int64) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		n, ok := tiles.ParseName(filepath.ToSlash(name))
		switch {
		case ok && (n.Kind == tiles.Tile || n.Kind == tiles.Entries) && n.Width == tiles.Width:
			return nil
		case ok && n.Kind == tiles.Checkpoint && n.Index < size-lateCheckpoints:
			return nil
		}
		return os.Remove(path)
	})
}

// Run looks again and again, until ctx ends. What goes wrong is said and tried again.
func (c *Committee) Run(ctx context.Context, said func(LookReport, error), tell func(string)) {
	for {
		r, err := c.Look(ctx, tell)
		if ctx.Err() != nil {
			return
		}
		said(r, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.cfg.Verdicts.Every):
		}
	}
}
