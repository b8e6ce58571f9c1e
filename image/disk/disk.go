// Package disk makes a bootable disk image of a tree of files, without a loop
// device and without a mount.
//
// The disk has a GPT with three partitions, numbered so that the root is the first
// and the last on the disk: it can grow with the disk.
//
//	14  BIOS boot   1 MiB   GRUB's core image, for firmware of the BIOS kind; elsewhere
//	                        its place is left free
//	15  ESP        64 MiB   Debian's signed shim and GRUB: UEFI, with Secure Boot
//	 1  root         rest   ext4
//
// The same tree, name and time give the same bytes. File systems are made by the
// tree's own programs where the host's version would matter.
package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

// Spec says what is wanted.
type Spec struct {
	Arch    arch.Arch
	Tree    string // the guest's files
	Work    string // a folder for what is made
	Name    string // of the image: identifiers are derived from it and Time
	Time    time.Time
	Size    int64  // of the disk, in bytes
	Options string // for the kernel
}

const (
	mebi   = 1 << 20
	sector = 512

	biosStart, biosSize = 1 * mebi, 1 * mebi
	espStart, espSize   = 2 * mebi, 64 * mebi
	rootStart           = espStart + espSize
	// The second copy of the GPT stands at the end.
	tail = 1 * mebi
	// MinSize leaves room for a root of some use.
	MinSize = rootStart + 256*mebi + tail
)

func (s Spec) rootSize() int64 { return s.Size - rootStart - tail }

// id derives an identifier, so that no two images share one and each build of the
// same image has the same.
func (s Spec) id(of string) uuid.UUID {
	space := uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/psf-relay/relay-appliance/image"))
	return uuid.NewSHA1(space, []byte(s.Name+"\n"+strconv.FormatInt(s.Time.Unix(), 10)+"\n"+of))
}

// ID derives an identifier for what is made of the disk.
func (s Spec) ID(of string) uuid.UUID { return s.id(of) }

// Boot writes into the tree what stands on the root for booting. It belongs before
// what looks at the finished tree.
func Boot(s Spec) error {
	files := map[string]string{
		"etc/fstab":           s.fstab(),
		"boot/relay/grub.cfg": s.menu(),
		"boot/grub/grubenv":   environment(),
	}
	tree, err := os.OpenRoot(s.Tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	for name, text := range files {
		if err := tree.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := tree.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{"vmlinuz", "vmlinuz.old"} {
		if _, err := tree.Stat(name); err != nil {
			return fmt.Errorf("the tree has no /%s for the boot menu: is a kernel among the packages? %w", name, err)
		}
	}
	return nil
}

// fstab names no ESP: nothing of the running system needs it.
func (s Spec) fstab() string {
	return fmt.Sprintf("UUID=%s / ext4 defaults,errors=remount-ro 0 1\n", s.id("root"))
}

// Make makes the disk image and returns its file's name.
func Make(ctx context.Context, s Spec) (string, error) {
	if s.Size < MinSize || s.Size%mebi != 0 {
		return "", fmt.Errorf("size of the disk: %d bytes: want whole MiB, and %d at least", s.Size, MinSize/mebi)
	}
	raw := filepath.Join(s.Work, "disk.raw")
	f, err := os.OpenFile(raw, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := f.Truncate(s.Size); err != nil {
		return "", err
	}
	type step struct {
		what string
		do   func(context.Context, *os.File) error
	}
	steps := []step{{"partition the disk", s.partition}, {"make the root file system", s.root}, {"make the EFI system partition", s.esp}}
	if s.Arch.BIOS {
		steps = append(steps, step{"install GRUB for BIOS", s.bios})
	}
	for _, step := range steps {
		if err := step.do(ctx, f); err != nil {
			return "", fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return raw, f.Close()
}
