package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// tree is a small system in a folder: a real dpkg installs real packages into it.
// Their program is a script that says which version it is, and the test's check runs
// it. Only the services are not there.
type tree struct {
	t     *testing.T
	root  string
	units *units
	gate  *Gate
	// costly is what the costly check says.
	costly error
	looks  int
}

func newTree(t *testing.T) *tree {
	t.Helper()
	need.Tools(t, "dpkg", "dpkg-deb", "dpkg-query")
	r := &tree{t: t, root: t.TempDir(), units: &units{state: map[string]Unit{}}}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc/apt/preferences.d", "usr/bin", "run", StateDir} {
		if err := os.MkdirAll(filepath.Join(r.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.write("var/lib/dpkg/status", "")
	r.write("var/lib/dpkg/available", "")
	m := Machine{Root: r.root, Units: r.units, Log: slog.New(slog.NewTextHandler(testLog{t}, nil))}
	settings := DefaultSettings()
	settings.HealthyFor, settings.HealthyWithin = 0, time.Nanosecond
	r.gate = &Gate{Machine: m, Settings: settings}
	r.gate.Checks = func() []Check {
		return []Check{
			m.runs("relayd.service"),
			{Name: "relayd relays", Unit: "relayd.service", Run: func(ctx context.Context) error {
				r.looks++
				_, err := command(exec.CommandContext(ctx, filepath.Join(r.root, "usr/bin/relayd"), "relay"))
				return err
			}},
			{Name: "the log verifies", Unit: "relaymon.service", Costly: true, Run: func(context.Context) error { return r.costly }},
		}
	}
	return r
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (r *tree) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.root, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *tree) read(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.root, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	return string(data)
}

const (
	works = "exit 0"
	fails = "echo it does not relay >&2; exit 1"
)

// deb builds a package whose program does what the script says.
func (r *tree) deb(name, version, script string, control ...string) string {
	r.t.Helper()
	dir := r.t.TempDir()
	files := map[string]string{
		"DEBIAN/control":  fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a test\n", name, version),
		"usr/bin/" + name: "#!/bin/sh\n# " + version + "\n" + script + "\n",
	}
	for _, c := range control {
		file, text, _ := strings.Cut(c, "=")
		files["DEBIAN/"+file] = text
	}
	for file, text := range files {
		path := filepath.Join(dir, "p", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	deb := filepath.Join(dir, fmt.Sprintf("%s_%s_all.deb", name, version))
	if _, err := command(exec.Command("dpkg-deb", "--root-owner-group", "--build", filepath.Join(dir, "p"), deb)); err != nil {
		r.t.Fatal(err)
	}
	return deb
}

// release installs a version of relayd and relaymon as apt does: the hook first, then
// dpkg. The services restart with it.
func (r *tree) release(version, script string, control ...string) {
	r.t.Helper()
	files := []string{r.deb("relayd", version, script, control...), r.deb("relaymon", version, works)}
	if err := r.gate.Before(context.Background(), strings.NewReader(strings.Join(files, "\n")+"\n")); err != nil {
		r.t.Fatal(err)
	}
	r.install(files...)
}

func (r *tree) install(files ...string) {
	r.t.Helper()
	if err := r.gate.Machine.dpkg(context.Background(), append([]string{"--install"}, files...)...); err != nil {
		r.t.Fatal(err)
	}
}

// settled is a tree in which version 1 has proved itself.
func settled(t *testing.T) *tree {
	t.Helper()
	r := newTree(t)
	r.units.set("relayd.service", Unit{true, "active/running", "10"})
	r.units.set("relaymon.service", Unit{true, "active/running", "11"})
	r.release("1.0", works)
	r.run(nil)
	r.wantInstalled("1.0")
	return r
}

// run runs the gate and wants the error.
func (r *tree) run(want error) {
	r.t.Helper()
	if err := r.gate.Run(context.Background()); !errors.Is(err, want) || want == nil && err != nil {
		r.t.Fatalf("the gate says %v, want %v", err, want)
	}
}

func (r *tree) state() State {
	r.t.Helper()
	s, err := r.gate.Machine.Load()
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// wantInstalled checks what dpkg says, and that the files are those of the version.
func (r *tree) wantInstalled(version string) {
	r.t.Helper()
	have, err := r.gate.Machine.installed(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, pkg := range []string{"relayd", "relaymon"} {
		if p := have[pkg]; p.Version != version || !p.Whole {
			r.t.Errorf("dpkg says %s is %+v, want %s whole", pkg, p, version)
		}
		if text := r.read("usr/bin/" + pkg); !strings.Contains(text, "# "+version+"\n") {
			r.t.Errorf("the program %s is not %s:\n%s", pkg, version, text)
		}
	}
}

func (r *tree) wantGood(version string) {
	r.t.Helper()
	for pkg, k := range r.state().Good {
		if k.Version != version || k.File == "" {
			r.t.Errorf("proven is %s %+v, want %s with its file", pkg, k, version)
		}
	}
}

func (r *tree) wantHeld(versions ...string) {
	r.t.Helper()
	pins := r.read(preferences)
	if got := strings.Count(pins, "Pin: version "); got != 2*len(versions) {
		r.t.Errorf("%d pins, want two for each of %q:\n%s", got, versions, pins)
	}
	for _, v := range versions {
		if !strings.Contains(pins, "Package: relayd\nPin: version "+v+"\nPin-Priority: -1\n") {
			r.t.Errorf("%s is not held:\n%s", v, pins)
		}
	}
}

// units are services whose state the test sets.
type units struct {
	mu        sync.Mutex
	state     map[string]Unit
	restarted []string
	rebooted  int
}

func (u *units) set(unit string, s Unit) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state[unit] = s
}

func (u *units) Show(_ context.Context, unit string) (Unit, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state[unit], nil
}

func (u *units) Restart(_ context.Context, unit string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.restarted = append(u.restarted, unit)
	u.state[unit] = Unit{true, "active/running", "99"}
	return nil
}

func (u *units) Reboot(context.Context) error { u.rebooted++; return nil }
