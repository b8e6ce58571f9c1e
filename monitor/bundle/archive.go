package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Limits of an archive, stated in the package's comment: they are looked at before
// anything but the directory is read.
const (
	maxArchive = 600 << 20
	maxLog     = evidence.MaxMonthBytes
	maxLogs    = 100
	maxFiles   = 10_000
	maxName    = 200
)

// namePattern is what a name may look like: no absolute path, no climbing, no
// folder entry, nothing that a file system could take for something else.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*){0,5}$`)

// A folder is the files of a bundle, sorted by name: those of an archive are read
// when they are needed, and only then.
type folder []*file

type file struct {
	name string
	size int64
	sum  string // SHA-256, hex
	read func() ([]byte, error)
}

// folderOf are files in memory.
func folderOf(files map[string][]byte) folder {
	var f folder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		f = append(f, &file{name, int64(len(data)), hashOf(data), func() ([]byte, error) { return data, nil }})
	}
	return f
}

// file is the one with the name; nil: there is none.
func (f folder) file(name string) *file {
	if i, ok := slices.BinarySearchFunc(f, name, func(x *file, name string) int { return strings.Compare(x.name, name) }); ok {
		return f[i]
	}
	return nil
}

// under are the files whose names begin with prefix.
func (f folder) under(prefix string) folder {
	from, _ := slices.BinarySearchFunc(f, prefix, func(x *file, name string) int { return strings.Compare(x.name, name) })
	to := from
	for to < len(f) && strings.HasPrefix(f[to].name, prefix) {
		to++
	}
	return f[from:to]
}

// read is the content of the file with the name.
func (f folder) read(name string) ([]byte, error) {
	x := f.file(name)
	if x == nil {
		return nil, fmt.Errorf("%s is missing", name)
	}
	return x.read()
}

// pack writes files in the one way there is.
func pack(w io.Writer, files map[string][]byte) error {
	p := packer{zip.NewWriter(w)}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !namePattern.MatchString(name) || len(name) > maxName {
			return fmt.Errorf("pack the bundle: %q is no name for a file in it", name)
		}
		data := files[name]
		if err := p.add(header(name, crc32.ChecksumIEEE(data), uint64(len(data))), bytes.NewReader(data)); err != nil {
			return fmt.Errorf("pack the bundle: %w", err)
		}
	}
	if err := p.zip.Close(); err != nil {
		return fmt.Errorf("pack the bundle: %w", err)
	}
	return nil
}

type packer struct{ zip *zip.Writer }

func (p packer) add(h *zip.FileHeader, content io.Reader) error {
	w, err := p.zip.CreateRaw(h)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, content)
	return err
}

func header(name string, crc uint32, size uint64) *zip.FileHeader {
	return &zip.FileHeader{
		Name:           name,
		CreatorVersion: 20,
		ReaderVersion:  20,
		Method:         zip.Store,
		//lint:ignore SA1019 Modified would add an extra field with the zone of this machine
		ModifiedDate:       1<<5 | 1, // 1980-01-01, the first day there is
		CRC32:              crc,
		CompressedSize64:   size,
		UncompressedSize64: size,
	}
}

