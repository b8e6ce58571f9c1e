package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A backup or snapshot that is restored does not know what was signed after it was
// made. Going on from it would give one log two histories.

// restoredFile marks a log that came out of a backup, until it has been compared
// with what others know of it.
const restoredFile = "restored"

// Hold keeps [Log.Seal] from signing anything until [Log.Confront] has found this
// copy to be the newest. A monitor with witnesses does so right after it has
// opened its log; a log that came out of [Restore] is held from the start.
func (l *Log) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// Held says whether nothing may be signed yet.
func (l *Log) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// OlderCopyError says that witnesses have seen more of this log than is here.
type OlderCopyError struct {
	Origin      string
	Size, Known int64 // of this copy, and the largest that was signed
}

func (e *OlderCopyError) Error() string {
	return fmt.Sprintf("older copy of log %s restored: it has %d blocks, %d were signed before; bring back the newer copy (relaymon log adopt) or start a log with a new key",
		e.Origin, e.Size, e.Known)
}

// Confront compares this copy of the log with the last checkpoints that its
// witnesses remember, one for each witness that answered, nil if it remembers
// none. If one of them is newer the error is an *[OlderCopyError], if one is of
// another history the log has forked; in both cases, and without any answer, the
// log is held. Otherwise it is free to go on.
func (l *Log) Confront(checkpoints ...[]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
	if len(checkpoints) == 0 {
		return ErrHeld
	}
	for _, raw := range checkpoints {
		if raw == nil {
			continue
		}
		// Cosignatures do not matter here: the log's own signature says that it was signed.
		n, err := note.Open(raw, note.VerifierList(l.key.Verifier()))
		if err != nil {
			return fmt.Errorf("confront log with a checkpoint: %w", err)
		}
		c, err := evidence.ParseExtended(n.Text)
		if err != nil || c.Origin != l.meta.Origin {
			return fmt.Errorf("confront log with a checkpoint: %q is none of %s", n.Text, l.meta.Origin)
		}
		if c.Size > l.tree.Size {
			return &OlderCopyError{l.meta.Origin, l.tree.Size, c.Size}
		}
		root, err := l.tree.Root(c.Size)
		if err != nil {
			return err
		}
		if root != c.Root {
			return fmt.Errorf("log %s has forked: another checkpoint of size %d was signed with its key; start a log with a new key", l.meta.Origin, c.Size)
		}
	}
	return l.release()
}

// ConfrontSize compares this copy of the log with the size that a witness says it
// cosigned last, when it tells no more (status 409 of tlog-witness). The error is
// an *[OlderCopyError] if that is more than is here, and the log is held. It never
// sets a log free: a size does not say of which history.
func (l *Log) ConfrontSize(size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size > l.tree.Size {
		l.held = true
		return &OlderCopyError{l.meta.Origin, l.tree.Size, size}
	}
	return nil
}

// Release sets a held log free without asking anybody. It is the operator's word
// that this is the newest copy there ever was, for a log that has no witnesses.
func (l *Log) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.release()
}

func (l *Log) release() error {
	if l.lock == nil {
		return ErrReadOnly
	}
	if err := l.disk.Remove(l.path(restoredFile)); err != nil {
		return err
	}
	l.held = false
	return nil
}

