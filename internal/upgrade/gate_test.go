package upgrade

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

func TestAGoodUpdateStays(t *testing.T) {
	r := settled(t)
	r.release("2.0", works)
	n, err := maintenance.Read(filepath.Join(r.root, maintenance.File), time.Now())
	if err != nil || n.Planned == nil || n.Planned.Why != "an update of relayd, relaymon" {
		t.Errorf("announced before the restart: %+v, %v", n.Planned, err)
	}
	r.run(nil)
	r.wantInstalled("2.0")
	r.wantGood("2.0")
	s := r.state()
	if s.Last.Result != Proven || s.Previous["relayd"].Version != "1.0" || len(s.Held) != 0 || s.Judging != nil {
		t.Errorf("the state is %+v", s)
	}
	if n, err := maintenance.Read(filepath.Join(r.root, maintenance.File), time.Now()); err != nil || !n.Empty() {
		t.Errorf("the announcement stays: %+v, %v", n, err)
	}
	// The packages of two releases are kept, not more.
	r.release("3.0", works)
	r.run(nil)
	files, err := filepath.Glob(filepath.Join(r.gate.Machine.packagesDir(), "*"))
	if err != nil || len(files) != 4 {
		t.Errorf("kept are %q (%v), want those of 2.0 and 3.0", files, err)
	}
	r.looks = 0
	r.run(nil)
	if r.looks > 0 {
		t.Error("with nothing new it looks again and again")
	}
}

func TestABadUpdateIsTakenBack(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		spoil  func(r *tree)
		why    string
	}{
		"it does not relay":     {fails, func(*tree) {}, "it does not relay"},
		"it crashes at start":   {works, func(r *tree) { r.units.set("relayd.service", Unit{false, "activating/auto-restart", "0"}) }, "relayd runs: it is activating/auto-restart"},
		"it gave up":            {works, func(r *tree) { r.units.set("relayd.service", Unit{false, "failed/failed", "0"}) }, "relayd runs: it is failed/failed"},
		"its package stops it":  {works, func(r *tree) { r.units.set("relayd.service", Unit{false, "inactive/dead", "0"}) }, "relayd runs: it is inactive/dead"},
		"it loses the evidence": {works, func(r *tree) { r.costly = errors.New("3 faults") }, "the log verifies: 3 faults"},
	} {
		t.Run(name, func(t *testing.T) {
			r := settled(t)
			r.release("2.0", works)
			r.run(nil)
			r.release("3.0", c.script)
			c.spoil(r)
			r.run(ErrBad)
			r.wantInstalled("2.0")
			r.wantGood("2.0")
			r.wantHeld("3.0")
			o := r.state().Last
			if o.Result != PutBack || o.To["relayd"] != "3.0" || !strings.Contains(o.Why, c.why) {
				t.Errorf("the outcome is %+v, want why %q", o, c.why)
			}
			if u, _ := r.units.Show(context.Background(), "relayd.service"); !u.Active {
				t.Error("the version that was put back does not run")
			}
			lines := strings.Join(r.state().Lines(), "\n")
			if !strings.Contains(lines, "UPDATE TAKEN BACK") || !strings.Contains(lines, "relay-appliance updates release 3.0") {
				t.Errorf("the operator is told:\n%s", lines)
			}
			n, err := maintenance.Read(filepath.Join(r.root, maintenance.File), time.Now())
			if err != nil || len(n.Held) != 2 || n.Held[0].Version != "3.0" {
				t.Errorf("relayd and relaymon are told %+v, %v", n, err)
			}
			r.costly = nil
			r.run(nil) // nothing is left to do, and nothing is said again

			r.release("4.0", works)
			r.run(nil)
			r.wantInstalled("4.0")
			r.wantHeld() // the next good one ends it
		})
	}
}

// A service that crashes after a while is active whenever it is looked at.
func TestAServiceThatIsStartedAgainAndAgain(t *testing.T) {
	u := &units{state: map[string]Unit{"relayd.service": {true, "active/running", "10"}}}
	c := Machine{Units: u}.runs("relayd.service")
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.set("relayd.service", Unit{true, "active/running", "20"})
	if err := c.Run(t.Context()); err == nil {
		t.Fatal("another process passed for the same")
	}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal("the new one is looked at from here on:", err)
	}
}

func TestWhatTheVersionBeforeDidNotDoIsNotAsked(t *testing.T) {
	r := newTree(t)
	r.units.set("relayd.service", Unit{true, "active/running", "10"})
	r.release("1.0", fails)
	r.run(nil)
	r.release("2.0", fails)
	r.run(nil)
	r.wantInstalled("2.0")
}

