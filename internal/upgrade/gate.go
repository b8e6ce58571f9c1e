package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// Gate lets a version stay or puts the one before back.
type Gate struct {
	Machine  Machine
	Settings Settings
	// Checks are what a version must do.
	Checks func() []Check
	// Notice is how long a restart of the machine is announced before it happens.
	Notice time.Duration
}

const (
	// installTime bounds the wait for whoever installs packages.
	installTime = 2 * time.Hour
	// maxStarts is how often the judgement of one version is begun. A version with
	// which the machine does not stay up that long is a bad one.
	maxStarts = 3
)

// ErrBad says that an update was bad; what came of it stands in the state.
var ErrBad = errors.New("the update was bad")

// Run compares what is installed with what has proved itself, and does what that
// asks for. It returns [ErrBad] if a version was found to be bad.
func (g *Gate) Run(ctx context.Context) error {
	if err := os.MkdirAll(g.Machine.path(StateDir), 0o755); err != nil {
		return fmt.Errorf("judge the update: %w", err)
	}
	release, err := g.Machine.alone()
	if errors.Is(err, errBusy) {
		g.Machine.Log.Info("nothing to do here", "why", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	s, err := g.Machine.Load()
	if err != nil {
		return err
	}
	have, err := g.Machine.installed(ctx)
	if err != nil {
		return err
	}
	if s.proven(have) {
		return g.rest(ctx, s)
	}

	wait, cancel := context.WithTimeout(ctx, installTime)
	unlock, err := g.Machine.frontend(wait)
	cancel()
	if err != nil {
		return err
	}
	defer unlock()
	// Whoever had the lock has changed both.
	if s, err = g.Machine.Load(); err != nil {
		return err
	}
	broken := g.Machine.finish(ctx)
	if have, err = g.Machine.installed(ctx); err != nil {
		return err
	}
	now := current(have)
	switch {
	case len(s.Good) == 0:
		return g.adopt(ctx, s, now)
	case broken == nil && maps.Equal(now, s.good()):
		return g.rest(ctx, s)
	case maps.Equal(now, s.good()):
		return g.repair(ctx, s, now)
	}
	return g.decide(ctx, s, now, broken)
}

// decide judges versions that have not proved themselves. broken says why dpkg
// could not even finish installing them.
func (g *Gate) decide(ctx context.Context, s State, now map[string]string, broken error) error {
	log := g.Machine.Log
	if s.Judging == nil || !maps.Equal(s.Judging.Versions, now) {
		s.Judging = &Judging{Versions: now}
	}
	s.Judging.Starts++
	if err := g.Machine.save(s, nil); err != nil {
		return err
	}
	log.Info("judging an update", "from", list(s.good()), "to", list(now), "start", s.Judging.Starts)
	fault := broken
	if h, held := s.anyHeld(now); fault == nil && held {
		fault = fmt.Errorf("%s %s is held: %s", h.Package, h.Version, h.Why)
	}
	if fault == nil && s.Judging.Starts > maxStarts {
		fault = fmt.Errorf("the machine stopped %d times while it was judged", maxStarts)
	}
	if fault == nil {
		fault = g.judge(ctx, g.asked(s, time.Now()))
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("judge the update: %w: it goes on at the next start", err)
	}
	if fault == nil {
		return g.accept(ctx, s, now)
	}
	log.Error("the update is bad", "to", list(now), "why", fault)
	return g.putBack(ctx, s, now, s.Good, fault)
}

// repair installs the proven release again where an update that did not get far, for
// want of power or of room, has left it half done. No version is at fault.
func (g *Gate) repair(ctx context.Context, s State, now map[string]string) error {
	if err := g.reinstall(ctx, s, now, s.Good); err != nil {
		return fmt.Errorf("install the proven release again: %w", err)
	}
	g.Machine.Log.Warn("an update did not get far: the proven release was installed again", "versions", list(now))
	return g.rest(ctx, s)
}

// anyHeld finds a held version among those installed. Those that proved themselves
// do not count: they may be held by a later step back.
func (s State) anyHeld(now map[string]string) (maintenance.Held, bool) {
	for _, pkg := range slices.Sorted(maps.Keys(now)) {
		if h, held := s.heldVersion(pkg, now[pkg]); held && s.Good[pkg].Version != now[pkg] {
			return h, true
		}
	}
	return maintenance.Held{}, false
}

// proven says that what is installed is the release that proved itself.
func (s State) proven(have map[string]installed) bool {
	return len(s.Good) > 0 && sound(have) && maps.Equal(current(have), s.good())
}

// sound says that dpkg left no package half done.
func sound(have map[string]installed) bool {
	for _, p := range have {
		if !p.Whole {
			return false
		}
	}
	return true
}

func current(have map[string]installed) map[string]string {
	v := make(map[string]string, len(have))
	for pkg, p := range have {
		v[pkg] = p.Version
	}
	return v
}

// finish lets dpkg end what a power cut or a full disk interrupted, and says if
// packages of the release are still half done.
func (m Machine) finish(ctx context.Context) error {
	have, err := m.installed(ctx)
	if err != nil {
		return err
	}
	journal, err := filepath.Glob(m.path("var/lib/dpkg/updates/[0-9]*"))
	if err != nil || sound(have) && len(journal) == 0 {
		return err
	}
	m.Log.Warn("an installation was interrupted: going on with it")
	failed := m.dpkg(ctx, "--configure", "--pending")
	if have, err = m.installed(ctx); err != nil {
		return err
	}
	if !sound(have) {
		return errors.Join(errors.New("dpkg could not install it whole"), failed)
	}
	return nil
}

// adopt takes what is installed for proven: there is nothing older to go back to.
func (g *Gate) adopt(ctx context.Context, s State, now map[string]string) error {
	if len(now) == 0 {
		return errors.New("none of the packages is installed by dpkg: there is nothing to judge here")
	}
	good, err := g.Machine.keptSet(now)
	if err != nil {
		return err
	}
	s.Good = good
	g.observe(ctx, &s, time.Now())
	g.Machine.Log.Info("took what is installed for proven", "versions", list(now))
	return errors.Join(g.Machine.proveProgram(), g.Machine.save(s, nil))
}

func (m Machine) keptSet(now map[string]string) (map[string]Kept, error) {
	set := make(map[string]Kept, len(now))
	for pkg, version := range now {
		k, err := m.kept(pkg, version)
		if err != nil {
			return nil, fmt.Errorf("look for the package file of %s: %w", pkg, err)
		}
		set[pkg] = k
	}
	return set, nil
}

// rest is what there is to do while nothing is new: to see which checks pass, and to
// have the files of the good versions at hand.
func (g *Gate) rest(ctx context.Context, s State) error {
	if err := g.collect(ctx, s); err != nil {
		g.Machine.Log.Warn("a bad update could not be taken back", "err", err)
	}
	g.observe(ctx, &s, time.Now())
	running, passed := s.Running, s.Passed
	// All that took a while: somebody may have written meanwhile.
	s, err := g.Machine.Load()
	if err != nil {
		return err
	}
	for pkg, k := range s.Good {
		if k.File != "" {
			continue
		}
		if s.Good[pkg], err = g.Machine.kept(pkg, k.Version); err != nil {
			return fmt.Errorf("look for the package file of %s: %w", pkg, err)
		}
	}
	s.Running, s.Passed, s.Judging = running, passed, nil
	return g.Machine.save(s, g.Settings.planned(g.Machine, s, time.Now()))
}

// collect sees to it that the files of the good versions are kept: those of an image
// or of the first installation are not, before they were fetched.
func (g *Gate) collect(ctx context.Context, s State) error {
	if from, err := g.Settings.repository(g.Machine); err != nil || from == "" {
		return err // without one no update will come
	}
	var errs []error
	for _, pkg := range slices.Sorted(maps.Keys(s.Good)) {
		if s.Good[pkg].File != "" {
			continue
		}
		version := s.Good[pkg].Version
		if found, err := g.Machine.kept(pkg, version); err != nil || found.File != "" {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, g.Machine.fetch(ctx, pkg, version))
	}
	return errors.Join(errs...)
}

// accept makes what is installed the proven release.
func (g *Gate) accept(ctx context.Context, s State, now map[string]string) error {
	good, err := g.Machine.keptSet(now)
	if err != nil {
		return err
	}
	s.Last = &Outcome{At: time.Now().UTC().Truncate(time.Second), Result: Proven, From: s.good(), To: now}
	s.Previous, s.Good, s.Judging = s.Good, good, nil
	// A newer good version ends what was held below it.
	s.Held = slices.DeleteFunc(s.Held, func(h maintenance.Held) bool {
		v, there := now[h.Package]
		return there && (h.Version == v || newer(ctx, v, h.Version))
	})
	g.observe(ctx, &s, time.Now())
	if err := errors.Join(g.Machine.proveProgram(), g.Machine.save(s, g.Settings.planned(g.Machine, s, time.Now())), g.Machine.pin(s.Held)); err != nil {
		return err
	}
	g.Machine.Log.Info("the update does its work", "versions", list(now))
	return g.Machine.prune(s.Good, s.Previous)
}

// proveProgram keeps a copy of this program's installed version, which judges the
// next one.
func (m Machine) proveProgram() error {
	program := m.path("usr/bin/relay-appliance")
	if !exists(program) {
		return nil
	}
	dir := filepath.Join(m.path(StateDir), "proven")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := place(program, filepath.Join(dir, "relay-appliance")); err != nil {
		return fmt.Errorf("keep a copy of the proven gate: %w", err)
	}
	return nil
}
