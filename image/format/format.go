// Package format writes a raw disk in the forms that providers and hypervisors take.
// The same disk, name and time give the same bytes.
//
//	raw.gz         gzip
//	qcow2          QEMU's, compressed
//	vmdk           VMware's, stream-optimized: Virtual Disk Format 5.0
//	vhd            Microsoft's, of fixed size: Virtual Hard Disk Image Format Specification 1.0
//	google.tar.gz  a file disk.raw, as Google Compute Engine imports it
//	ova            the vmdk with a description of a machine: OVF 1.0 (DSP0243)
package format

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/psf-relay/relay-appliance/image/process"
)

// Disk is what is written.
type Disk struct {
	Raw  string // a file of whole MiB
	Name string // of the image, for what describes it
	Time time.Time
	ID   func(of string) uuid.UUID // derives identifiers
}

// Names are the formats. A file's name ends in its format.
var Names = []string{"raw.gz", "qcow2", "vmdk", "vhd", "google.tar.gz", "ova"}

// Write makes the file of a format.
func (d Disk) Write(ctx context.Context, name, to string) error {
	write := map[string]func(context.Context, string) error{
		"raw.gz": d.gzip, "qcow2": d.qcow2, "vmdk": d.vmdk, "vhd": d.vhd, "google.tar.gz": d.google, "ova": d.ova,
	}[name]
	if write == nil {
		return fmt.Errorf("no format %q: want one of %s", name, strings.Join(Names, ", "))
	}
	return write(ctx, to)
}

func (d Disk) gzip(ctx context.Context, to string) error {
	return d.pack(ctx, to, func(w io.Writer, in io.Reader, _ int64) error {
		_, err := io.Copy(w, in)
		return err
	})
}

// google writes what "tar --format=oldgnu -czf" does, as Google's manual shows, but without
// tar's marks for holes: where tar sees one follows from the file system, too.
func (d Disk) google(ctx context.Context, to string) error {
	return d.pack(ctx, to, func(w io.Writer, in io.Reader, size int64) error {
		t := tar.NewWriter(w)
		header := tar.Header{Format: tar.FormatGNU, Typeflag: tar.TypeReg, Name: "disk.raw", Mode: 0o644, Size: size, ModTime: d.Time}
		if err := t.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := io.Copy(t, in); err != nil {
			return err
		}
		return t.Close()
	})
}

// pack has the disk written through gzip, which tells neither a name nor a time.
func (d Disk) pack(ctx context.Context, to string, write func(w io.Writer, in io.Reader, size int64) error) error {
	in, err := os.Open(d.Raw)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return create(to, func(w io.Writer) error {
		z := gzip.NewWriter(w)
		if err := write(z, reader{ctx, in}, info.Size()); err != nil {
			return err
		}
		return z.Close()
	})
}

// qemu converts in order, with one thread: the same file each time.
func (d Disk) qemu(ctx context.Context, to, format, options string, flags ...string) error {
	argv := append([]string{"qemu-img", "convert", "-m", "1", "-f", "raw", "-O", format, "-o", options}, flags...)
	return process.Run(ctx, nil, nil, append(argv, d.Raw, to)...)
}

// qcow2 is compressed as every reader knows it. With zstd, 4 % smaller, QEMU before 5.1
// and those that are built without it refuse the file, and so may a provider.
func (d Disk) qcow2(ctx context.Context, to string) error {
	return d.qemu(ctx, to, "qcow2", "compat=1.1", "-c")
}

// create writes a file that was not there.
func create(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// reader is one that ends with the context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
