package qemu

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Board is the machine's mainboard, by QEMU's name.
type Board string

// The boards. With PC come two IDE channels, with Q35 an AHCI controller.
const (
	Q35 Board = "q35"
	PC  Board = "pc" // i440FX: VirtualBox's, VMware's and Proxmox's default
)

// Storage is how the disk is attached.
type Storage string

// The ways to attach a disk. LSI Logic parallel, as VMware has it (53c1030), is none of
// them: QEMU does not emulate it. Linux drives it by mptspi, which shares all but the
// transport with LSISAS' mptsas.
const (
	VirtIODisk Storage = "virtio"
	IDE        Storage = "ide"  // on a PC
	AHCI       Storage = "ahci" // on a Q35
	NVMe       Storage = "nvme"
	VirtIOSCSI Storage = "virtio-scsi"
	PVSCSI     Storage = "pvscsi"
	LSISAS     Storage = "lsisas1068" // LSI Logic SAS of VMware and VirtualBox
	LSI        Storage = "lsi53c895a" // Proxmox's default for guests that it does not know
	MegaRAID   Storage = "megasas"
)

// hostAdapters are those that a SCSI disk hangs on, by QEMU's names.
var hostAdapters = map[Storage]string{
	VirtIOSCSI: "virtio-scsi-pci", PVSCSI: "pvscsi", LSISAS: "mptsas1068", LSI: "lsi53c895a", MegaRAID: "megasas",
}

// NIC is the network card.
type NIC string

// The network cards. NoNIC is a machine that has none: nothing reaches it.
const (
	VirtIONet NIC = "virtio"
	E1000     NIC = "e1000"
	E1000E    NIC = "e1000e"
	VMXNET3   NIC = "vmxnet3"
	NoNIC     NIC = "none"
)

// cards are the network cards by QEMU's names.
var cards = map[NIC]string{VirtIONet: "virtio-net-pci", E1000: "e1000", E1000E: "e1000e", VMXNET3: "vmxnet3"}

// Devices are what the guest finds on its buses. What is not given is as most clouds
// have it: virtio on a Q35.
type Devices struct {
	Board Board
	Disk  Storage
	NIC   NIC
	// SeedCD puts cloud-init's disk into a CD drive, by IDE on a PC and by AHCI on a Q35.
	SeedCD bool
}

func (d Devices) withDefaults() Devices {
	if d.Board == "" {
		d.Board = Q35
	}
	if d.Disk == "" {
		d.Disk = VirtIODisk
	}
	if d.NIC == "" {
		d.NIC = VirtIONet
	}
	return d
}

func (d Devices) faults(f Firmware) error {
	var errs []error
	if d.Board != Q35 && d.Board != PC {
		errs = append(errs, fmt.Errorf("board %q is not one of q35, pc", d.Board))
	}
	if f == SecureBoot && d.Board == PC {
		errs = append(errs, errors.New("the board pc cannot keep the firmware's memory from the kernel: Secure Boot needs q35"))
	}
	known := append(slices.Sorted(maps.Keys(hostAdapters)), AHCI, IDE, NVMe, VirtIODisk)
	switch {
	case !slices.Contains(known, d.Disk):
		errs = append(errs, fmt.Errorf("disk %q is not one of %s", d.Disk, list(known)))
	case d.Disk == IDE && d.Board == Q35, d.Disk == AHCI && d.Board == PC:
		errs = append(errs, fmt.Errorf("disk %q: the board %s has no such controller", d.Disk, d.Board))
	}
	nics := append(slices.Sorted(maps.Keys(cards)), NoNIC)
	if !slices.Contains(nics, d.NIC) {
		errs = append(errs, fmt.Errorf("network card %q is not one of %s", d.NIC, list(nics)))
	}
	return errors.Join(errs...)
}

func list[T ~string](names []T) string {
	words := make([]string, len(names))
	for i, n := range names {
		words[i] = string(n)
	}
	return strings.Join(words, ", ")
}

// String is how a table of results names them.
func (d Devices) String() string {
	d = d.withDefaults()
	words := []string{string(d.Board), string(d.Disk) + " disk"}
	if d.NIC == NoNIC {
		words = append(words, "no network card")
	} else {
		words = append(words, string(d.NIC)+" network")
	}
	if d.SeedCD {
		words = append(words, "CD")
	}
	return strings.Join(words, ", ")
}

// diskArgs attach the file; options are those of the drive. The firmware would try a seed
// on virtio first.
func (d Devices) diskArgs(options, file string) []string {
	if d.Disk == VirtIODisk {
		return []string{"-drive", drive("if=virtio,"+options, file)}
	}
	args := []string{"-drive", drive("if=none,id=disk,"+options, file)}
	switch d.Disk {
	case IDE, AHCI:
		return append(args, "-device", "ide-hd,drive=disk,bus=ide.0,bootindex=0")
	case NVMe:
		return append(args, "-device", "nvme,drive=disk,serial=disk,bootindex=0")
	default:
		return append(args, "-device", hostAdapters[d.Disk]+",id=scsi", "-device", "scsi-hd,drive=disk,bus=scsi.0,bootindex=0")
	}
}

// seedArgs attach cloud-init's disk.
func (d Devices) seedArgs(file string) []string {
	const options = "format=raw,readonly=on"
	if !d.SeedCD {
		return []string{"-drive", drive("if=virtio,"+options, file)}
	}
	return []string{"-drive", drive("if=none,id=seed,"+options, file), "-device", "ide-cd,drive=seed,bus=ide.1"}
}

// netArgs attach the network, without a firmware of its own that would boot from it.
func (d Devices) netArgs(netdev string) []string {
	if d.NIC == NoNIC {
		return []string{"-nic", "none"}
	}
	return []string{"-netdev", netdev, "-device", cards[d.NIC] + ",netdev=net0,romfile="}
}