// open looks through an archive that [pack] wrote, and refuses any other. The files
// stay where they are: r is read again when they are.
func open(r io.ReaderAt, size int64) (folder, error) {
	if size > maxArchive {
		return nil, fmt.Errorf("the archive has %d bytes, at most %d are read", size, maxArchive)
	}
	if err := directoryEnd(r, size); err != nil {
		return nil, err
	}
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("this is no ZIP archive, or not all of it: %w", err)
	}
	if len(z.File) > maxFiles {
		return nil, fmt.Errorf("the archive holds %d files, at most %d are read", len(z.File), maxFiles)
	}
	// First the directory alone: nothing is read or held for what will be refused.
	var total uint64
	last := ""
	sizes := newSizes()
	for _, f := range z.File {
		switch {
		case !filepath.IsLocal(f.Name) || strings.Contains(f.Name, `\`):
			return nil, fmt.Errorf("%q is a path that leads out of it", f.Name)
		case len(f.Name) > maxName || !namePattern.MatchString(f.Name):
			return nil, fmt.Errorf("%q is no name for a file in a bundle: want a path of letters, digits, dots, dashes and underscores that stays inside", f.Name)
		case f.Name == last:
			return nil, fmt.Errorf("%s is there twice", f.Name)
		case f.Name < last:
			return nil, fmt.Errorf("%s stands after %s: the files are sorted by name", f.Name, last)
		case f.Method != zip.Store || f.CompressedSize64 != f.UncompressedSize64:
			return nil, fmt.Errorf("%s is compressed: the files of a bundle are stored as they are", f.Name)
		case f.ExternalAttrs != 0:
			return nil, fmt.Errorf("%s is marked as a link or with other attributes: a bundle holds plain files", f.Name)
		}
		if err := sizes.add(f.Name, f.UncompressedSize64); err != nil {
			return nil, newerOr(z, err)
		}
		last = f.Name
		total += f.UncompressedSize64
	}
	if total > uint64(size) {
		return nil, fmt.Errorf("the archive claims %d bytes of files in %d bytes: its entries overlap", total, size)
	}
	// What the directory does not tell (gaps, comments, bytes in front or behind,
	// other spellings) shows when the archive is packed again.
	same := &comparer{r: r, size: size}
	p := packer{zip.NewWriter(same)}
	var out folder
	for _, f := range z.File {
		sum, err := p.again(f)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		case same.differs:
			return nil, same.fault()
		}
		out = append(out, &file{f.Name, int64(f.UncompressedSize64), sum, func() ([]byte, error) { return content(f, sum) }})
	}
	if err := p.zip.Close(); err != nil {
		return nil, err
	}
	if same.differs || same.at != size {
		return nil, same.fault()
	}
	return out, nil
}

// newerOr is the error of an archive whose report is of a higher version, which may hold
// other files, and otherwise err.
func newerOr(z *zip.Reader, err error) error {
	for _, f := range z.File {
		if f.Name != jsonFile || f.Method != zip.Store || f.UncompressedSize64 > limits[jsonFile] {
			continue
		}
		r, fault := f.Open()
		if fault != nil {
			return err
		}
		report, fault := io.ReadAll(io.LimitReader(r, int64(limits[jsonFile])))
		if newer := newerReport(report); fault == nil && newer != nil {
			return newer
		}
	}
	return err
}

// again packs a file of an archive and returns the SHA-256 of its content.
func (p packer) again(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", fmt.Errorf("read it: %w", err)
	}
	sum := sha256.New()
	// The checksum is looked at when the end is reached.
	if err := p.add(header(f.Name, f.CRC32, f.UncompressedSize64), io.TeeReader(r, sum)); err != nil {
		return "", fmt.Errorf("its bytes are not those it was packed with: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// content reads a file whose SHA-256 is known: an archive that is written to
// meanwhile must not pass for what was looked at.
func content(f *zip.File, sum string) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name, err)
	}
	data := make([]byte, f.UncompressedSize64)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name, err)
	}
	if hashOf(data) != sum {
		return nil, fmt.Errorf("%s has changed while the bundle was read", f.Name)
	}
	return data, nil
}

// directoryEnd looks at the end of the archive, before the library makes an entry
// in memory for each of the millions that the bytes before it may hold.
func directoryEnd(r io.ReaderAt, size int64) error {
	const length = 22 // without a comment, of which a bundle has none
	var b [length]byte
	if size < length {
		return errors.New("this is no ZIP archive, or not all of it: it is too short")
	}
	if _, err := r.ReadAt(b[:], size-length); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the archive: %w", err)
	}
	if !bytes.HasPrefix(b[:], []byte("PK\x05\x06")) {
		return errors.New("this is no ZIP archive, or not all of it, or there is something behind it")
	}
	if n := binary.LittleEndian.Uint16(b[10:]); n > maxFiles {
		return fmt.Errorf("the archive holds %d files, at most %d are read", n, maxFiles)
	}
	// The directory stands between the files and this end, and nothing else does.
	directory, offset := int64(binary.LittleEndian.Uint32(b[12:])), int64(binary.LittleEndian.Uint32(b[16:]))
	if directory > maxFiles*(46+maxName) {
		return fmt.Errorf("the directory of the archive has %d bytes, more than %d files need", directory, maxFiles)
	}
	if offset+directory+length != size {
		return errors.New("the archive is not packed as a bundle is: its directory is not where its end says")
	}
	return nil
}

// comparer is a writer that compares what is written with what is in r.
type comparer struct {
	r       io.ReaderAt
	size    int64
	at      int64
	differs bool
	buf     [32 << 10]byte
}

func (c *comparer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !c.differs {
		k := min(len(p), len(c.buf))
		got, _ := c.r.ReadAt(c.buf[:k], c.at)
		if got < k || !bytes.Equal(c.buf[:k], p[:k]) {
			c.differs = true
			break
		}
		c.at += int64(k)
		p = p[k:]
	}
	return n, nil
}

func (c *comparer) fault() error {
	return fmt.Errorf("the archive is not packed as a bundle is (from byte %d on)", c.at)
}
