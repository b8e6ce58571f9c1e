package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/image/process"
)

// modules are all that GRUB has for BIOS: none is loaded from the disk.
var modules = []string{"biosdisk", "part_gpt", "ext2", "normal", "search", "search_fs_uuid", "configfile", "linux",
	"loadenv", "test", "echo", "serial", "terminal", "sleep", "reboot", "halt", "ls", "cat"}

func (s Spec) coreArgv(stub, core string) []string {
	args := []string{"--format=i386-pc", "--directory=" + filepath.Join(s.Tree, "usr/lib/grub/i386-pc"),
		"--prefix=/boot/relay", "--config=" + stub, "--output=" + core}
	return s.guest("usr/bin/grub-mkimage", append(args, modules...)...)
}

// bios installs GRUB as grub-install would: boot.img into the first sector, where it
// learns where the core image stands, and that, which learns the same of its rest,
// into the partition made for it. Offsets: GRUB's boot.S and diskboot.S.
func (s Spec) bios(ctx context.Context, raw *os.File) error {
	stub, core := filepath.Join(s.Work, "stub.cfg"), filepath.Join(s.Work, "core.img")
	defer os.Remove(stub)
	defer os.Remove(core)
	if err := os.WriteFile(stub, []byte(s.stub()), 0o644); err != nil {
		return err
	}
	if err := process.Run(ctx, nil, nil, s.coreArgv(stub, core)...); err != nil {
		return err
	}
	boot, err := os.ReadFile(filepath.Join(s.Tree, "usr/lib/grub/i386-pc/boot.img"))
	if err != nil {
		return fmt.Errorf("%w: is grub-pc-bin among the packages?", err)
	}
	image, err := os.ReadFile(core)
	if err != nil {
		return err
	}
	if err := link(boot, image, biosStart/sector); err != nil {
		return err
	}
	// What follows in the sector is the protective partition table.
	if _, err := raw.WriteAt(boot[:440], 0); err != nil {
		return err
	}
	_, err = raw.WriteAt(image, biosStart)
	return err
}

// link writes into both images where the core image stands: from sector lba on.
func link(boot, core []byte, lba uint64) error {
	const (
		kernelSector = 0x5c // GRUB_BOOT_MACHINE_KERNEL_SECTOR
		driveCheck   = 0x66 // GRUB_BOOT_MACHINE_DRIVE_CHECK
		blockList    = sector - 12
		segment      = 0x820 // where the rest is loaded: GRUB_BOOT_MACHINE_KERNEL_SEG + 0x20
	)
	if len(boot) != sector {
		return fmt.Errorf("boot.img has %d bytes, not %d", len(boot), sector)
	}
	if len(core) <= sector || len(core) > biosSize {
		return errors.New("GRUB's core image does not fit its partition")
	}
	binary.LittleEndian.PutUint64(boot[kernelSector:], lba)
	// Two no-operations where a jump skips a work-around for faulty BIOSes.
	boot[driveCheck], boot[driveCheck+1] = 0x90, 0x90
	binary.LittleEndian.PutUint64(core[blockList:], lba+1)
	binary.LittleEndian.PutUint16(core[blockList+8:], uint16((len(core)-1)/sector))
	binary.LittleEndian.PutUint16(core[blockList+10:], segment)
	return nil
}
