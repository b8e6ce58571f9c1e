package image

import (
	"context"
	"encoding/base64"
	"maps"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// A machine that is made of another one's backup is the same relay. With a wrong key it
// is nobody, and says so, until somebody brings the right one.
func TestRestore(t *testing.T) {
	full(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*bootTime)
	defer cancel()
	var keys [2]*age.X25519Identity
	for i := range keys {
		var err error
		if keys[i], err = age.GenerateX25519Identity(); err != nil {
			t.Fatal(err)
		}
	}
	right, wrong := keys[0], keys[1]

	was := boot(ctx, t, settings{image: build(t), userData: func(ca string) string { return lab("relay", ca) }}, "relayd")
	// As cloud-init/README.md has it.
	text, err := was.Run(ctx, "systemctl mask --now relayd relaymon && relay-appliance backup --encrypt-to "+right.Recipient().String()+" - | base64 --wrap=0")
	if err != nil {
		t.Fatal(err)
	}
	backup, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := was.Run(ctx, "! relay-appliance first-boot >/dev/null 2>&1 && { systemctl is-active relayd || true; }"); err != nil || out != "inactive\n" {
		t.Errorf("the old machine starts it again: %q, %v", out, err)
	}
	// Its way back, for those who stay after all.
	if out, err := was.Run(ctx, "systemctl unmask relayd relaymon && relay-appliance first-boot >/dev/null && systemctl is-active relayd; systemctl mask --now relayd relaymon"); err != nil || out != "active\n" {
		t.Errorf("the old machine goes on: %q, %v", out, err)
	}
	was.note(t, "a backup has %d bytes", len(backup))
	was.PowerCut() // never two of them

	const keyFile = "/etc/relay-appliance/restore.key"
	a := makeMachine(ctx, t, settings{image: build(t), userData: func(ca string) string {
		files := labFiles("relay", ca)
		maps.Copy(files, map[string]string{"/srv/backup.age": string(backup), keyFile: wrong.String() + "\n"})
		files["/etc/relay-appliance/appliance.yaml"] += "restore: {from: /srv/backup.age}\n"
		return cloudConfig(files)
	}})
	began := time.Now()
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := a.CloudInit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if c.OK() {
		t.Error("cloud-init has nothing to say of the wrong key")
	}
	if err := a.WaitConsole(ctx, 0, "NOT SET UP: restore "); err != nil {
		t.Error(err)
	}
	a.note(t, "with a wrong key it says so after %s", time.Since(began).Round(time.Second))
	a.checkLocked(ctx, t)
	if out, err := a.Run(ctx, "find /var/lib/relayd -type f"); err != nil || out != "" {
		t.Errorf("with a wrong key it has made %q; %v", strings.Fields(out), err)
	}

	if err := a.writeFile(ctx, t, keyFile, right.String()+"\n"); err != nil {
		t.Fatal(err)
	}
	// cloud-init's word is that of the boot, until the next one.
	if out, err := a.Run(ctx, "systemctl reset-failed 'cloud-*'; relay-appliance first-boot"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	if err := a.CheckUnits(ctx, "relayd"); err != nil {
		t.Fatal(err)
	}
	if a.peerID = a.learnPeerID(ctx, t); a.peerID != was.peerID {
		t.Errorf("it is %s, the backup is of %s", a.peerID, was.peerID)
	}
	if out, err := a.Run(ctx, "test ! -e "+keyFile); err != nil {
		t.Errorf("the secret key stays on the machine: %s%v", out, err)
	}
	a.probeUntilOK(ctx, t)
	a.note(t, "with the right one it is the same relay")
}