// What passed at a time that is still to come says as little as what never passed.
func TestWhatPassedByAWrongClockIsNotAsked(t *testing.T) {
	r := settled(t)
	s := r.state()
	now := time.Now()
	asked := len(r.gate.asked(s, now))
	for name := range s.Passed {
		s.Passed[name] = now.AddDate(10, 0, 0)
	}
	if n := len(r.gate.asked(s, now)); n != asked-len(s.Passed) || len(s.Passed) == 0 {
		t.Errorf("%d checks are asked, %d before %d of them had passed in the future", n, asked, len(s.Passed))
	}
	r.gate.observe(t.Context(), &s, now)
	for name, at := range s.Passed {
		if !at.Equal(now) {
			t.Errorf("%s is not looked at anew: noted at %s", name, at)
		}
	}
}

func TestAServiceThatDidNotRunIsNotAsked(t *testing.T) {
	r := settled(t)
	r.units.set("relayd.service", Unit{false, "inactive/dead", "0"}) // the operator stopped it
	r.release("2.0", fails)
	r.run(nil)
	r.wantInstalled("2.0")
	if len(r.units.restarted) > 0 {
		t.Errorf("%q was started, against the operator's will", r.units.restarted)
	}
}

// The power goes in the middle of the judgement, and of putting back.
func TestAfterAPowerCut(t *testing.T) {
	t.Run("judging", func(t *testing.T) {
		r := settled(t)
		r.release("2.0", fails)
		ctx, cut := context.WithCancel(t.Context())
		r.gate.Settings.HealthyWithin = time.Minute
		checks := r.gate.Checks
		r.gate.Checks = func() []Check {
			return append(checks(), Check{Name: "the power", Run: func(context.Context) error { cut(); return nil }})
		}
		if err := r.gate.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		r.wantInstalled("2.0")
		if j := r.state().Judging; j == nil || j.Starts != 1 {
			t.Fatalf("the judgement is not noted: %+v", j)
		}
		r.gate.Checks, r.gate.Settings.HealthyWithin = checks, time.Nanosecond
		r.run(ErrBad)
		r.wantInstalled("1.0")
	})
	t.Run("again and again", func(t *testing.T) {
		r := settled(t)
		r.release("2.0", works)
		s := r.state()
		s.Judging = &Judging{versions(map[string]Kept{"relayd": {Version: "2.0"}, "relaymon": {Version: "2.0"}}), maxStarts}
		if err := r.gate.Machine.save(s, nil); err != nil {
			t.Fatal(err)
		}
		r.run(ErrBad)
		r.wantInstalled("1.0")
	})
	t.Run("half put back", func(t *testing.T) {
		r := settled(t)
		r.release("2.0", fails)
		// What is done before dpkg is called, and half of what dpkg does.
		s := r.state()
		s.Held = []maintenance.Held{{Package: "relayd", Version: "2.0", Why: "bad"}, {Package: "relaymon", Version: "2.0", Why: "bad"}}
		if err := r.gate.Machine.save(s, nil); err != nil {
			t.Fatal(err)
		}
		path, err := r.gate.Machine.usable("relayd", s.Good["relayd"])
		if err != nil {
			t.Fatal(err)
		}
		r.install(path) // works again; relaymon 2.0 is still there, and held
		r.run(ErrBad)
		r.wantInstalled("1.0")
	})
	t.Run("unpacked, not configured", func(t *testing.T) {
		r := settled(t)
		files := []string{r.deb("relayd", "2.0", works), r.deb("relaymon", "2.0", works)}
		if err := r.gate.Before(t.Context(), strings.NewReader(strings.Join(files, "\n"))); err != nil {
			t.Fatal(err)
		}
		if err := r.gate.Machine.dpkg(t.Context(), append([]string{"--unpack"}, files...)...); err != nil {
			t.Fatal(err)
		}
		r.run(nil)
		r.wantInstalled("2.0")
		r.wantGood("2.0")
	})
	// What the kernel has written of an unpacking that was cut off: the old version, and
	// dpkg's word that it is half installed.
	t.Run("half unpacked", func(t *testing.T) {
		r := settled(t)
		status := r.read("var/lib/dpkg/status")
		r.write("var/lib/dpkg/status", strings.Replace(status, "Package: relayd\nStatus: install ok installed", "Package: relayd\nStatus: install reinstreq half-installed", 1))
		if have, err := r.gate.Machine.installed(t.Context()); err != nil || sound(have) {
			t.Fatalf("dpkg takes it for whole: %+v, %v", have, err)
		}
		r.run(nil)
		r.wantInstalled("1.0")
		r.wantHeld()
		if o := r.state().Last; o != nil {
			t.Errorf("a version is said to be at fault: %+v", o)
		}
	})
	t.Run("cannot be configured", func(t *testing.T) {
		r := settled(t)
		files := []string{r.deb("relayd", "2.0", works, "postinst=#!/bin/sh\nexit 1\n"), r.deb("relaymon", "2.0", works)}
		if err := r.gate.Before(t.Context(), strings.NewReader(strings.Join(files, "\n"))); err != nil {
			t.Fatal(err)
		}
		if err := r.gate.Machine.dpkg(t.Context(), append([]string{"--install"}, files...)...); err == nil {
			t.Fatal("the package is not as bad as it is meant to be")
		}
		r.run(ErrBad)
		r.wantInstalled("1.0")
		r.wantHeld("2.0")
	})
}

