package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/image/process"
)

// volume is the serial number of the ESP's file system.
func (s Spec) volume() string {
	id := s.id("esp")
	return fmt.Sprintf("%x", id[:4])
}

func (s Spec) espArgv(file string) []string {
	return []string{"mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-n", "RELAY-ESP", "-i", s.volume(), "-C", file,
		strconv.Itoa(espSize / 1024)}
}

// stub is what the signed GRUB reads on the ESP: where the menu stands.
func (s Spec) stub() string {
	return fmt.Sprintf("search --no-floppy --fs-uuid --set=root %s\nset prefix=($root)/boot/relay\nconfigfile $prefix/grub.cfg\n", s.id("root"))
}

// esp makes the file system for UEFI. Firmware without an entry of its own for the
// disk starts EFI/BOOT/BOOTX64.EFI, or what its architecture has for X64: Debian's shim,
// signed by Microsoft, which starts GRUB, signed by Debian. That one looks for its
// configuration where Debian has it.
func (s Spec) esp(ctx context.Context, raw *os.File) error {
	content := filepath.Join(s.Work, "esp")
	defer os.RemoveAll(content)
	efi := s.Arch.EFI
	for _, f := range []struct{ to, from string }{
		{"EFI/BOOT/BOOT" + strings.ToUpper(efi) + ".EFI", "usr/lib/shim/shim" + efi + ".efi.signed"},
		{"EFI/BOOT/mm" + efi + ".efi", "usr/lib/shim/mm" + efi + ".efi.signed"},
		{"EFI/BOOT/grub" + efi + ".efi", "usr/lib/grub/" + s.Arch.GRUB + "-signed/grub" + efi + ".efi.signed"},
	} {
		data, err := os.ReadFile(filepath.Join(s.Tree, f.from))
		if err != nil {
			return fmt.Errorf("%w: are shim-signed and grub-efi-%s-signed among the packages?", err, s.Arch.Name)
		}
		if err := s.onESP(content, f.to, data); err != nil {
			return err
		}
	}
	if err := s.onESP(content, "EFI/debian/grub.cfg", []byte(s.stub())); err != nil {
		return err
	}
	file := filepath.Join(s.Work, "esp.img")
	defer os.Remove(file)
	env := append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(s.Time.Unix(), 10), "TZ=UTC", "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
	if err := process.Run(ctx, env, nil, s.espArgv(file)...); err != nil {
		return err
	}
	if err := process.Run(ctx, env, nil, "mcopy", "-s", "-m", "-i", file, filepath.Join(content, "EFI"), "::"); err != nil {
		return err
	}
	return place(raw, espStart, file)
}

// onESP gives each folder and file the image's time: mcopy carries it over.
func (s Spec) onESP(content, name string, data []byte) error {
	path := filepath.Join(content, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	for ; path != content; path = filepath.Dir(path) {
		if err := os.Chtimes(path, time.Time{}, s.Time); err != nil {
			return err
		}
	}
	return nil
}

// place copies a file into the disk. What is zero stays a hole.
func place(raw *os.File, at int64, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, mebi)
	zero := make([]byte, mebi)
	for {
		n, err := io.ReadFull(f, block)
		if n > 0 && !bytes.Equal(block[:n], zero[:n]) {
			if _, err := raw.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
