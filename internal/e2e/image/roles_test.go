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

// What is uploaded elsewhere holds the same disk: it is unpacked and booted.
func TestFormats(t *testing.T) {
	full(t)
	made := uploads(t)
	for _, c := range []struct {
		suffix string
		unpack func(t *testing.T, from, dir string) disk
		memory int
	}{
		{"raw.gz", func(t *testing.T, from, dir string) disk {
			file := filepath.Join(dir, "disk.raw")
			command(t.Context(), t, "sh", "-c", `gzip -dc "$0" >"$1"`, from, file)
			return disk{file, "raw"}
		}, 512},
		{"google.tar.gz", func(t *testing.T, from, dir string) disk {
			command(t.Context(), t, "tar", "-xzf", from, "-C", dir)
			return disk{filepath.Join(dir, "disk.raw"), "raw"}
		}, 512},
		{"vhd", func(_ *testing.T, from, _ string) disk { return disk{from, "vpc"} }, 512},
		// With the memory that the OVA's machine has. Its disk is the vmdk.
		{"ova", func(t *testing.T, from, dir string) disk {
			command(t.Context(), t, "tar", "-xf", from, "-C", dir)
			return disk{only(t, dir, "*.vmdk"), "vmdk"}
		}, 1024},
	} {
		t.Run(c.suffix, func(t *testing.T) {
			dir := filepath.Join(folder(t, "formats"), c.suffix)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
			defer cancel()
			s := bothLab(c.unpack(t, only(t, made, "*_amd64."+c.suffix), dir))
			s.memory = c.memory
			a := boot(ctx, t, s, both...)
			a.probeUntilOK(ctx, t)
		})
	}
}
