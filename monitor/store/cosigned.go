package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// lookBack is how many checkpoints are searched for a cosignature of the last two hours.
const lookBack = 4

// Cosigned finds the newest cosignature up to now that shows that an identity of hour
// h is new, by one of these witnesses, as a note for [evidence.Challenge]; empty: there is none.
func (l *Log) Cosigned(h evidence.Hour, now time.Time, witnesses ...string) (string, error) {
	known, err := evidence.WitnessVerifiers(witnesses)
	if err != nil {
		return "", fmt.Errorf("cosigned: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	newest, found := evidence.CosignedFrom(h).Add(-1), ""
	for size := l.signed; size > max(0, l.signed-lookBack); size-- {
		c, err := l.readCheckpoint(size, known...)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was sealed together with the next one
		}
		if err != nil {
			return "", err
		}
		for _, s := range c.Cosignatures {
			at, err := evidence.CosignedAt(s)
			if err != nil {
				return "", err
			}
			if !at.After(newest) || at.After(now) || !slices.ContainsFunc(known, func(v note.Verifier) bool { return v.Name() == s.Name && v.KeyHash() == s.Hash }) {
				continue
			}
			raw, err := evidence.FormatNote(c.Text(), []note.Signature{s})
			if err != nil {
				return "", err
			}
			newest, found = at, string(raw)
		}
	}
	return found, nil
}
