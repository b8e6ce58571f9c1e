package format

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// A stream-optimized VMDK, as VMware's Virtual Disk Format 5.0 has it: header,
// descriptor, compressed grains with each table of them behind its grains, the
// directory of tables, and the header again with the directory's place. All begin on
// sectors; numbers are little-endian.
//
// qemu-img writes another order under that name, without markers, footer and end of
// stream, which some readers do not take (7-Zip, github.com/masahiro331/go-vmdk-parser).
const (
	sector            = 512
	grainSectors      = 128
	grainSize         = grainSectors * sector
	tableSize         = 512 // grains
	descriptorSectors = 20
	overheadSectors   = grainSectors // before the first grain

	// Version 3 is not in the text; VMware's own open-vmdk writes it.
	sparseVersion = 3
	sparseFlags   = 1 | 1<<16 | 1<<17 // line ends are as stated, compressed, with markers
	deflate       = 1
	atEnd         = ^uint64(0) // the footer tells where the directory is

	markerEnd       = 0
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
)

type sparseHeader struct {
	Magic            [4]byte
	Version          uint32
	Flags            uint32
	Capacity         uint64 // sectors, as all that follows
	GrainSize        uint64
	DescriptorOffset uint64
	DescriptorSize   uint64
	TableSize        uint32 // entries
	_                uint64 // a second directory
	DirectoryOffset  uint64
	Overhead         uint64
	_                uint8 // unclean shutdown
	LineEnds         [4]byte
	Compression      uint16
	_                [433]byte
}

const descriptor = `# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=%08x
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW %d SPARSE "%s.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.virtualHWVersion = "4"
`

func (d Disk) vmdk(ctx context.Context, to string) error {
	in, err := os.Open(d.Raw)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 || info.Size()%grainSize != 0 {
		return fmt.Errorf("%s: %d bytes are not whole grains of %d", d.Raw, info.Size(), grainSize)
	}
	return create(to, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<20)
		s := &stream{w: out}
		if err := d.stream(s, reader{ctx, in}, uint64(info.Size())); err != nil {
			return err
		}
		return out.Flush()
	})
}

func (d Disk) stream(s *stream, in io.Reader, size uint64) error {
	capacity := size / sector
	header := sparseHeader{
		Magic: [4]byte([]byte("KDMV")), Version: sparseVersion, Flags: sparseFlags, Capacity: capacity, GrainSize: grainSectors,
		DescriptorOffset: 1, DescriptorSize: descriptorSectors, TableSize: tableSize, DirectoryOffset: atEnd, Overhead: overheadSectors,
		LineEnds: [4]byte([]byte("\n \r\n")), Compression: deflate,
	}
	id := d.ID("vmdk")
	// All ones mean that there is no content.
	cid := binary.BigEndian.Uint32(id[:]) &^ (1 << 31)
	text := fmt.Sprintf(descriptor, cid, capacity, d.Name, capacity/(255*63))
	if len(text) > descriptorSectors*sector {
		return fmt.Errorf("the descriptor has %d bytes, want %d at most: the image's name is too long", len(text), descriptorSectors*sector)
	}
	s.put(header)
	s.put([]byte(text))
	s.fill(overheadSectors)

	directory := make([]uint32, (size/grainSize+tableSize-1)/tableSize)
	table := make([]uint32, tableSize)
	grain := make([]byte, grainSize)
	zero := make([]byte, grainSize)
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	for i := range size / grainSize {
		if _, err := io.ReadFull(in, grain); err != nil {
			return err
		}
		if !bytes.Equal(grain, zero) {
			packed.Reset()
			z.Reset(&packed)
			if _, err := z.Write(grain); err != nil {
				return err
			}
			if err := z.Close(); err != nil {
				return err
			}
			table[i%tableSize] = s.at()
			s.put(struct {
				LBA  uint64
				Size uint32
			}{i * grainSectors, uint32(packed.Len())}, packed.Bytes())
		}
		if (i+1)%tableSize == 0 || i+1 == size/grainSize {
			// Where nothing is written there is no table either.
			for _, entry := range table {
				if entry != 0 {
					directory[i/tableSize] = s.metadata(markerTable, table)
					break
				}
			}
			clear(table)
		}
	}
	header.DirectoryOffset = uint64(s.metadata(markerDirectory, directory))
	s.metadata(markerFooter, header)
	s.marker(0, markerEnd)
	return s.err
}

// stream writes whole sectors. After an error it does nothing.
type stream struct {
	w       io.Writer
	sectors uint32
	err     error
}

// at is the number of the next sector. 32 bits are what the format has for it.
func (s *stream) at() uint32 { return s.sectors }

// put writes values one after the other, and zeros up to the end of the sector.
func (s *stream) put(values ...any) {
	n := 0
	for _, v := range values {
		n += binary.Size(v)
		if s.err == nil {
			s.err = binary.Write(s.w, binary.LittleEndian, v)
		}
	}
	if rest := n % sector; rest != 0 && s.err == nil {
		_, s.err = s.w.Write(make([]byte, sector-rest))
	}
	s.sectors += uint32((n + sector - 1) / sector)
}

// fill writes empty sectors up to one with this number.
func (s *stream) fill(to uint32) {
	if n := to - s.sectors; n > 0 {
		s.put(make([]byte, n*sector))
	}
}

func (s *stream) marker(sectors uint64, kind uint32) {
	s.put(struct {
		Sectors    uint64
		Size, Kind uint32
	}{sectors, 0, kind})
}

// metadata writes a marker and what it marks, and tells where that is.
func (s *stream) metadata(kind uint32, value any) uint32 {
	s.marker(uint64((binary.Size(value)+sector-1)/sector), kind)
	at := s.at()
	s.put(value)
	return at
}
