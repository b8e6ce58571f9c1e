package evidence

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree is a Merkle tree (RFC 6962) in memory, whole or from a frontier on.
type Tree struct {
	Size   int64          // leaves
	hashes map[int64]Hash // by tlog.StoredHashIndex
}

// NewTree is a tree without leaves.
func NewTree() *Tree { return &Tree{hashes: make(map[int64]Hash)} }

// frontierTree is a tree of size leaves of which only the perfect subtrees are known.
func frontierTree(size int64, frontier []Hash) (*Tree, error) {
	if size < 0 || size > MaxBlocks || len(frontier) != bits.OnesCount64(uint64(size)) {
		return nil, fmt.Errorf("frontier of %d hashes does not make a tree of %d leaves", len(frontier), size)
	}
	t := NewTree()
	t.Size = size
	for i, index := range frontierIndexes(size) {
		t.hashes[index] = frontier[i]
	}
	return t, nil
}

// frontierIndexes are the places of the perfect subtrees of a tree, largest first.
func frontierIndexes(size int64) []int64 {
	var indexes []int64
	var at int64
	for level := 62; level >= 0; level-- {
		if size&(1<<level) != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, at>>level))
			at += 1 << level
		}
	}
	return indexes
}

// ReadHashes implements [tlog.HashReader].
func (t *Tree) ReadHashes(indexes []int64) ([]Hash, error) {
	list := make([]Hash, len(indexes))
	for i, index := range indexes {
		h, ok := t.hashes[index]
		if !ok {
			return nil, fmt.Errorf("hash %d of the tree is not known", index)
		}
		list[i] = h
	}
	return list, nil
}

// Add appends the hash of a leaf.
func (t *Tree) Add(leaf Hash) error {
	list, err := tlog.StoredHashesForRecordHash(t.Size, leaf, t)
	if err != nil {
		return err
	}
	at := tlog.StoredHashIndex(0, t.Size)
	for i, h := range list {
		t.hashes[at+int64(i)] = h
	}
	t.Size++
	return nil
}

// Root is the hash of the tree's first size leaves.
func (t *Tree) Root(size int64) (Hash, error) {
	if size < 0 || size > t.Size {
		return Hash{}, fmt.Errorf("tree has %d leaves, not %d", t.Size, size)
	}
	return tlog.TreeHash(size, t)
}
