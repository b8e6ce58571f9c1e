package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check is one thing that a release must do.
type Check struct {
	Name string
	// Unit is the service whose work is looked at. Where it does not run, there is
	// nothing to look at. Empty: always.
	Unit string
	// Costly is a check that is not made again and again.
	Costly bool
	Run    func(ctx context.Context) error
}

const (
	checkTime  = 30 * time.Second // one look
	costlyTime = 15 * time.Minute // a year's evidence log on a small machine
	lookPause  = 2 * time.Second  // between two looks
	// passedFor is how long it counts that the good release passed a check.
	passedFor = 72 * time.Hour
)

// look makes one check.
func (c Check) look(ctx context.Context) error {
	limit := checkTime
	if c.Costly {
		limit = costlyTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := c.Run(ctx); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}

// runs says that a service is active and still the same process as at the first
// look. A service that crashes and is started again is active most of the time.
func (m Machine) runs(unit string) Check {
	pid := ""
	return Check{Name: strings.TrimSuffix(unit, ".service") + " runs", Unit: unit, Run: func(ctx context.Context) error {
		u, err := m.Units.Show(ctx, unit)
		if err != nil {
			return err
		}
		before := pid
		pid = u.MainPID
		switch {
		case !u.Active:
			return fmt.Errorf("it is %s", u.State)
		case before != "" && before != u.MainPID:
			return errors.New("it ended and was started again")
		}
		return nil
	}}
}

// judge looks until all that is asked for has held without a break for the time of
// HealthyFor, and returns why that did not come to be within HealthyWithin.
func (g *Gate) judge(ctx context.Context, asked []Check) error {
	begun := time.Now()
	var since time.Time // when the row of good looks began
	said := ""
	for {
		err := lookAtAll(ctx, asked, false)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if since = (time.Time{}); err.Error() != said {
				said = err.Error()
				g.Machine.Log.Info("not healthy yet", "why", err)
			}
		case since.IsZero():
			since = now
		}
		if err == nil && now.Sub(since) >= g.Settings.HealthyFor {
			// The costly ones do not count against the time: how long they take depends
			// on how much there is, not on whether it works.
			return lookAtAll(ctx, asked, true)
		}
		if now.Sub(begun) >= g.Settings.HealthyWithin {
			if err == nil {
				err = errors.New("what fails now and then: " + said)
			}
			return fmt.Errorf("after %s: %w", g.Settings.HealthyWithin, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookPause):
		}
	}
}

func lookAtAll(ctx context.Context, asked []Check, costly bool) error {
	var errs []error
	for _, c := range asked {
		if c.Costly == costly {
			errs = append(errs, c.look(ctx))
		}
	}
	return errors.Join(errs...)
}

// asked are the checks that a new release has to pass: those of the services that
// ran before, but for those that the good release did not pass either.
func (g *Gate) asked(s State, now time.Time) []Check {
	var asked []Check
	for _, c := range g.Checks() {
		at, passed := s.Passed[c.Name]
		passed = passed && age(at, now) < passedFor
		switch {
		case c.Unit != "" && !slices.Contains(s.Running, c.Unit):
		case c.Unit == "", passed:
			asked = append(asked, c)
		default:
			g.Machine.Log.Info("not asked of the new version, since the one before did not pass it either", "check", c.Name)
		}
	}
	return asked
}

// observe notes which checks the good release passes, at most as often as that is
// worth the work.
func (g *Gate) observe(ctx context.Context, s *State, now time.Time) {
	s.Running = g.running(ctx)
	if s.Passed == nil {
		s.Passed = map[string]time.Time{}
	}
	for _, c := range g.Checks() {
		if c.Unit == "" { // asked in any case
			continue
		}
		if !slices.Contains(s.Running, c.Unit) {
			delete(s.Passed, c.Name)
			continue
		}
		fresh := observeEvery
		if c.Costly {
			fresh = observeCostly
		}
		if age(s.Passed[c.Name], now) < fresh {
			continue
		}
		if err := c.look(ctx); err != nil {
			g.Machine.Log.Warn("the installed version does not pass a check; the next one is not asked to", "why", err)
			delete(s.Passed, c.Name)
		} else {
			s.Passed[c.Name] = now
		}
	}
}

const (
	observeEvery  = 50 * time.Minute
	observeCostly = 23 * time.Hour
)

// running are the services that run now.
func (g *Gate) running(ctx context.Context) []string {
	var list []string
	for _, unit := range services {
		u, err := g.Machine.Units.Show(ctx, unit)
		if err != nil {
			g.Machine.Log.Warn("could not ask after a service", "unit", unit, "err", err)
		}
		// One that crashes again and again runs, too: it is to be healed.
		if u.Active || strings.HasPrefix(u.State, "activating/") || strings.HasPrefix(u.State, "failed/") {
			list = append(list, unit)
		}
	}
	return list
}

// services are those of the programs.
var services = []string{"relayd.service", "relaymon.service"}
