package qemu

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// counter is a boot sector that says "boot 1" on the serial console, writes the
// next number into itself on the disk, and says "saved". At the second start it
// then resets the machine. In AT&T's notation:
//
//	start:	xorw %ax,%ax; movw %ax,%ds; movw %ax,%es; movw %ax,%ss; movw $0x7c00,%sp
//		pushw %dx; movw $0x7c00+hello,%si; call say
//		incb 0x7c00+count
//		popw %dx; movb $0,%dh; movw $0x0301,%ax; movw $0x7c00,%bx; movw $1,%cx; int $0x13
//		movw $0x7c00+saved,%si; call say
//		cmpb $'3',0x7c00+count; je reset
//	halt:	hlt; jmp halt
//	reset:	movb $0xfe,%al; outb %al,$0x64; jmp halt
//	say:	lodsb; testb %al,%al; jz 2f; movb %al,%bl
//	1:	movw $0x3fd,%dx; inb %dx,%al; testb $0x20,%al; jz 1b
//		movw $0x3f8,%dx; movb %bl,%al; outb %al,%dx; jmp say
//	2:	ret
//	hello:	.ascii "boot "
//	count:	.asciz "1\r\n"
//	saved:	.asciz "saved\r\n"
const counter = "31c08ed88ec08ed0bc007c52be527ce82800fe06577c5ab600b80103bb007cb9" +
	"0100cd13be5b7ce81000803e577c337403f4ebfdb0fee664ebf7ac84c0741288" +
	"c3bafd03eca82074f8baf80388d8eeebe9c3626f6f7420310d0a007361766564" +
	"0d0a00"

// bootable is a disk with it.
func bootable(t *testing.T) (path string, sector []byte) {
	t.Helper()
	code, err := hex.DecodeString(counter)
	if err != nil {
		t.Fatal(err)
	}
	sector = append(append(code, make([]byte, 510-len(code))...), 0x55, 0xaa)
	path = filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, append(sector, make([]byte, 1<<20-len(sector))...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, sector
}

func machine(t *testing.T, c Config) *Machine {
	t.Helper()
	need.Tools(t, "qemu-system-x86_64", "qemu-img", "cloud-localds", "socat")
	c.Dir = t.TempDir()
	m, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestMachine(t *testing.T) {
	disk, sector := bootable(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	m := machine(t, Config{
		Disk: disk, Format: "raw", Size: 2 << 20, Memory: 64, CPUs: 1, Silence: time.Minute,
		TCP: []int{443},
	})
	if err := m.Seed(ctx, Seed{UserData: []byte("#cloud-config\n")}); err != nil {
		t.Fatal(err)
	}
	if err := m.Serve(14000, "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(ctx); err == nil {
		t.Error("started twice")
	}
	if err := m.WaitConsole(ctx, 0, "boot 1"); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitConsole(ctx, 0, "saved"); err != nil {
		t.Fatal(err)
	}
	pid := m.running.cmd.Process.Pid
	m.PowerCut()
	m.PowerCut() // of a machine that is off: nothing
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is left: %v", err)
	}
	if err := m.WaitConsole(ctx, 0, "boot 2"); !errors.Is(err, errOff) {
		t.Errorf("a machine without power: %v", err)
	}

	// On again: its disk is as it was left, its ports are the same. It ends itself.
	mark := m.Console.Mark()
	if err := m.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitOff(ctx); err != nil {
		t.Fatal(err)
	}
	if got := m.Console.Since(mark); !strings.Contains(got, "boot 2\nsaved\n") {
		t.Errorf("the second start says %q", got)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	log, err := os.ReadFile(filepath.Join(m.cfg.Dir, consoleFile))
	if err != nil || !bytes.Contains(log, []byte("boot 1")) || !bytes.Contains(log, []byte("boot 2")) {
		t.Errorf("the log of the console: %v\n%q", err, log)
	}
	image, err := os.ReadFile(disk)
	if err != nil || !bytes.Equal(image[:len(sector)], sector) || len(image) != 1<<20 {
		t.Errorf("the image itself was written to: %v", err)
	}
}

// The firmware of UEFI finds nothing to start on this disk, and says so: that it
// runs at all is what is seen here.
func TestFirmware(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: starts two machines")
	}
	disk, _ := bootable(t)
	for _, firmware := range []Firmware{UEFI, SecureBoot} {
		t.Run(string(firmware), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			m := machine(t, Config{Disk: disk, Format: "raw", Firmware: firmware})
			if err := m.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if err := m.WaitConsole(ctx, 0, "BdsDxe"); err != nil {
				t.Error(err)
			}
		})
	}
}

// What QEMU complains of is told.
func TestQEMUFails(t *testing.T) {
	disk, _ := bootable(t)
	m := machine(t, Config{Disk: disk, Format: "raw", Memory: 64})
	if err := os.Remove(m.cfg.path(overlayFile)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitSSH(ctx); err == nil || !strings.Contains(err.Error(), overlayFile) {
		t.Errorf("got %v", err)
	}
}

// A folder that holds another machine's disk is not used.
func TestFolderIsUsed(t *testing.T) {
	disk, _ := bootable(t)
	m := machine(t, Config{Disk: disk, Format: "raw"})
	if _, err := New(t.Context(), Config{Disk: disk, Format: "raw", Dir: m.cfg.Dir}); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
}
