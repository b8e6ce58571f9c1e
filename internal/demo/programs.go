package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// programs runs the project's programs as processes of their own.
type programs struct {
	dir     string // of the programs
	logs    string // where those that stay write what they log
	running []*process
}

// process is a program that stays.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error
}

func (p *programs) command(ctx context.Context, name string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.dir, name), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 12 * time.Second
	// Whatever ends the demo ends them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output runs a program to its end and returns what it printed.
func (p *programs) output(ctx context.Context, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := p.command(ctx, name, args)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, stderr.Bytes())
	}
	return stdout.String(), nil
}

// show runs a program to its end and passes on what it prints, indented.
func (p *programs) show(ctx context.Context, out io.Writer, name string, args ...string) error {
	var stderr bytes.Buffer
	indented := &indent{w: out, atStart: true}
	cmd := p.command(ctx, name, args)
	cmd.Stdout, cmd.Stderr = indented, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[0], err, stderr.Bytes())
	}
	// A warning is for the reader, too.
	_, err := indented.Write(stderr.Bytes())
	return err
}

// start runs a program in the background, its output in a log file.
func (p *programs) start(ctx context.Context, name string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(p.logs, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	r := &process{name: name, log: log.Name(), cmd: p.command(ctx, name, args), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w: build it with make build", name, err)
	}
	p.running = append(p.running, r)
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	return r, nil
}

// failure tells how a program ended that should have stayed.
func (r *process) failure() error {
	tail, _ := os.ReadFile(r.log)
	lines := strings.Split(strings.TrimSpace(string(tail)), "\n")
	lines = lines[max(0, len(lines)-10):]
	return errors.Join(fmt.Errorf("%s ended by itself; the end of %s:\n%s", r.name, r.log, strings.Join(lines, "\n")), r.err)
}

// stop ends the programs that still run, the last one first.
func (p *programs) stop() {
	for i := len(p.running) - 1; i >= 0; i-- {
		r := p.running[i]
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.done:
		case <-time.After(12 * time.Second):
			_ = r.cmd.Process.Kill()
			<-r.done
		}
	}
}

// indent moves lines to the right, below the step they belong to.
type indent struct {
	w       io.Writer
	atStart bool
}

func (i *indent) Write(b []byte) (int, error) {
	for _, line := range bytes.SplitAfter(b, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if i.atStart && len(bytes.TrimSpace(line)) > 0 {
			line = append([]byte("   "), line...)
		}
		i.atStart = line[len(line)-1] == '\n'
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
