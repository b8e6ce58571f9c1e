package format

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/masahiro331/go-vmdk-parser/pkg/virtualization/vmdk"
)

// Virtual Disk Format 5.0, "Stream-Optimized Compressed": the file is read as a stream,
// from marker to marker, and the tables must lead to the same grains.
func TestVMDK(t *testing.T) {
	data := content()
	file := filepath.Join(made(t, rawDisk(t, data, true), "vmdk"), "relay.vmdk")
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(got)%sector != 0 {
		t.Fatalf("%d bytes are not whole sectors", len(got))
	}
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(got[at:])) }
	u64 := func(at int) int { return int(binary.LittleEndian.Uint64(got[at:])) }
	header := func(at, directory int) {
		t.Helper()
		if magic := string(got[at : at+4]); magic != "KDMV" {
			t.Fatalf("the header at %d begins with %q", at, magic)
		}
		for what, c := range map[string][2]int{
			"version": {u32(at + 4), 3}, "flags": {u32(at + 8), 0x30001}, "capacity": {u64(at + 12), len(data) / sector}, "grain": {u64(at + 20), 128},
			"descriptor's offset": {u64(at + 28), 1}, "descriptor's size": {u64(at + 36), 20}, "entries of a table": {u32(at + 44), 512},
			"second directory": {u64(at + 48), 0}, "directory": {u64(at + 56), directory}, "overhead": {u64(at + 64), 128},
		} {
			if c[0] != c[1] {
				t.Errorf("header at %d: %s is %d, want %d", at, what, c[0], c[1])
			}
		}
		if rest := got[at+72 : at+79]; !bytes.Equal(rest, []byte("\x00\n \r\n\x01\x00")) {
			t.Errorf("header at %d: unclean shutdown, line ends and compression are %q", at, rest)
		}
	}
	header(0, -1)
	want := fmt.Sprintf(descriptor, binary.BigEndian.Uint32(idBytes("vmdk"))&0x7fffffff, len(data)/sector, "relay", len(data)/sector/(255*63))
	if text := string(bytes.TrimRight(got[sector:21*sector], "\x00")); text != want {
		t.Errorf("the descriptor is\n%s\nwant\n%s", text, want)
	}

	// The stream.
	disk := make([]byte, len(data))
	grains, tables := map[int]int{}, []int{} // by number, and in order: their sectors
	var since []int                          // grains since the last table
	directory, footer, ended := 0, 0, false
	for at := u64(64) * sector; at < len(got); {
		if ended {
			t.Fatalf("behind the end of the stream stands more, at %d", at)
		}
		value, size, kind := u64(at), u32(at+8), u32(at+12)
		if size > 0 {
			number := value / 128
			if value%128 != 0 || len(since) > 0 && number <= since[len(since)-1] {
				t.Fatalf("at %d: a grain for sector %d out of order", at, value)
			}
			z, err := zlib.NewReader(bytes.NewReader(got[at+12 : at+12+size]))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(z, disk[number*grainSize:(number+1)*grainSize]); err != nil {
				t.Fatalf("grain %d: %v", number, err)
			}
			if n, err := z.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Fatalf("grain %d is too long: %v", number, err)
			}
			grains[number], since = at/sector, append(since, number)
			at += (12 + size + sector - 1) / sector * sector
			continue
		}
		if rest := bytes.TrimRight(got[at+16:at+sector], "\x00"); len(rest) > 0 {
			t.Errorf("the marker at %d is not padded with zeros: %x", at, rest)
		}
		at += sector
		switch kind {
		case 0:
			ended = true
		case 1:
			if value != 4 || len(since) == 0 {
				t.Errorf("a table of %d sectors behind %d grains", value, len(since))
			}
			tables, since = append(tables, at/sector), nil
		case 2:
			directory = at / sector
		case 3:
			footer = at
			header(at, directory)
		default:
			t.Fatalf("a marker of kind %d at %d", kind, at-sector)
		}
		at += value * sector
	}
	if !ended || footer != len(got)-2*sector {
		t.Errorf("ended: %v; the footer is at %d of %d: want footer and end in the last two sectors", ended, footer, len(got))
	}
	if !bytes.Equal(disk, data) {
		t.Error("the stream holds another disk")
	}

	// The tables.
	var used []int
	for i := range (len(data)/grainSize + 511) / 512 {
		table := u32(directory*sector + 4*i)
		if table != 0 {
			used = append(used, table)
		}
		for j := range 512 {
			entry := 0
			if table != 0 {
				entry = u32(table*sector + 4*j)
			}
			if want := grains[512*i+j]; entry != want {
				t.Fatalf("entry %d of table %d is %d, want %d", j, i, entry, want)
			}
		}
	}
	if fmt.Sprint(used) != fmt.Sprint(tables) || len(used) != 3 {
		t.Errorf("the directory names tables at %d, the stream has them at %d; want three", used, tables)
	}

	// A reader of somebody else.
	r, err := vmdk.Open(open(t, file), nil)
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := io.ReadAll(r); err != nil || !bytes.Equal(theirs, data) {
		t.Errorf("go-vmdk-parser reads another disk: %v", err)
	}
}

func idBytes(of string) []byte {
	id := id(of)
	return id[:]
}
