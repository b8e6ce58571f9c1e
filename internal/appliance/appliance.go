// Package appliance turns a machine with the packages on it into a relay, a monitor
// or both, from one short file of settings.
//
// [Machine.FirstBoot] validates the settings, writes the programs' own
// configuration, makes their identities, opens the firewall for just the role and
// starts the services. It changes what differs and nothing else, so that it is run
// at every boot, and by hand after a change of the settings. What an operator has
// changed by hand in the files that it writes stays as it is, and that is said.
//
// The programs are run as processes: what they know of themselves, they say.
package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Paths on the machine.
const (
	SettingsPath = "/etc/relay-appliance/appliance.yaml"
	stateDir     = "/var/lib/relay-appliance"
	runDir       = "/run/relay-appliance"
)

// A Machine is where the appliance is: a root folder, and how programs are run and
// files fetched there. The zero value is the machine that this runs on.
type Machine struct {
	// Root stands before all paths; empty: /.
	Root string
	// Exec runs a program and returns what it said; nil: as a process.
	Exec func(context.Context, Command) (Result, error)
	// Interfaces says which network interfaces there are; nil: the kernel's.
	Interfaces func() ([]Interface, error)
	// Client fetches what the settings name by URL; nil: the default one.
	Client *http.Client
	// Lookup resolves names; nil: as the system does.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// Bucket opens what backup.to names; nil: backups go into folders only.
	Bucket func(S3) (Place, error)

	// Of a download, for tests; 0: the usual.
	stall, pause time.Duration
	most         int64
}

// Command is a program to run.
type Command struct {
	User   string // empty: as this process
	Args   []string
	Stdin  io.Reader // nil: nothing
	Stdout io.Writer // nil: into the result
}

// Result is what a program said, and its exit code.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// failed is an error that says why, if the program said so.
func (r Result) failed(what string) error {
	if r.Code == 0 {
		return nil
	}
	if said := strings.TrimSpace(r.Stderr + r.Stdout); said != "" {
		return fmt.Errorf("%s: %s", what, said)
	}
	return fmt.Errorf("%s: exit code %d", what, r.Code)
}

func (m *Machine) path(name string) string { return filepath.Join("/", m.Root, name) }

func (m *Machine) has(name string) bool {
	_, err := os.Lstat(m.path(name))
	return err == nil
}

// run runs a program; that it could not be run, or was ended, is an error.
func (m *Machine) run(ctx context.Context, c Command) (Result, error) {
	if m.Exec != nil {
		return m.Exec(ctx, c)
	}
	return m.process(ctx, c)
}

// do runs a program that is to succeed.
func (m *Machine) do(ctx context.Context, args ...string) error {
	r, err := m.run(ctx, Command{Args: args})
	if err != nil {
		return err
	}
	return r.failed(strings.Join(args, " "))
}

// maxSaid bounds what is kept of a program's output.
const maxSaid = 1 << 20

func (m *Machine) process(ctx context.Context, c Command) (Result, error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	stdout, stderr := &limited{left: maxSaid}, &limited{left: maxSaid}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, stdout, stderr
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	// Nothing of who calls gets into what is called: relayd reads its environment.
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Dir = "/"
	cmd.WaitDelay = 5 * time.Second
	if c.User != "" {
		uid, gid, err := m.user(c.User)
		if err != nil {
			return Result{}, err
		}
		if os.Getuid() != uid {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
	}
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("%s: %w", strings.Join(c.Args, " "), ctx.Err())
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		r.Code = exit.ExitCode()
	case err != nil:
		return r, fmt.Errorf("%s: %w", c.Args[0], err)
	}
	return r, nil
}

// user looks up a system user's numbers.
func (m *Machine) user(name string) (uid, gid int, err error) {
	b, err := os.ReadFile(m.path("/etc/passwd"))
	if err != nil {
		return 0, 0, fmt.Errorf("look up the user %s: %w", name, err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(line, ":"); len(f) > 3 && f[0] == name {
			uid, err1 := strconv.Atoi(f[2])
			gid, err2 := strconv.Atoi(f[3])
			return uid, gid, errors.Join(err1, err2)
		}
	}
	return 0, 0, fmt.Errorf("there is no user %s: install the package %s", name, name)
}

// limited keeps the beginning of what is written to it.
type limited struct {
	kept bytes.Buffer // not embedded: its ReadFrom knows no limit
	left int
}

func (l *limited) String() string { return l.kept.String() }

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.kept.Write(p[:n])
	return len(p), nil
}

// readFile reads a file that is not longer than somebody would write.
func (m *Machine) readFile(name string) ([]byte, error) {
	f, err := os.Open(m.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSaid+1))
	if err == nil && len(b) > maxSaid {
		err = fmt.Errorf("%s: longer than %d bytes", name, maxSaid)
	}
	return b, err
}
