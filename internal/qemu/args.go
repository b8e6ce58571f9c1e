package qemu

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names in the machine's folder.
const (
	overlayFile = "overlay.qcow2"
	seedFile    = "seed.iso"
	varsFile    = "uefi-vars.fd" // the UEFI firmware's memory, which it writes to
	consoleFile = "console.log"
	keyFile     = "ssh-key"
)

// firmwareFiles are the UEFI firmware's code and the template of its memory, in
// Debian's ovmf package. With the second pair Microsoft's keys are enrolled and
// Secure Boot is on.
var firmwareFiles = map[Firmware][2]string{
	UEFI:       {"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"},
	SecureBoot: {"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"},
}

// wiring is what a machine gets besides its configuration.
type wiring struct {
	forwarded map[int]int    // the port of the host that leads to each of the guest
	services  map[int]string // what the guest finds at each port of ServiceHost: host:port
	seeded    bool           // there is a disk for cloud-init
	started   time.Time      // when the machine is switched on
}

// clockAhead is how far the guest's clock is ahead of the host's. A guest reads whole
// seconds when it starts, and so lags up to one behind: what a CA on the host issues
// would not be valid yet in the guest.
const clockAhead = 3 * time.Second

// args is QEMU's command line for a configuration with all its fields.
func (c Config) args(w wiring) []string {
	machine := "q35"
	if c.Firmware == SecureBoot {
		machine += ",smm=on" // or the guest's kernel could write the firmware's memory
	}
	accel, cpu := "tcg,thread=multi", "max"
	if c.Accel == KVM {
		accel, cpu = "kvm", "host"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", machine, "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.Memory),
		// A guest that reboots ends QEMU, and is started again: so that nobody has to
		// guess whether it has.
		"-no-reboot",
		"-rtc", "base=" + w.started.Add(clockAhead).UTC().Format("2006-01-02T15:04:05"),
		"-serial", "stdio",
		"-device", "virtio-rng-pci",
		// Unsafe only if the host itself loses power: what the guest has flushed is
		// with the host's kernel when QEMU is killed.
		"-drive", drive("if=virtio,format=qcow2,cache=unsafe,discard=unmap", c.path(overlayFile)),
	}
	if files, ok := firmwareFiles[c.Firmware]; ok {
		args = append(args,
			"-drive", drive("if=pflash,unit=0,format=raw,readonly=on", filepath.Join(c.FirmwareDir, files[0])),
			"-drive", drive("if=pflash,unit=1,format=raw", c.path(varsFile)))
	}
	if c.Firmware == SecureBoot {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if w.seeded {
		args = append(args, "-drive", drive("if=virtio,format=raw,readonly=on", c.path(seedFile)))
	}
	nic := "virtio-net-pci,netdev=net0,romfile="
	if c.Tap != nil {
		nic += ",mac=" + c.Tap.MAC
	}
	return append(append(args, "-netdev", c.netdev(w), "-device", nic), c.More...)
}

// netdev is a network of QEMU's own. restrict keeps the guest from the host and
// from what is behind it, also by way of the host's resolver.
func (c Config) netdev(w wiring) string {
	if c.Tap != nil {
		return c.Tap.netdev()
	}
	var b strings.Builder
	b.WriteString("user,id=net0,restrict=on")
	for _, port := range c.forwards() {
		fmt.Fprintf(&b, ",hostfwd=tcp:127.0.0.1:%d-:%d", w.forwarded[port], port)
	}
	// One program for each connection: QEMU's own kind of forwarding opens a single
	// one, when it starts.
	for _, port := range slices.Sorted(maps.Keys(w.services)) {
		fmt.Fprintf(&b, ",guestfwd=tcp:%s:%d-cmd:socat - TCP:%s", ServiceHost, port, w.services[port])
	}
	return b.String()
}

// drive is the value of -drive; a comma in a file's name is written twice.
func drive(options, file string) string {
	return options + ",file=" + strings.ReplaceAll(file, ",", ",,")
}
