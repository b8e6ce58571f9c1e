package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// Machine is a virtual machine with its disk, switched on or off.
type Machine struct {
	cfg    Config
	wiring wiring
	key    ssh.Signer
	log    *os.File

	// Console is the machine's serial console.
	Console *Console

	mu      sync.Mutex
	running *process

	login login
}

// process is QEMU while the machine is switched on.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{} // closed when it has; then err is set
	err    error
}

// New makes a machine: overlay, a key to log in with, and the choice of ports. It
// is not switched on yet.
func New(ctx context.Context, c Config) (*Machine, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("make a machine: %w", err)
	}
	m := &Machine{cfg: c}
	if err := m.make(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make a machine: %w", err), m.Close())
	}
	return m, nil
}

func (m *Machine) make(ctx context.Context) (err error) {
	// QEMU and qemu-img take relative names as relative to other places.
	for _, path := range []*string{&m.cfg.Disk, &m.cfg.Dir} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	// Never over what is there: it may be the disk of another machine.
	if m.log, err = os.OpenFile(m.cfg.path(consoleFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
		return fmt.Errorf("%w: give each machine a folder of its own", err)
	}
	m.Console = newConsole(m.log, m.cfg.Progress)
	if err := m.cfg.overlay(ctx); err != nil {
		return err
	}
	h := hardwares[m.cfg.Arch]
	if files, ok := h.firmwareFiles[m.cfg.Firmware]; ok {
		vars, err := os.ReadFile(filepath.Join(m.cfg.FirmwareDir, files[1]))
		if err != nil {
			return fmt.Errorf("the UEFI firmware: %w: install %s", err, h.firmwarePackage)
		}
		if err := os.WriteFile(m.cfg.path(varsFile), vars, 0o600); err != nil {
			return err
		}
	}
	if m.key, err = newKey(m.cfg.path(keyFile)); err != nil {
		return err
	}
	m.wiring.forwarded, err = choosePorts(m.cfg.forwards())
	return err
}

// Start switches the machine on. It stays on until the guest or [Machine.PowerCut]
// switches it off; should this program die, the kernel does.
func (m *Machine) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running != nil {
		select {
		case <-m.running.ended:
		default:
			return errors.New("start the machine: it is on")
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start the machine: %w", err)
	}
	m.wiring.started = time.Now()
	p := &process{cmd: exec.Command(Program(m.cfg.Arch), m.cfg.args(m.wiring)...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = m.Console, &p.stderr
	p.cmd.WaitDelay = 10 * time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // its helpers for services end with it
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start the machine: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		// Those that carry a service to the guest would wait for its last word.
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		close(p.ended)
	}()
	m.running = p
	return nil
}

// current is the process, or nil if the machine was never on.
func (m *Machine) current() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running
}

// Ended is closed when the machine is off. It was on before.
func (m *Machine) Ended() <-chan struct{} { return m.current().ended }

// WaitOff waits until the guest has switched itself off or rebooted, which ends
// QEMU as well: Start starts it again.
func (m *Machine) WaitOff(ctx context.Context) error {
	p := m.current()
	if p == nil {
		return errors.New("wait for the machine to end: it was never on")
	}
	err := m.Console.await(ctx, wait{
		ready: func() bool { return isClosed(p.ended) }, wake: p.ended, silence: m.cfg.Silence,
	})
	if err != nil {
		return fmt.Errorf("wait for the machine to end: %w", err)
	}
	return p.failure()
}

// failure is what QEMU itself complained of.
func (p *process) failure() error {
	if p.err != nil {
		return fmt.Errorf("qemu: %w\n%s", p.err, bytes.TrimSpace(p.stderr.Bytes()))
	}
	return nil
}

// WaitConsole waits until the console has said text since the mark.
func (m *Machine) WaitConsole(ctx context.Context, mark int, text string) error {
	p := m.current()
	if p == nil {
		return fmt.Errorf("wait for %q: the machine was never on", text)
	}
	err := m.Console.await(ctx, wait{
		ready: func() bool { return strings.Contains(m.Console.Since(mark), text) },
		ended: p.ended, silence: m.cfg.Silence,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("wait for %q on the console: %w", text, err), p.ownFailure())
	}
	return nil
}

// ownFailure is failure, for a machine that may still run.
func (p *process) ownFailure() error {
	if !isClosed(p.ended) {
		return nil
	}
	return p.failure()
}

// PowerCut ends the machine at once, as the cable does when it is pulled. The disk
// is as the guest has left it.
func (m *Machine) PowerCut() {
	p := m.current()
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // an error: it has ended already
	<-p.ended
	m.login.hangUp()
}

// Reboot has the guest reboot itself, and starts it again.
func (m *Machine) Reboot(ctx context.Context) error {
	// The connection may end before the command has; that the machine ends is waited
	// for anyway.
	var refused *ExitError
	if _, err := m.Run(ctx, "systemctl --no-block reboot"); errors.As(err, &refused) {
		return fmt.Errorf("reboot: %w", err)
	}
	m.login.hangUp()
	if err := m.WaitOff(ctx); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return m.Start(ctx)
}

// Close ends the machine and leaves its folder with overlay and console log.
func (m *Machine) Close() error {
	m.PowerCut()
	if m.log != nil {
		return m.log.Close()
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
