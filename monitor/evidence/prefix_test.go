package evidence

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func recordsOf(relays ...string) (lines [][]byte) {
	for _, r := range relays {
		lines = append(lines, fmt.Appendf(nil, `{"attempts":[],"hour":"2026-11-01T00:00:00Z","peer_id":"%s"}`, r))
	}
	return lines
}

func proofOf(t prefixTree, relay string) blockProof {
	path, end := t.prove(relay)
	if end != nil && end.Key == relayKey(relay) {
		return blockProof{Path: path, Present: true}
	}
	return blockProof{Path: path, Other: end}
}

// In trees of every size, whatever the order of the records, each relay is there or is
// not, and only the one can be shown.
func TestPrefixTree(t *testing.T) {
	for size := range 40 {
		var relays []string
		for i := range size {
			relays = append(relays, fmt.Sprint("relay", i))
		}
		lines := recordsOf(relays...)
		tree, err := recordTree(lines)
		if err != nil {
			t.Fatal(err)
		}
		h := Header{Root: tree.root(), Records: int64(size)}
		rand.Shuffle(size, func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		again, err := recordTree(lines)
		if err != nil {
			t.Fatal(err)
		}
		if again.root() != h.Root || (h.Root == emptyRoot) != (size == 0) {
			t.Fatalf("%d records: root %s and %s", size, h.Root, again.root())
		}
		for i := range 2 * size {
			relay := fmt.Sprint("relay", i)
			p, record := proofOf(tree, relay), recordsOf(relay)[0]
			if p.Present != (i < size) || len(p.Path) > 20 {
				t.Fatalf("%d records: %s: %+v", size, relay, p)
			}
			if !p.Present {
				record = nil
			}
			if err := p.check(h, relay, record); err != nil {
				t.Fatal(err)
			}
			// The other answer, by all that the tree holds.
			for _, end := range append(slices.Clone(tree), place{}) {
				for n := range len(p.Path) + 1 {
					lie := blockProof{Path: p.Path[:n], Present: !p.Present}
					if !lie.Present && end != (place{}) {
						lie.Other = &end
					}
					if err := lie.check(h, relay, recordsOf(relay)[0]); err == nil {
						t.Fatalf("%d records: %s is there and is not: %+v and %+v", size, relay, p, lie)
					}
				}
			}
		}
	}
	_, err := recordTree(recordsOf("a", "b", "a"))
	if err == nil || !strings.Contains(err.Error(), "two records are of one relay") {
		t.Fatalf("error %v, want one with %q", err, "two records are of one relay")
	}
	_, err = recordTree([][]byte{[]byte(`{}`)})
	if err == nil || !strings.Contains(err.Error(), "does not say its relay") {
		t.Fatalf("error %v, want one with %q", err, "does not say its relay")
	}
}

// A monitor that seals a tree of its own making has two answers ready in none.
func TestDishonestTrees(t *testing.T) {
	const relay = "relay"
	lines := recordsOf(relay, "other")
	lines = append(lines, bytes.Replace(lines[0], []byte("T00"), []byte("T01"), 1)) // a second one of the relay
	mine, other, second := placeOf(relay, lines[0]), placeOf("other", lines[1]), placeOf(relay, lines[2])
	left, right := func(a, b Hash) Hash { return tlog.NodeHash(a, b) }, func(a, b Hash) Hash { return tlog.NodeHash(b, a) }
	if bit(mine.Key, 0) == 1 {
		left, right = right, left
	}
	ends := []*place{nil, &other, &mine, &second, {Key: other.Key, Value: mine.Value}, {Key: mine.Key}}
	hashes := []Hash{emptyRoot, mine.hash(), other.hash(), second.hash(), left(mine.hash(), second.hash()), left(second.hash(), mine.hash()), tlog.RecordHash(lines[0]), {}}
	var paths [][]Hash
	for _, a := range append(hashes, Hash{1}) {
		paths = append(paths, []Hash{a})
		for _, b := range hashes {
			paths = append(paths, []Hash{a, b})
		}
	}
	paths = append(paths, nil)
	for name, root := range map[string]Hash{
		"the relay twice":            left(mine.hash(), second.hash()),
		"the relay twice, exchanged": left(second.hash(), mine.hash()),
		"in the wrong half":          right(mine.hash(), other.hash()),
		"beside nothing":             left(mine.hash(), emptyRoot),
		"nothing beside nothing":     left(emptyRoot, emptyRoot),
		"another on its way":         left(other.hash(), mine.hash()),
		"as of RFC 6962":             left(tlog.RecordHash(lines[0]), tlog.RecordHash(lines[2])),
		"two levels":                 left(left(mine.hash(), second.hash()), left(second.hash(), mine.hash())),
	} {
		answers := map[string]bool{}
		for _, path := range paths {
			for _, record := range [][]byte{lines[0], lines[2]} {
				if (blockProof{Path: path, Present: true}).check(Header{Root: root}, relay, record) == nil {
					answers[string(record)] = true
				}
			}
			for _, end := range ends {
				if (blockProof{Path: path, Other: end}).check(Header{Root: root}, relay, nil) == nil {
					answers["none"] = true
				}
			}
		}
		if len(answers) > 1 {
			t.Errorf("%s: the relay has %d answers", name, len(answers))
		}
	}
}

func FuzzProof(f *testing.F) {
	lines := recordsOf("a", "b", "c", "d", "e")
	tree, err := recordTree(lines)
	if err != nil {
		f.Fatal(err)
	}
	h := Header{Root: tree.root(), Records: 5}
	for _, relay := range []string{"a", "x", "y", "z"} {
		line, err := Encode(proofOf(tree, relay))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line, relay)
	}
	f.Add([]byte(`{"hour":"1970-01-01T00:00:00Z","path":null,"present":true}`), "a")
	f.Fuzz(func(t *testing.T, line []byte, relay string) {
		var p blockProof
		if DecodeLine(line, maxBlockProof, &p) != nil {
			return
		}
		var record []byte
		for i, r := range []string{"a", "b", "c", "d", "e"} {
			if r == relay && p.Present {
				record = lines[i]
			}
		}
		if p.check(h, relay, record) == nil && p.Present != slices.Contains([]string{"a", "b", "c", "d", "e"}, relay) {
			t.Fatalf("%s says of %q %v", line, relay, p.Present)
		}
	})
}
