// Package tileserver serves a log over HTTP, in its public form. It is apart from package
// tiles, which works offline.
package tileserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// rates are how many files a second are served. A mirror asks for a few a second.
var rates = listen.Rates{PerClient: 20, Burst: 200, All: 100, AllBurst: 400}

const (
	// aMoment is how long others may keep what grows.
	aMoment = "public, max-age=10"
	// settled is how long after a block's hour its checkpoint still gets cosignatures; the
	// last one may later, too: from a monitor that was away.
	settled = 48 * time.Hour
)

// Handler serves a log under names of package tiles, after a slash or not. It serves
// nothing that is not under the log's last checkpoint, and reads no more than it needs for
// an answer.
func Handler(src tiles.Source, log *slog.Logger) http.Handler {
	return listen.Paced(rates, newHandler(src, log, time.Now))
}

func newHandler(src tiles.Source, log *slog.Logger, now func() time.Time) http.Handler {
	return &handler{src: src, log: log, now: now}
}

type handler struct {
	src   tiles.Source
	log   *slog.Logger
	now   func() time.Time
	cache headerCache
}

// content is an answer: either bytes or an open file.
type content struct {
	typ, cache, tag string
	body            []byte
	file            io.ReadSeekCloser
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "a log is only read: GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Robots-Tag", "noindex, nofollow")
	head.Set("Access-Control-Allow-Origin", "*") // for verifiers that run in a browser
	path := strings.TrimPrefix(r.URL.Path, "/")
	if path == "" {
		h.index(w, r)
		return
	}
	name, ok := tiles.ParseName(path)
	if !ok {
		notFound(w)
		return
	}
	c, err := h.content(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		notFound(w)
	case err != nil:
		h.log.Error("a file of the log cannot be served", "file", path, "err", err)
		http.Error(w, "the log cannot be read at present", http.StatusInternalServerError)
	default:
		h.send(w, r, c)
	}
}

func notFound(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", aMoment)
	http.Error(w, "the log has no such file under its last checkpoint", http.StatusNotFound)
}

// index tells a person what is here.
func (h *handler) index(w http.ResponseWriter, r *http.Request) {
	b := fmt.Appendf(nil, `This is the log of %s, %d hours from %s on, for programs to follow (C2SP tlog-tiles).

checkpoint, tile/, tile/entries/, records/, checkpoints/ and certificates/ are beside this page.
A copy that checks everything and goes on from there:

    relaymon mirror URL-OF-THIS-PAGE FOLDER --key VERIFIER-KEY

The verifier key comes from the committee's roster, not from here. With --roster FILE in its
place the copy also keeps and checks what witnesses signed.
`, h.src.Origin(), h.src.Size(), h.src.First())
	h.send(w, r, content{typ: tiles.Text, cache: aMoment, body: b, tag: tagOf(b)})
}

func (h *handler) send(w http.ResponseWriter, r *http.Request, c content) {
	head := w.Header()
	head.Set("Content-Type", c.typ)
	head.Set("Cache-Control", c.cache)
	head.Set("ETag", `"`+c.tag+`"`)
	if c.file == nil {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(c.body))
		return
	}
	defer c.file.Close()
	if size, err := c.file.Seek(0, io.SeekEnd); err == nil {
		// Whoever reads slowly but steadily gets it all. A server that sets no deadlines has none to set.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(30*time.Second + time.Duration(size/slowest)*time.Second))
	}
	http.ServeContent(w, r, "", time.Time{}, c.file)
}

// slowest is how many bytes a second somebody must read of a large file.
const slowest = 128 << 10

func tagOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// content finds what a name is of; fs.ErrNotExist: nothing that may be shown.
func (h *handler) content(name tiles.Name) (content, error) {
	size := h.src.Size()
	if !name.Under(size) {
		return content{}, fs.ErrNotExist
	}
	switch name.Kind {
	case tiles.LastCheckpoint:
		b, err := h.src.CheckpointOf(size)
		return content{typ: name.MediaType(), cache: aMoment, body: b, tag: tagOf(b)}, err
	case tiles.Checkpoint:
		return h.checkpoint(name)
	case tiles.Tile:
		b, err := tlog.ReadTileData(name.Tile(), h.src)
		return content{typ: name.MediaType(), cache: name.CacheControl(), body: b, tag: tagOf(b)}, err
	case tiles.Entries:
		lines, err := h.headers(name.Index*tiles.Width, name.Index*tiles.Width+int64(name.Width))
		if err != nil {
			return content{}, err
		}
		b, err := tiles.JoinEntries(lines)
		return content{typ: name.MediaType(), cache: name.CacheControl(), body: b, tag: tagOf(b)}, err
	case tiles.Records:
		return h.records(name)
	default:
		return h.certificate(name)
	}
}

