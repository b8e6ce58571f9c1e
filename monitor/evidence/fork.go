package evidence

import (
	"bytes"
	"errors"
	"fmt"
)

// Fork is what convicts a log: two checkpoints of one size with different roots.
type Fork struct {
	Size  int64
	Roots [2]Hash // the smaller one first
}

// NewFork joins two checkpoints of the log with the given verifier key into the
// one spelling of a fork: each with the log's signature alone, the one with the
// smaller root first, an empty line between them. Checkpoints that agree are refused.
func NewFork(a, b []byte, logKey string) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("join two checkpoints: %w", err) }
	log, err := LogVerifier(logKey)
	if err != nil {
		return fail(err)
	}
	var pair [2][]byte
	for i, raw := range [][]byte{a, b} {
		if pair[i], err = Respell(raw, log); err != nil {
			return fail(err)
		}
	}
	out := bytes.Join(pair[:], []byte("\n"))
	if _, err = OpenFork(out, logKey); errors.Is(err, errForkOrder) {
		out = bytes.Join([][]byte{pair[1], pair[0]}, []byte("\n"))
		_, err = OpenFork(out, logKey)
	}
	if err != nil {
		return fail(err)
	}
	return out, nil
}

var errForkOrder = errors.New("the checkpoint with the smaller root stands first")

// OpenFork reads what [NewFork] writes, and verifies that the log with the given
// verifier key signed both.
func OpenFork(raw []byte, logKey string) (Fork, error) {
	fail := func(err error) (Fork, error) { return Fork{}, fmt.Errorf("fork: %w", err) }
	if len(raw) > 2*maxNote {
		return fail(fmt.Errorf("%d bytes are too long", len(raw)))
	}
	log, err := LogVerifier(logKey)
	if err != nil {
		return fail(err)
	}
	notes, err := splitNotes(raw)
	if err != nil {
		return fail(err)
	}
	if len(notes) != 2 {
		return fail(fmt.Errorf("want two checkpoints with an empty line between them, not %d", len(notes)))
	}
	var pair [2]Checkpoint
	for i, n := range notes {
		if pair[i], err = OpenCheckpoint(n, log); err != nil {
			return fail(err)
		}
	}
	f := Fork{pair[0].Size, [2]Hash{pair[0].Root, pair[1].Root}}
	switch order := bytes.Compare(f.Roots[0][:], f.Roots[1][:]); {
	case pair[0].Size != pair[1].Size:
		return fail(fmt.Errorf("sizes %d and %d do not contradict each other", pair[0].Size, pair[1].Size))
	case order == 0:
		return fail(fmt.Errorf("both checkpoints have the root %s: they agree", f.Roots[0]))
	case order > 0:
		return fail(errForkOrder)
	}
	return f, nil
}
