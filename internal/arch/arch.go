// Package arch is the table of the architectures that packages and images are made for:
// what differs between them, and nothing else. A further architecture is a further row
// here, and one in internal/qemu if its image is to be booted.
package arch

import (
	"fmt"
	"runtime"
	"strings"
)

// Arch is one architecture.
type Arch struct {
	// Name is what Debian and Go call it.
	Name string
	// Machine is what the kernel and QEMU call it.
	Machine string
	// Loader is the file name of the C library's program that loads others.
	Loader string
	// EFI ends the names of programs for its UEFI firmware.
	EFI string
	// GRUB is what GRUB calls it with UEFI.
	GRUB string
	// BIOS says whether there are machines whose firmware is a BIOS.
	BIOS bool
	// RootType is the type of a partition that holds the root for it, from the Discoverable
	// Partitions Specification.
	RootType string
	// Boot are Debian's packages that a disk boots with, besides the kernel.
	Boot []string
	// Serial are the serial lines that its machines have as console, as the kernel calls
	// them; the last one that a machine has is its main console.
	Serial []string
}

// All are the architectures that there are.
var All = []Arch{
	{
		Name: "amd64", Machine: "x86_64", Loader: "ld-linux-x86-64.so.2",
		EFI: "x64", GRUB: "x86_64-efi", BIOS: true, RootType: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
		Boot:   []string{"grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", "e2fsprogs"},
		Serial: []string{"ttyS0"},
	},
	{
		Name: "arm64", Machine: "aarch64", Loader: "ld-linux-aarch64.so.1",
		EFI: "aa64", GRUB: "arm64-efi", RootType: "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
		Boot: []string{"grub-efi-arm64-signed", "shim-signed", "e2fsprogs"},
		// Amazon's machines have the first, Hetzner's, Oracle's and QEMU's the second.
		Serial: []string{"ttyS0", "ttyAMA0"},
	},
}

// Names are those of all.
func Names() []string {
	names := make([]string, len(All))
	for i, a := range All {
		names[i] = a.Name
	}
	return names
}

// Pattern is a regular expression for the architectures in a package's name: one of
// these, or all.
func Pattern() string { return "(" + strings.Join(Names(), "|") + "|all)" }

// Find is the architecture of that name.
func Find(name string) (Arch, error) {
	for _, a := range All {
		if a.Name == name {
			return a, nil
		}
	}
	return Arch{}, fmt.Errorf("architecture: want %s, not %q", strings.Join(Names(), " or "), name)
}

// Host is the name of this machine's, which need not be in the table.
const Host = runtime.GOARCH

// Foreign says whether this machine runs its programs only by emulation.
func (a Arch) Foreign() bool { return a.Name != Host }

// Libraries is the folder of its libraries below the root, without a slash before it.
func (a Arch) Libraries() string { return "usr/lib/" + a.Machine + "-linux-gnu" }
