package evidence

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// place is what a relay has in a block's tree: where its record stands, and the
// record's hash.
type place struct {
	Key   Hash `json:"key"`   // SHA-256 of the peer ID
	Value Hash `json:"value"` // SHA-256 of the canonical record
}

func relayKey(relay string) Hash { return sha256.Sum256([]byte(relay)) }

func placeOf(relay string, record []byte) place {
	return place{relayKey(relay), sha256.Sum256(record)}
}

// hash is that of a tree with this place alone.
func (p place) hash() Hash { return tlog.RecordHash(slices.Concat(p.Key[:], p.Value[:])) }

// emptyRoot is the root of a block without records.
var emptyRoot = Hash(sha256.Sum256(nil))

// prefixTree is the tree over a block's records, in the order of their keys. In it
// each relay has exactly one place, which follows from its peer ID: so whoever has
// the root can be shown that a record is there or that none is, and never both.
type prefixTree []place

// recordTree is the tree over the canonical records of a block.
func recordTree(lines [][]byte) (prefixTree, error) {
	t := make(prefixTree, len(lines))
	for i, line := range lines {
		relay, err := relayOf(line)
		if err != nil {
			return nil, err
		}
		t[i] = placeOf(relay, line)
	}
	slices.SortFunc(t, func(a, b place) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	for i := range t {
		if i > 0 && t[i].Key == t[i-1].Key {
			return nil, errors.New("two records are of one relay")
		}
	}
	return t, nil
}

// relayOf reads the peer ID off a canonical record, behind whose peer ID there is no text but the plan.
func relayOf(line []byte) (string, error) {
	member := []byte(`,"peer_id":"`)
	at := bytes.LastIndex(line, member)
	if at < 0 {
		return "", errors.New("a record does not say its relay's peer ID")
	}
	relay, _, _ := bytes.Cut(line[at+len(member):], []byte(`"`))
	return string(relay), nil
}

func (t prefixTree) root() Hash { return t.hash(0) }

// hash is that of the subtree of places that share their first depth bits.
func (t prefixTree) hash(depth int) Hash {
	switch len(t) {
	case 0:
		return emptyRoot
	case 1:
		return t[0].hash()
	}
	zeros, ones := t.split(depth)
	return tlog.NodeHash(zeros.hash(depth+1), ones.hash(depth+1))
}

// split parts places by a bit of their keys.
func (t prefixTree) split(depth int) (zeros, ones prefixTree) {
	at, _ := slices.BinarySearchFunc(t, 1, func(p place, one int) int { return cmp.Compare(bit(p.Key, depth), one) })
	return t[:at], t[at:]
}

// bit is a bit of a key; the first is the highest of its first byte.
func bit(key Hash, n int) int { return int(key[n/8]>>(7-n%8)) & 1 }

// prove goes the way to a relay's place. At its end stands the relay's record, another
// one, or nothing (nil).
func (t prefixTree) prove(relay string) (path []Hash, end *place) {
	key := relayKey(relay)
	path = []Hash{}
	for depth := 0; len(t) > 1; depth++ {
		zeros, ones := t.split(depth)
		if bit(key, depth) == 1 {
			zeros, ones = ones, zeros
		}
		path = append(path, ones.hash(depth+1))
		t = zeros
	}
	if len(t) == 1 {
		return path, &t[0]
	}
	return path, nil
}

// blockProof is a line of proofs.jsonl: what the block of an hour holds of the relay.
type blockProof struct {
	Hour Hour `json:"hour"`
	// Other is another relay's place at the end of the path; none, if nothing is there.
	Other *place `json:"other,omitempty"`
	// Path are the hashes beside the way to the relay's place, from the root on.
	Path    []Hash `json:"path"`
	Present bool   `json:"present"` // the block has a record of the relay: the next line of records.jsonl
}

// check says whether the block of a header holds the relay's record, or, without one,
// none of the relay.
func (p blockProof) check(h Header, relay string, record []byte) error {
	key, end := relayKey(relay), emptyRoot
	switch {
	case len(p.Path) > maxPath:
		return fmt.Errorf("the proof has %d hashes, want %d at most", len(p.Path), maxPath)
	case p.Present && p.Other != nil:
		return errors.New("the proof is of a record of the relay and of another in its place")
	case p.Present:
		end = place{key, sha256.Sum256(record)}.hash()
	case p.Other != nil && p.Other.Key == key:
		return errors.New("the proof that the block has no record of the relay shows one of it")
	case p.Other != nil:
		for depth := range p.Path {
			if bit(p.Other.Key, depth) != bit(key, depth) {
				return errors.New("the other record of the proof is not in the relay's place")
			}
		}
		end = p.Other.hash()
	}
	for depth, sibling := range slices.Backward(p.Path) {
		if bit(key, depth) == 0 {
			end = tlog.NodeHash(end, sibling)
		} else {
			end = tlog.NodeHash(sibling, end)
		}
	}
	if end == h.Root {
		return nil
	}
	if p.Present {
		return errors.New("the record is not in its block")
	}
	return errors.New("the proof does not show that the block has no record of the relay")
}

// RecordsRoot is the root of the tree over the canonical records of a block, as it
// stands in the block's header.
func RecordsRoot(lines [][]byte) (Hash, error) {
	t, err := recordTree(lines)
	if err != nil {
		return Hash{}, err
	}
	return t.root(), nil
}

// ProveRecord shows that the block of a header, of which the lines are the canonical
// records, holds a record of a relay, or that it holds none (nil).
func ProveRecord(h Header, lines [][]byte, relay string) (proof, record []byte, err error) {
	t, err := recordTree(lines)
	if err != nil {
		return nil, nil, err
	}
	p := blockProof{Hour: h.Hour}
	if p.Path, p.Other = t.prove(relay); p.Other != nil && p.Other.Key == relayKey(relay) {
		p.Present, p.Other = true, nil
		record = lines[slices.IndexFunc(lines, func(line []byte) bool { of, err := relayOf(line); return err == nil && of == relay })]
	}
	if err := p.check(h, relay, record); err != nil {
		return nil, nil, fmt.Errorf("they are not those that were sealed: %w", err)
	}
	proof, err = Encode(p)
	return proof, record, err
}
