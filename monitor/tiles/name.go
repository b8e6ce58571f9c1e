package tiles

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

const (
	// Height is that of a tile: how many levels of the tree it has.
	Height = 8
	// Width is how many hashes a full tile has, and how many entries a full bundle.
	Width = 1 << Height
)

// Kind is a kind of files.
type Kind int

// The kinds of files.
const (
	LastCheckpoint Kind = iota + 1
	Tile
	Entries
	Records
	Checkpoint
	Certificate
)

// Name says what a file of a log is of. It is written as the file's path, with slashes.
type Name struct {
	Kind   Kind
	Level  int    // of a Tile
	Index  int64  // of a Tile or of Entries; the block of Records; the size of a Checkpoint
	Width  int    // of a Tile or of Entries: 1 to 256
	SHA256 string // of a Certificate, in hex
}

const (
	nameLast         = "checkpoint"
	folderTiles      = "tile/"
	folderEntries    = "tile/entries/"
	folderRecords    = "records/"
	folderSigned     = "checkpoints/"
	folderCerts      = "certificates/"
	suffixRecords    = ".jsonl"
	suffixCert       = ".der"
	suffixPartial    = ".p"
	libraryTiles     = "tile/8/"      // tlog writes the height of tiles, too
	libraryEntries   = "tile/8/data/" // and this for entries
	maxLevel         = 63
	maxNameBytes     = 128
	entryLengthBytes = 2
)

// RecordsOf is the name of a block's records.
func RecordsOf(block int64) string { return Name{Kind: Records, Index: block}.String() }

// CheckpointOf is the name of the checkpoint of a size.
func CheckpointOf(size int64) string { return Name{Kind: Checkpoint, Index: size}.String() }

// CertificateOf is the name of a certificate.
func CertificateOf(sha256 string) string { return Name{Kind: Certificate, SHA256: sha256}.String() }

// TileOf is the name of a tile as the library tlog knows it.
func TileOf(t tlog.Tile) string { return Name{Kind: Tile, Level: t.L, Index: t.N, Width: t.W}.String() }

// EntriesOf is the name of a bundle of entries.
func EntriesOf(index int64, width int) string {
	return Name{Kind: Entries, Index: index, Width: width}.String()
}

// Tile is what the library tlog calls the tile of such a name, or the bundle of entries.
func (n Name) Tile() tlog.Tile {
	if n.Kind == Entries {
		return tlog.Tile{H: Height, L: -1, N: n.Index, W: n.Width}
	}
	return tlog.Tile{H: Height, L: n.Level, N: n.Index, W: n.Width}
}

// String is the path.
func (n Name) String() string {
	switch n.Kind {
	case LastCheckpoint:
		return nameLast
	case Tile:
		return folderTiles + strings.TrimPrefix(n.Tile().Path(), libraryTiles)
	case Entries:
		return folderEntries + strings.TrimPrefix(n.Tile().Path(), libraryEntries)
	case Records:
		return fmt.Sprintf("%s%08d%s", folderRecords, n.Index, suffixRecords)
	case Checkpoint:
		return fmt.Sprintf("%s%08d", folderSigned, n.Index)
	case Certificate:
		return folderCerts + n.SHA256 + suffixCert
	}
	return ""
}

// ParseName reads what String writes, and nothing else.
func ParseName(path string) (Name, bool) {
	n, ok := parseName(path)
	return n, ok && n.String() == path
}

func parseName(path string) (Name, bool) {
	if len(path) > maxNameBytes {
		return Name{}, false
	}
	if path == nameLast {
		return Name{Kind: LastCheckpoint}, true
	}
	if rest, ok := strings.CutPrefix(path, folderEntries); ok {
		t, err := tlog.ParseTilePath(libraryEntries + rest)
		return Name{Kind: Entries, Index: t.N, Width: t.W}, err == nil
	}
	if rest, ok := strings.CutPrefix(path, folderTiles); ok {
		t, err := tlog.ParseTilePath(libraryTiles + rest)
		return Name{Kind: Tile, Level: t.L, Index: t.N, Width: t.W}, err == nil && t.L >= 0 && t.L <= maxLevel
	}
	if rest, ok := strings.CutPrefix(path, folderRecords); ok {
		block, ok := parseNumber(strings.TrimSuffix(rest, suffixRecords))
		return Name{Kind: Records, Index: block}, ok
	}
	if rest, ok := strings.CutPrefix(path, folderSigned); ok {
		size, ok := parseNumber(rest)
		return Name{Kind: Checkpoint, Index: size}, ok && size > 0
	}
	if rest, ok := strings.CutPrefix(path, folderCerts); ok {
		sha := strings.TrimSuffix(rest, suffixCert)
		return Name{Kind: Certificate, SHA256: sha}, evidence.IsSHA256Hex(sha)
	}
	return Name{}, false
}

func parseNumber(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil && n <= evidence.MaxBlocks
}

// Under says whether a tree of so many leaves has what a name is of. Of a certificate
// nobody can say.
func (n Name) Under(size int64) bool {
	switch n.Kind {
	case Tile, Entries:
		filled := size // places of the level
		for range n.Level {
			filled >>= Height
		}
		return n.Index <= filled/Width && n.Index*Width+int64(n.Width) <= filled
	case Records:
		return n.Index < size
	case Checkpoint:
		return n.Index <= size
	}
	return size > 0
}

// Limit is how many bytes the file may have, as far as the name tells.
func (n Name) Limit() int64 {
	switch n.Kind {
	case Tile:
		return int64(n.Width) * tlog.HashSize
	case Entries:
		return int64(n.Width) * (entryLengthBytes + evidence.MaxHeaderBytes)
	case Records:
		return MaxBlockBytes
	case Certificate:
		return evidence.MaxCertificateBytes
	}
	return evidence.MaxCheckpointBytes
}

// What a file is to a browser.
const (
	Text      = "text/plain; charset=utf-8"
	octets    = "application/octet-stream"
	jsonLines = "application/x-ndjson"
	derType   = "application/pkix-cert"
)

// How long others may keep a file.
const (
	ForEver = "public, max-age=31536000, immutable"
	aWhile  = "public, max-age=3600" // a partial tile never changes, but is soon of no use
	noCache = "no-cache"             // to be asked for each time
)

// MediaType is what the file is to a browser.
func (n Name) MediaType() string {
	switch n.Kind {
	case Tile, Entries:
		return octets
	case Records:
		return jsonLines
	case Certificate:
		return derType
	}
	return Text
}

// CacheControl is how long others may keep the file, where it is kept as it is written. Of
// a checkpoint whoever serves it himself can say more.
func (n Name) CacheControl() string {
	switch n.Kind {
	case Tile, Entries:
		if n.Width < Width {
			return aWhile
		}
		return ForEver
	case Records, Certificate:
		return ForEver
	}
	return noCache
}

// MaxBlockBytes is how many bytes the records of one block have at most, for whoever
// follows a log: those of ten thousand relays have about a tenth.
const MaxBlockBytes = 1 << 30
