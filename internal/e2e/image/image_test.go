package image

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// both are the services of a machine in that role.
var both = []string{"relayd", "relaymon"}

// bothLab is a machine in role both, in the lab.
func bothLab(image disk) settings {
	return settings{image: image, userData: func(ca string) string { return lab("both", ca) }}
}

// One machine, from its first boot on. The checks are made in this order, since some
// restart what others look at.
func TestAppliance(t *testing.T) {
	part(t)
	image := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*bootTime)
	defer cancel()
	a := makeMachine(ctx, t, bothLab(image))
	a.timing = true
	a.start(ctx, t, both...)
	a.check(ctx, t)
	t.Run("progress", func(t *testing.T) { a.checkProgress(ctx, t) })
	t.Run("modules", func(t *testing.T) { a.checkModules(ctx, t) })
	t.Run("ssh", func(t *testing.T) { a.checkSSH(ctx, t) })
	t.Run("editor", func(t *testing.T) { // by which the settings are changed
		if out, err := a.Run(ctx, "editor --version"); err != nil {
			t.Errorf("%s%v", out, err)
		}
	})
	t.Run("reboot", func(t *testing.T) {
		full(t) // it takes as long as a boot
		a.checkReboot(ctx, t, both...)
	})
	t.Run("updates", func(t *testing.T) { a.updates(ctx, t) })
}

// check is what is asked of a machine in role both.
func (a *appliance) check(ctx context.Context, t *testing.T) {
	for _, c := range []struct {
		name  string
		check func(*testing.T)
	}{
		{"probe", func(t *testing.T) { a.probeUntilOK(ctx, t) }},
		{"pages", func(t *testing.T) { a.checkPages(ctx, t) }},
		{"hardening", func(t *testing.T) { a.checkHardening(ctx, t, both...) }},
		{"disk", func(t *testing.T) { a.checkDisk(ctx, t) }},
		{"memory", func(t *testing.T) { a.checkMemory(ctx, t) }},
		{"firewall", func(t *testing.T) { a.checkFirewall(ctx, t, "both") }},
		{"status", func(t *testing.T) { a.checkStatus(ctx, t, a.peerID, domain, "both") }},
		{"reload", func(t *testing.T) { a.checkReload(ctx, t) }},
		{"killed", func(t *testing.T) { a.checkKilled(ctx, t) }},
	} {
		t.Run(c.name, c.check)
	}
}

// The same image starts from UEFI.
func TestUEFI(t *testing.T) {
	full(t)
	s := bothLab(build(t))
	s.firmware = qemu.UEFI
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
	defer cancel()
	a := boot(ctx, t, s, both...)
	a.probeUntilOK(ctx, t)
	a.checkUEFI(ctx, t, false)
}

// And where only what Microsoft's keys vouch for is started, here on a machine with the
// disk and the card that VirtualBox gives one. Its settings are wrong at first, and are
// mended by hand.
func TestSecureBoot(t *testing.T) {
	part(t)
	w := wrongs[0]
	s := settings{image: build(t), userData: func(string) string { return w.userData }}
	s.firmware, s.devices = qemu.SecureBoot, qemu.Devices{Disk: qemu.AHCI, NIC: qemu.E1000, SeedCD: true}
	ctx, cancel := context.WithTimeout(t.Context(), 3*bootTime)
	defer cancel()
	a := makeMachine(ctx, t, s)
	w.look(ctx, t, a)
	began := time.Now()
	// cloud-init's word is that of the boot, until the next one.
	if out, err := a.Run(ctx, "systemctl reset-failed 'cloud-*'"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	a.configure(ctx, t)
	a.note(t, "says what is wrong with its settings; mended by hand: ready after %s", time.Since(began).Round(time.Second))
	a.probeUntilOK(ctx, t)
	a.checkUEFI(ctx, t, true)
	a.checkDrivers(ctx, t, "ahci", "e1000")
}

// checkUEFI wants the machine to have been started by UEFI, with Secure Boot or without.
func (a *appliance) checkUEFI(ctx context.Context, t *testing.T, secure bool) {
	t.Helper()
	if got := strings.Contains(a.Console.Text(), "secureboot: Secure boot enabled"); got != secure {
		t.Errorf("the kernel finds Secure Boot: %v, want %v", got, secure)
	}
	if _, err := a.Run(ctx, "test -d /sys/firmware/efi"); err != nil {
		t.Errorf("it was not started by UEFI: %v", err)
	}
}