func TestWithoutAWayBack(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"the kept file is gone":    os.Remove,
		"the kept file is damaged": func(path string) error { return os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			r := settled(t)
			path, err := r.gate.Machine.usable("relaymon", r.state().Good["relaymon"])
			if err != nil {
				t.Fatal(err)
			}
			r.release("2.0", fails)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			r.run(ErrBad)
			r.wantInstalled("2.0") // both: half a release would be a third thing
			if o := r.state().Last; o.Result != Stuck || !strings.Contains(o.Why, "by hand") {
				t.Errorf("the outcome is %+v", o)
			}
		})
	}
}

// A package that cannot go on from the state refuses, and nothing is touched.
func TestADowngradeThatIsRefused(t *testing.T) {
	r := newTree(t)
	r.units.set("relayd.service", Unit{true, "active/running", "10"})
	refuses := "preinst=#!/bin/sh\nif [ -e \"$DPKG_ROOT/run/new-state\" ]; then echo the state is too new >&2; exit 1; fi\n"
	r.release("1.0", works, refuses)
	r.run(nil)
	r.release("2.0", fails)
	r.write("run/new-state", "")
	r.run(ErrBad)
	r.wantInstalled("2.0")
	if o := r.state().Last; o.Result != Stuck || !strings.Contains(o.Why, "the state is too new") {
		t.Errorf("the outcome is %+v", o)
	}
}

func TestTheOperatorTakesBack(t *testing.T) {
	r := settled(t)
	if err := r.gate.TakeBack(t.Context()); err == nil || !strings.Contains(err.Error(), "no version before") {
		t.Fatalf("with nothing before: %v", err)
	}
	r.release("2.0", works)
	r.run(nil)
	if err := r.gate.TakeBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.wantInstalled("1.0")
	r.wantGood("1.0")
	r.wantHeld("2.0")
	r.run(nil)
	if err := r.gate.Release("7.0"); err == nil {
		t.Error("a version that is not held was released")
	}
	if err := r.gate.Release("2.0"); err != nil {
		t.Fatal(err)
	}
	r.wantHeld()
	r.release("2.0", works)
	r.run(nil)
	r.wantInstalled("2.0")
}

// While somebody installs packages the gate waits; it never works inside of dpkg.
func TestItWaitsForDpkg(t *testing.T) {
	r := settled(t)
	r.release("2.0", works)
	// Another process, since a process does not keep itself out.
	f, err := os.OpenFile(filepath.Join(r.root, frontendLock), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	holder := hold(t, f.Name())
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockTry)
	defer cancel()
	if _, err := r.gate.Machine.frontend(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}

	var held atomic.Bool
	held.Store(true)
	checks := r.gate.Checks
	r.gate.Checks = func() []Check {
		if held.Load() {
			t.Error("it looks while somebody installs packages")
		}
		return checks()
	}
	ended := make(chan error, 1)
	go func() { ended <- r.gate.Run(t.Context()) }()
	select {
	case err := <-ended:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(3 * lockTry):
	}
	held.Store(false)
	holder()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r.wantGood("2.0")
}

// Two at a time: the second one leaves it to the first.
func TestOneGateAtATime(t *testing.T) {
	r := settled(t)
	release, err := r.gate.Machine.alone()
	if err != nil {
		t.Fatal(err)
	}
	r.release("2.0", works)
	r.run(nil)
	if v := r.state().Good["relayd"].Version; v != "1.0" {
		t.Fatalf("it judged: %s is proven", v)
	}
	release()
	r.run(nil)
	r.wantGood("2.0")
}
