package format

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"
)

// The footer of a VHD: 512 bytes, the numbers in it big-endian.
const (
	footerSize     = 512
	footerCookie   = "conectix"
	footerTime     = 24 // seconds since 2000, uint32
	footerChecksum = 64 // one's complement of the sum of all bytes but its own, uint32
	footerID       = 68 // a UUID
)

var footerEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// vhd has QEMU make the file, as Azure's manual shows: force_size keeps the size as it
// is instead of rounding it to a geometry. QEMU stamps it with the time of day and a
// random ID.
func (d Disk) vhd(ctx context.Context, to string) error {
	if err := d.qemu(ctx, to, "vpc", "subformat=fixed,force_size=on"); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := f.Seek(-footerSize, io.SeekEnd)
	if err != nil {
		return err
	}
	footer := make([]byte, footerSize)
	if _, err := io.ReadFull(f, footer); err != nil {
		return err
	}
	if string(footer[:len(footerCookie)]) != footerCookie {
		return fmt.Errorf("%s: no footer where a VHD has one", to)
	}
	binary.BigEndian.PutUint32(footer[footerTime:], uint32(max(0, d.Time.Sub(footerEpoch)/time.Second)))
	id := d.ID("vhd")
	copy(footer[footerID:], id[:])
	binary.BigEndian.PutUint32(footer[footerChecksum:], 0)
	var sum uint32
	for _, b := range footer {
		sum += uint32(b)
	}
	binary.BigEndian.PutUint32(footer[footerChecksum:], ^sum)
	if _, err := f.WriteAt(footer, at); err != nil {
		return err
	}
	return f.Close()
}
