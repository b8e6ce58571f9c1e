package tileserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// serve serves on an address of this machine.
func serve(t *testing.T, h http.Handler) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String() + "/"
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func ask(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// reader is the client for tiles that golang.org/x/mod has.
type reader struct {
	t   *testing.T
	url string
}

func (r reader) Height() int { return 8 }

func (r reader) ReadTiles(list []tlog.Tile) (data [][]byte, err error) {
	for _, t := range list {
		path := strings.Replace(t.Path(), "tile/8/", "tile/", 1)
		res, body := ask(r.t, "GET", r.url+path)
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", path, res.Status)
		}
		data = append(data, []byte(body))
	}
	return data, nil
}

func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}

// A client that knows nothing of this project reads the whole log: the signature with the
// library note, all hashes with the library tlog, and all entries.
func TestForeignClientReadsTheLog(t *testing.T) {
	_, m := watched(t)
	url := serve(t, newHandler(m.Log, quiet(), time.Now))
	v, err := note.NewVerifier(m.Log.Key())
	if err != nil {
		t.Fatal(err)
	}
	_, raw := ask(t, "GET", url+"checkpoint")
	n, err := note.Open([]byte(raw), note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	var origin, hash string
	var tree tlog.Tree
	if _, err := fmt.Sscanf(n.Text, "%s\n%d\n%s\n", &origin, &tree.N, &hash); err != nil {
		t.Fatal(err)
	}
	if tree.Hash, err = tlog.ParseHash(hash); err != nil {
		t.Fatal(err)
	}
	if origin != m.Log.Origin() || tree.N != 304 {
		t.Errorf("the checkpoint is of %d blocks of %s, want 304 of %s", tree.N, origin, m.Log.Origin())
	}
	hashes := tlog.TileHashReader(tree, reader{t, url})
	entry := int64(0)
	for _, path := range []string{"tile/entries/000", "tile/entries/001.p/48"} {
		_, body := ask(t, "GET", url+path)
		for b := []byte(body); len(b) > 0; entry++ {
			size := int(b[0])<<8 + int(b[1])
			line := b[2 : 2+size]
			b = b[2+size:]
			proof, err := tlog.ProveRecord(tree.N, entry, hashes)
			if err == nil {
				err = tlog.CheckRecord(proof, tree.N, tree.Hash, entry, tlog.RecordHash(line))
			}
			if err != nil {
				t.Fatalf("entry %d: %v", entry, err)
			}
			want := fmt.Sprintf(`"hour":"%s"`, m.Log.First()+evidence.Hour(entry))
			if !bytes.Contains(line, []byte(want)) {
				t.Errorf("entry %d is %.80s, want one with %s", entry, line, want)
			}
		}
	}
	if entry != 304 {
		t.Errorf("there are %d entries, want 304", entry)
	}
	if _, err := tlog.ProveTree(tree.N, 78, hashes); err != nil {
		t.Errorf("a consistency proof from 78 blocks on: %v", err)
	}
}

func TestHandlerServesWhatIsSealedOnly(t *testing.T) {
	w, m := watched(t)
	h := m.Log.First() + evidence.Hour(m.Log.Size())
	// An hour that is not sealed, with the first sight of another certificate.
	known := w.Cert.SHA256
	other := scene.New(t, evidence.Lab, 0)
	w.DER, w.Cert = other.DER, other.Cert
	w.Observe(m, h, []evidence.Attempt{w.Attempt(m, h, time.Minute)})
	url := serve(t, newHandler(m.Log, quiet(), time.Now))
	missing := []string{
		"tile/0/001.p/49", "tile/0/001", "tile/1/000.p/2", "tile/1/000", "tile/2/000.p/1", "tile/entries/001.p/49", "tile/entries/001",
		"records/00000304.jsonl", "records/00000100.jsonl", "checkpoints/00000305", "checkpoints/00000100", "certificates/" + w.Cert.SHA256 + ".der",
		"certificates/" + strings.Repeat("00", 32) + ".der", "log.key", "log.json", "wal/", "blocks/2026-11.jsonl", "tile/0/..%2f..%2flog.key", "tile/", "records/",
	}
	for _, path := range missing {
		if res, body := ask(t, "GET", url+path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s %.40q, want 404", path, res.Status, body)
		}
	}
	for _, path := range []string{"certificates/" + known + ".der", "records/00000303.jsonl", "tile/0/000", "tile/0/000.p/7", "tile/1/000.p/1"} {
		if res, _ := ask(t, "GET", url+path); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, want 200", path, res.Status)
		}
	}
	w.Seal(m, h.End().Add(17*time.Minute))
	for _, path := range []string{"certificates/" + w.Cert.SHA256 + ".der", "tile/0/001.p/49", "tile/entries/001.p/49", "records/00000304.jsonl", "checkpoints/00000305"} {
		if res, _ := ask(t, "GET", url+path); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s after the hour was sealed, want 200", path, res.Status)
		}
	}
}

