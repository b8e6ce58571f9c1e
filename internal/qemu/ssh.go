package qemu

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// User is who the key is for: the one that Debian's cloud-init makes. The user may
// become root.
const User = "debian"

// login is the connection over which commands reach the guest.
type login struct {
	mu      sync.Mutex
	hostKey ssh.PublicKey // the guest's, once it was seen
	client  *ssh.Client
}

// newKey makes a key and writes it to a file, for a person who wants to look around
// in the guest: ssh -i FILE -p PORT debian@127.0.0.1.
func newKey(file string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

// WaitSSH waits until one can log in. That is before cloud-init is done:
// [Machine.WaitReady] waits for that, too.
func (m *Machine) WaitSSH(ctx context.Context) error {
	p := m.current()
	if p == nil {
		return errors.New("log in: the machine was never on")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := make(chan struct{})
	var last error
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for ctx.Err() == nil {
			if _, last = m.dial(ctx); last == nil {
				close(in)
				return
			}
			select {
			case <-ctx.Done():
			case <-p.ended:
				return
			case <-time.After(2 * time.Second):
			}
		}
	}()
	err := m.Console.await(ctx, wait{
		ready: func() bool { return isClosed(in) }, wake: in, ended: p.ended, silence: m.cfg.Silence,
	})
	cancel()
	<-gone
	if err != nil {
		return errors.Join(fmt.Errorf("log in: %w", err), last, p.ownFailure())
	}
	return nil
}

// dial returns the connection to the guest, a new one if there is none.
func (m *Machine) dial(ctx context.Context) (*ssh.Client, error) {
	l := &m.login
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		return l.client, nil
	}
	// The forward takes a connection whether the guest listens or not: the time
	// limit must be on the handshake.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	addr := m.Addr(22)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: User, Auth: []ssh.AuthMethod{ssh.PublicKeys(m.key)}, HostKeyCallback: l.checkHost,
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	if !stop() {
		c.Close()
		return nil, ctx.Err()
	}
	l.client = ssh.NewClient(c, channels, requests)
	go func(client *ssh.Client) {
		_ = client.Wait()
		l.forget(client)
	}(l.client)
	return l.client, nil
}

// forget lets the next command connect anew.
func (l *login) forget(client *ssh.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == client {
		l.client = nil
	}
}

// checkHost takes the guest's key as it is the first time, and wants the same one
// ever after: a machine keeps its key when it is started again.
func (l *login) checkHost(_ string, _ net.Addr, key ssh.PublicKey) error {
	if l.hostKey == nil {
		l.hostKey = key
	}
	if !bytes.Equal(l.hostKey.Marshal(), key.Marshal()) {
		return errors.New("the guest's SSH host key is another one than before")
	}
	return nil
}

// hangUp ends the connection to a guest that will be gone.
func (l *login) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		l.client.Close()
		l.client = nil
	}
}

// ExitError is a command in the guest that ended with another code than 0.
type ExitError struct {
	Code           int
	Stdout, Stderr string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("exit code %d\n%s", e.Code, strings.TrimSpace(e.Stdout+"\n"+e.Stderr))
}

// Run has a script run by root's shell, with -eu, and returns what it printed. If
// its code is not 0 the error is an [*ExitError].
func (m *Machine) Run(ctx context.Context, script string) (string, error) {
	return m.command(ctx, "sudo -n sh -eu", strings.NewReader(script))
}

// Copy makes a file in the guest that only root can write.
func (m *Machine) Copy(ctx context.Context, local, remote string) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = m.command(ctx, "sudo -n dd status=none of="+quote(remote), f)
	return err
}

// quote makes one word for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (m *Machine) command(ctx context.Context, command string, stdin io.Reader) (string, error) {
	client, err := m.dial(ctx)
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	session, err := client.NewSession()
	if err != nil {
		m.login.hangUp()
		return "", fmt.Errorf("log in: %w", err)
	}
	defer session.Close()
	var stdout, stderr bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = stdin, &stdout, &stderr
	done := make(chan error, 1)
	go func() { done <- session.Run(command) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		// The guest may hang: waiting for its answer is over.
		m.login.hangUp()
		<-done
		return "", fmt.Errorf("%w; so far:\n%s%s", context.Cause(ctx), stdout.Bytes(), stderr.Bytes())
	}
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return stdout.String(), &ExitError{exit.ExitStatus(), stdout.String(), stderr.String()}
	}
	return stdout.String(), err
}
