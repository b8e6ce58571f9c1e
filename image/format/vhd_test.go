package format

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Virtual Hard Disk Image Format Specification 1.0, "Hard Disk Footer Format"; and
// Azure: fixed size, whole MiB.
// https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic
func TestVHD(t *testing.T) {
	data := content()
	got, err := os.ReadFile(filepath.Join(made(t, rawDisk(t, data, true), "vhd"), "relay.vhd"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(data)+512 || (len(got)-512)%mebi != 0 {
		t.Fatalf("%d bytes, want %d", len(got), len(data)+512)
	}
	footer := got[len(got)-512:]
	number := func(at, size int) uint64 {
		if size == 4 {
			return uint64(binary.BigEndian.Uint32(footer[at:]))
		}
		return binary.BigEndian.Uint64(footer[at:])
	}
	if cookie := string(footer[:8]); cookie != "conectix" {
		t.Errorf("the cookie is %q", cookie)
	}
	for _, c := range []struct {
		what     string
		at, size int
		want     uint64
	}{
		{"features", 8, 4, 2}, // reserved, always set
		{"version", 12, 4, 0x00010000},
		{"offset of data", 16, 8, 0xFFFFFFFFFFFFFFFF}, // none for a fixed disk
		{"time", 24, 4, uint64(at.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Seconds())},
		{"original size", 40, 8, uint64(len(data))},
		{"current size", 48, 8, uint64(len(data))},
		{"type", 60, 4, 2}, // fixed
	} {
		if got := number(c.at, c.size); got != c.want {
			t.Errorf("%s is %#x, want %#x", c.what, got, c.want)
		}
	}
	if got, want := uuid.UUID(footer[68:84]), id("vhd"); got != want {
		t.Errorf("the ID is %s, want %s", got, want)
	}
	var sum uint32
	for i, b := range footer {
		if i < 64 || i >= 68 {
			sum += uint32(b)
		}
	}
	if got := number(64, 4); got != uint64(^sum) {
		t.Errorf("the checksum is %#x, want %#x", got, ^sum)
	}
	for i, b := range footer[84:] {
		if b != 0 {
			t.Fatalf("byte %d is %d: saved state and what is reserved must be zero", 84+i, b)
		}
	}
}
