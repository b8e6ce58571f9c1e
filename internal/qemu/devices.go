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

// The boards. With PC come two IDE channels, with Q35 an AHCI controller. Virt is that of
// arm64, which has neither.
const (
	Q35  Board = "q35"
	PC   Board = "pc" // i440FX: VirtualBox's, VMware's and Proxmox's default
	Virt Board = "virt"
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

// The network cards.
const (
	VirtIONet NIC = "virtio"
	E1000     NIC = "e1000"
	E1000E    NIC = "e1000e"
	VMXNET3   NIC = "vmxnet3"
)

// cards are the network cards by QEMU's names.
var cards = map[NIC]string{VirtIONet: "virtio-net-pci", E1000: "e1000", E1000E: "e1000e", VMXNET3: "vmxnet3"}

// Devices are what the guest finds on its buses. What is not given is as most clouds
// have it: virtio, on a Q35 or with arm64 on a Virt.
type Devices struct {
	Board Board
	Disk  Storage
	NIC   NIC
	// SeedCD puts cloud-init's disk into a CD drive, by IDE on a PC and by AHCI on a Q35.
	SeedCD bool
}

func (d Devices) withDefaults(h hardware) Devices {
	if d.Board == "" && len(h.boards) > 0 {
		d.Board = h.boards[0]
	}
	if d.Disk == "" {
		d.Disk = VirtIODisk
	}
	if d.NIC == "" {
		d.NIC = VirtIONet
	}
	return d
}

func (d Devices) faults(h hardware, f Firmware) error {
	var errs []error
	if !slices.Contains(h.boards, d.Board) {
		errs = append(errs, fmt.Errorf("board %q is not one of %s", d.Board, list(h.boards)))
	}
	if f == SecureBoot && d.Board == PC {
		errs = append(errs, errors.New("the board pc cannot keep the firmware's memory from the kernel: Secure Boot needs q35"))
	}
	known := append(slices.Sorted(maps.Keys(hostAdapters)), AHCI, IDE, NVMe, VirtIODisk)
	switch {
	case !slices.Contains(known, d.Disk):
		errs = append(errs, fmt.Errorf("disk %q is not one of %s", d.Disk, list(known)))
	case d.Disk == IDE && d.Board != PC, d.Disk == AHCI && d.Board != Q35:
		errs = append(errs, fmt.Errorf("disk %q: the board %s has no such controller", d.Disk, d.Board))
	}
	if d.SeedCD && d.Board == Virt {
		errs = append(errs, fmt.Errorf("a CD drive: the board %s has no controller for it", d.Board))
	}
	if cards[d.NIC] == "" {
		errs = append(errs, fmt.Errorf("network card %q is not one of %s", d.NIC, list(slices.Sorted(maps.Keys(cards)))))
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
	d = d.withDefaults(hardwares["amd64"])
	words := []string{string(d.Board), string(d.Disk) + " disk", string(d.NIC) + " network"}
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
		disk := "scsi-hd,drive=disk,bus=scsi.0,bootindex=0"
		if d.Disk == LSISAS {
			disk += ",wwn=0x5000c50000000001" // Linux passes over a SAS disk without an address
		}
		return append(args, "-device", hostAdapters[d.Disk]+",id=scsi", "-device", disk)
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
func (d Devices) netArgs(netdev, mac string) []string {
	card := cards[d.NIC] + ",netdev=net0,romfile="
	if mac != "" {
		card += ",mac=" + mac
	}
	return []string{"-netdev", netdev, "-device", card}
}
