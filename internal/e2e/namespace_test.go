package e2e

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// envPrograms names the folder with the programs to the test that runs inside a
// namespace.
const envPrograms = "E2E_PROGRAMS"

// isolated is true inside a network of the test's own, which has addresses that no
// limit exempts as it does loopback. Outside it runs the calling test again in one, and
// reports how it went; the caller returns then.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envPrograms) != "" {
		return true
	}
	need.Root(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run=^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$", "-test.v"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+(time.Until(end)-time.Second).String())
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), envPrograms+"="+bin)
	// With a PID namespace of its own, whatever the test started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is of the thread
	defer runtime.UnlockOSThread()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
			t.Skipf("skipped: not even root may make a network namespace here: %v", err)
		}
		t.Fatalf("start in a namespace: %v", err)
	}
	if _, err := io.Copy(t.Output(), out); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("inside the namespace: %v", err)
	}
	return false
}
