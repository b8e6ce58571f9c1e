package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Seal seals every hour that has closed by now (at :16 of the next), with
// blocks for the gaps, and signs a checkpoint. It may be repeated after an
// error, and goes on where it stopped, also in another process. Call it only
// when the clock is to be trusted: a sealed hour takes nothing more.
//
// The order of writing makes every crash harmless: the records, which nothing
// refers to yet; then the header, which from now on is a leaf of the log and never
// changes; then the checkpoint, whose bytes follow from the leaves, so that
// signing it again makes the same one; only then the write-ahead file goes.
func (l *Log) Seal(now time.Time) ([]evidence.Header, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return nil, ErrReadOnly
	}
	if l.held {
		return nil, ErrHeld
	}
	if err := l.finish(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	var sealed []evidence.Header
	for l.next().Closed(now) {
		list, err := l.sealMonth(now)
		sealed = append(sealed, list...)
		if err == nil {
			err = l.finish()
		}
		if err != nil {
			return sealed, fmt.Errorf("seal: %w", err)
		}
	}
	return sealed, nil
}

// errClockAhead keeps a clock that jumped from filling the log with hours that never were.
var errClockAhead = errors.New("the clock is more than 400 days ahead of the last block: set it, or, if the monitor really was off for so long, start a new log")

const maxGap = 400 * 24

// sealMonth writes the blocks of closed hours up to the end of the month, and
// makes them leaves of the log.
func (l *Log) sealMonth(now time.Time) ([]evidence.Header, error) {
	first := l.next()
	if (first + maxGap).Closed(now) {
		return nil, errClockAhead
	}
	month := first.Month()
	held, err := l.heldCosignatures(now)
	if err != nil {
		return nil, err
	}
	var headers []evidence.Header
	var lines [][]byte
	previous := l.leaf
	for h := first; h.Closed(now) && month.Contains(h); h++ {
		head, err := l.writeRecords(h, now)
		if err != nil {
			return nil, err
		}
		head.Previous = previous
		if h == first {
			head.Cosigned = held
		}
		head.Signed = !(h + 1).Closed(now) || !month.Contains(h+1)
		line, err := evidence.Encode(head)
		if err != nil {
			return nil, err
		}
		if _, err := evidence.DecodeHeader(line); err != nil {
			return nil, err
		}
		previous = tlog.RecordHash(line)
		headers, lines = append(headers, head), append(lines, line)
	}
	if err := l.appendHeaders(headers, lines); err != nil {
		return nil, err
	}
	return headers, nil
}

// heldCosignatures are those under the last checkpoint, which is over all blocks so far:
// the next header tells of them, so that nobody can leave them out any more. One of a time
// that is still to come is passed over: it counts in no hour, and a month could not be
// exported before that time, if its header told of it.
func (l *Log) heldCosignatures(now time.Time) ([]evidence.Held, error) {
	if l.signed == 0 {
		return nil, nil
	}
	c, err := l.readCheckpoint(l.signed)
	if err != nil {
		return nil, err
	}
	var held []evidence.Held
	for _, s := range c.Cosignatures {
		at, err := evidence.CosignedAt(s)
		if err != nil {
			return nil, l.errDamaged("checkpoint of size %d: %w", l.signed, err)
		}
		if at.After(now) {
			continue
		}
		held = append(held, evidence.Held{Time: evidence.TimeOf(at), Witness: fmt.Sprintf("%s+%08x", s.Name, s.Hash)})
	}
	slices.SortFunc(held, func(a, b evidence.Held) int { return strings.Compare(a.Witness, b.Witness) })
	return held, nil
}

// appendHeaders makes blocks of one month leaves of the log.
func (l *Log) appendHeaders(headers []evidence.Header, lines [][]byte) error {
	month := l.next().Month()
	s, ok := l.headers[month]
	if !ok {
		s = segment{disk: l.disk, path: l.headersPath(month)}
	}
	err := s.append(joinLines(lines))
	for m, old := range l.headers {
		if m != month {
			old.close()
			delete(l.headers, m)
		}
	}
	l.headers[month] = s
	if err != nil {
		return err
	}
	for i, line := range lines {
		if err := l.addHeader(headers[i], line); err != nil {
			return err
		}
		if w := l.wals[headers[i].Hour]; w != nil {
			w.file.close()
			delete(l.wals, headers[i].Hour)
		}
	}
	return nil
}

// writeRecords writes the records of an hour that is to be sealed. A file that is
// there already is of an attempt at sealing that never came to its leaf.
func (l *Log) writeRecords(h evidence.Hour, now time.Time) (evidence.Header, error) {
	w := l.wals[h]
	var lines [][]byte
	if w != nil {
		lines = w.lines(l.Plan)
		for _, r := range w.records() {
			if err := evidence.CheckRecord(r, h); err != nil {
				return evidence.Header{}, fmt.Errorf("record of %s in %s: %w", r.PeerID, h, err)
			}
		}
	}
	if err := l.replaceRecords(h, joinLines(lines)); err != nil {
		return evidence.Header{}, err
	}
	root, err := evidence.RecordsRoot(lines)
	if err != nil {
		return evidence.Header{}, err
	}
	head := w.header(h, now)
	if l.Round != nil {
		head.Round = l.Round(h)
	}
	head.Records, head.Root = int64(len(lines)), root
	return head, nil
}

