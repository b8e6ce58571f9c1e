package mirror

import (
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// tree reads hashes of a log's tree from its tiles, each of which is checked against the
// root. So a hash that it returns is under the checkpoint, wherever the tiles come from.
type tree struct {
	tlog.Tree
	hashes tlog.HashReader
}

func newTree(t tlog.Tree, read func(tlog.Tile) ([]byte, error)) *tree {
	return &tree{t, tlog.TileHashReader(t, &tileReader{read: read, kept: make(map[tlog.Tile][]byte)})}
}

// ReadHashes implements [tlog.HashReader].
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) { return t.hashes.ReadHashes(indexes) }

// root is that of the tree's first size leaves.
func (t *tree) root(size int64) (tlog.Hash, error) {
	if size == t.N {
		return t.Hash, nil
	}
	return tlog.TreeHash(size, t)
}

// leaves are the hashes of leaves from..to-1.
func (t *tree) leaves(from, to int64) ([]tlog.Hash, error) {
	indexes := make([]int64, 0, to-from)
	for i := from; i < to; i++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, i))
	}
	return t.ReadHashes(indexes)
}

// tileReader implements [tlog.TileReader], and keeps some of what was found good.
type tileReader struct {
	read func(tlog.Tile) ([]byte, error)
	mu   sync.Mutex
	kept map[tlog.Tile][]byte
}

// keptTiles bounds what is kept: a tile is of 8 KiB.
const keptTiles = 64

// Height implements [tlog.TileReader]: that of tlog-tiles.
func (r *tileReader) Height() int { return 8 }

// ReadTiles implements [tlog.TileReader].
func (r *tileReader) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(list))
	for i, t := range list {
		r.mu.Lock()
		data, ok := r.kept[t]
		r.mu.Unlock()
		if !ok {
			var err error
			if data, err = r.read(t); err != nil {
				return nil, err
			}
			if len(data) != t.W*tlog.HashSize {
				return nil, fmt.Errorf("%s has %d bytes, want %d", t.Path(), len(data), t.W*tlog.HashSize)
			}
		}
		out[i] = data
	}
	return out, nil
}

// SaveTiles implements [tlog.TileReader].
func (r *tileReader) SaveTiles(list []tlog.Tile, data [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept)+len(list) > keptTiles {
		clear(r.kept)
	}
	for i, t := range list {
		if len(r.kept) < keptTiles {
			r.kept[t] = data[i]
		}
	}
}
