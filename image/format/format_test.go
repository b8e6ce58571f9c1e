package format

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/psf-relay/relay-appliance/internal/need"
)

const mebi = 1 << 20

// content is a disk of 100 MiB: data that packs and data that does not, some beyond each
// 32 MiB (a table of a VMDK) but the third, and the last sector.
func content() []byte {
	disk := make([]byte, 100*mebi)
	copy(disk, "boot")
	random := rand.NewChaCha8([32]byte{1})
	for _, at := range []int{mebi, 32*mebi - 512, 96*mebi + 512} {
		if _, err := random.Read(disk[at : at+200<<10]); err != nil {
			panic(err)
		}
	}
	copy(disk[40*mebi:], bytes.Repeat([]byte("text "), 40<<10))
	copy(disk[len(disk)-512:], "EFI PART")
	return disk
}

var at = time.Unix(1790000000, 0).UTC()

func id(of string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(of)) }

// made writes formats of one disk.
func made(t *testing.T, raw string, formats ...string) (dir string) {
	t.Helper()
	need.Tools(t, "qemu-img")
	dir = t.TempDir()
	d := Disk{Raw: raw, Name: "relay", Time: at, ID: id}
	for _, name := range formats {
		if err := d.Write(t.Context(), name, filepath.Join(dir, "relay."+name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return dir
}

// rawDisk is a file with the content, with holes or without.
func rawDisk(t *testing.T, data []byte, holes bool) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(data))); err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 4096)
	for i := 0; i < len(data); i += len(zero) {
		if part := data[i : i+len(zero)]; !holes || !bytes.Equal(part, zero) {
			if _, err := f.WriteAt(part, int64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return file
}

// Each format holds the disk, whole, and once more written has the same bytes: in another
// folder, of a file without holes that is younger.
func TestFormats(t *testing.T) {
	data := content()
	raw := rawDisk(t, data, true)
	first, second := made(t, raw, Names...), made(t, rawDisk(t, data, false), Names...)
	for _, name := range Names {
		a, err := os.ReadFile(filepath.Join(first, "relay."+name))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(second, "relay."+name)); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %d and %d bytes, %v", name, len(a), len(b), err)
		}
		if name != "vhd" && len(a) > 2*mebi {
			t.Errorf("%s has %d bytes: nothing was packed", name, len(a))
		}
	}
	if left, err := filepath.Glob(filepath.Join(first, "*")); err != nil || len(left) != len(Names) {
		t.Errorf("%q, %v", left, err)
	}
	for name, qemu := range map[string]string{"qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc"} {
		if out, err := exec.Command("qemu-img", "compare", "-f", qemu, "-F", "raw", filepath.Join(first, "relay."+name), raw).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// Bytes 72 to 79 of a qcow2 are the features without which nobody can read it.
	header := make([]byte, 80)
	if _, err := open(t, filepath.Join(first, "relay.qcow2")).ReadAt(header, 0); err != nil {
		t.Fatal(err)
	}
	if string(header[:8]) != "QFI\xfb\x00\x00\x00\x03" || !bytes.Equal(header[72:80], make([]byte, 8)) {
		t.Errorf("the qcow2 begins with %x: want version 3 and no incompatible feature", header)
	}
	z, err := gzip.NewReader(open(t, filepath.Join(first, "relay.raw.gz")))
	if err != nil {
		t.Fatal(err)
	}
	if z.Name != "" || !z.ModTime.IsZero() {
		t.Errorf("raw.gz tells of %q, %v", z.Name, z.ModTime)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, data) {
		t.Errorf("raw.gz holds another disk: %v", err)
	}
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Google wants: a tar with gzip, in the old GNU format, of one file disk.raw.
// https://cloud.google.com/compute/docs/import/import-existing-image
func TestGoogle(t *testing.T) {
	data := content()
	file := open(t, filepath.Join(made(t, rawDisk(t, data, true), "google.tar.gz"), "relay.google.tar.gz"))
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if magic := string(archive[257:265]); magic != "ustar  \x00" {
		t.Errorf("the first header is %q: not of the old GNU format", magic)
	}
	r := tar.NewReader(bytes.NewReader(archive))
	h, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if h.Name != "disk.raw" || h.Typeflag != tar.TypeReg || h.Size != int64(len(data)) || h.Mode != 0o644 || !h.ModTime.Equal(at) || h.Uid != 0 || h.Gid != 0 || h.Uname+h.Gname != "" {
		t.Errorf("%+v", h)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("another disk: %v", err)
	}
	if h, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("besides there is %v, %v", h, err)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(odd, make([]byte, mebi+512), 0o644); err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := Disk{Raw: odd, Name: "relay", Time: at, ID: id}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx              context.Context
		format, to, want string
	}{
		{t.Context(), "iso", filepath.Join(dir, "x"), `no format "iso": want one of raw.gz, qcow2`},
		{t.Context(), "vmdk", filepath.Join(dir, "x"), "1049088 bytes are not whole grains"},
		{t.Context(), "ova", filepath.Join(dir, "x.ova"), "not whole grains"},
		{t.Context(), "raw.gz", there, "file exists"},
		{cancelled, "raw.gz", filepath.Join(dir, "y"), "context canceled"},
	} {
		if err := d.Write(c.ctx, c.format, c.to); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: %v, want %s", c.format, c.to, err, c.want)
		}
	}
	if got, err := os.ReadFile(there); err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
}
