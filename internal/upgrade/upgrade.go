// Package upgrade keeps a machine's packages up to date without anybody watching,
// and takes an update back by itself when the new version does not do its work.
//
// The installing is done by apt and unattended-upgrades. What is here decides when
// that may happen, and judges what came of it:
//
//   - The state (state.go) knows the versions that have proved themselves, and keeps
//     their packages as files.
//   - The gate (gate.go) compares them with what is installed. It runs after each
//     dpkg, at each boot and now and then, always does what the comparison asks for,
//     and so goes on where a power cut stopped it; nothing has to be remembered.
//   - Installed and not proven: the checks (health.go) decide within a time. The
//     version has proved itself, or the proven packages are put back, apt is told
//     not to install the bad version again (pin.go), and the operator is told.
//   - A check that had failed already before the update is not held against it.
//
// The gate that judges a release is the program of the release before it, of which
// a copy is kept: a new relay-appliance is judged like the others.
//
// All of it holds dpkg's frontend lock while it judges and puts back, as apt does
// (lock.go); it never runs inside of dpkg.
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
)

// Packages are those of a release. They are judged and put back together, as they
// were tested together.
var Packages = []string{"relay-appliance", "relayaudit", "relayd", "relaymon"}

// StateDir is where the state lies, and the packages that proved themselves.
const StateDir = "/var/lib/relay-appliance"

// Machine is what is kept up to date: this machine, or in tests a tree with dpkg's
// data base in it.
type Machine struct {
	Root  string // "/" for this machine
	Units Units
	Log   *slog.Logger
}

// Units are the services whose state says how the programs are.
type Units interface {
	// Show returns the unit's state.
	Show(ctx context.Context, unit string) (Unit, error)
	// Restart starts the unit anew, also one that has failed.
	Restart(ctx context.Context, unit string) error
	// Reboot restarts the machine.
	Reboot(ctx context.Context) error
}

// Unit is the state of a service.
type Unit struct {
	Active  bool
	State   string // as systemd calls it: active/running, activating/auto-restart
	MainPID string
}

// Local is the machine on which the program runs.
func Local(log *slog.Logger) Machine { return Machine{Root: "/", Units: systemd{}, Log: log} }

func (m Machine) path(name string) string { return filepath.Join(m.Root, name) }

// command runs a program and returns what it wrote to stdout. An error ends with
// the last of what the program had to say.
func command(cmd *exec.Cmd) (string, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w%s", strings.Join(cmd.Args, " "), err, tail(stderr.String()+stdout.String()))
	}
	return stdout.String(), err
}

// tail is the end of what a program wrote, on one line and not long.
func tail(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		return ""
	}
	if n := len(s) - 200; n > 0 {
		s = "..." + s[n:]
	}
	return ": " + s
}

// brief is what an operator is told of a fault: one line that is not long.
func brief(err error) string {
	s := strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", "; ")), " ")
	if len(s) > 400 {
		s = s[:400] + "..."
	}
	return s
}

// systemd asks the service manager.
type systemd struct{}

func (systemd) Show(ctx context.Context, unit string) (Unit, error) {
	out, err := command(exec.CommandContext(ctx, "systemctl", "show", "--property=ActiveState,SubState,MainPID", unit))
	if err != nil {
		return Unit{}, err
	}
	p := map[string]string{}
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			p[key] = value
		}
	}
	return Unit{Active: p["ActiveState"] == "active", State: p["ActiveState"] + "/" + p["SubState"], MainPID: p["MainPID"]}, nil
}

func (systemd) Restart(ctx context.Context, unit string) error {
	// One that failed too often would not be started for that alone.
	_, _ = command(exec.CommandContext(ctx, "systemctl", "reset-failed", unit))
	_, err := command(exec.CommandContext(ctx, "systemctl", "restart", unit))
	return err
}

func (systemd) Reboot(ctx context.Context) error {
	_, err := command(exec.CommandContext(ctx, "systemctl", "reboot"))
	return err
}

// exists says whether the file is there; one that cannot be looked at is not.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// removed takes a file away that may not be there.
func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
