// Package foreign has this machine run programs of another architecture while an image
// for it is made: the kernel hands them to QEMU's emulation of a user's programs.
//
// The kernel is told by binfmt_misc, as Debian's package qemu-user-static describes it.
// Where a distribution has done so already, nothing is done. Else it is done here, and
// undone by the last one who needs it.
package foreign

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

// Enable has programs of a run on this machine until release is called. For those of
// the machine's own architecture there is nothing to do.
func Enable(a arch.Arch) (release func() error, err error) {
	if !a.Foreign() {
		return func() error { return nil }, nil
	}
	release, err = system.enable(a.Machine)
	if err != nil {
		return nil, fmt.Errorf("programs for %s do not run on this machine (%s): %w", a.Name, arch.Host, err)
	}
	return release, nil
}

// kernel is where binfmt_misc and its descriptions are found.
type kernel struct {
	dir     string   // where binfmt_misc is mounted, or can be
	configs []string // folders of descriptions, the first one that has it counts
}

var system = kernel{"/proc/sys/fs/binfmt_misc", []string{"/etc/binfmt.d", "/usr/lib/binfmt.d"}}

// own begins the names of the entries that are made here: they are removed without
// asking whose they are.
const own = "relay-image-"

func (k kernel) enable(machine string) (_ func() error, err error) {
	mounted, err := k.mount()
	if err != nil {
		return nil, err
	}
	release := func() error { return k.unmount(mounted) }
	defer func() {
		if err != nil {
			err = errors.Join(err, release())
		}
	}()
	if status, err := os.ReadFile(k.path("status")); err != nil || !bytes.HasPrefix(status, []byte("enabled")) {
		return nil, fmt.Errorf("binfmt_misc is switched off (%q, %v): echo 1 >%s", bytes.TrimSpace(status), err, k.path("status"))
	}
	if there, err := k.usable("qemu-" + machine); there || err != nil {
		return release, err
	}
	entry, err := k.hold(machine)
	if err != nil {
		return nil, err
	}
	return func() error { return errors.Join(k.drop(entry), k.unmount(mounted)) }, nil
}

// hold makes our entry, or finds that of a build that runs beside this one. Whoever uses
// it shares a lock on it, which needs no file and ends with its holder.
func (k kernel) hold(machine string) (*os.File, error) {
	for {
		there, err := k.usable(own + machine)
		if err != nil {
			return nil, err
		}
		if !there {
			line, err := k.description(machine)
			if err != nil {
				return nil, err
			}
			if err := k.write("register", line); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, fmt.Errorf("%w: in a container the host has to do it: install qemu-user-static and binfmt-support there", err)
			}
		}
		f, err := os.OpenFile(k.path(own+machine), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
			return nil, errors.Join(&fs.PathError{Op: "lock", Path: f.Name(), Err: err}, f.Close())
		}
		locked, err := f.Stat()
		if now, other := os.Stat(f.Name()); err == nil && other == nil && os.SameFile(locked, now) {
			return f, nil
		}
		f.Close() // as above
	}
}

// drop removes the entry, unless somebody else holds it still.
func (k kernel) drop(entry *os.File) error {
	if unix.Flock(int(entry.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return entry.Close()
	}
	_, err := entry.Write([]byte("-1"))
	return errors.Join(err, entry.Close())
}

// write has the kernel take one line; no file is made.
func (k kernel) write(name string, line []byte) error {
	f, err := os.OpenFile(k.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Close())
}

func (k kernel) path(name string) string { return filepath.Join(k.dir, name) }

// mount makes binfmt_misc visible, and says whether that was needed.
func (k kernel) mount() (bool, error) {
	if _, err := os.Stat(k.path("register")); err == nil {
		return false, nil
	}
	if err := unix.Mount("binfmt_misc", k.dir, "binfmt_misc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return false, fmt.Errorf("mount binfmt_misc on %s: %w: root has to do it, and the kernel needs its module binfmt_misc (modprobe binfmt_misc)", k.dir, err)
	}
	return true, nil
}

// unmount undoes mount, unless somebody uses it meanwhile.
func (k kernel) unmount(mounted bool) error {
	if !mounted {
		return nil
	}
	if err := unix.Unmount(k.dir, 0); err != nil && !errors.Is(err, unix.EBUSY) {
		return &fs.PathError{Op: "unmount", Path: k.dir, Err: err}
	}
	return nil
}

// usable says whether the entry is there, and what is wrong with it for a build: the
// interpreter has to be open already where a program of another root is started.
func (k kernel) usable(entry string) (bool, error) {
	text, err := os.ReadFile(k.path(entry))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lines := strings.Split(string(text), "\n")
	if !slices.Contains(lines, "enabled") {
		return false, fmt.Errorf("%s is switched off: echo 1 >%s", entry, k.path(entry))
	}
	for _, line := range lines {
		if flags, ok := strings.CutPrefix(line, "flags: "); ok && strings.Contains(flags, "F") {
			return true, nil
		}
	}
	return false, fmt.Errorf("%s was registered without the flag F, so the emulator is not found in an image's tree: remove it (echo -1 >%s), and build again", entry, k.path(entry))
}

// description is the line for the kernel that Debian's package brings, under our name.
func (k kernel) description(machine string) ([]byte, error) {
	for _, dir := range k.configs {
		file := filepath.Join(dir, "qemu-"+machine+".conf")
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		rest, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte(":qemu-"+machine+":M:"))
		if !ok || bytes.ContainsRune(rest, '\n') || bytes.Count(rest, []byte(":")) != 4 {
			return nil, fmt.Errorf("%s: want one line that begins with :qemu-%s:M:", file, machine)
		}
		if flags := rest[bytes.LastIndexByte(rest, ':'):]; !bytes.ContainsRune(flags, 'F') {
			return nil, fmt.Errorf("%s: the flag F is missing: the emulator would not be found in an image's tree", file)
		}
		return append([]byte(":"+own+machine+":M:"), rest...), nil
	}
	return nil, errors.New("there is no emulator: apt-get install qemu-user-static (from Debian 13 on qemu-user-binfmt), or build on a machine of that architecture")
}
