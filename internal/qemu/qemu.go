// Package qemu boots disk images in QEMU, for the tests of the appliance's image
// and for the post-processor that tries an image before it is handed out.
//
// A [Machine] never writes to the image that it boots: it works on an overlay in
// its own folder. It has one network card, unless [Config.Network] says otherwise, from
// which nothing leaves the host: what is in the guest can be reached through ports of
// the loopback that are forwarded to it ([Machine.Forwarded]), and the guest reaches only what it is
// given with [Machine.Serve], under [ServiceHost].
//
//	m, err := qemu.New(ctx, qemu.Config{Disk: "relay.qcow2", Format: "qcow2", Dir: dir, TCP: []int{443}})
//	defer m.Close()
//	err = m.Seed(ctx, qemu.Seed{UserData: userData})
//	err = m.Start(ctx)         // the power button
//	err = m.WaitSSH(ctx)       // up so far that one can log in
//	out, err := m.Run(ctx, "systemctl --failed")
//	m.PowerCut()               // and m.Start(ctx) again: the same disk
//
// Emulation is slow, and slower still on a busy host: waiting therefore follows
// what the guest writes to its serial console, and gives up when it has been
// silent for [Config.Silence], or when the caller's context ends.
package qemu

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Firmware is what starts the machine.
type Firmware string

// The firmwares that an operator's machine can have.
const (
	BIOS       Firmware = "bios"
	UEFI       Firmware = "uefi"
	SecureBoot Firmware = "secureboot" // UEFI that starts only what Microsoft's keys vouch for
)

// Firmwares are all that there are.
var Firmwares = []Firmware{BIOS, UEFI, SecureBoot}

// Accel is how the guest's processor is had.
type Accel string

// TCG emulates the processor and works everywhere. KVM uses the host's and is used
// only where it was asked for: that a host has the device does not mean that a
// guest boots with it.
const (
	TCG Accel = "tcg"
	KVM Accel = "kvm"
)

// Network is what the machine's network card leads to.
type Network string

// The networks. That of QEMU's own, as the package has it, is the default.
const (
	NoCard Network = "no card"
	Silent Network = "silent" // there is a card, and nobody answers to it
)

// ServiceHost is the address under which the guest finds what [Machine.Serve] gives it.
const ServiceHost = "10.0.2.100"

// Config says what is to be booted. What is not given gets a default; Disk, Format
// and Dir must be given.
type Config struct {
	// Disk is the image. It is read only: what the guest writes goes to an overlay.
	Disk string
	// Format is the image's, in QEMU's words: raw, qcow2, vmdk, vpc (a VHD).
	Format string
	// Size of the disk that the guest sees, if it is to be larger than the image.
	Size int64
	// Dir is where overlay, seed, and console log lie; it must exist. Whoever made
	// it removes it.
	Dir string

	// Arch is the machine's architecture, as Debian calls it. Default: amd64.
	Arch     string
	Firmware Firmware // default: BIOS, where there is one, else UEFI
	// FirmwareDir is where the UEFI firmware lies. Default: where Debian's packages have it.
	FirmwareDir string
	Accel       Accel // default: TCG; KVM takes a host of that architecture
	Memory      int   // MiB; default: 512
	CPUs        int   // default: 2
	Devices     Devices

	Network Network // without QEMU's own nothing in the guest is reached, nor by it

	// TCP are ports of the guest that are to be reached from the host, besides 22
	// for SSH. There is no such thing for UDP: QEMU's network drops the answers of a
	// guest that is kept from the host.
	TCP []int
	// Tap is the network in place of QEMU's own; nil: QEMU's own.
	Tap *Tap
	// More are further arguments of QEMU's: what one provider's machines have besides.
	More []string

	// Silence is how long the console may say nothing while something is waited
	// for. Default: 6 minutes; an emulated boot on a quiet host has pauses of 20 s.
	Silence time.Duration
	// Progress is told now and then what the console says last; nil: nobody is.
	Progress func(line string)
}

// withDefaults returns the configuration with all its fields, or all its faults.
func (c Config) withDefaults() (Config, error) {
	if c.Arch == "" {
		c.Arch = "amd64"
	}
	h, known := hardwares[c.Arch]
	if c.Firmware == "" {
		c.Firmware = h.firmware
	}
	if c.FirmwareDir == "" {
		c.FirmwareDir = h.firmwareDir
	}
	if c.Accel == "" {
		c.Accel = TCG
	}
	if c.Memory == 0 {
		c.Memory = 512
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Silence == 0 {
		c.Silence = 6 * time.Minute
	}
	c.Devices = c.Devices.withDefaults(h)
	var errs []error
	if _, err := os.Stat(c.Disk); err != nil {
		errs = append(errs, fmt.Errorf("the disk image: %w", err))
	}
	if !slices.Contains([]string{"raw", "qcow2", "vmdk", "vpc"}, c.Format) {
		errs = append(errs, fmt.Errorf("format %q is not one of raw, qcow2, vmdk, vpc", c.Format))
	}
	if info, err := os.Stat(c.Dir); err != nil {
		errs = append(errs, fmt.Errorf("the machine's folder: %w", err))
	} else if !info.IsDir() {
		errs = append(errs, fmt.Errorf("the machine's folder: %s is none", c.Dir))
	}
	if !known {
		errs = append(errs, fmt.Errorf("architecture %q is not one of %s", c.Arch, strings.Join(slices.Sorted(maps.Keys(hardwares)), ", ")))
	}
	if !slices.Contains(Firmwares, c.Firmware) {
		errs = append(errs, fmt.Errorf("firmware %q is not one of bios, uefi, secureboot", c.Firmware))
	} else if c.Firmware == BIOS && h.firmware != BIOS {
		errs = append(errs, fmt.Errorf("firmware %q: machines of %s have none", c.Firmware, c.Arch))
	}
	if c.Accel != TCG && c.Accel != KVM {
		errs = append(errs, fmt.Errorf("accelerator %q is not one of tcg, kvm", c.Accel))
	}
	if err := c.Devices.faults(h, c.Firmware); err != nil {
		errs = append(errs, err)
	}
	if !slices.Contains([]Network{"", NoCard, Silent}, c.Network) {
		errs = append(errs, fmt.Errorf("network %q is not one of %s, %s", c.Network, NoCard, Silent))
	}
	if c.Memory < 64 {
		errs = append(errs, fmt.Errorf("memory of %d MiB: too little to boot anything", c.Memory))
	}
	if c.CPUs < 1 {
		errs = append(errs, fmt.Errorf("%d processors", c.CPUs))
	}
	for _, port := range c.TCP {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("port %d of the guest", port))
		}
	}
	return c, errors.Join(errs...)
}

// forwards are the guest's ports that get one of the host.
func (c Config) forwards() []int {
	if c.Tap != nil {
		return nil
	}
	ports := append([]int{22}, c.TCP...)
	slices.Sort(ports)
	return slices.Compact(ports)
}

func (c Config) path(name string) string { return filepath.Join(c.Dir, name) }
