package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/certs"
	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
	"github.com/psf-relay/relay-appliance/internal/systemd"
	"github.com/psf-relay/relay-appliance/internal/wallclock"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/web"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// Monitor watches the relays of a roster. Make one with [Open].
type Monitor struct {
	cfg    Config
	log    *slog.Logger
	store  *store.Log
	ladder *ladder
	climb  climber // the ladder's, or a test's
	world  *World  // nil: the real one

	inForce  atomic.Pointer[basis] // see [Monitor.basis]
	browsing *browsing             // nil: no browser is at hand
	rows     rows                  // of the overview
	alerts   *alert.Keeper         // nil: nobody is to be told, or cannot be
	notTold  string                // why nobody can be told
	starts   int                   // of the program in the hour before started
	started  time.Time

	cosignature atomic.Pointer[cosignature] // the last that was found

	pushing pushing // the log, to a bucket

	witness    *witness.Witness  // cosigns others' checkpoints
	witnessing *witnessing       // has others cosign this log's
	beacons    *schedule.Beacons // nil: no source of randomness is configured
	updates    *feed.Feed        // the project's release list

	mu         sync.Mutex
	planner    *schedule.Planner
	identities *schedule.Identities
	overloaded bool                         // it was said that the monitor does not keep up
	seen       map[string]*evidence.Attempt // by peer ID: the last attempt that got a reservation
	choices    map[evidence.Hour]*choice    // which relays are left to others
	latest     map[string]*evidence.Attempt // by peer ID: the last attempt
	begun      time.Time                    // when the current hour was begun; the zero time: it was not
	lastly     time.Time                    // the last tick
	looked     schedule.Moment              // the last look at the clock
	steps      int                          // how many times the clock was seen to be set
	fault      error                        // why nothing is judged at present; nil: all is well
	unheard    error                        // why no second resolver answered; nil: one did
	heard      bool                         // the second resolvers were asked since the start
	warned     map[string][]web.Warning     // by peer ID: the warnings of the last look
	running    sync.WaitGroup

	refusals []*listen.Refusals // of each listener
	certs    *certs.Keeper      // nil: no name of its own

	machine schedule.Machine
	clock   *wallclock.Clock // under mu; nil: the clock is never in doubt
	doubted bool             // it was said that the clock is in doubt

	refused      string // under mu: why the committee's files are not used as they are
	refusedLooks int    // ... and for how many looks
	warming      func() // ends the reading of the running month; reread's own
}

