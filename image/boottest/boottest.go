// Package boottest is the Packer post-processor relay-boottest: it boots the image that
// a build has made, an overlay of it, and fails the build if it does not come up.
package boottest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// PostProcessor is the component.
type PostProcessor struct{ config Config }

var _ packer.PostProcessor = (*PostProcessor)(nil)

// formats are the kinds of file that QEMU boots, the smallest first, and what QEMU
// calls them.
var formats = []struct{ suffix, name string }{{".qcow2", "qcow2"}, {".raw", "raw"}, {".vmdk", "vmdk"}, {".vhd", "vpc"}}

// PostProcess boots the image with each firmware. The artifact passes unchanged.
func (p *PostProcessor) PostProcess(ctx context.Context, ui packer.Ui, in packer.Artifact) (_ packer.Artifact, keep, force bool, err error) {
	for _, firmware := range p.config.Firmware {
		if err := p.boot(ctx, ui, in.Files(), qemu.Firmware(firmware)); err != nil {
			return nil, true, true, fmt.Errorf("boot with %s: %w", firmware, err)
		}
	}
	return in, true, true, nil
}

func (p *PostProcessor) boot(ctx context.Context, ui packer.Ui, files []string, firmware qemu.Firmware) (err error) {
	disk, format, err := bootable(files)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.config.timeout, fmt.Errorf("not up after %s", p.config.timeout))
	defer cancel()
	dir, err := os.MkdirTemp("", "relay-boottest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ui.Sayf("Booting %s with %s", filepath.Base(disk), firmware)
	m, err := qemu.New(ctx, qemu.Config{Disk: disk, Format: format, Dir: dir, Arch: p.config.Arch, Firmware: firmware,
		Accel: qemu.Accel(p.config.Accelerator), Memory: p.config.Memory, Progress: ui.Say})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, m.Close())
		if kept := p.keepLog(m, disk, firmware); err != nil && kept != "" {
			err = fmt.Errorf("%w\nthe console's last lines (all of it: %s):\n%s", err, kept, m.Console.Tail(20))
		}
	}()
	if err := m.Seed(ctx, qemu.Seed{UserData: p.config.userData}); err != nil {
		return err
	}
	if err := m.Start(ctx); err != nil {
		return err
	}
	return m.WaitReady(ctx, p.config.Services...)
}

// keepLog writes the console beside the image and returns the file's name.
func (p *PostProcessor) keepLog(m *qemu.Machine, disk string, firmware qemu.Firmware) string {
	name := strings.TrimSuffix(disk, filepath.Ext(disk)) + "." + string(firmware) + ".console.log"
	if os.WriteFile(name, []byte(m.Console.Text()), 0o644) != nil {
		return ""
	}
	return name
}

// bootable finds the file to boot.
func bootable(files []string) (file, format string, err error) {
	for _, f := range formats {
		for _, file := range files {
			if strings.HasSuffix(file, f.suffix) {
				return file, f.name, nil
			}
		}
	}
	return "", "", fmt.Errorf("no disk image among the files of the build (%s): want qcow2, raw, vmdk or vhd", strings.Join(files, ", "))
}
