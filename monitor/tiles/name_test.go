package tiles

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var sha = strings.Repeat("0a", 32)

func TestNames(t *testing.T) {
	for path, want := range map[string]Name{
		"checkpoint":                   {Kind: LastCheckpoint},
		"tile/0/000":                   {Kind: Tile, Width: 256},
		"tile/1/000.p/1":               {Kind: Tile, Level: 1, Width: 1},
		"tile/0/x001/x234/067.p/255":   {Kind: Tile, Index: 1234067, Width: 255},
		"tile/entries/000.p/3":         {Kind: Entries, Width: 3},
		"tile/entries/x001/067":        {Kind: Entries, Index: 1067, Width: 256},
		"records/00000007.jsonl":       {Kind: Records, Index: 7},
		"checkpoints/00000256":         {Kind: Checkpoint, Index: 256},
		"checkpoints/4294967296":       {Kind: Checkpoint, Index: 1 << 32},
		"certificates/" + sha + ".der": {Kind: Certificate, SHA256: sha},
	} {
		got, ok := ParseName(path)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%s: %v, %s", path, ok, diff)
		}
		if got.String() != path {
			t.Errorf("%s is written %s", path, got)
		}
	}
	for _, path := range []string{
		"", "checkpoint/", "Checkpoint", "tile", "tile/0/0", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/00/000", "tile/64/000",
		"tile/-1/000", "tile/data/000", "tile/8/0/000", "tile/0/x000/001", "tile/0/../../log.key", "tile/entries/000.p/", "tile/entries/999/000",
		"records/7.jsonl", "records/00000007", "records/-0000007.jsonl", "records/+0000007.jsonl", "records/000000007.jsonl", "records/../log.key",
		"checkpoints/00000000", "checkpoints/4294967297", "checkpoints/00000256.jsonl", "certificates/" + sha, "certificates/" + strings.ToUpper(sha) + ".der",
		"certificates/../log.key", "log.key", "wal/2026-11-01T00.jsonl", "forks/x", ".lock", strings.Repeat("x", 4096),
	} {
		if got, ok := ParseName(path); ok {
			t.Errorf("%q was read as %+v", path, got)
		}
	}
}

func TestUnder(t *testing.T) {
	for path, want := range map[string][2]int64{ // the largest size under which it is not, the smallest under which it is
		"checkpoint":                    {0, 1},
		"tile/0/000.p/3":                {2, 3},
		"tile/0/000":                    {255, 256},
		"tile/0/001.p/1":                {256, 257},
		"tile/1/000.p/1":                {255, 256},
		"tile/1/000.p/2":                {511, 512},
		"tile/entries/002.p/88":         {599, 600},
		"tile/2/000.p/1":                {65535, 65536},
		"tile/63/000.p/1":               {evidence.MaxBlocks, -1},
		"tile/0/x999/x999/x999/999":     {evidence.MaxBlocks, -1},
		"tile/5/x999/x999/x999/999.p/1": {evidence.MaxBlocks, -1},
		"records/00000007.jsonl":        {7, 8},
		"checkpoints/00000007":          {6, 7},
		"certificates/" + sha + ".der":  {0, 1},
	} {
		n, ok := ParseName(path)
		if !ok || n.Under(want[0]) || want[1] >= 0 && !n.Under(want[1]) {
			t.Errorf("%s (%v) is under a tree of %d: %v, of %d: %v; want false, true", path, ok, want[0], n.Under(want[0]), want[1], n.Under(want[1]))
		}
	}
}

func TestEntries(t *testing.T) {
	lines := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("x"), evidence.MaxHeaderBytes)}
	b, err := JoinEntries(lines)
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x00\x03one\x00\x00\x80\x00xxx"; !strings.HasPrefix(string(b), want) {
		t.Errorf("a bundle begins with %q, want %q", b[:len(want)], want)
	}
	got, err := SplitEntries(b)
	if diff := cmp.Diff(lines, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	many := make([][]byte, Width+1)
	if _, err := JoinEntries(many); err == nil {
		t.Error("a bundle was made of 257 entries")
	}
	for _, bad := range []string{"", "\x00", "\x00\x01", "\x00\x01xx", "\x80\x01" + strings.Repeat("x", 0x8001), strings.Repeat("\x00\x00", Width+1)} {
		if got, err := SplitEntries([]byte(bad)); err == nil {
			t.Errorf("%.20q was read as %d entries", bad, len(got))
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"checkpoint", "tile/0/x001/067.p/255", "tile/entries/000", "records/00000007.jsonl", "checkpoints/00000001", "certificates/" + sha + ".der"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		n, ok := ParseName(path)
		if !ok {
			return
		}
		if n.String() != path {
			t.Errorf("%q is written %q", path, n)
		}
		if strings.Contains(path, "..") || strings.Contains(path, "//") || strings.HasPrefix(path, "/") {
			t.Errorf("%q leads out of the folder", path)
		}
		if n.Limit() <= 0 || n.Under(0) {
			t.Errorf("%q: at most %d bytes, under an empty tree: %v", path, n.Limit(), n.Under(0))
		}
	})
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte("\x00\x03one\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := SplitEntries(b)
		if err != nil {
			return
		}
		again, err := JoinEntries(lines)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is written %q (%v)", b, again, err)
		}
	})
}
