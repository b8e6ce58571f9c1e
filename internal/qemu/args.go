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
	h := hardwares[c.Arch]
	machine, more := string(c.Devices.Board), []string(nil)
	if c.Firmware == SecureBoot {
		machine, more = machine+h.secureMachine, h.secureArgs
	}
	accel, cpu := "tcg,thread=multi", h.cpu
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
	}
	// Unsafe only if the host itself loses power: what the guest has flushed is with the
	// host's kernel when QEMU is killed.
	args = append(args, c.Devices.diskArgs("format=qcow2,cache=unsafe,discard=unmap", c.path(overlayFile))...)
	if files, ok := h.firmwareFiles[c.Firmware]; ok {
		args = append(args,
			"-drive", drive("if=pflash,unit=0,format=raw,readonly=on", filepath.Join(c.FirmwareDir, files[0])),
			"-drive", drive("if=pflash,unit=1,format=raw", c.path(varsFile)))
	}
	args = append(args, more...)
	if w.seeded {
		args = append(args, c.Devices.seedArgs(c.path(seedFile))...)
	}
	netdev := c.netdev(w)
	switch c.Network {
	case NoCard:
		return append(args, c.More...)
	case Silent:
		netdev = "hubport,id=net0,hubid=0"
	}
	mac := ""
	if c.Tap != nil {
		mac = c.Tap.MAC
	}
	return append(append(args, c.Devices.netArgs(netdev, mac)...), c.More...)
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
