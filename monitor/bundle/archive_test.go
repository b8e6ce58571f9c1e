package bundle

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"
)

func packed(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := pack(&b, files); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// entries packs entries as they come, also those that [pack] would not write.
func entries(t testing.TB, list ...zip.FileHeader) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, h := range list {
		w, err := z.CreateRaw(&h)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, h.Comment)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// entry is a plain one whose content is its name.
func entry(name string, change func(*zip.FileHeader)) zip.FileHeader {
	h := *header(name, crc32.ChecksumIEEE([]byte(name)), uint64(len(name)))
	h.Comment = "" // the content, see entries
	if change != nil {
		change(&h)
	}
	return h
}

func TestArchive(t *testing.T) {
	var deflated bytes.Buffer
	z := zip.NewWriter(&deflated)
	w, err := z.Create("bomb")
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		w.Write(make([]byte, 1<<20))
	}
	z.Close()

	good := packed(t, map[string][]byte{"forks/1.txt": []byte("1"), "report.md": []byte("2")})
	commented := bytes.Clone(good)
	commented[len(commented)-2] = 2
	commented = append(commented, "hi"...)
	empty := func(name string, change func(*zip.FileHeader)) zip.FileHeader {
		return entry(name, func(h *zip.FileHeader) {
			h.CRC32, h.CompressedSize64, h.UncompressedSize64 = 0, 0, 0
			if change != nil {
				change(h)
			}
		})
	}
	large := func(size uint64) func(h *zip.FileHeader) {
		return func(h *zip.FileHeader) { h.CompressedSize64, h.UncompressedSize64 = size, size }
	}
	var many []zip.FileHeader
	for i := range maxFiles + 1 {
		many = append(many, empty(fmt.Sprintf("logs/0123456789abcdef/certificates/%064x.der", i), nil))
	}

	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "no ZIP archive"},
		{"text", []byte("hello, I am a bundle\n"), "no ZIP archive"},
		{"a bomb", deflated.Bytes(), "compressed"},
		{"absolute", entries(t, empty("/etc/passwd", nil)), "leads out of it"},
		{"climbing", entries(t, empty("../a", nil)), "leads out of it"},
		{"climbing inside", entries(t, empty("a/../../b", nil)), "leads out of it"},
		{"a drive", entries(t, empty("C:/a", nil)), "no name for a file"},
		{"backslashes", entries(t, empty(`a\..\b`, nil)), "leads out of it"},
		{"a folder", entries(t, empty("a/", nil)), "no name for a file"},
		{"the same folder", entries(t, empty("a/./b", nil)), "no name for a file"},
		{"a hidden file", entries(t, empty(".profile", nil)), "no name for a file"},
		{"no name", entries(t, empty("", nil)), "leads out of it"},
		{"control characters", entries(t, empty("a\x1b[31m", nil)), "no name for a file"},
		{"not UTF-8", entries(t, empty("a\xff", nil)), "no name for a file"},
		{"a long name", entries(t, empty(strings.Repeat("a", 201), nil)), "no name for a file"},
		{"deep", entries(t, empty("a/a/a/a/a/a/a/a", nil)), "no name for a file"},
		{"twice the same", entries(t, empty("report.md", nil), empty("report.md", nil)), "is there twice"},
		{"not sorted", entries(t, empty("report.md", nil), empty("VERIFY.md", nil)), "sorted by name"},
		{"a link", entries(t, empty("report.md", func(h *zip.FileHeader) { h.SetMode(0o777 | 1<<27) })), "link"},
		{"a device", entries(t, empty("report.md", func(h *zip.FileHeader) { h.ExternalAttrs = 0o020000 << 16 })), "link"},
		{"a comment on a file", entries(t, empty("report.md", func(h *zip.FileHeader) { h.Extra = []byte{1, 0, 0, 0} })), "not packed as a bundle is"},
		{"another creator", entries(t, empty("report.md", func(h *zip.FileHeader) { h.CreatorVersion = 7 })), "not packed as a bundle is"},
		{"encrypted", entries(t, empty("report.md", func(h *zip.FileHeader) { h.Flags = 1 })), "not packed as a bundle is"},
		{"a comment", commented, "something behind it"},
		{"too many files", entries(t, many...), "at most 10000"},
		{"more files than its end says", crowded(t, 1<<20), "more than 10000 files need"},
		{"a huge file", entries(t, empty("report.md", func(h *zip.FileHeader) { h.CompressedSize64, h.UncompressedSize64 = 1<<40, 1<<40 })), "at most"},
		{"a file that nobody knows", entries(t, empty("inputs/roots.pem", nil)), "no bundle has a file of that name"},
		{"a huge log", entries(t, empty("logs/0123456789abcdef/blocks.jsonl", large(maxLog/3)), empty("logs/0123456789abcdef/records.jsonl", large(maxLog-maxLog/4))), "the limit of a log"},
		{"a file larger than the archive", entries(t, empty("report.md", func(h *zip.FileHeader) { h.CompressedSize64, h.UncompressedSize64 = 1<<20, 1<<20 })), "entries overlap"},
		{"another checksum", entries(t, empty("report.md", func(h *zip.FileHeader) { h.CRC32 = 1 })), "not those it was packed with"},
		{"in front of it", append([]byte("#!/bin/sh\n"), good...), "not packed as a bundle is"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := open(bytes.NewReader(tc.data), int64(len(tc.data)))
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20+2*uint64(len(tc.data)) {
				t.Errorf("refusing %d bytes took %d bytes of memory", len(tc.data), grown)
			}
		})
	}
	if _, err := open(bytes.NewReader(nil), maxArchive+1); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a huge archive: %v", err)
	}
	files, err := open(bytes.NewReader(good), int64(len(good)))
	if err != nil || len(files) != 2 {
		t.Fatalf("a good one: %v, %v", files, err)
	}
	if b, err := files.read("report.md"); err != nil || string(b) != "2" {
		t.Errorf("its file: %q, %v", b, err)
	}
	for _, name := range []string{"", "/a", "a/../b", "a b", "a//b", ".a", "a/.b"} {
		if err := pack(io.Discard, map[string][]byte{name: nil}); err == nil {
			t.Errorf("%q was packed", name)
		}
	}
}

// crowded is an archive whose directory goes on for n entries, although its end
// counts none.
func crowded(t *testing.T, n int) []byte {
	t.Helper()
	entry := make([]byte, 46)
	copy(entry, "PK\x01\x02")
	data := bytes.Repeat(entry, n)
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	binary.LittleEndian.PutUint32(end[12:], uint32(len(data)))
	return append(data, end...)
}

// TestCountOfFiles changes the number of entries that the end of the directory claims.
func TestCountOfFiles(t *testing.T) {
	good := packed(t, map[string][]byte{"report.md": []byte("1")})
	for _, n := range []uint16{0, 2, 1000, 65535} {
		bad := bytes.Clone(good)
		binary.LittleEndian.PutUint16(bad[len(bad)-14:], n)
		binary.LittleEndian.PutUint16(bad[len(bad)-12:], n)
		if _, err := open(bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Errorf("%d entries claimed: accepted", n)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(packed(f, map[string][]byte{"VERIFY.md": []byte("1"), "forks/1.txt": nil}))
	f.Add(packed(f, nil))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		contents := map[string][]byte{}
		for _, x := range files {
			if contents[x.name], err = x.read(); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(packed(t, contents), b) {
			t.Error("accepted what is not its own re-encoding")
		}
	})
}