func (h *handler) checkpoint(name tiles.Name) (content, error) {
	size := name.Index
	b, err := h.src.CheckpointOf(size)
	c := content{typ: name.MediaType(), cache: aMoment, body: b, tag: tagOf(b)}
	if hour := h.src.First() + evidence.Hour(size-1); size < h.src.Size() && h.now().Sub(hour.End()) > settled {
		c.cache = tiles.ForEver
	}
	return c, err
}

func (h *handler) records(name tiles.Name) (content, error) {
	block := name.Index
	lines, err := h.headers(block, block+1)
	if err != nil {
		return content{}, err
	}
	head, err := evidence.DecodeHeader(lines[0])
	if err != nil {
		return content{}, err
	}
	if head.Records == 0 {
		return content{}, fs.ErrNotExist
	}
	// The header's root is of these records and no others.
	c := content{typ: name.MediaType(), cache: name.CacheControl(), tag: hex.EncodeToString(head.Root[:])}
	if files, ok := h.src.(tiles.RecordFiles); ok {
		c.file, err = files.OpenRecords(block)
		return c, err
	}
	if lines, err = h.src.RecordLines(block); err == nil {
		c.body = append(bytes.Join(lines, []byte("\n")), '\n')
	}
	return c, err
}

func (h *handler) certificate(name tiles.Name) (content, error) {
	sha := name.SHA256
	if s, ok := h.src.(sealedCertificates); ok {
		sealed, err := s.CertificateSealed(sha)
		if err != nil {
			return content{}, err
		}
		if !sealed {
			return content{}, fs.ErrNotExist
		}
	}
	der, err := h.src.CertificateOf(sha)
	return content{typ: name.MediaType(), cache: name.CacheControl(), body: der, tag: sha}, err
}

// headers are those of blocks of one bundle.
func (h *handler) headers(from, to int64) ([][]byte, error) {
	index := from / tiles.Width
	base := index * tiles.Width
	lines, err := h.cache.get(index, int(to-base), func() ([][]byte, error) {
		return h.src.HeaderLines(base, min(base+tiles.Width, h.src.Size()))
	})
	if err != nil {
		return nil, err
	}
	return lines[from-base : to-base], nil
}

// headerCache keeps the headers of the bundles that were asked for lately: a month's file
// is read for each other one.
type headerCache struct {
	mu   sync.Mutex
	last []cachedHeaders // the one asked for last is the last
}

type cachedHeaders struct {
	index int64
	lines [][]byte
}

// cachedBundles is how many are kept: some hundred kilobytes each.
const cachedBundles = 8

// get is a bundle of at least so many headers. They are read by one at a time.
func (c *headerCache) get(index int64, atLeast int, read func() ([][]byte, error)) ([][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, have := range c.last {
		if have.index != index {
			continue
		}
		c.last = append(c.last[:i], c.last[i+1:]...)
		if len(have.lines) >= atLeast {
			c.last = append(c.last, have)
			return have.lines, nil
		}
		break
	}
	lines, err := read()
	if err != nil {
		return nil, err
	}
	if len(lines) < atLeast {
		return nil, fmt.Errorf("bundle %d has %d headers, want %d: %w", index, len(lines), atLeast, fs.ErrNotExist)
	}
	if len(c.last) == cachedBundles {
		c.last = c.last[1:]
	}
	c.last = append(c.last, cachedHeaders{index, lines})
	return lines, nil
}

// sealedCertificates is a source that holds certificates of hours that are not sealed, too.
type sealedCertificates interface {
	CertificateSealed(sha256 string) (bool, error)
}
