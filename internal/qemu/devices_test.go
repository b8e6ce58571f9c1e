package qemu

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each way to attach disk, seed and network is one that QEMU takes, and the machine
// starts from that disk, whatever else there is.
func TestDevices(t *testing.T) {
	disk, _ := bootable(t)
	for _, d := range []Devices{
		{Board: PC, Disk: IDE, NIC: E1000, SeedCD: true},
		{Disk: AHCI, NIC: E1000E, SeedCD: true},
		{Disk: NVMe, NIC: VMXNET3},
		{Board: PC, Disk: VirtIOSCSI, NIC: VirtIONet, SeedCD: true},
		{Board: PC, Disk: PVSCSI, NIC: VMXNET3, SeedCD: true},
		{Disk: LSISAS, NIC: E1000, SeedCD: true},
		{Board: PC, Disk: LSI},
		{Disk: MegaRAID},
	} {
		t.Run(d.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			m := machine(t, Config{Disk: disk, Format: "raw", Size: 2 << 20, Memory: 64, CPUs: 1, Devices: d})
			if err := m.Seed(ctx, Seed{UserData: []byte("#cloud-config\n")}); err != nil {
				t.Fatal(err)
			}
			if err := m.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if err := m.WaitConsole(ctx, 0, "boot 1"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDeviceFaults(t *testing.T) {
	for name, c := range map[string]struct {
		Devices
		firmware Firmware
		want     []string
	}{
		"unknown":           {Devices{Board: "b", Disk: "d", NIC: "n"}, BIOS, []string{`board "b"`, `disk "d"`, `network card "n"`}},
		"IDE on q35":        {Devices{Disk: IDE}, BIOS, []string{"no such controller"}},
		"AHCI on pc":        {Devices{Board: PC, Disk: AHCI}, BIOS, []string{"no such controller"}},
		"Secure Boot on pc": {Devices{Board: PC}, SecureBoot, []string{"Secure Boot needs"}},
		"nothing":           {Devices{}, SecureBoot, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.withDefaults(hardwares["amd64"]).faults(hardwares["amd64"], c.firmware)
			if (err != nil) != (c.want != nil) {
				t.Fatal(err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("nothing is said of %q in: %v", w, err)
				}
			}
		})
	}
}

func TestDevicesInWords(t *testing.T) {
	for _, c := range []struct {
		Devices
		want string
	}{
		{Devices{}, "q35, virtio disk, virtio network"},
		{Devices{Board: PC, Disk: IDE, NIC: E1000, SeedCD: true}, "pc, ide disk, e1000 network, CD"},
	} {
		if got := c.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// A card without its firmware does not hold up the start by booting from the network.
func TestNoNetworkBoot(t *testing.T) {
	for nic := range cards {
		args := Devices{NIC: nic}.netArgs("user,id=net0", "")
		if !slices.Contains(args, cards[nic]+",netdev=net0,romfile=") {
			t.Errorf("%s: %q", nic, args)
		}
	}
}
