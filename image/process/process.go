// Package process runs the programs that an image is made with.
package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// said bounds how much of a program's last words an error repeats.
const said = 4 << 10

// Seal keeps what this process has inherited open from those that it starts: Packer
// leaves files open to a plugin, and a shell that mmdebstrap starts can count them to
// nine only.
var Seal = sync.OnceValue(func() error {
	return os.NewSyscallError("close_range", unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC))
})

// Run runs a program to its end, in the environment env, or in this process's
// where env is nil. Its error repeats the last of what the program said. When ctx is
// over the program is killed, with all that it has started in its process group.
func Run(ctx context.Context, env []string, stdin io.Reader, argv ...string) error {
	_, err := Output(ctx, env, stdin, argv...)
	return err
}

// Output is Run, and returns what the program wrote on its standard output.
func Output(ctx context.Context, env []string, stdin io.Reader, argv ...string) (string, error) {
	if err := Seal(); err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, stdin, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	words := strings.TrimSpace(stderr.String())
	if words == "" {
		words = strings.TrimSpace(stdout.String())
	}
	if len(words) > said {
		words = "..." + words[len(words)-said:]
	}
	return "", fmt.Errorf("%s: %w\n%s", argv[0], err, words)
}