// header makes the head of a block out of the hour's write-ahead log, nil for a
// gap; what it says of the records comes later.
func (w *openWAL) header(h evidence.Hour, at time.Time) evidence.Header {
	head := evidence.Header{Hour: h, State: evidence.StateGap, SealedAt: evidence.TimeOf(at), Clock: evidence.SumUpClock(nil), Version: evidence.FormatVersion}
	if w != nil {
		head.State = evidence.StateOK
		if n := len(w.begins); n > 0 {
			head.Software = w.begins[n-1].Software
		}
		head.Clock, head.Missed = evidence.SumUpClock(w.clock), w.missed
	}
	return head
}

func (l *Log) replaceRecords(h evidence.Hour, b []byte) error {
	path := l.recordsPath(h)
	if len(b) == 0 {
		return l.disk.Remove(path)
	}
	if err := l.disk.Mkdir(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return l.disk.Replace(path, b, 0o644)
}

// finish signs the checkpoint that the last leaf calls for and drops the
// write-ahead files of sealed hours.
func (l *Log) finish() error {
	if l.last != nil && l.last.Signed && l.signed < l.tree.Size {
		if err := l.sign(); err != nil {
			return err
		}
	}
	return l.removeSealedWALs()
}

// sign writes the checkpoint over all blocks. There is never a second one of one
// size: the file is made once, and one that is there must say the same.
func (l *Log) sign() error {
	root, err := l.tree.Root(l.tree.Size)
	if err != nil {
		return err
	}
	c := evidence.Checkpoint{Origin: l.meta.Origin, Size: l.tree.Size, Root: root}
	raw, err := evidence.SignNote(c.Text(), l.key)
	if err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	err = l.disk.Create(l.checkpointPath(c.Size), raw, 0o644)
	if errors.Is(err, fs.ErrExist) {
		old, err := l.readCheckpoint(c.Size)
		if err != nil {
			return err
		}
		if old.Root != root {
			return l.errDamaged("another checkpoint of size %d was signed before", c.Size)
		}
	} else if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	l.signed = c.Size
	return nil
}

// Checkpoint is the last checkpoint, a signed note with the cosignatures it has;
// nil before the first.
func (l *Log) Checkpoint() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.signed == 0 {
		return nil, nil
	}
	return os.ReadFile(l.checkpointPath(l.signed))
}

// AddCosignatures adds to the checkpoint of the given size the signature lines
// that verify with one of the witnesses' keys. Lines by others are left out, a
// bad one is an error. The first cosignature of a witness stays.
func (l *Log) AddCosignatures(size int64, lines []byte, witnesses ...string) error {
	known, err := evidence.WitnessVerifiers(witnesses)
	if err != nil {
		return fmt.Errorf("add cosignatures: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return ErrReadOnly
	}
	c, err := l.readCheckpoint(size)
	if err != nil {
		return fmt.Errorf("add cosignatures: %w", err)
	}
	// Together with the log's own line and the ones that are there.
	raw, err := os.ReadFile(l.checkpointPath(size))
	if err != nil {
		return fmt.Errorf("add cosignatures: %w", err)
	}
	n, err := note.Open(append(bytes.Clone(raw), lines...), note.VerifierList(append(known, l.key.Verifier())...))
	if err != nil {
		return fmt.Errorf("add cosignatures: %w", err)
	}
	sigs := append([]note.Signature{n.Sigs[0]}, c.Cosignatures...)
	for _, s := range n.Sigs[1:] {
		if !hasSignature(sigs, s) {
			sigs = append(sigs, s)
		}
	}
	merged, err := evidence.FormatNote(n.Text, sigs)
	if err != nil {
		return fmt.Errorf("add cosignatures: %w", err)
	}
	if bytes.Equal(merged, raw) {
		return nil
	}
	if len(merged) > evidence.MaxCheckpointBytes {
		return fmt.Errorf("add cosignatures: the checkpoint of size %d would have %d bytes, want %d at most", size, len(merged), evidence.MaxCheckpointBytes)
	}
	if err := l.disk.Replace(l.checkpointPath(size), merged, 0o644); err != nil {
		return fmt.Errorf("add cosignatures: %w", err)
	}
	return nil
}

func hasSignature(list []note.Signature, s note.Signature) bool {
	for _, have := range list {
		if have.Name == s.Name && have.Hash == s.Hash {
			return true
		}
	}
	return false
}