// Init makes the evidence log of a new monitor, with its keys. It is done once,
// on purpose: a log that is there already is left alone and reported (fs.ErrExist).
func Init(cfg Config) error {
	now := time.Now()
	if built := buildinfo.Committed(); now.Before(built) && cfg.Network != evidence.Lab {
		return fmt.Errorf("the clock says %s, and this program was made on %s: set the clock, for the log begins with the hour that it names", now.UTC().Format(time.RFC3339), built.UTC().Format(time.DateOnly))
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	l, err := store.Create(logDir(cfg), store.Options{
		Name:    cfg.Name,
		Network: cfg.Network,
		First:   evidence.HourOf(now),
	})
	if err != nil {
		return err
	}
	return l.Close()
}

func logDir(cfg Config) string { return filepath.Join(cfg.DataDir, "log") }

// Open opens the monitor's log and reads rules and roster.
func Open(cfg Config, log *slog.Logger) (*Monitor, error) {
	m := &Monitor{
		cfg:     cfg,
		log:     log,
		seen:    map[string]*evidence.Attempt{},
		latest:  map[string]*evidence.Attempt{},
		machine: schedule.ThisMachine(),
		clock:   wallclock.New(),
		pushing: pushing{size: -1, whole: time.Now()},
	}
	return m.open()
}

// open opens the log and reads the committee's files.
func (m *Monitor) open() (*Monitor, error) {
	if err := m.follow(); err != nil {
		return nil, err
	}
	var err error
	if m.store, err = openLog(m.cfg); err != nil {
		return nil, err
	}
	if err := m.prepare(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// prepare gets what a monitor with an open log needs to begin.
func (m *Monitor) prepare() (err error) {
	b, err := readFiles(m.cfg)
	if err != nil {
		return err
	}
	h, kept := evidence.HourOf(m.now()), shelfOf(m.cfg)
	last, err := kept.lastly(b, m.cfg)
	if err != nil {
		return err
	}
	var fault error
	if b, fault = kept.settle(b, last, m.cfg, h); fault != nil {
		m.refuse(said(fault)) // the next look tells whether it stays so
		m.log.Error("the committee's files, as they are now, are not used: going on with those that were in force, if any were", "err", fault)
	}
	if err := b.complete(m.cfg, m.store); err != nil {
		return err
	}
	if err := m.checkPlace(b.roster, h); err != nil {
		return err
	}
	m.inForce.Store(b)
	m.tellUnknown(nil, b)
	m.shelve(b, h)
	if m.world == nil {
		if m.ladder, err = newLadder(m.cfg); err != nil {
			return err
		}
		m.climb = m.ladder.climb
	}
	if m.alerts, err = m.newAlerts(); err != nil {
		m.notTold = "alerts are not sent: " + err.Error()
		m.log.Error("alerts are not sent: it watches all the same", "err", err)
	} else if m.alerts != nil {
		m.recallWarned()
	}
	m.planner = m.newPlanner()
	m.identities = schedule.NewIdentities(m.store.Key())
	if m.world != nil {
		m.identities.Salt = m.world.Salt
	}
	now := m.machine.Now()
	if err := m.recall(now); err != nil {
		return err
	}
	if err := m.meet(); err != nil {
		return err
	}
	if m.browsing, err = newBrowsing(m.cfg, m.log); err != nil || m.browsing == nil {
		return err
	}
	return m.browsing.restore(m.basis(), m.store.Records, now.Wall)
}

// newPlanner is one that has begun nothing.
func (m *Monitor) newPlanner() *schedule.Planner {
	p := schedule.NewPlanner(func(j schedule.Job) time.Duration { return m.store.Offset(j.Relay, j.Hour) }, m.cfg.Concurrency)
	p.Spared, m.choices = m.spared, map[evidence.Hour]*choice{}
	return p
}

// Close ends the listener and lets go of the log.
func (m *Monitor) Close() error {
	var err error
	if m.ladder != nil {
		err = m.ladder.close()
	}
	if m.pushing.store != nil {
		err = errors.Join(err, m.pushing.store.Close())
	}
	return errors.Join(err, m.store.Close())
}

// Run probes, seals and serves until ctx ends, and returns nil then. Attempts
// under way at that moment are given up.
func (m *Monitor) Run(ctx context.Context) error {
	stop, err := m.serve(ctx)
	if err != nil {
		return err
	}
	defer stop()

	logger := cron.PrintfLogger(slog.NewLogLogger(m.log.Handler(), slog.LevelError))
	// In this order: with Recover outside, a panic would keep the job's place for ever.
	chain := cron.NewChain(cron.SkipIfStillRunning(cron.DiscardLogger), cron.Recover(logger))
	jobs := map[string]cron.Job{}
	for spec, job := range map[string]func(){
		"20 * * * * *":    func() { m.seal(m.machine.Now().Wall) },
		"40 */10 * * * *": m.noteClock,
		"*/10 * * * * *":  func() { m.askWitnesses(ctx) },
		"*/5 * * * * *":   func() { m.freshen(ctx) },
		"50 * * * * *":    func() { m.raise(ctx, time.Now()) },
		"0 40 * * * *":    func() { m.publish(ctx, time.Now()) },
		"45 */10 * * * *": func() { m.push(ctx, time.Now()) },
		"30 17 * * * *":   func() { m.fetchReleases(ctx) },
		"10 5 * * * *":    func() { m.hearSecond(ctx) },
		"5/30 * * * * *":  func() { m.reread(ctx, time.Now()) },
	} {
		jobs[spec] = chain.Then(cron.FuncJob(job))
	}
	c, err := startCron(jobs)
	if err != nil {
		return err
	}
	m.log.Info("watching", "relays", len(m.basis().targets(evidence.HourOf(time.Now()))), "origin", m.store.Origin(), "version", buildinfo.Version())
	var ended []context.Context // of each cron that was stopped: when its last job is over
	beating := make(chan struct{})
	tick := cron.Recover(logger)(cron.FuncJob(func() { m.tick(ctx, m.machine.Now()) }))
	go func() {
		defer close(beating)
		m.beat(ctx, tick.Run, func() {
			// The same one cannot be started again before its last job is over.
			if next, err := startCron(jobs); err == nil {
				ended = append(ended, c.Stop())
				c = next
			}
		})
	}()
	go systemd.Watchdog(ctx, m.log, func() bool { return m.works(time.Now()) })
	m.running.Go(func() { m.warm(ctx, m.basis()) })
	m.running.Go(func() { m.fetchReleases(ctx) })
	m.running.Go(func() { m.hearSecond(ctx) })
	if m.alerts != nil {
		m.running.Go(func() { m.alerts.Run(ctx) })
	}
	systemd.Ready(m.log)
	<-ctx.Done()
	systemd.Stopping(m.log)
	<-beating
	for _, over := range append(ended, c.Stop()) {
		<-over.Done()
	}
	m.running.Wait()
	return nil
}

func startCron(jobs map[string]cron.Job) (*cron.Cron, error) {
	c := cron.New(cron.WithLocation(time.UTC), cron.WithSeconds())
	for spec, job := range jobs {
		if _, err := c.AddJob(spec, job); err != nil {
			return nil, fmt.Errorf("schedule: %w", err)
		}
	}
	c.Start()
	return c, nil
}

// asleep is the span without a tick from which on the monitor was not watching.
const asleep = 30 * time.Second

// beat calls tick every second, until ctx ends, and again when the clock was set: cron
// waits by the wall clock, and after a step back it would do nothing for as long.
func (m *Monitor) beat(ctx context.Context, tick, again func()) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for last := m.machine.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := m.machine.Now()
		if now.Stepped(last) {
			again()
		}
		last = now
		tick()
	}
}

// tick starts the attempts that are due.
func (m *Monitor) tick(ctx context.Context, now schedule.Moment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	m.lastly = time.Now()
	h := evidence.HourOf(now.Wall)
	for _, ready := range []func() error{
		func() error { return m.watchClock(now) }, // first: also what takes the clock into an hour that it cannot be is a step
		func() error { return m.misnamed(now.Wall) },
		func() error { return m.store.Room(m.cfg.Concurrency) },
	} {
		if err := ready(); err != nil {
			m.interrupt(err)
			return
		}
	}
	if m.begun.IsZero() || evidence.HourOf(m.begun) != h {
		if err := m.begin(h, now.Wall); err != nil {
			return
		}
	}
	for _, j := range m.planner.Due(now, m.basis().targets(h)) {
		m.running.Add(1)
		go func() {
			defer m.running.Done()
			m.attempt(ctx, j)
		}()
	}
	m.noteLoad(now)
}

// begin notes in the log that the hour is being watched from now on. While the
// log cannot be written nothing is probed: what cannot be kept is not judged.
func (m *Monitor) begin(h evidence.Hour, now time.Time) error {
	err := m.store.Begin(h, now, buildinfo.Agent("relaymon"))
	if err == nil {
		err = m.sampleInto(h)
	}
	if err == nil {
		err = m.resume(h, m.machine.Now())
	}
	if err != nil {
		m.interrupt(err)
		return err
	}
	m.setFault(nil)
	m.begun = now
	m.listen(h)
	return nil
}

// listen keeps the listener with the relays that are under judgement at h.
func (m *Monitor) listen(h evidence.Hour) {
	if m.ladder == nil {
		return // a test's own prober
	}
	var targets []probe.Target
	b := m.basis()
	for _, id := range b.targets(h) {
		if t, err := target(id, b.roster.Relay(id).At(h)); err == nil {
			targets = append(targets, t)
		}
	}
	m.ladder.watch(targets)
}

// interrupt ends the judging until a later tick has begun anew. The caller holds the lock.
func (m *Monitor) interrupt(err error) {
	m.setFault(err)
	m.begun = time.Time{}
}

// setFault remembers why nothing can be judged, and says so once. The caller
// holds the lock.
func (m *Monitor) setFault(err error) {
	switch {
	case err != nil && (m.fault == nil || m.fault.Error() != err.Error()):
		m.log.Error("not judging", "err", err)
	case err == nil && m.fault != nil:
		m.log.Info("judging again")
	}
	m.fault = err
}

func (m *Monitor) seal(now time.Time) {
	if m.store.Held() {
		return // whoever holds it has said so
	}
	m.mu.Lock()
	ahead, why := m.leaps(now)
	doubted := m.doubted
	m.doubted = why != ""
	m.mu.Unlock()
	if why != "" {
		if !doubted {
			m.log.Warn("not sealing: the clock is ahead of the log, and may be wrong; switch a time service on (timedatectl set-ntp true)", "hours", ahead, "clock", now.UTC().Format(time.RFC3339), "why", why)
		}
		return
	}
	headers, err := m.store.Seal(now)
	if err != nil {
		m.log.Error("seal", "err", err)
		return
	}
	for _, h := range headers {
		m.log.Info("sealed", "hour", h.Hour, "state", h.State, "records", h.Records)
	}
}

// works says whether the planner was awake of late. One that waits for a log that
// cannot be written is: a restart would not mend the disk.
func (m *Monitor) works(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault != nil || now.Sub(m.lastly) <= asleep
}
