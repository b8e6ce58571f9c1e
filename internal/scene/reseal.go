package scene

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Reseal writes a monitor's log anew as a program of another time would have: with other
// records and headers, signed and cosigned anew by the same keys at the same times. It
// changes canonical lines; what follows from them, roots and hashes, it writes itself.
// Records of one relay an hour are all that it knows.
func (w *Scene) Reseal(m *Watcher, record, header func(line []byte) []byte) {
	w.t.Helper()
	w.Must(m.Log.Close())
	var size int64
	var stored []tlog.Hash // of the log's tree
	var previous tlog.Hash
	months, err := filepath.Glob(filepath.Join(m.Dir, "blocks", "*.jsonl"))
	w.Must(err)
	slices.Sort(months)
	for _, name := range months {
		var out bytes.Buffer
		for _, line := range w.lines(name) {
			var h struct{ Hour evidence.Hour }
			w.Must(json.Unmarshal(line, &h))
			root := w.resealRecord(m, h.Hour, record)
			line = header(member(w, line, "previous", previous))
			if root != nil {
				line = member(w, line, "root", *root)
			}
			previous = tlog.RecordHash(line)
			hashes, err := tlog.StoredHashesForRecordHash(size, previous, hashesOf(stored))
			w.Must(err)
			size, stored = size+1, append(stored, hashes...)
			out.Write(append(line, '\n'))
		}
		w.Must(os.WriteFile(name, out.Bytes(), 0o644))
	}
	w.resign(m, hashesOf(stored))
	m.Log, err = store.Open(m.Dir)
	w.Must(err)
	log := m.Log
	w.t.Cleanup(func() { log.Close() })
}

// resealRecord changes the record of an hour; nil: it has none.
func (w *Scene) resealRecord(m *Watcher, h evidence.Hour, record func([]byte) []byte) *tlog.Hash {
	name := filepath.Join(m.Dir, "blocks", h.Month().String(), h.Start().Format("2006-01-02T15")+".jsonl")
	if _, err := os.Stat(name); err != nil {
		return nil
	}
	lines := w.lines(name)
	if len(lines) != 1 {
		w.t.Fatalf("%s: %d records, want one", name, len(lines))
	}
	line := record(lines[0])
	w.Must(os.WriteFile(name, append(bytes.Clone(line), '\n'), 0o644))
	key, value := sha256.Sum256([]byte(w.RelayID)), sha256.Sum256(line)
	root := tlog.RecordHash(slices.Concat(key[:], value[:]))
	return &root
}

// resign signs the checkpoints over the new blocks.
func (w *Scene) resign(m *Watcher, tree tlog.HashReader) {
	secret, err := os.ReadFile(filepath.Join(m.Dir, "log.key"))
	w.Must(err)
	signer, err := note.NewSigner(strings.TrimSpace(string(secret)))
	w.Must(err)
	names, err := filepath.Glob(filepath.Join(m.Dir, "checkpoints", "*"))
	w.Must(err)
	for _, name := range names {
		was, err := os.ReadFile(name)
		w.Must(err)
		text, signatures, _ := strings.Cut(string(was), "\n\n")
		origin, size, _ := strings.Cut(text, "\n")
		var n int64
		fmt.Sscan(size, &n)
		root, err := tlog.TreeHash(n, tree)
		w.Must(err)
		now, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", origin, n, root)}, signer)
		w.Must(err)
		for _, line := range strings.Split(signatures, "\n") {
			for _, o := range w.Monitors {
				by, _, _ := strings.Cut(o.CosignKey, "+")
				if b64, ok := strings.CutPrefix(line, "— "+by+" "); ok {
					raw, err := base64.StdEncoding.DecodeString(b64)
					w.Must(err)
					at := time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0)
					now = append(now, Cosign(o.Cosigner, o.CosignKey, now, at)...)
				}
			}
		}
		w.Must(os.WriteFile(name, now, 0o644))
	}
}

func (w *Scene) lines(name string) [][]byte {
	b, err := os.ReadFile(name)
	w.Must(err)
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

// member sets a member of a canonical object.
func member(w *Scene, line []byte, name string, value any) []byte {
	var object map[string]any
	w.Must(json.Unmarshal(line, &object))
	object[name] = value
	out, err := evidence.Encode(object)
	w.Must(err)
	return out
}

// hashesOf reads the hashes of a tree that is held in memory.
func hashesOf(stored []tlog.Hash) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, at := range indexes {
			out[i] = stored[at]
		}
		return out, nil
	})
}
