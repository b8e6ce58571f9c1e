package qemu

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

func complete(t *testing.T, c Config) Config {
	t.Helper()
	c.Disk = filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(c.Disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Format, c.Dir = "raw", t.TempDir()
	c, err := c.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var forwarded = map[int]int{22: 20022, 443: 20443}

func TestArgs(t *testing.T) {
	bios := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "512",
		"-no-reboot", "-rtc", "base=2026-11-01T02:00:00", "-serial", "stdio", "-device", "virtio-rng-pci",
		"-drive", "if=virtio,format=qcow2,cache=unsafe,discard=unmap,file=/m/overlay.qcow2",
		"-netdev", "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:20022-:22", "-device", "virtio-net-pci,netdev=net0,romfile=",
	}
	with := func(edits ...func([]string) []string) []string {
		args := slices.Clone(bios)
		for _, edit := range edits {
			args = edit(args)
		}
		return args
	}
	set := func(flag, value string) func([]string) []string {
		return func(args []string) []string {
			args[slices.Index(args, flag)+1] = value
			return args
		}
	}
	beforeNet := func(more ...string) func([]string) []string {
		return func(args []string) []string { return slices.Insert(args, slices.Index(args, "-netdev"), more...) }
	}
	for name, c := range map[string]struct {
		Config
		wiring
		want []string
	}{
		"bios": {Config{}, wiring{}, bios},
		"kvm, as asked for": {Config{Accel: KVM, Memory: 256, CPUs: 1}, wiring{},
			with(set("-accel", "kvm"), set("-cpu", "host"), set("-m", "256"), set("-smp", "1"))},
		"uefi": {Config{Firmware: UEFI}, wiring{}, with(beforeNet(
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
			"-drive", "if=pflash,unit=1,format=raw,file=/m/uefi-vars.fd"))},
		"secure boot": {Config{Firmware: SecureBoot, FirmwareDir: "/f"}, wiring{seeded: true}, with(set("-machine", "q35,smm=on"), beforeNet(
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/f/OVMF_CODE_4M.secboot.fd",
			"-drive", "if=pflash,unit=1,format=raw,file=/m/uefi-vars.fd",
			"-global", "driver=cfi.pflash01,property=secure,value=on",
			"-drive", "if=virtio,format=raw,readonly=on,file=/m/seed.iso"))},
		"arm64, whose firmware is UEFI": {Config{Arch: "arm64"}, wiring{}, with(
			set("-machine", "virt"), set("-cpu", "neoverse-n1"), beforeNet(
				"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.fd",
				"-drive", "if=pflash,unit=1,format=raw,file=/m/uefi-vars.fd"))},
		"arm64, secure boot": {Config{Arch: "arm64", Firmware: SecureBoot}, wiring{}, with(
			set("-machine", "virt"), set("-cpu", "neoverse-n1"), beforeNet(
				"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.ms.fd",
				"-drive", "if=pflash,unit=1,format=raw,file=/m/uefi-vars.fd"))},
		"network": {
			Config{TCP: []int{443, 22, 443}},
			wiring{services: map[int]string{14000: "127.0.0.1:5", 80: "127.0.0.1:6"}},
			with(set("-netdev", "user,id=net0,restrict=on,"+
				"hostfwd=tcp:127.0.0.1:20022-:22,hostfwd=tcp:127.0.0.1:20443-:443,"+
				"guestfwd=tcp:10.0.2.100:80-cmd:socat - TCP:127.0.0.1:6,guestfwd=tcp:10.0.2.100:14000-cmd:socat - TCP:127.0.0.1:5"))},
		"without a card":     {Config{Network: NoCard}, wiring{}, bios[:slices.Index(bios, "-netdev")]},
		"with nobody's wire": {Config{Network: Silent}, wiring{}, with(set("-netdev", "hubport,id=net0,hubid=0"))},
		"a network of the host": {
			Config{Tap: &Tap{Device: "guest", MAC: "02:00:00:00:00:01"}, More: []string{"-smbios", "type=1,manufacturer=Hetzner"}},
			wiring{},
			append(with(set("-netdev", "tap,id=net0,script=no,downscript=no,ifname=guest"), func(args []string) []string {
				args[len(args)-1] += ",mac=02:00:00:00:00:01"
				return args
			}), "-smbios", "type=1,manufacturer=Hetzner")},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := complete(t, c.Config)
			cfg.Dir, c.forwarded = "/m", forwarded
			c.started = time.Date(2026, 11, 1, 2, 59, 57, 0, time.FixedZone("", 3600))
			if got := cfg.args(c.wiring); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, " "), strings.Join(c.want, " "))
			}
		})
	}
}

func TestCommaInAFileName(t *testing.T) {
	if got, want := drive("if=virtio", "/a,b/c"), "if=virtio,file=/a,,b/c"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// All that is wrong with a configuration is said at once.
func TestConfigFaults(t *testing.T) {
	_, err := New(t.Context(), Config{
		Disk: filepath.Join(t.TempDir(), "none"), Format: "iso", Dir: filepath.Join(t.TempDir(), "none"),
		Firmware: "coreboot", Accel: "auto", Network: "wifi", Memory: 8, CPUs: -1, TCP: []int{0, 65536},
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{
		"disk image", "format", "folder", "firmware", "accelerator", "network", "8 MiB", "-1 processors",
		"port 0 of the guest", "port 65536 of the guest",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing is said of %q in:\n%v", want, err)
		}
	}
}

// Each architecture of the table can be booted, and QEMU knows by its own name which.
func TestHardware(t *testing.T) {
	for _, a := range arch.All {
		if got, want := Program(a.Name), "qemu-system-"+a.Machine; got != want {
			t.Errorf("%s: %q, want %q", a.Name, got, want)
		}
		if bios := hardwares[a.Name].firmware == BIOS; bios != a.BIOS {
			t.Errorf("%s: it starts from a BIOS: %v, want %v", a.Name, bios, a.BIOS)
		}
	}
	if len(hardwares) != len(arch.All) {
		t.Errorf("%d architectures, want the %d of the table", len(hardwares), len(arch.All))
	}
	for arch, want := range map[string]string{"riscv64": `architecture "riscv64" is not one of amd64, arm64`, "arm64": `firmware "bios": machines of arm64 have none`} {
		if _, err := New(t.Context(), Config{Arch: arch, Firmware: BIOS}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", arch, err, want)
		}
	}
}

// A service's address becomes a part of a command line.
func TestServe(t *testing.T) {
	m := &Machine{}
	for addr, want := range map[string]bool{
		"127.0.0.1:14000": true, "[::1]:53": true,
		"127.0.0.1": false, "example.org:80": false, "127.0.0.1:1,hostfwd=tcp::1-:1": false, "127.0.0.1:0": false,
	} {
		if err := m.Serve(80, addr); (err == nil) != want {
			t.Errorf("%q: %v", addr, err)
		}
	}
	if err := m.Serve(0, "127.0.0.1:1"); err == nil {
		t.Error("port 0 is taken")
	}
}

// No two ports are the same, and what somebody listens on is not taken.
func TestChoosePorts(t *testing.T) {
	want := Config{TCP: []int{80, 443, 22, 4001}}.forwards()
	if len(want) != 4 {
		t.Fatalf("%v", want)
	}
	chosen, err := choosePorts(want)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, port := range want {
		n := chosen[port]
		if n < firstPort || n > lastPort || seen[n] {
			t.Errorf("%d: %d", port, n)
		}
		seen[n] = true
	}
}
