package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// putBack installs the packages of the set in place of what is installed now, whose
// versions are held from here on. The caller holds the frontend lock. Interrupted, it
// is begun anew at the next start: what is installed is then still not proven, and
// held.
func (g *Gate) putBack(ctx context.Context, s State, now map[string]string, set map[string]Kept, fault error) error {
	at := time.Now().UTC().Truncate(time.Second)
	why := brief(fault)
	o := &Outcome{At: at, Result: PutBack, From: versions(set), To: now, Why: why}
	for _, pkg := range slices.Sorted(maps.Keys(now)) {
		version := now[pkg]
		if _, held := s.heldVersion(pkg, version); !held && version != set[pkg].Version {
			s.Held = append(s.Held, maintenance.Held{Package: pkg, Version: version, Since: at, Why: why})
		}
	}
	// First of all apt: whatever comes of the rest, it must not install them again.
	if err := errors.Join(g.Machine.save(s, nil), g.Machine.pin(s.Held)); err != nil {
		return err
	}
	err := g.reinstall(ctx, s, now, set)
	if have, e := g.Machine.installed(ctx); err == nil && e == nil && !(sound(have) && maps.Equal(current(have), versions(set))) {
		err = fmt.Errorf("dpkg ended well, but installed is %s", list(current(have)))
	}
	if err != nil {
		o.Result, o.Why = Stuck, why+"; putting back the version before failed: "+brief(err)
	} else {
		s.Judging = nil
		if !maps.Equal(versions(set), s.good()) {
			s.Good, s.Previous = set, nil
		}
		if after := g.judge(ctx, g.asked(s, time.Now())); after != nil {
			o.After = brief(after)
		}
	}
	s.Last = o
	if err := errors.Join(g.Machine.save(s, g.Settings.planned(g.Machine, s, time.Now())), err); err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	g.Machine.Log.Error("update taken back", "from", list(now), "to", list(o.From), "why", why, "still_wrong", o.After)
	return fmt.Errorf("%w: %s: %s is installed again", ErrBad, why, list(o.From))
}

// reinstall has dpkg install the set's files, all in one go, and starts the services
// that are meant to run.
func (g *Gate) reinstall(ctx context.Context, s State, now map[string]string, set map[string]Kept) error {
	have, err := g.Machine.installed(ctx)
	if err != nil {
		return err
	}
	var files []string
	var faults []error
	for _, pkg := range slices.Sorted(maps.Keys(set)) {
		if now[pkg] == set[pkg].Version && have[pkg].Whole {
			continue
		}
		path, err := g.Machine.usable(pkg, set[pkg])
		if err != nil {
			faults = append(faults, err)
			continue
		}
		files = append(files, path)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%w: install a good version by hand with apt-get", err)
	}
	for _, file := range files {
		if err := g.Machine.refuses(ctx, file); err != nil {
			return err
		}
	}
	if err := g.Machine.dpkg(ctx, append([]string{"--install"}, files...)...); err != nil {
		return err
	}
	// The packages restart what runs. What has failed does not.
	for _, unit := range s.Running {
		u, err := g.Machine.Units.Show(ctx, unit)
		if err == nil && u.Active {
			continue
		}
		if err := g.Machine.Units.Restart(ctx, unit); err != nil {
			g.Machine.Log.Error("could not start a service", "unit", unit, "err", err)
		}
	}
	return nil
}

// refuses asks a package whether it could go on from the state that is there. dpkg
// asks it, too (preinst), but by then it may have unpacked others. The preinst scripts
// of this project's packages look at that and change nothing.
func (m Machine) refuses(ctx context.Context, file string) error {
	script, err := command(exec.CommandContext(ctx, "dpkg-deb", "--info", file, "preinst"))
	if err != nil {
		return nil // there is none
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", script, "preinst", "upgrade")
	if m.Root != "/" {
		cmd.Env = append(os.Environ(), "DPKG_ROOT="+m.Root)
	}
	_, err = command(cmd)
	return err
}

// TakeBack is what an operator asks for who finds a fault that the gate did not: the
// release before the installed one is put back.
func (g *Gate) TakeBack(ctx context.Context) error {
	release, err := g.Machine.alone()
	if err != nil {
		return err
	}
	defer release()
	wait, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	unlock, err := g.Machine.frontend(wait)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := g.Machine.Load()
	if err != nil {
		return err
	}
	have, err := g.Machine.installed(ctx)
	if err != nil {
		return err
	}
	now, set := current(have), s.Good
	if maps.Equal(now, s.good()) {
		set = s.Previous
	}
	if len(set) == 0 {
		return errors.New("no version before the installed one is kept: install one by hand with apt-get")
	}
	s.Running = g.running(ctx)
	err = g.putBack(ctx, s, now, set, errors.New("taken back by the operator"))
	if s, e := g.Machine.Load(); e == nil && s.Last != nil && s.Last.Result == PutBack {
		return nil // as asked for
	}
	return err
}

// Release allows held versions again.
func (g *Gate) Release(version string) error {
	s, err := g.Machine.Load()
	if err != nil {
		return err
	}
	n := len(s.Held)
	s.Held = slices.DeleteFunc(s.Held, func(h maintenance.Held) bool { return h.Version == version })
	if len(s.Held) == n {
		return fmt.Errorf("version %s is not held: \"relay-appliance updates status\" lists those that are", version)
	}
	return errors.Join(g.Machine.save(s, g.Settings.planned(g.Machine, s, time.Now())), g.Machine.pin(s.Held))
}