// Adopt brings in the blocks that a newer copy of this log has beyond it, such as
// the disk of a machine that was given up, or a later backup. The copy must be
// sound and go on where this one ends. It returns the number of blocks that came
// in, and may be repeated after an error. What this copy noted meanwhile for hours
// that the newer one has sealed is dropped: a sealed hour takes nothing more.
// Whether the copy is the newest of all is for [Log.Confront] to say.
func (l *Log) Adopt(dir string) (blocks int64, err error) {
	fail := func(err error) (int64, error) { return blocks, fmt.Errorf("adopt %s: %w", dir, err) }
	report, err := Check(dir)
	if err != nil {
		return fail(err)
	}
	if len(report.Faults) > 0 {
		return fail(fmt.Errorf("it has faults, the first is: %s", report.Faults[0]))
	}
	from, err := OpenRead(dir)
	if err != nil {
		return fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lock == nil:
		return fail(ErrReadOnly)
	case from.meta != l.meta:
		return fail(fmt.Errorf("it is log %s with key %s, not %s with key %s", from.meta.Origin, from.meta.Key, l.meta.Origin, l.meta.Key))
	case from.tree.Size < l.tree.Size:
		return fail(fmt.Errorf("it has %d blocks, here are %d", from.tree.Size, l.tree.Size))
	}
	ours, err := l.tree.Root(l.tree.Size)
	if err != nil {
		return fail(err)
	}
	theirs, err := from.tree.Root(l.tree.Size)
	if err != nil {
		return fail(err)
	}
	if ours != theirs {
		return fail(errors.New("it is of another history; both were signed with one key, so start a log with a new key"))
	}
	if err := l.copyCertificates(from); err != nil {
		return fail(err)
	}
	for l.tree.Size < from.tree.Size {
		n, err := l.adoptMonth(from)
		blocks += n
		if err != nil {
			return fail(err)
		}
	}
	if err := l.copyCheckpoints(from); err != nil {
		return fail(err)
	}
	if err := l.removeSealedWALs(); err != nil {
		return fail(err)
	}
	return blocks, l.copyOpenHours(from)
}

// adoptMonth takes over the blocks of one month, in the order of [Log.Seal].
func (l *Log) adoptMonth(from *Log) (int64, error) {
	month := l.next().Month()
	lines, err := from.monthHeaders(month)
	if err != nil {
		return 0, err
	}
	lines = lines[l.next()-max(month.First(), l.meta.First):]
	headers := make([]evidence.Header, len(lines))
	for i, line := range lines {
		if headers[i], err = evidence.DecodeHeader(line); err != nil {
			return 0, err
		}
		if headers[i].Records == 0 {
			continue
		}
		b, err := os.ReadFile(from.recordsPath(headers[i].Hour))
		if err != nil {
			return 0, err
		}
		if err := l.replaceRecords(headers[i].Hour, b); err != nil {
			return 0, err
		}
	}
	return int64(len(lines)), l.appendHeaders(headers, lines)
}

func (l *Log) copyCertificates(from *Log) error {
	files, err := os.ReadDir(from.path(certsDir))
	if err != nil {
		return err
	}
	for _, f := range files {
		der, err := os.ReadFile(from.path(certsDir, f.Name()))
		if err != nil {
			return err
		}
		path := l.certPath(evidence.SHA256Hex(der))
		if path != l.path(certsDir, f.Name()) {
			continue // no certificate: a temporary file
		}
		if err := l.disk.Create(path, der, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (l *Log) copyCheckpoints(from *Log) error {
	for size := int64(1); size <= from.signed; size++ {
		raw, err := os.ReadFile(from.checkpointPath(size))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = l.disk.Create(l.checkpointPath(size), raw, 0o644)
		if errors.Is(err, fs.ErrExist) {
			err = l.mergeCheckpoint(size, raw)
		}
		if err != nil {
			return err
		}
	}
	l.signed = max(l.signed, from.signed)
	return nil
}

// mergeCheckpoint brings in the cosignatures that a newer copy has under a checkpoint that
// is here, too: its headers tell of them. Of two by one key the newer copy's stays.
func (l *Log) mergeCheckpoint(size int64, newer []byte) error {
	here, err := os.ReadFile(l.checkpointPath(size))
	if err != nil {
		return err
	}
	merged, err := evidence.JoinCheckpoints(newer, here, l.meta.Key)
	if err != nil || bytes.Equal(merged, here) {
		return err
	}
	return l.disk.Replace(l.checkpointPath(size), merged, 0o644)
}

// copyOpenHours takes over attempts in hours that are not sealed in either.
func (l *Log) copyOpenHours(from *Log) error {
	for _, h := range from.unsealed() {
		if h < l.next() {
			continue
		}
		for _, attempts := range from.wals[h].attempts {
			for _, a := range attempts {
				if w := l.wals[h]; w != nil && w.holds(a) {
					continue
				}
				line := slices.Concat([]byte(attemptEntry), a.raw, []byte("}"))
				if err := l.append(h, entry{Attempt: &a.Attempt}, line); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// holds says whether an attempt is there already.
func (w *wal) holds(a logged) bool {
	return slices.ContainsFunc(w.attempts[a.PeerID], func(b logged) bool { return bytes.Equal(a.raw, b.raw) })
}
