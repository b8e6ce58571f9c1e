package evidence

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
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
		must(t, err)
		h := Header{Root: tree.root(), Records: int64(size)}
		rand.Shuffle(size, func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		again, err := recordTree(lines)
		must(t, err)
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
			must(t, p.check(h, relay, record))
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
	wantError(t, err, "two records are of one relay")
	_, err = recordTree([][]byte{[]byte(`{}`)})
	wantError(t, err, "does not say its relay's peer ID")
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

// A monitor that signs a block over two records of the relay, sorted as before the tree
// was one of prefixes, can show one of them only, and cannot deny it.
func TestTwoRecordsInOneBlock(t *testing.T) {
	s := newSmallMonth(t)
	relay := s.relay.id.String()
	record := s.month.Records[0]
	r, err := decodeRecord(record, firstHour+4)
	must(t, err)
	r.Attempts[0].Level = LevelNone
	worse, err := Encode(r)
	must(t, err)
	h, err := decodeHeader(s.month.Headers[0])
	must(t, err)
	a, b := placeOf(relay, record), placeOf(relay, worse)
	h.Root = tlog.NodeHash(a.hash(), b.hash())
	line, err := Encode(h)
	must(t, err)
	var shown []string
	for _, c := range []struct {
		record []byte
		proof  blockProof
	}{
		{record, blockProof{Present: true, Path: []Hash{b.hash()}}},
		{worse, blockProof{Present: true, Path: []Hash{a.hash()}}},
		{nil, blockProof{Other: &a, Path: []Hash{b.hash()}}},
		{nil, blockProof{Path: []Hash{a.hash()}}},
		{nil, blockProof{Path: []Hash{b.hash()}}},
	} {
		m := clone(s.month)
		m.Headers, m.Checkpoints, m.Open, m.Certificates = [][]byte{line}, nil, nil, s.month.Certificates
		tree, err := frontierTree(m.StartSize, m.Frontier)
		must(t, err)
		must(t, tree.add(tlog.RecordHash(line)))
		root, err := tree.root(tree.size)
		must(t, err)
		m.Checkpoints = [][]byte{signedText(t, s.log, checkpoint{s.log.Origin(), tree.size, root, nil}.text())}
		c.proof.Hour = h.Hour
		proof, err := Encode(c.proof)
		must(t, err)
		m.Proofs, m.Records = [][]byte{proof}, nil
		if c.record != nil {
			m.Records = [][]byte{c.record}
		} else {
			m.Certificates = nil
		}
		if _, err := VerifyMonth(s.resign(t, m), s.keys); err == nil {
			shown = append(shown, string(proof))
		}
	}
	if len(shown) != 1 {
		t.Errorf("%d answers can be shown of one block: %q", len(shown), shown)
	}
}

// A month of relays that are there in some hours only: every block has its answer.
func TestPresentAndAbsent(t *testing.T) {
	l, _ := newLog(t)
	relays := []testRelay{newRelay(t, crypto.Ed25519, 0), newRelay(t, crypto.Ed25519, 0), newRelay(t, crypto.Ed25519, 0)}
	for n := range 4 {
		h := firstHour + Hour(n)
		watch(t, l, h)
		for i, r := range relays {
			if n>>i&1 == 1 {
				must(t, l.Append(h, r.attempt(t, l.Key(), h, time.Minute, nil)))
			}
		}
	}
	_, err := l.Seal(closing(firstHour + 3))
	must(t, err)
	for i, r := range relays {
		m, err := l.Month(firstHour.Month(), r.id.String(), closing(firstHour+3))
		must(t, err)
		v, err := VerifyMonth(m, Keys{Log: l.Key()})
		must(t, err)
		if len(m.Proofs) != 3 {
			t.Errorf("relay %d: %d proofs for three blocks with records", i, len(m.Proofs))
		}
		for n, h := range v.Hours {
			if (h.Record != nil) != (n>>i&1 == 1) {
				t.Errorf("relay %d, hour %d: record %v", i, n, h.Record)
			}
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
		if decodeLine(line, maxBlockProof, &p) != nil {
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
