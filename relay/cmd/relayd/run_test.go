package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
)

// patience bounds what a test waits for; nothing is measured by it.
const patience = 2 * time.Minute

const labYAML = `name: %s
data_dir: %s
listen:
  tcp: [/ip4/127.0.0.2/tcp/0]
  quic: []
  wss: []
  webtransport: []
  webrtc: []
network: {allow_private: true}
psf: {bootstrap: [], bootstrap_list: ""}
metrics: {listen: %q}
`

// The program as systemd runs it: started, reloaded, stopped.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "relayd.yaml")
	write := func(name, metrics string) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, labYAML, name, filepath.Join(dir, "data"), metrics), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first", "")
	// A package and an image make the folder: that a start was noted there does not mean
	// that there was a relay.
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("relayd", "run", "--config", file) // of testscript's Main
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer end.Stop()

	// What is done when a line of the log appears, in this order.
	steps := []struct {
		line string
		then func()
	}{
		{"msg=ready", func() { write("second", "127.0.0.1:0"); send(t, cmd, syscall.SIGHUP) }},
		{"configuration reloaded", func() {}},
		{"keys=metrics.listen", func() { write("third", "nowhere"); send(t, cmd, syscall.SIGHUP) }},
		{"not reloaded, the configuration in force stays", func() { send(t, cmd, syscall.SIGTERM) }},
		{"msg=stopping", func() {}},
	}
	var all []string
	for s := bufio.NewScanner(stderr); s.Scan(); {
		all = append(all, s.Text())
		if len(steps) > 0 && strings.Contains(s.Text(), steps[0].line) {
			steps[0].then()
			steps = steps[1:]
		}
	}
	if err := cmd.Wait(); err != nil || len(steps) > 0 {
		t.Errorf("%v, %d steps are left:\n%s", err, len(steps), strings.Join(all, "\n"))
	}
	if _, err := os.Stat(filepath.Join(dir, "data", alert.StartsFile)); err != nil {
		t.Errorf("the start was not noted: %v", err)
	}
}

func send(t *testing.T, cmd *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Error(err)
	}
}
