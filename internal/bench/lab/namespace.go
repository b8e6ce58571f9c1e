// Package lab is where benchmarks run: a network of its own with nothing but a
// loopback, in which every program is bound to one CPU, and the means to read
// what a program used.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// envInside is set for the program that Enter started.
const envInside = "RELAY_BENCH_INSIDE"

// Inside says whether this program is the one that Enter started.
func Inside() bool { return os.Getenv(envInside) != "" }

// Enter runs this program again, with the same arguments, in a network, mount and
// process namespace of its own, and returns how it ended. Whatever it starts ends
// with it. An ordinary user needs the right to make user namespaces.
func Enter(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig is of the thread
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) {
			return fmt.Errorf("make a network namespace: %w: run it as root", err)
		}
		return fmt.Errorf("start in a network namespace: %w", err)
	}
	return cmd.Wait()
}

// Furnish gives the new namespaces what a benchmark needs: a loopback that holds
// the network for benchmarks of RFC 2544, in which every address is this machine
// and none is exempt from a relay's limits as 127.0.0.0/8 is; its own /proc; and
// room for many connections.
func Furnish() error {
	if err := loopback(); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return raiseOpenFiles()
}

func loopback() error {
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
	for _, set := range []struct {
		request uint
		value   [4]byte
	}{{unix.SIOCSIFADDR, network.Addr().As4()}, {unix.SIOCSIFNETMASK, [4]byte{255, 254, 0, 0}}} {
		second, err := unix.NewIfreq("lo:1")
		if err == nil {
			err = second.SetInet4Addr(set.value[:])
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, set.request, second)
		}
		if err != nil {
			return fmt.Errorf("give lo the network %s: %w", network, err)
		}
	}
	return nil
}

// openFiles is enough for 5,000 connections, whose both ends are here.
const openFiles = 32 << 10

func raiseOpenFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur >= openFiles {
		return nil
	}
	want := syscall.Rlimit{Cur: openFiles, Max: max(limit.Max, openFiles)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		want = syscall.Rlimit{Cur: limit.Max, Max: limit.Max}
		if limit.Max < openFiles/2 || syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) != nil {
			return fmt.Errorf("raise the limit of open files to %d: %w: raise the hard limit (ulimit -Hn) or run it as root", openFiles, err)
		}
	}
	return nil
}
