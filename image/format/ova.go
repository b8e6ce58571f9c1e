package format

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/template"
)

// The machine that an OVA describes: what VirtualBox and VMware have both, hardware
// version 13 (ESXi 6.5, Workstation 14, Fusion 10). VirtualBox knows AHCI by VMware's
// name for it, while VMware does not know VirtualBox's. The newest Debian that ESXi 6.5
// has a name for is 10.
//
//go:embed machine.ovf
var machine string

var machineTemplate = template.Must(template.New("").Parse(machine))

// ova packs the description, its sums and the vmdk, in this order. A vmdk that is
// there already is taken.
func (d Disk) ova(ctx context.Context, to string) error {
	disk := strings.TrimSuffix(to, ".ova") + ".vmdk"
	if _, err := os.Stat(disk); errors.Is(err, os.ErrNotExist) {
		defer os.Remove(disk)
		if err := d.vmdk(ctx, disk); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	in, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, reader{ctx, in})
	if err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	description, err := d.describe(size)
	if err != nil {
		return err
	}
	sums := fmt.Sprintf("SHA256(%s.ovf)= %x\nSHA256(%s.vmdk)= %x\n", d.Name, sha256.Sum256(description), d.Name, sum.Sum(nil))
	return create(to, func(w io.Writer) error {
		t := tar.NewWriter(w)
		for _, f := range []struct {
			suffix string
			size   int64
			data   io.Reader
		}{
			{".ovf", int64(len(description)), bytes.NewReader(description)},
			{".mf", int64(len(sums)), strings.NewReader(sums)},
			{".vmdk", size, reader{ctx, in}},
		} {
			// The standard asks for USTAR.
			header := tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: d.Name + f.suffix, Mode: 0o644, Size: f.size, ModTime: d.Time}
			if err := t.WriteHeader(&header); err != nil {
				return err
			}
			if _, err := io.Copy(t, f.data); err != nil {
				return err
			}
		}
		return t.Close()
	})
}

// describe writes the OVF descriptor for a vmdk of this size.
func (d Disk) describe(size int64) ([]byte, error) {
	info, err := os.Stat(d.Raw)
	if err != nil {
		return nil, err
	}
	var name, out bytes.Buffer
	if err := xml.EscapeText(&name, []byte(d.Name)); err != nil {
		return nil, err
	}
	err = machineTemplate.Execute(&out, map[string]any{"Name": name.String(), "Size": size, "Capacity": info.Size()})
	return out.Bytes(), err
}
