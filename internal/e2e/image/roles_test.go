package image

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// A relay alone, on the smallest machine there is.
func TestRelayAlone(t *testing.T) {
	full(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*bootTime)
	defer cancel()
	a := boot(ctx, t, settings{image: build(t), memory: 256, userData: func(ca string) string { return lab("relay", ca) }}, "relayd")
	a.probeUntilOK(ctx, t)
	a.checkMemory(ctx, t)
	a.checkFirewall(ctx, t, "relay")
	a.checkInactive(ctx, t, "relaymon")
	t.Run("hangs", func(t *testing.T) {
		// Stopped it is alive but says nothing: systemd's watchdog is to find that out.
		a.kill(ctx, t, "relayd", "STOP")
		a.probeUntilOK(ctx, t)
	})
	t.Run("power cut", func(t *testing.T) { a.checkPowerCut(ctx, t, "relayd") })
}

// A monitor alone has no name of its own, and opens nothing.
func TestMonitorAlone(t *testing.T) {
	full(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*bootTime)
	defer cancel()
	a := boot(ctx, t, settings{image: build(t), userData: func(ca string) string { return lab("monitor", ca) }}, "relaymon")
	a.checkFirewall(ctx, t, "monitor")
	a.checkInactive(ctx, t, "relayd")
	keys := a.monitorKeys(ctx, t)
	a.checkReboot(ctx, t, "relaymon")
	if again := a.monitorKeys(ctx, t); again != keys {
		t.Errorf("after a reboot the monitor's keys are %s, were %s", again, keys)
	}
}

func (a *appliance) monitorKeys(ctx context.Context, t *testing.T) string {
	t.Helper()
	out, err := a.Run(ctx, "runuser -u relaymon -- relaymon keys --config /etc/relaymon/relaymon.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// 256 MiB are enough for both.
func TestSmallMachine(t *testing.T) {
	full(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
	defer cancel()
	s := bothLab(build(t))
	s.memory = 256
	a := boot(ctx, t, s, both...)
	a.probeUntilOK(ctx, t)
	a.checkMemory(ctx, t)
}

// Providers that take other formats get the same disk.
func TestFormats(t *testing.T) {
	full(t)
	for _, c := range []struct{ format, suffix string }{{"raw", ".raw"}, {"vmdk", ".vmdk"}, {"vpc", ".vhd"}} {
		t.Run(c.format, func(t *testing.T) {
			image := build(t)
			other := disk{filepath.Join(folder(t, "formats"), "image"+c.suffix), c.format}
			t.Cleanup(func() { os.Remove(other.file) })
			command(t.Context(), t, "qemu-img", "convert", "-f", image.format, "-O", c.format, image.file, other.file)
			ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
			defer cancel()
			s := bothLab(other)
			a := boot(ctx, t, s, both...)
			a.probeUntilOK(ctx, t)
		})
	}
}
