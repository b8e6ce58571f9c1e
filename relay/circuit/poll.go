package circuit

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// newPoll makes a function that returns when all goroutines that were ready have run and
// the runtime has looked at the network. It does so when nothing is ready, or every 10 ms;
// with much that is always ready, who waits for the network would wait for that long.
func newPoll() (func(), error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd for the scheduler of circuits: %w", err)
	}
	bell := os.NewFile(uintptr(fd), "poll")
	return func() { afterPoll(bell) }, nil
}

// afterPoll makes the bell, an eventfd, readable and waits for the poller to find it so.
func afterPoll(bell *os.File) {
	conn, err := bell.SyscallConn()
	if err != nil {
		return
	}
	rung := false
	_ = conn.Read(func(fd uintptr) bool { // nothing is read: without a bell there is no wait
		if rung {
			return true
		}
		rung = true
		one := [8]byte{0: 1}
		_, err := syscall.Write(int(fd), one[:])
		return err != nil
	})
}
