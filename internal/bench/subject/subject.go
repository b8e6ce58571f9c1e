// Package subject is what a benchmark measures: the relay of this repository as
// operators run it, and what it is compared with.
package subject

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bench/lab"
	"github.com/psf-relay/relay-appliance/internal/bench/load"
)

// The ports that subjects listen on, each on its own address.
const (
	portTCP     = 4001
	portQUIC    = 4001
	portWSS     = 443
	portMetrics = 9464
	portTLS     = 8443
	portBack    = 8444
)

// Bench is what subjects are started with.
type Bench struct {
	Dir     string // for their files
	Relayd  string // the program
	Modules string // node_modules of the js relay; empty: it is not there
	Cert    string // PEM: a certificate for load.ServerName, its own CA, and its key
}

// Subject is a program under test that is up.
type Subject struct {
	*lab.Process
	Target  load.Target
	Metrics string // URL, of relayd
}

// Start starts the subject of this name as the nth. Settings are lines of
// configuration that differ from the benchmark's usual ones; they mean something
// to relayd only.
func (b *Bench) Start(ctx context.Context, name string, n int, settings string) (*Subject, error) {
	dir, err := os.MkdirTemp(b.Dir, name+"-")
	if err != nil {
		return nil, err
	}
	s := &starting{Bench: b, name: name, dir: dir, ip: lab.Subject(n)}
	var sub *Subject
	switch name {
	case Relayd:
		sub, err = s.relayd(ctx, settings)
	case Library, LibraryLimits:
		sub, err = s.own(ctx, "library", fmt.Sprintf("--limits=%t", name == LibraryLimits))
	case GoProxy, GoProxyChaCha:
		sub, err = s.own(ctx, "proxy", fmt.Sprintf("--chacha=%t", name == GoProxyChaCha))
	case JS:
		sub, err = s.js(ctx)
	case HAProxy, HAProxyChaCha:
		sub, err = s.haproxy(ctx, name == HAProxyChaCha)
	default:
		err = fmt.Errorf("no subject is called %q", name)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return sub, nil
}

// The subjects there are.
const (
	Relayd        = "relayd"         // of this checkout
	Library       = "library"        // go-libp2p's relay with its default copy buffer, all limits lifted
	LibraryLimits = "library-limits" // the same with the library's limits of a small machine
	JS            = "js"             // js-libp2p's relay at the versions that PSF software runs
	GoProxy       = "goproxy"        // a TLS proxy in Go
	GoProxyChaCha = "goproxy-chacha" // the same with noise's cipher in place of AES
	HAProxy       = "haproxy"
	HAProxyChaCha = "haproxy-chacha"
)

// Has says whether a subject can be had on this machine, or why not.
func (b *Bench) Has(name string) error {
	switch {
	case name == HAProxy, name == HAProxyChaCha:
		_, err := exec.LookPath("haproxy")
		return err
	case name == JS && b.Modules == "":
		return fmt.Errorf("its npm packages are not there")
	}
	return nil
}

type starting struct {
	*Bench
	name string
	dir  string
	ip   netip.Addr
}

func (s *starting) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(s.ip, port) }

func (s *starting) start(ctx context.Context, pipe bool, args ...string) (*lab.Process, error) {
	return lab.Start(ctx, lab.Program{Name: s.name, CPU: lab.SubjectCPU, Args: args, Dir: s.dir, Pipe: pipe})
}

func (s *starting) target(p *lab.Process, addrs map[string]netip.AddrPort) *Subject {
	return &Subject{Process: p, Target: load.Target{Name: s.name, PID: p.PID(), Addrs: addrs, CA: s.Cert}}
}

// startUp bounds how long a subject may take to come up.
const startUp = 30 * time.Second

// announced waits for the line of JSON with which a subject says that it is up.
func announced(p *lab.Process, v any) error {
	var line []byte
	err := p.Stdout.SetReadDeadline(time.Now().Add(startUp))
	if err == nil {
		line, err = bufio.NewReader(p.Stdout).ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		p.Stop()
		return fmt.Errorf("%w\n%s", err, p.Tail())
	}
	return nil
}

// own starts one of the subjects that this program is itself.
func (s *starting) own(ctx context.Context, args ...string) (*Subject, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := s.start(ctx, true, append([]string{self, "serve", args[0], "--ip", s.ip.String(), "--cert", s.Cert}, args[1:]...)...)
	if err != nil {
		return nil, err
	}
	return s.up(p)
}

// up waits until a subject of our own says who it is, and where.
func (s *starting) up(p *lab.Process) (*Subject, error) {
	sub := s.target(p, nil)
	var up Up
	if err := announced(p, &up); err != nil {
		return nil, err
	}
	sub.Target.ID, sub.Target.Addrs = up.ID, up.Addrs
	return sub, nil
}

// until waits for something at the start of a subject.
func until(ctx context.Context, p *lab.Process, ok func() error) error {
	for end := time.Now().Add(startUp); ; {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			p.Stop()
			return fmt.Errorf("it does not come up: %w\n%s", err, p.Tail())
		}
		select {
		case <-p.Done():
			return p.Wait()
		case <-ctx.Done():
			p.Stop()
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *starting) write(name string, lines ...string) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}
