package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The CPUs: one for the program under test, one for all of its clients.
const (
	SubjectCPU = 0
	ClientCPU  = 1
)

// Process is a program that runs on one CPU.
type Process struct {
	Name   string
	Stdout *os.File // nil unless asked for
	log    string
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	err    error
}

// Program says what to start.
type Program struct {
	Name string
	CPU  int
	Args []string // the program and its arguments
	Dir  string   // where it runs, and its log lies
	Pipe bool     // its standard output is read, instead of logged
}

// Start starts a program. It ends with ctx, by a SIGTERM.
func Start(ctx context.Context, p Program) (*Process, error) {
	log, err := os.Create(filepath.Join(p.Dir, strings.ReplaceAll(p.Name, "/", "-")+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	r := &Process{Name: p.Name, log: log.Name(), cmd: exec.CommandContext(ctx, p.Args[0], p.Args[1:]...), done: make(chan struct{})}
	r.cmd.Dir = p.Dir
	r.cmd.Stdout, r.cmd.Stderr = log, log
	// No proxy of the environment, no setting of the Go runtime changes a result.
	r.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GOMAXPROCS=1"}
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(syscall.SIGTERM) }
	r.cmd.WaitDelay = 10 * time.Second
	if p.Pipe {
		in, out, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer out.Close() // as above
		r.cmd.Stdout, r.Stdout = out, in
	}
	if err := onCPU(p.CPU, r.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	return r, nil
}

// onCPU starts a program from a thread that is bound to the CPU, which the
// program inherits.
func onCPU(cpu int, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read the CPU affinity: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("bind to CPU %d: %w: two CPUs are needed", cpu, err)
	}
	return errors.Join(start(), unix.SchedSetaffinity(0, &before))
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the process and returns when it is gone.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it is gone
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Wait returns how the process ended, with the end of its log if it went wrong.
func (p *Process) Wait() error {
	<-p.done
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w\n%s", p.Name, p.err, p.Tail())
}

// Tail is the end of what the process logged.
func (p *Process) Tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// Log is the file that the process logs to.
func (p *Process) Log() string { return p.log }

// CPU is what a process has used so far: utime and stime together, as the kernel
// counts them for clock_getcpuclockid(3), that is, finer than /proc shows them.
func CPU(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|2, &t); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// RSS is the memory of a process that is resident, in bytes (VmRSS). What the
// kernel holds for its sockets is not in it.
func RSS(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		if v, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(v), []byte(" kB"))), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("read the memory of process %d: it has ended", pid)
}
