package psf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// What the test inside the namespace is told by the one outside.
const (
	envInside  = "PSF_HARNESS_INSIDE"
	envModules = "PSF_HARNESS_MODULES"
	envRelayd  = "PSF_HARNESS_RELAYD"
	envHosts   = "PSF_HARNESS_HOSTS"
)

// domain is the relay's name, and relayIP its address: PSF peers drop 127.0.0.1.
const (
	domain  = "relay.test"
	relayIP = "127.0.0.2"
)

func TestMain(m *testing.M) {
	if os.Getenv(envInside) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "furnish the namespace:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// furnish gives the new namespace its loopback, and a name for the relay.
func furnish() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := unix.Mount(os.Getenv(envHosts), "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/hosts: %w", err)
	}
	return nil
}

// isolated is true inside a namespace of its own. Outside it runs the calling
// test again in one, beside other tests and with all that the test starts, and reports how
// it went; the caller returns then.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envInside) != "" {
		return true
	}
	if testing.Short() {
		t.Skip("skipped: -short")
	}
	need.Root(t)
	need.Tools(t, "go", "node")
	t.Parallel() // most of the time goes by in waiting for the peers' timers
	modules := need.NodeModules(t, "js")
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"+relayIP+" "+domain+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+(time.Until(end)-time.Second).String())
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), envInside+"=1", envModules+"="+modules, envRelayd+"="+relayd(t), envHosts+"="+hosts)
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

var built struct {
	sync.Once
	dir, path string
	err       error
}

// relayd builds the program once for all tests of this run. RELAYD names one that
// is to be tried instead.
func relayd(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.path = os.Getenv("RELAYD"); built.path != "" {
			return
		}
		if built.dir, built.err = os.MkdirTemp("", "psf-harness-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "relayd")
		if out, err := exec.Command("go", "build", "-o", built.path, "github.com/psf-relay/relay-appliance/relay/cmd/relayd").CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build relayd: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}
