package qemu

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// guest is an SSH server that runs what it is told with the shell of this machine,
// with a sudo that changes nothing.
type guest struct {
	t        *testing.T
	listener net.Listener
	key      ssh.Signer
	client   ssh.PublicKey
}

// newGuest returns a machine whose port 22 leads to such a server.
func newGuest(t *testing.T) (*Machine, *guest) {
	t.Helper()
	m := &Machine{Console: newConsole(new(bytes.Buffer), nil), cfg: Config{Silence: time.Minute}}
	m.running = &process{ended: make(chan struct{})}
	var err error
	if m.key, err = newKey(filepath.Join(t.TempDir(), keyFile)); err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, client: m.key.PublicKey()}
	if g.key, err = newKey(filepath.Join(t.TempDir(), keyFile)); err != nil {
		t.Fatal(err)
	}
	if g.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.listener.Close(); m.login.hangUp() })
	m.wiring.forwarded = map[int]int{22: g.listener.Addr().(*net.TCPAddr).Port}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "sudo"), []byte("#!/bin/sh\nshift\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	go func() {
		for {
			conn, err := g.listener.Accept()
			if err != nil {
				return
			}
			go g.serve(conn)
		}
	}()
	return m, g
}

func (g *guest) serve(conn net.Conn) {
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != User || !bytes.Equal(key.Marshal(), g.client.Marshal()) {
			return nil, errors.New("a stranger")
		}
		return nil, nil
	}}
	config.AddHostKey(g.key)
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		ch, requests, err := n.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			_ = r.Reply(r.Type == "exec", nil)
			if r.Type != "exec" {
				continue
			}
			var payload struct{ Command string }
			if err := ssh.Unmarshal(r.Payload, &payload); err != nil {
				g.t.Error(err)
			}
			cmd := exec.CommandContext(g.t.Context(), "sh", "-c", payload.Command)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = ch, ch, ch.Stderr()
			var status struct{ Status uint32 }
			if err := cmd.Run(); err != nil {
				status.Status = uint32(cmd.ProcessState.ExitCode())
			}
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(status))
			ch.Close()
		}
	}
}

func TestRun(t *testing.T) {
	m, _ := newGuest(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.WaitSSH(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(ctx, "echo \"it's $((6 * 7))\"")
	if err != nil || out != "it's 42\n" {
		t.Errorf("got %q, %v", out, err)
	}
	// The first command that fails ends the script.
	out, err = m.Run(ctx, "echo so far\necho why >&2\n(exit 3)\necho not reached")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || out != "so far\n" || exit.Stderr != "why\n" {
		t.Errorf("got %q, %v", out, err)
	}

	local, remote := filepath.Join(t.TempDir(), "local"), filepath.Join(t.TempDir(), "re'mote")
	if err := os.WriteFile(local, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Copy(ctx, local, remote); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(remote); err != nil || string(b) != "content" {
		t.Errorf("got %q, %v", b, err)
	}

	// After a restart of the machine it is the same host, or nobody is asked anything.
	m.login.hangUp()
	if _, err := m.Run(ctx, "true"); err != nil {
		t.Errorf("connected anew: %v", err)
	}
	m.login.hangUp()
	_, other := newGuest(t)
	m.wiring.forwarded[22] = other.listener.Addr().(*net.TCPAddr).Port
	if _, err := m.Run(ctx, "true"); err == nil || !strings.Contains(err.Error(), "host key") {
		t.Errorf("another host: %v", err)
	}
}

// A guest that hangs is not waited for.
func TestRunIsBounded(t *testing.T) {
	m, _ := newGuest(t)
	if err := m.WaitSSH(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := m.Run(ctx, "echo begun; exec sleep 30"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	m, _ := newGuest(t)
	other, err := newKey(filepath.Join(t.TempDir(), keyFile))
	if err != nil {
		t.Fatal(err)
	}
	m.key = other
	if _, err := m.Run(t.Context(), "true"); err == nil {
		t.Error("logged in with another key")
	}
}

// The guest's own programs answer as Debian's do.
func TestWaitReady(t *testing.T) {
	for name, c := range map[string]struct {
		cloudInit, system, active string
		want                      []string // in the error; none: it is ready
	}{
		"ready": {`{"status": "done", "extended_status": "done", "errors": [], "recoverable_errors": {}}`, "running", "0", nil},
		"all that can be wrong": {
			`{"status": "error", "extended_status": "error - done", "errors": ["no domain"], "recoverable_errors": {"WARNING": ["a tab"]}}`,
			"degraded", "3",
			[]string{"error - done", "no domain", "warning: a tab", "systemd is degraded", "status of bad.service", "relayd is failed", "log of relayd"},
		},
		"no answer": {"", "running", "0", []string{"cloud-init's status"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := newGuest(t)
			bin := t.TempDir()
			for program, script := range map[string]string{
				// The status that ends a wait lacks the errors.
				"cloud-init": `case "$*" in
"status --wait") echo "status: error"; exit 1;;
"status --format=json") echo '` + c.cloudInit + `'; exit 2;;
*) exit 9;;
esac`,
				"systemctl": `case "$1" in
is-system-running) echo ` + c.system + `; [ ` + c.system + ` = running ];;
--failed) echo bad.service loaded failed;;
status) for last; do :; done; echo "status of $last"; exit 3;;
is-active) [ ` + c.active + ` = 0 ] && echo active || { echo failed; exit ` + c.active + `; };;
*) exit 9;;
esac`,
				"journalctl": `for last; do :; done; echo "log of $last"`,
			} {
				if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := m.WaitReady(ctx, "relayd")
			if (err == nil) != (c.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("nothing of %q in:\n%v", want, err)
				}
			}
		})
	}
}
