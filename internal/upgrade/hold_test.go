package upgrade

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// hold has another process hold a lock as dpkg does, until release is called.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestHoldALock$")
	child.Env = append(os.Environ(), "HOLD_LOCK="+path)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("the lock is not held: %q, %v", line, err)
	}
	return func() {
		stdin.Close()
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestHoldALock is the other process.
func TestHoldALock(t *testing.T) {
	path := os.Getenv("HOLD_LOCK")
	if path == "" {
		t.Skip("skipped: it is the other process of TestItWaitsForDpkg")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
