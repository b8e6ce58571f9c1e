package deb

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/e2e/readme"
)

// The README's five lines make a relay of a machine. The packages are those that are built
// for all tests, dpkg does what apt-get does with files, and systemd is played.
func TestReadme(t *testing.T) {
	lines := readme.Relay(t, top(t))
	m := newMachine(t)
	var debs []string
	for _, name := range names {
		debs = append(debs, built(t, name))
	}
	m.dpkg(append([]string{"--install"}, debs...)...)
	m.write("var/lib/cloud/scripts/per-boot/.keep", "", 0o644)

	shell := func(line string) (string, error) {
		const enter = `mount --bind /proc "$0/proc"; exec chroot "$0" /bin/sh -ec "$1"`
		out, err := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "sh", "-ec", enter, m.root, line).CombinedOutput()
		return string(out), err
	}
	// As it stands, somebody else's domain would be asked for.
	if out, err := shell(lines[2]); err != nil {
		t.Fatalf("%s: %v\n%s", lines[2], err, out)
	}
	if out, err := shell(lines[3]); err == nil || !strings.Contains(out, `"relay.example.org" is the example: write your own`) {
		t.Errorf("%s with the example's domain: got %v\n%s\nwant it refused", lines[3], err, out)
	}
	settings := readme.Own(lines[2], "relay.test")
	for _, line := range []string{settings, lines[3]} {
		if out, err := shell(line); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		} else if line == lines[3] && !strings.Contains(out, "\nrelayd runs\n") {
			t.Errorf("%s: got %q, want that relayd runs", line, out)
		}
	}
	if got := m.owned(settingsPath); got != "600 0:0" {
		t.Errorf("the settings are %s, want them to be root's alone", got)
	}
	if out, err := shell(lines[4]); err != nil || !strings.Contains(out, "relay.test") {
		t.Errorf("%s: %v\n%s", lines[4], err, out)
	}
	if m.has(filepath.Join("var/lib/relaymon", "log")) {
		t.Error("a relay has got a monitor's log, too")
	}
}
