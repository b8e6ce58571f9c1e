// Package pgtest starts a real PostgreSQL server for tests.
package pgtest

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// Server is a server that listens on a socket in a folder of its own, and nowhere else. It
// ends with the process that started it.
type Server struct {
	dir     string // of the socket and the data
	bin     string // of its programs
	attr    *syscall.SysProcAttr
	cmd     *exec.Cmd
	ended   chan struct{}
	said    bytes.Buffer
	created atomic.Int64
}

// account is the one under which the server runs, if the test is root's: PostgreSQL refuses
// root.
const account = "postgres"

// New makes a server and starts it. It ends, and what it keeps is removed, by Close.
func New() (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	// A socket's name is short.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, bin: bin, attr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	if os.Getuid() == 0 {
		u, err := user.Lookup(account)
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			return nil, err
		}
		s.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if err := s.run("initdb", "-D", s.data(), "-A", "trust", "-U", account, "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		return nil, err
	}
	return s, s.Up()
}

// programs is the folder of PostgreSQL's programs. Debian does not have it on the PATH.
func programs() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("there is no initdb")
	}
	if err != nil {
		return "", err
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.SysProcAttr, cmd.Dir = s.attr, s.dir
	cmd.Env = []string{"PATH=" + s.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	return cmd
}

func (s *Server) run(name string, args ...string) error {
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// Up starts the server that is down.
func (s *Server) Up() error {
	s.cmd = s.command("postgres", "-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50")
	s.said.Reset()
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	started := make(chan error)
	s.ended = make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig is of the thread
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
			close(s.ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	for {
		if s.command("pg_isready", "-q", "-h", s.dir).Run() == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("postgres has ended: %s", s.said.String())
		default:
		}
	}
}

// Down ends the server at once: it has no time to say good-bye.
func (s *Server) Down() {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	<-s.ended
}

// Close ends the server for good.
func (s *Server) Close() error {
	s.Down()
	return os.RemoveAll(s.dir)
}

// Database makes a new database and returns its address.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("d%d", s.created.Add(1))
	if err := s.run("createdb", "-h", s.dir, "-U", account, name); err != nil {
		t.Fatal(err)
	}
	return "postgres://" + account + "@/" + name + "?host=" + url.QueryEscape(s.dir)
}

// Ask puts a question to a database and returns the lines of the answer.
func (s *Server) Ask(t testing.TB, address, question string) []string {
	t.Helper()
	out, err := s.command("psql", "-X", "-A", "-t", "-c", question, address).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return strings.Fields(string(out))
}

// Start starts a server for a test.
func Start(t testing.TB) *Server {
	t.Helper()
	if _, err := programs(); err != nil {
		need.Tools(t, "initdb")
	}
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
