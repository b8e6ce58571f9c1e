// Package s3test starts a real S3-compatible server for tests.
package s3test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// What the server is to be used with.
const (
	Bucket = "bucket"
	Access = "backup"
	Secret = "a-secret-key-of-the-bucket"
	Region = "us-east-1"
)

// Start starts a server on an address of loopback that no other test uses, and returns
// where it is and the folder of its bucket. tools is the folder internal/tools as the test
// sees it.
func Start(t testing.TB, ip, tools string) (host, dir string) {
	t.Helper()
	program := filepath.Join(need.Programs(t, filepath.Join(tools, "s3"), "."), "s3")
	// The store takes no listener; nobody else listens on this test's own address.
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	dir, host = filepath.Join(root, Bucket), l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, host, root, Access, Secret)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for {
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			return host, dir
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("the store has ended: %v\n%s", err, said.String())
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the store does not come up")
		}
	}
}
