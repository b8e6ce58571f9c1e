package deb

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// appliances are the units that the package relay-appliance enables.
var appliances = []string{"relay-appliance-first-boot.service", "relay-appliance-status.timer", "relay-appliance-fetch.timer", "relay-appliance-gate.timer"}

const settingsPath = "etc/relay-appliance/appliance.yaml"

const both = `role: both
domain: relay.test
email: me@relay.test
announce: {ip4: 198.51.100.7}
monitor: {name: alpha, roster: /etc/relaymon/roster.yaml}
relayd: {network: {allow_private: true}, psf: {bootstrap: [], bootstrap_list: ""}}
relaymon: {network: lab}
`

func (m *machine) firstBoot() (string, error) { return m.appliance("first-boot") }

// appliance is run with the real programs, as their own users; systemd is played.
func (m *machine) appliance(command string) (string, error) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "unshare", "--net", "--mount", "sh", "-ec", `mount --bind /proc "$0/proc"; exec chroot "$0" /usr/bin/relay-appliance "$1"`, m.root, command)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestAppliance(t *testing.T) {
	m := newMachine(t)
	// cloud-init has been here before dpkg.
	m.write(settingsPath, strings.Replace(both, "domain: relay.test", "domain: Relay", 1), 0o644)
	m.write("var/lib/cloud/scripts/per-boot/.keep", "", 0o644)
	m.dpkg("--install", built(t, "relayd"), built(t, "relaymon"), built(t, "relay-appliance"))
	m.told()
	if got := m.owned(settingsPath); got != "600 0:0" {
		t.Errorf("the settings are %s: they can hold passwords", got)
	}
	for _, unit := range []string{"relayd", "relaymon"} {
		m.write("etc/"+unit+"/"+unit+".yaml", read(t, m.root, "etc/"+unit+"/"+unit+".yaml"), 0o644)
	}

	said, err := m.firstBoot()
	if err == nil || !strings.Contains(said, `/etc/relay-appliance/appliance.yaml:2: domain: want a name in lower case such as relay.example.org, not "Relay"`) {
		t.Errorf("wrong settings: %v\n%s", err, said)
	}
	script := `var/lib/cloud/scripts/per-boot/relay-appliance: appliance.yaml:2: domain: want a name in lower case such as relay.example.org, not "Relay"`
	if !m.has(script) {
		t.Errorf("cloud-init is not told: there is %q", files(t, filepath.Join(m.root, "var/lib/cloud/scripts/per-boot")))
	}
	if got := run(t, "chroot", m.root, "/usr/bin/relay-appliance", "status", "--fault"); !strings.Contains(got, "appliance.yaml:2: domain:") {
		t.Errorf("the fault is %q", got)
	}

	m.write(settingsPath, both, 0o600)
	m.write("etc/relaymon/roster.yaml", "", 0o644)
	if said, err = m.firstBoot(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, said, read(t, m.root, "told"))
	}
	for _, want := range []string{"wrote /etc/relayd/relayd.yaml\n", "wrote /etc/relaymon/relaymon.yaml\n", "made the identity of relayd: back it up\n", "made the identity of relaymon: back it up\n", "firewall: open are SSH", "relayd runs\n", "relaymon runs\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if m.has(script) {
		t.Error("mended, and cloud-init is told as before")
	}
	_, group, _ := strings.Cut(m.ids("relaymon"), ":")
	if got := m.owned("etc/relaymon/relaymon.yaml"); got != "640 0:"+group {
		t.Errorf("relaymon.yaml is %s", got)
	}
	id := m.as("relayd", "/usr/bin/relayd", "id", "--config", "/etc/relayd/relayd.yaml")
	keys := m.as("relaymon", "/usr/bin/relaymon", "keys", "--config", "/etc/relaymon/relaymon.yaml")
	if said, err = m.firstBoot(); err != nil || said != "relayd runs\nrelaymon runs\n" {
		t.Errorf("again: %v\n%s", err, said)
	}
	if m.as("relayd", "/usr/bin/relayd", "id", "--config", "/etc/relayd/relayd.yaml") != id || m.as("relaymon", "/usr/bin/relaymon", "keys", "--config", "/etc/relaymon/relaymon.yaml") != keys {
		t.Error("again: it has become another")
	}
	if to, err := os.Readlink(filepath.Join(m.root, "etc/nftables.d/relayd.nft")); err != nil || to != "/usr/share/relayd/relayd.nft" {
		t.Errorf("the relay's ports are not opened: %q, %v", to, err)
	}
	if !strings.Contains(read(t, m.root, "run/relay-appliance/issue"), "Relay appliance v"+version) {
		t.Error("the console does not say how it is")
	}

	// A link to rules that are gone would keep all rules from being loaded.
	m.dpkg("--purge", "relayd")
	if m.has("etc/nftables.d/relayd.nft") {
		t.Error("relayd is purged, the link to its rules stays")
	}
	m.told()
	m.dpkg("--remove", "relay-appliance")
	m.wantTold("at the removal", "deb-systemd-invoke stop "+strings.Join(appliances[1:], " ")+" relay-appliance-backup.timer", "systemctl daemon-reload")
	if !m.has(settingsPath) || m.has("etc/issue.d/relay-appliance.issue") {
		t.Error("removed: want the settings to stay, the console's page to go")
	}
	m.dpkg("--purge", "relay-appliance")
	if m.has("etc/relay-appliance") || m.has("var/lib/relay-appliance") || !m.has("etc/nftables.conf") {
		t.Error("purged: want settings and state to go, the firewall to stay")
	}
}
