package bounded

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// archive packs files of such sizes, with what else is said of the first.
func archive(t *testing.T, first tar.Header, sizes ...int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, size := range sizes {
		h := tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o600, Size: int64(size), Format: tar.FormatPAX}
		if i == 0 && first.Name != "" {
			h = first
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read reads all of it, as its users do.
func read(r io.Reader, files int, most int64) (total int64, err error) {
	t := NewTar(r, files, most)
	for {
		_, err := t.Next()
		if errors.Is(err, io.EOF) {
			return total, t.End()
		}
		if err != nil {
			return total, err
		}
		n, err := io.Copy(io.Discard, t)
		total += n
		if err != nil {
			return total, err
		}
	}
}

// sparse is an archive of one block, whose file says that it is a gigabyte of holes, in the
// way of GNU tar 1.0.
func sparse(t *testing.T) []byte {
	t.Helper()
	// Go's writer refuses what it writes for nobody; so the keys are put in afterwards.
	plain := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o600, Size: 512, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"XYZ.sparse.major": "1", "XYZ.sparse.minor": "0", "XYZ.sparse.name": "file", "XYZ.sparse.realsize": "1073741824",
	}}, 512)
	packed := bytes.ReplaceAll(plain, []byte("XYZ.sparse."), []byte("GNU.sparse."))
	// The map of what is no hole, in the only block: nothing, but where the file ends. Two
	// blocks end the archive.
	copy(packed[len(packed)-3*512:], "1\n1073741824\n0\n")
	return packed
}

func TestTar(t *testing.T) {
	if n, err := read(bytes.NewReader(archive(t, tar.Header{}, 3, 4)), 2, 7); n != 7 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	// Its header takes what is meant for what stands behind the last file.
	talks := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "file", Size: 7, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"RELAY.comment": strings.Repeat("x", 600_000),
	}}, 7)
	for want, packed := range map[string][]byte{
		"more than 2 files":       archive(t, tar.Header{}, 1, 1, 1),
		"longer than any backup":  archive(t, tar.Header{}, 4, 4),
		"is not a regular file":   archive(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "/etc/passwd"}, 0),
		`"file" has holes`:        sparse(t),
		"unexpected EOF":          archive(t, tar.Header{}, 7)[:515],
		"longer than any backup ": append(archive(t, tar.Header{}, 7), make([]byte, 1<<20)...),
		" longer than any backup": append(talks, make([]byte, 900_000)...),
	} {
		if _, err := read(bytes.NewReader(packed), 2, 7); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	// Without the check it would be read as the gigabyte that it says it is.
	r := tar.NewReader(bytes.NewReader(sparse(t)))
	if h, err := r.Next(); err != nil || h.Size != 1<<30 {
		t.Errorf("the test's own archive: %+v, %v", h, err)
	}
}
