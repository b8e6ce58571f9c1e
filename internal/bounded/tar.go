package bounded

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
)

// errLong is of an archive that does not end where it may at the latest.
var errLong = errors.New("longer than any backup")

// Tar reads an archive of files: no links, no devices, nothing with holes, which would be
// large where the archive is small. There are at most so many files, of at most so many
// bytes together.
type Tar struct {
	r     *tar.Reader
	in    *io.LimitedReader
	files int
	bytes int64
	seen  int
}

// NewTar reads from r, of which it takes no more than such an archive needs.
func NewTar(r io.Reader, files int, bytes int64) *Tar {
	// Headers and padding of a file are at most 4 KiB.
	in := &io.LimitedReader{R: r, N: bytes + int64(files+1)*4096 + maxPadding}
	return &Tar{r: tar.NewReader(in), in: in, files: files, bytes: bytes}
}

// Next goes to the next file. [io.EOF] comes behind the last one; then see [Tar.End].
func (t *Tar) Next() (*tar.Header, error) {
	h, err := t.r.Next()
	if err != nil {
		return nil, err
	}
	if h.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("%q is not a regular file", h.Name)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return nil, fmt.Errorf("%q has holes", h.Name)
		}
	}
	if t.seen++; t.seen > t.files {
		return nil, fmt.Errorf("more than %d files", t.files)
	}
	if t.bytes -= h.Size; t.bytes < 0 {
		return nil, errLong
	}
	return h, nil
}

// Read reads from the file.
func (t *Tar) Read(p []byte) (int, error) { return t.r.Read(p) }

// maxPadding is more than any tar puts behind the last file.
const maxPadding = 1 << 20

// End reads what stands behind the last file: padding, and the checksum of what packed it.
func (t *Tar) End() error {
	n, err := io.Copy(io.Discard, io.LimitReader(t.in, maxPadding))
	if err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	if n == maxPadding || t.in.N == 0 { // so its end was not seen
		return errLong
	}
	return nil
}
