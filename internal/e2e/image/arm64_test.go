package image

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// arm64 is a machine of that architecture, with the image for it.
func arm64(t *testing.T) settings {
	t.Helper()
	full(t)
	need.Tools(t, qemu.Program("arm64"))
	image := disk{os.Getenv(imageVariable + "_ARM64"), "qcow2"}
	if image.file == "" {
		need.Tools(t, "qemu-aarch64-static")
		image.file = buildInto(t, "arm64", "arm64")
	}
	s := bothLab(image)
	s.arch, s.devices = "arm64", qemu.Devices{Board: qemu.Virt}
	return s
}

// The image for arm64 is the same appliance. Its machines have UEFI, and their console may
// be another one than that of amd64.
func TestARM64(t *testing.T) {
	s := arm64(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*bootTime)
	defer cancel()
	a := boot(ctx, t, s, both...)
	for command, want := range map[string]string{
		"uname -m":                            "aarch64",
		"dpkg --print-architecture":           "arm64",
		"cat /sys/class/tty/console/active":   "tty0 ttyAMA0",
		"lsblk -nro PARTN /dev/vda | sort -n": "1 15", // 14 is for a BIOS
	} {
		if out, err := a.Run(ctx, command); err != nil || strings.Join(strings.Fields(out), " ") != want {
			t.Errorf("%s: %q, %v; want %s", command, out, err, want)
		}
	}
	a.check(ctx, t)
	t.Run("modules", func(t *testing.T) { a.checkModules(ctx, t) })
	t.Run("reboot", func(t *testing.T) { a.checkReboot(ctx, t, both...) })
}

// Debian's shim for arm64 is signed by Microsoft, too.
func TestARM64SecureBoot(t *testing.T) {
	s := arm64(t)
	s.firmware = qemu.SecureBoot
	ctx, cancel := context.WithTimeout(t.Context(), 6*bootTime)
	defer cancel()
	a := boot(ctx, t, s, both...)
	a.probeUntilOK(ctx, t)
	a.checkUEFI(ctx, t, true)
}

// The emulator that Debian is installed by leaves nothing of itself in the image, nor of
// its speed.
func TestARM64Reproducible(t *testing.T) {
	if os.Getenv(imageVariable+"_ARM64") != "" {
		t.Skip("skipped: " + imageVariable + "_ARM64 names an image")
	}
	arm64(t)
	checkReproducible(t, "arm64", "arm64")
}