// A certificate that was seen in a sealed hour is shown, also while an open one has it.
func TestHandlerShowsCertificateOfOpenHour(t *testing.T) {
	w, m := watched(t)
	h := m.Log.First() + evidence.Hour(m.Log.Size())
	w.Observe(m, h, []evidence.Attempt{w.Attempt(m, h, time.Minute)})
	c, err := (&handler{src: m.Log, log: quiet(), now: time.Now}).content(tiles.Name{Kind: tiles.Certificate, SHA256: w.Cert.SHA256})
	if err != nil || !bytes.Equal(c.body, w.DER) {
		t.Errorf("%d bytes, %v; want the certificate", len(c.body), err)
	}
}

// A monitor that was away for days is cosigned when it is back: till then nobody is to keep
// its last checkpoint for ever.
func TestHandlerLastCheckpointIsNeverSettled(t *testing.T) {
	_, m := watched(t)
	url := serve(t, newHandler(m.Log, quiet(), func() time.Time { return m.Log.First().Start().Add(500 * time.Hour) }))
	for path, want := range map[string]string{"checkpoints/00000304": aMoment, "checkpoints/00000303": tiles.ForEver} {
		if res, _ := ask(t, "GET", url+path); res.Header.Get("Cache-Control") != want {
			t.Errorf("%s: %q, want %q", path, res.Header.Get("Cache-Control"), want)
		}
	}
}

func TestHandlerHeaders(t *testing.T) {
	w, m := watched(t)
	now := m.Log.First().Start().Add(305 * time.Hour)
	url := serve(t, newHandler(m.Log, quiet(), func() time.Time { return now }))
	for path, want := range map[string][2]string{
		"":                                       {tiles.Text, aMoment},
		"checkpoint":                             {tiles.Text, aMoment},
		"checkpoints/00000304":                   {tiles.Text, aMoment},
		"checkpoints/00000001":                   {tiles.Text, tiles.ForEver},
		"tile/0/000":                             {"application/octet-stream", tiles.ForEver},
		"tile/0/001.p/48":                        {"application/octet-stream", "public, max-age=3600"},
		"tile/entries/000":                       {"application/octet-stream", tiles.ForEver},
		"tile/entries/001.p/48":                  {"application/octet-stream", "public, max-age=3600"},
		"records/00000303.jsonl":                 {"application/x-ndjson", tiles.ForEver},
		"certificates/" + w.Cert.SHA256 + ".der": {"application/pkix-cert", tiles.ForEver},
	} {
		res, body := ask(t, "GET", url+path)
		head := res.Header
		if got := [2]string{head.Get("Content-Type"), head.Get("Cache-Control")}; got != want || body == "" {
			t.Errorf("%s: %v, %d bytes; want %v", path, got, len(body), want)
		}
		if head.Get("X-Robots-Tag") == "" || head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %v", path, head)
		}
		if res, again := ask(t, "GET", url+path, "If-None-Match", head.Get("ETag")); res.StatusCode != http.StatusNotModified || again != "" {
			t.Errorf("%s: %s with the tag %q, want 304", path, res.Status, head.Get("ETag"))
		}
		if res, none := ask(t, "HEAD", url+path); res.StatusCode != http.StatusOK || none != "" || res.ContentLength != int64(len(body)) {
			t.Errorf("HEAD %s: %s, %d bytes, want %d", path, res.Status, res.ContentLength, len(body))
		}
		if res, _ := ask(t, "POST", url+path); res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %s, want 405", path, res.Status)
		}
	}
	res, part := ask(t, "GET", url+"records/00000303.jsonl", "Range", "bytes=0-9")
	if res.StatusCode != http.StatusPartialContent || len(part) != 10 {
		t.Errorf("ten bytes of a file of records: %s, %d bytes", res.Status, len(part))
	}
	before, _ := ask(t, "GET", url+"checkpoint")
	more(t, w, m)
	if after, _ := ask(t, "GET", url+"checkpoint", "If-None-Match", before.Header.Get("ETag")); after.StatusCode != http.StatusOK {
		t.Errorf("a new checkpoint: %s, want 200", after.Status)
	}
}

