package builder

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/internal/tinytree"
	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
)

// hook stands for the provisioners.
type hook func(context.Context, packer.Communicator) error

func (h hook) Run(ctx context.Context, _ string, _ packer.Ui, c packer.Communicator, _ any) error {
	return h(ctx, c)
}

// kept is a builder whose tree is tiny, and kept already.
func kept(t *testing.T) *Builder {
	t.Helper()
	need.Root(t)
	mirror := tinytree.Mirror(t)
	b := &Builder{config: Config{Name: "x", Output: filepath.Join(t.TempDir(), "out"), Packages: []string{"tiny"}, Mirror: mirror, SecurityMirror: mirror,
		Cache: t.TempDir(), Epoch: 1790000000}}
	if err := b.config.prepare(""); err != nil {
		t.Fatal(err)
	}
	tinytree.Keep(t, b.config.Cache, b.config.recipe())
	return b
}

// clean makes sure that a build has left nothing.
func clean(t *testing.T, b *Builder) {
	t.Helper()
	if entries, err := os.ReadDir(b.config.Output); err != nil || len(entries) > 0 {
		t.Errorf("left in the output folder: %v %v", entries, err)
	}
	if left := tinytree.Leftovers(t, b.config.Output); len(left) > 0 {
		t.Errorf("left running or mounted: %q", left)
	}
}

// A build that is cancelled while a provisioner works ends, and leaves nothing.
func TestCancelledBuild(t *testing.T) {
	b := kept(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var during int
	_, err := b.Run(ctx, packer.TestUi(t), hook(func(ctx context.Context, c packer.Communicator) error {
		r, w := io.Pipe()
		cmd := &packer.RemoteCmd{Command: "sleep 1000 & echo started; sleep 1000", Stdout: w}
		// As over RPC: the provisioner's own context is not the build's.
		if err := c.Start(t.Context(), cmd); err != nil {
			return err
		}
		if _, err := io.ReadFull(r, make([]byte, len("started\n"))); err != nil {
			return err
		}
		during = len(tinytree.Running(t, b.config.Output))
		cancel()
		if code := cmd.Wait(); code != 137 {
			t.Errorf("the command ended with %d", code)
		}
		return ctx.Err()
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if during == 0 {
		t.Error("nothing ran: the test looks for processes in the wrong way")
	}
	clean(t, b)
}

// A provisioner that fails ends the build; what it has left running ends with it.
func TestFailedProvisioner(t *testing.T) {
	b := kept(t)
	_, err := b.Run(t.Context(), packer.TestUi(t), hook(func(ctx context.Context, c packer.Communicator) error {
		if err := c.Start(ctx, &packer.RemoteCmd{Command: "sleep 1000"}); err != nil {
			return err
		}
		return errors.New("no")
	}))
	if err == nil || err.Error() != "no" {
		t.Errorf("%v", err)
	}
	clean(t, b)
}

// Dirt that a provisioner leaves fails the build.
func TestDirtyBuild(t *testing.T) {
	b := kept(t)
	_, err := b.Run(t.Context(), packer.TestUi(t), hook(func(_ context.Context, c packer.Communicator) error {
		return errors.Join(c.Upload("/etc/shadow", strings.NewReader("root:$6$x$y:1::::::\n"), nil), c.Upload("/var/log/build.log", strings.NewReader("x"), nil))
	}))
	// The log is scrubbed; a password is not hidden.
	if err == nil || !strings.Contains(err.Error(), "an account with a password: root") || strings.Contains(err.Error(), "build.log") {
		t.Errorf("%v", err)
	}
	clean(t, b)
}

// A disk without an initramfs would not boot.
func TestNoInitramfs(t *testing.T) {
	b := kept(t)
	_, err := b.Run(t.Context(), packer.TestUi(t), hook(func(ctx context.Context, c packer.Communicator) error {
		cmd := &packer.RemoteCmd{Command: "echo '#!/bin/sh' >/usr/bin/linux-version"}
		err := c.Start(ctx, cmd)
		cmd.Wait()
		return err
	}))
	if err == nil || !strings.Contains(err.Error(), "make the initramfs: exit code 1: no kernel has its initramfs at /initrd.img") {
		t.Errorf("%v", err)
	}
	clean(t, b)
}

// A package that came from nowhere fails the build.
func TestUnknownPackage(t *testing.T) {
	b := kept(t)
	_, err := b.Run(t.Context(), packer.TestUi(t), hook(func(_ context.Context, c packer.Communicator) error {
		return c.Upload("/var/lib/dpkg/status", strings.NewReader("Package: tiny\nStatus: install ok installed\nVersion: 2\nArchitecture: "+arch.Host+"\n"), nil)
	}))
	if err == nil || !strings.Contains(err.Error(), "nobody knows where these packages came from: tiny 2 "+arch.Host) {
		t.Errorf("%v", err)
	}
	clean(t, b)
}

// A disk that cannot be made leaves no half image: this tree has no mke2fs.
func TestFailedDisk(t *testing.T) {
	b := kept(t)
	_, err := b.Run(t.Context(), packer.TestUi(t), hook(func(context.Context, packer.Communicator) error { return nil }))
	if err == nil || !strings.Contains(err.Error(), "make the root file system") {
		t.Errorf("%v", err)
	}
	clean(t, b)
}

// All formats that were asked for are made, under the names that were announced, and
// nothing else is left.
func TestConvert(t *testing.T) {
	need.Tools(t, "qemu-img")
	for _, wanted := range [][]string{formats, {"ova"}, {"qcow2"}} {
		work := t.TempDir()
		c := &Config{Name: "x", Formats: wanted, Epoch: 1790000000, size: 4 << 20}
		b := &build{Config: c, ui: packer.TestUi(t), work: work, disk: filepath.Join(work, "disk.raw")}
		if err := os.WriteFile(b.disk, append([]byte("boot"), make([]byte, c.size-4)...), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := b.convert(t.Context()); err != nil {
			t.Fatal(err)
		}
		var made []string
		for _, file := range b.files {
			made = append(made, filepath.Base(file))
		}
		slices.Sort(made)
		announced := c.outputs()[2:] // behind what is said of the image
		slices.Sort(announced)
		if d := cmp.Diff(announced, made); d != "" {
			t.Error(d)
		}
		left, err := os.ReadDir(work)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range left {
			if f.Name() != "disk.raw" && !slices.Contains(made, f.Name()) {
				t.Errorf("%s is left", f.Name())
			}
		}
	}
}

func TestSettle(t *testing.T) {
	tree := t.TempDir()
	old, young := filepath.Join(tree, "old"), filepath.Join(tree, "young")
	for _, f := range []string{old, young} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, time.Time{}, time.Unix(1000, 5)); err != nil {
		t.Fatal(err)
	}
	b := &build{Config: &Config{Epoch: 1790000000}, tree: tree}
	if err := b.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"old": 1000, "young": 1790000000, "link": 1790000000, ".": 1790000000} {
		fi, err := os.Lstat(filepath.Join(tree, name))
		if err != nil || !fi.ModTime().Equal(time.Unix(want, 0)) {
			t.Errorf("%s is of %v, want %v (%v)", name, fi.ModTime(), time.Unix(want, 0), err)
		}
	}
}
