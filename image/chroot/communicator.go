// Package chroot is a Packer communicator to a tree of files on this machine.
//
// A command runs in mount, PID, IPC, UTS and network namespaces of its own. When
// its shell ends, or is killed, the kernel ends what it has started and undoes its
// mounts, so that nothing outlives a build; and nothing can be fetched, so that what
// is installed is what was given. Files go in and out through [os.Root]: a link in
// the tree cannot lead out of it.
package chroot

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/process"
)

// Communicator runs commands in a tree and carries files to and from it.
type Communicator struct {
	ctx  context.Context
	root string
	env  []string
	busy sync.WaitGroup
}

var _ packer.Communicator = (*Communicator)(nil)

// New is a communicator to the tree at root. No command lives longer than ctx:
// Packer does not pass the cancellation of a provisioner on to here. Commands see
// env, and of the environment of this process nothing.
func New(ctx context.Context, root string, env ...string) *Communicator {
	return &Communicator{ctx: ctx, root: root, env: env}
}

// Argv is what runs a shell command in the tree at root. A package that applies its
// sysctl settings when it is installed must not apply them to this machine.
func Argv(root, command string) []string {
	const enter = `mount -o bind,ro "$1/proc/sys" "$1/proc/sys" && exec chroot "$1" /bin/sh -c "$2"`
	return []string{"unshare", "--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child",
		"--mount-proc=" + root + "/proc", "/bin/sh", "-c", enter, "sh", root, command}
}

// Start starts a command; its exit code is told when it ends.
func (c *Communicator) Start(ctx context.Context, remote *packer.RemoteCmd) error {
	if err := process.Seal(); err != nil {
		return err
	}
	argv := Argv(c.root, remote.Command)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TZ=UTC",
		"DEBIAN_FRONTEND=noninteractive"}, c.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = remote.Stdin, remote.Stdout, remote.Stderr
	// Whoever holds the output open after the end is not waited for.
	cmd.WaitDelay = 5 * time.Second
	// A terminal's Ctrl-C is for Packer, which then cancels the build.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		stop()
		cancel()
		return fmt.Errorf("start a command in %s: %w", c.root, err)
	}
	c.busy.Add(1)
	go func() {
		defer c.busy.Done()
		defer cancel()
		defer stop()
		remote.SetExited(exitCode(cmd.Wait()))
	}()
	return nil
}

// Wait returns when no command runs any more.
func (c *Communicator) Wait() { c.busy.Wait() }

// exitCode is as a shell says it: 128 and the signal for what was killed.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return 0
	case !errors.As(err, &exit):
		return 1
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
