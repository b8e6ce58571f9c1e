package bundle

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Limits of an archive. A month of nine monitors stays far below them.
const (
	maxArchive = 512 << 20
	maxFile    = 128 << 20
	maxFiles   = 10_000
	maxName    = 200
)

// namePattern is what a name may look like: no absolute path, no climbing, no
// folder entry, nothing that a file system could take for something else.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*){0,5}$`)

// pack writes files in the one way there is.
func pack(w io.Writer, files map[string][]byte) error {
	z := zip.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !namePattern.MatchString(name) || len(name) > maxName {
			return fmt.Errorf("pack the bundle: %q is no name for a file in it", name)
		}
		data := files[name]
		f, err := z.CreateRaw(header(name, data))
		if err != nil {
			return fmt.Errorf("pack the bundle: %w", err)
		}
		if _, err := f.Write(data); err != nil {
			return fmt.Errorf("pack the bundle: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("pack the bundle: %w", err)
	}
	return nil
}

func header(name string, data []byte) *zip.FileHeader {
	return &zip.FileHeader{
		Name:           name,
		CreatorVersion: 20,
		ReaderVersion:  20,
		Method:         zip.Store,
		//lint:ignore SA1019 Modified would add an extra field with the zone of this machine
		ModifiedDate:       1<<5 | 1, // 1980-01-01, the first day there is
		CRC32:              crc32.ChecksumIEEE(data),
		CompressedSize64:   uint64(len(data)),
		UncompressedSize64: uint64(len(data)),
	}
}

// unpack reads an archive that [pack] wrote, and no other.
func unpack(r io.ReaderAt, size int64) (map[string][]byte, error) {
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
		case f.UncompressedSize64 > maxFile:
			return nil, fmt.Errorf("%s has %d bytes, at most %d are read", f.Name, f.UncompressedSize64, maxFile)
		}
		last = f.Name
		total += f.UncompressedSize64
	}
	if total > uint64(size) {
		return nil, fmt.Errorf("the archive claims %d bytes of files in %d bytes: its entries overlap", total, size)
	}
	files := make(map[string][]byte, len(z.File))
	for _, f := range z.File {
		data, err := content(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		files[f.Name] = data
	}
	// What the directory does not tell (gaps, comments, bytes in front or
	// behind, other spellings) shows when it is packed again.
	same := &comparer{r: r, size: size}
	if err := pack(same, files); err != nil {
		return nil, err
	}
	if same.differs || same.at != size {
		return nil, fmt.Errorf("the archive is not packed as a bundle is (from byte %d on)", same.at)
	}
	return files, nil
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

func content(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	data := make([]byte, f.UncompressedSize64)
	// The checksum is looked at when the end is reached.
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("its bytes are not those it was packed with: %w", err)
	}
	return data, nil
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
