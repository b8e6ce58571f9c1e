package relaytest

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

const inNamespace = "RELAY_TEST_NAMESPACE"

// Isolated is true inside a network of the test's own, which has loopback only. Outside it
// runs the calling test again in one, and reports how it went; the caller returns then.
func Isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		Run(t, "ip", "link", "set", "lo", "up")
		return true
	}
	need.Root(t)
	need.Tools(t, "ip")
	self, err := os.Executable()
	Must(t, err)
	args := []string{"-test.run=^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$", "-test.v"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+(time.Until(end)-time.Second).String())
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is of the thread
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
		t.Skipf("skipped: not even root may make a network namespace here: %v", err)
	}
	if err != nil {
		t.Errorf("inside the namespace: %v", err)
	}
	return false
}

// Run runs a program of the system.
func Run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}
