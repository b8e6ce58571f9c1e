package deb

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// A machine that is gone comes back on another one, from the backup of the night.
func TestMove(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	install := func() *machine {
		m := newMachine(t)
		m.dpkg("--install", built(t, "relayd"), built(t, "relaymon"), built(t, "relay-appliance"))
		m.write("etc/relaymon/roster.yaml", "", 0o644)
		m.write("var/lib/cloud/scripts/per-boot/.keep", "", 0o644)
		return m
	}
	who := func(m *machine) string {
		return m.as("relayd", "/usr/bin/relayd", "id", "--config", "/etc/relayd/relayd.yaml") + m.as("relaymon", "/usr/bin/relaymon", "keys", "--config", "/etc/relaymon/relaymon.yaml")
	}

	old := install()
	old.write(settingsPath, both+"backup: {to: /var/backups/relay, encrypt_to: ["+id.Recipient().String()+"]}\n", 0o600)
	if err := os.MkdirAll(filepath.Join(old.root, "var/backups/relay"), 0o700); err != nil {
		t.Fatal(err)
	}
	if said, err := old.firstBoot(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if said, err := old.appliance("backup"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	made := files(t, filepath.Join(old.root, "var/backups/relay"))
	if len(made) != 1 || !strings.HasPrefix(made[0], "relay-appliance_relay.test_") {
		t.Fatalf("there is %q", made)
	}
	backup := read(t, old.root, "var/backups/relay", made[0])
	if got := old.owned("var/backups/relay/" + made[0]); got != "600 0:0" {
		t.Errorf("the backup is %s", got)
	}

	moved := install()
	moved.write("mnt/backup.age", backup, 0o600)
	moved.write(settingsPath, "restore: {from: /mnt/backup.age}\n", 0o600)
	moved.write("etc/relay-appliance/restore.key", other.String()+"\n", 0o600)
	said, err := moved.firstBoot()
	if err == nil || !strings.Contains(said, "it is encrypted to another key") {
		t.Errorf("with the wrong key: %v\n%s", err, said)
	}
	if moved.has("var/lib/relayd/identity.key") || moved.has("var/lib/relaymon/log") {
		t.Error("with the wrong key it has made an identity")
	}
	if page := read(t, moved.root, "run/relay-appliance/issue"); !strings.Contains(page, "NOT SET UP: restore /mnt/backup.age: it is encrypted to another key") {
		t.Errorf("the console shows\n%s", page)
	}
	for _, line := range moved.told() {
		if strings.Contains(line, "start relayd") || strings.Contains(line, "start relaymon") {
			t.Errorf("with the wrong key: %s", line)
		}
	}

	moved.write("etc/relay-appliance/restore.key", id.String()+"\n", 0o600)
	if said, err = moved.firstBoot(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if got, want := who(moved), who(old); got != want {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
	// Nobody may sign on before the witnesses were asked whether this is the newest copy.
	if !moved.has("var/lib/relaymon/log/restored") {
		t.Error("the log is not held")
	}
	for path, user := range map[string]string{"var/lib/relayd/identity.key": "relayd", "var/lib/relaymon/log/log.key": "relaymon"} {
		if got := moved.owned(path); got != "600 "+moved.ids(user) {
			t.Errorf("%s is %s", path, got)
		}
	}
	if moved.has("etc/relay-appliance/restore.key") || !strings.Contains(read(t, moved.root, settingsPath), "role: both\n") {
		t.Error("want the secret key to be gone, and the settings to be those of the machine before")
	}
	if said, err = moved.appliance("backup"); err == nil || !strings.Contains(said, "there is no folder /var/backups/relay") {
		t.Errorf("its own backup: %v\n%s", err, said)
	}
}