func TestHandlerIsPaced(t *testing.T) {
	_, m := watched(t)
	url := serve(t, Handler(m.Log, quiet()))
	for range rates.Burst + 50 {
		if res, _ := ask(t, "GET", url+"checkpoint"); res.StatusCode == http.StatusTooManyRequests {
			return
		}
	}
	t.Errorf("%d requests at a stroke were served", rates.Burst+50)
}

// countingSource counts how often headers are read from the log.
type countingSource struct {
	tiles.Source
	reads int
}

func (c *countingSource) HeaderLines(from, to int64) ([][]byte, error) {
	c.reads++
	return c.Source.HeaderLines(from, to)
}

func TestHandlerReadsAMonthOnce(t *testing.T) {
	_, m := watched(t)
	src := &countingSource{Source: m.Log}
	h := &handler{src: src, log: quiet(), now: time.Now}
	for width := 1; width <= tiles.Width; width++ {
		if _, err := h.content(tiles.Name{Kind: tiles.Entries, Width: width}); err != nil {
			t.Fatal(err)
		}
	}
	if src.reads != 1 {
		t.Errorf("the headers were read %d times for one bundle, want once", src.reads)
	}
	for i := range int64(10 * cachedBundles) {
		h.cache.get(1000+i, 1, func() ([][]byte, error) { return [][]byte{nil}, nil })
	}
	if got := len(h.cache.last); got != cachedBundles {
		t.Errorf("%d bundles are kept, want %d", got, cachedBundles)
	}
}

// What is exported as files is what is served, and a log that is served from the files
// looks the same.
func TestExportIsWhatIsServed(t *testing.T) {
	_, m := watched(t)
	dir := t.TempDir()
	if _, err := tiles.Export(t.Context(), m.Log, dir, nil); err != nil {
		t.Fatal(err)
	}
	url := serve(t, newHandler(m.Log, quiet(), time.Now))
	names := exported(t, dir)
	for name, want := range names {
		if res, got := ask(t, "GET", url+name); got != want {
			t.Errorf("%s: %s, %d bytes; the file has %d", name, res.Status, len(got), len(want))
		}
	}
	// 6 hours with records at the begin and 3 at the end; 6 + 1 + 1 + 3 checkpoints and one at the month's end.
	for kind, want := range map[string]int{"records/": 9, "certificates/": 1, "tile/0/": 2, "tile/1/": 1, "tile/entries/": 2} {
		n := 0
		for name := range names {
			if strings.HasPrefix(name, kind) {
				n++
			}
		}
		if n != want {
			t.Errorf("%d files in %s, want %d", n, kind, want)
		}
	}
}

// exported are the files of a folder, without the lock.
func exported(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == ".lock" {
			return err
		}
		b, err := os.ReadFile(path)
		name, rel := filepath.Rel(dir, path)
		out[filepath.ToSlash(name)] = string(b)
		return errors.Join(err, rel)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// watched is a real log of 304 hours: six of them watched, then the monitor was off, and
// then it watched three more. It is cosigned.
func watched(t *testing.T) (*scene.Scene, *scene.Watcher) {
	t.Helper()
	w := scene.New(t, evidence.Lab, 2)
	w.Watch(nil)
	m := w.Monitors[0]
	w.Seal(m, w.First.End().Add(300*time.Hour+17*time.Minute))
	for range 3 {
		more(t, w, m)
	}
	if got := m.Log.Size(); got != 304 {
		t.Fatalf("the log has %d blocks, want 304", got)
	}
	return w, m
}

// more is an hour more.
func more(t *testing.T, w *scene.Scene, m *scene.Watcher) {
	t.Helper()
	h := m.Log.First() + evidence.Hour(m.Log.Size())
	w.Observe(m, h, []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)})
	w.Seal(m, h.End().Add(17*time.Minute))
}
