package image

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// The disks and network cards that hypervisors give a machine, each once. AHCI with
// e1000 and a seed on CD, VirtualBox's default, is TestSecureBoot's machine; virtio is that of
// all the others.
func TestDevices(t *testing.T) {
	full(t)
	for _, c := range []struct {
		name string
		qemu.Devices
		disk, card string // the drivers, as the kernel calls them
	}{
		{"IDE", qemu.Devices{Board: qemu.PC, Disk: qemu.IDE, NIC: qemu.E1000, SeedCD: true}, "ata_piix", "e1000"},
		{"NVMe", qemu.Devices{Disk: qemu.NVMe, NIC: qemu.E1000E, SeedCD: true}, "nvme", "e1000e"},
		{"VMware", qemu.Devices{Board: qemu.PC, Disk: qemu.PVSCSI, NIC: qemu.VMXNET3, SeedCD: true}, "vmw_pvscsi", "vmxnet3"},
		{"LSI Logic SAS", qemu.Devices{Board: qemu.PC, Disk: qemu.LSISAS, NIC: qemu.E1000, SeedCD: true}, "mptsas", "e1000"},
		{"Proxmox", qemu.Devices{Board: qemu.PC, Disk: qemu.VirtIOSCSI, SeedCD: true}, "virtio_scsi", "virtio_net"},
		{"LSI", qemu.Devices{Board: qemu.PC, Disk: qemu.LSI, NIC: qemu.E1000}, "sym53c8xx", "e1000"},
		{"MegaRAID", qemu.Devices{Disk: qemu.MegaRAID, NIC: qemu.VMXNET3}, "megaraid_sas", "vmxnet3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
			defer cancel()
			s := bothLab(build(t))
			s.devices = c.Devices
			a := boot(ctx, t, s, both...)
			a.checkDrivers(ctx, t, c.disk, c.card)
			a.probeUntilOK(ctx, t)
		})
	}
}

// checkDrivers wants disk and network to hang on these, and not on some other device.
func (a *appliance) checkDrivers(ctx context.Context, t *testing.T, disk, card string) {
	t.Helper()
	out, err := a.Run(ctx, `udevadm info --attribute-walk --name="$(findmnt --noheadings --output=SOURCE /)" | sed -n 's/ *DRIVERS=="\(..*\)"/\1/p'`)
	if err != nil || !slices.Contains(strings.Fields(out), disk) {
		t.Errorf("the root is driven by %q, want %s; %v", strings.Fields(out), disk, err)
	}
	out, err = a.Run(ctx, `readlink /sys/class/net/*/device/driver`)
	if err != nil || !strings.HasSuffix(strings.TrimSpace(out), "/"+card) {
		t.Errorf("the network card is driven by %q, want %s; %v", out, card, err)
	}
}

// roots are drivers of disks, which the initramfs must have as well. Those of LSI Logic
// parallel (mptspi), BusLogic, Hyper-V and Xen are not emulated here: that they are there
// is all that is known.
var roots = []string{
	"virtio_blk", "virtio_scsi", "ata_piix", "ata_generic", "ahci", "nvme",
	"mptspi", "mptsas", "vmw_pvscsi", "sym53c8xx", "megaraid_sas", "BusLogic",
	"hv_vmbus", "hv_storvsc", "pci-hyperv", "xen-blkfront", "xen-scsifront", "sd_mod", "ext4",
	// The seed is looked for as soon as systemd starts.
	"sr_mod", "isofs", "udf",
}

// others are of what is needed later.
var others = []string{
	// Network: QEMU and VirtualBox, VMware, Hyper-V and Azure with its virtual functions,
	// EC2, Google, Xen.
	"virtio_net", "e1000", "e1000e", "igb", "8139cp", "8139too", "pcnet32", "vmxnet3",
	"hv_netvsc", "mana", "mlx4_en", "mlx5_core", "ena", "ixgbevf", "gve", "xen-netfront",
	"vfat", "virtio-rng", "virtio_balloon", "hv_utils", "hv_balloon", "hyperv-keyboard", "vmw_balloon", "efivarfs",
}

// onlyPC are those that Debian's kernel for arm64 does not have.
var onlyPC = []string{"vmw_pvscsi", "BusLogic", "vmw_balloon"}

// checkModules wants the kernel to have the drivers of machines that are not emulated
// here, too, with all that they depend on.
func (a *appliance) checkModules(ctx context.Context, t *testing.T) {
	roots, others := slices.Clone(roots), slices.Clone(others)
	if a.row.arch == "arm64" {
		lacks := func(m string) bool { return slices.Contains(onlyPC, m) }
		roots, others = slices.DeleteFunc(roots, lacks), slices.DeleteFunc(others, lacks)
	}
	out, err := a.Run(ctx, "for m in "+strings.Join(append(others, roots...), " ")+"; do modprobe --show-depends $m >/dev/null 2>&1 || echo $m; done")
	if err != nil || out != "" {
		t.Errorf("the kernel lacks %q; %v", strings.Fields(out), err)
	}
	out, err = a.Run(ctx, "lsinitramfs /initrd.img; cat /usr/lib/modules/$(uname -r)/modules.builtin")
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for line := range strings.Lines(out) {
		name, _, ok := strings.Cut(line[strings.LastIndex(line, "/")+1:], ".ko")
		has[strings.ReplaceAll(name, "-", "_")] = ok
	}
	for _, m := range roots {
		if !has[strings.ReplaceAll(m, "-", "_")] {
			t.Errorf("the initramfs lacks %s", m)
		}
	}
}
