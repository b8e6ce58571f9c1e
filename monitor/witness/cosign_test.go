package witness

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/durable/durabletest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

func TestWitness(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	mine := newLogIn(t, dir, "m2")
	w, err := witnessOf(mine)
	evidencetest.Must(t, err)
	home := filepath.Join(t.TempDir(), "other")
	l, err := store.Create(home, store.Options{Name: "other.example.org", Network: evidence.PSF, First: evidencetest.FirstHour})
	evidencetest.Must(t, err)
	defer l.Close()
	now := evidencetest.Closing(evidencetest.FirstHour + 40)
	ask := func(old int64) error {
		t.Helper()
		r, err := requestOf(l, old)
		evidencetest.Must(t, err)
		r, err = ParseAddCheckpoint(r.Bytes()) // over the wire
		evidencetest.Must(t, err)
		line, err := w.Cosign(l.Key(), r, now)
		if err != nil {
			return err
		}
		own, at, err := CosignatureIn(append([]byte("— stranger.example.org AAAAAAAA\n"), line...), r.Checkpoint, l.Key(), w.Key())
		if err != nil || !bytes.Equal(own, line) || at.After(now) {
			t.Fatalf("found %q of %s in %q: %v", own, at, line, err)
		}
		evidencetest.Must(t, l.AddCosignatures(l.Size(), line, w.Key()))
		return nil
	}
	if last, err := w.Last(l.Key()); err != nil || last != nil {
		t.Fatalf("last: %q, %v", last, err)
	}
	if _, err := requestOf(l, 0); err == nil {
		t.Fatal("a log without checkpoint asks for a cosignature")
	}
	evidencetest.Grow(t, l, 1)
	evidencetest.Must(t, ask(0))
	first, err := w.Last(l.Key())
	evidencetest.Must(t, err)
	now = now.Add(time.Hour)
	evidencetest.Must(t, ask(1)) // again: it was not heard the first time
	if again, err := w.Last(l.Key()); err != nil || !bytes.Equal(first, again) {
		t.Fatalf("cosigned one checkpoint twice: %q, %q, %v", first, again, err)
	}
	evidencetest.Grow(t, l, 4)
	evidencetest.Must(t, ask(1))
	evidencetest.Grow(t, l, 6)
	var conflict *ConflictError
	if err := ask(1); !errors.As(err, &conflict) || conflict.Size != 5 {
		t.Fatalf("asked with an old size: %v", err)
	}
	evidencetest.Must(t, ask(5))
	last, err := w.Last(l.Key())
	evidencetest.Must(t, err)
	cp, err := l.Checkpoint()
	evidencetest.Must(t, err)
	if !bytes.Equal(last, cp) {
		t.Fatalf("remembers\n%s\nnot\n%s", last, cp)
	}
	evidencetest.Must(t, l.Confront(last))
	if r, err := store.Check(home); err != nil || len(r.Faults) > 0 || r.Others != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := store.Check(dir); err != nil || len(r.Faults) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}

	// It remembers after a start.
	evidencetest.Must(t, mine.Close())
	mine, err = store.Open(dir)
	evidencetest.Must(t, err)
	defer mine.Close()
	if w, err = witnessOf(mine); err != nil {
		t.Fatal(err)
	}
	if err := ask(0); !errors.As(err, &conflict) || conflict.Size != 11 {
		t.Fatalf("asked anew: %v", err)
	}

	good, err := requestOf(l, 11)
	evidencetest.Must(t, err)
	evidencetest.Grow(t, l, 2)
	next, err := requestOf(l, 11)
	evidencetest.Must(t, err)
	for name, c := range map[string]struct {
		key  string
		r    AddCheckpoint
		want error
	}{
		"another log's key": {mine.Key(), good, ErrNotTheLogs},
		"no checkpoint":     {l.Key(), AddCheckpoint{OldSize: 11}, ErrNotTheLogs},
		"too large old":     {l.Key(), AddCheckpoint{14, nil, next.Checkpoint}, ErrOldSize},
		"no proof":          {l.Key(), AddCheckpoint{11, nil, next.Checkpoint}, ErrInconsistent},
		"bad proof":         {l.Key(), AddCheckpoint{11, append([]evidence.Hash{{1}}, next.Proof[1:]...), next.Checkpoint}, ErrInconsistent},
		"needless proof":    {l.Key(), AddCheckpoint{11, next.Proof, good.Checkpoint}, ErrInconsistent},
		"changed text":      {l.Key(), AddCheckpoint{11, next.Proof, bytes.Replace(next.Checkpoint, []byte("\n13\n"), []byte("\n14\n"), 1)}, ErrNotTheLogs},
		"not a checkpoint":  {l.Key(), AddCheckpoint{11, next.Proof, evidencetest.SignedText(t, home, "x\n")}, ErrNotTheLogs},
		"another origin":    {l.Key(), AddCheckpoint{11, next.Proof, evidencetest.SignedText(t, home, strings.Replace(evidencetest.TextOf(next.Checkpoint), "other", "mother", 1))}, ErrNotTheLogs},
	} {
		if line, err := w.Cosign(c.key, c.r, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %q, %v, want %v", name, line, err, c.want)
		}
	}
	if _, err := w.Cosign("x", good, now); err == nil {
		t.Error("cosigned with log key x")
	}
	// A fork: the same size, or a larger one, with another history.
	fork := evidence.Checkpoint{Origin: l.Origin(), Size: 11, Root: evidence.Hash{1}}
	if forks, err := mine.Forks(); err != nil || len(forks) != 0 {
		t.Errorf("forks: %q, %v", forks, err)
	}
	proof := evidencetest.SignedText(t, home, fork.Text())
	for range 2 {
		if _, err := w.Cosign(l.Key(), AddCheckpoint{11, nil, proof}, now); !errors.Is(err, ErrInconsistent) || !errors.Is(err, ErrForked) {
			t.Errorf("cosigned a fork of the same size: %v", err)
		}
	}
	// What convicts the log is kept: what was cosigned, and the other.
	pair, err := evidence.NewFork(proof, good.Checkpoint, l.Key())
	evidencetest.Must(t, err)
	if forks, err := mine.Forks(); err != nil || len(forks) != 1 || !bytes.Equal(forks[0], pair) {
		t.Errorf("forks: %q, %v", forks, err)
	}
	fork.Size = 13
	if _, err := w.Cosign(l.Key(), AddCheckpoint{11, next.Proof, evidencetest.SignedText(t, home, fork.Text())}, now); !errors.Is(err, ErrInconsistent) {
		t.Errorf("cosigned a fork: %v", err)
	}
	// Lines to which others give a meaning are cosigned with the rest, and are no way
	// around a proof that the log has forked.
	text := evidencetest.TextOf(next.Checkpoint)
	for _, more := range []string{"more\n", "more\n", ""} {
		r := AddCheckpoint{11, next.Proof, evidencetest.SignedText(t, home, text+more)}
		if more == "" || len(next.Proof) == 0 {
			r.OldSize, r.Proof = 13, nil
		}
		line, err := w.Cosign(l.Key(), r, now)
		evidencetest.Must(t, err)
		if _, _, err := CosignatureIn(line, r.Checkpoint, l.Key(), w.Key()); err != nil {
			t.Errorf("of a checkpoint with the lines %q: %v", more, err)
		}
		next.Proof = nil
	}
	// But not so many that two of them would not fit into a bundle.
	long := AddCheckpoint{13, nil, evidencetest.SignedText(t, home, text+strings.Repeat("more\n", 1000))}
	if _, err := w.Cosign(l.Key(), long, now); !errors.Is(err, ErrNotTheLogs) || errors.Is(err, ErrForked) {
		t.Errorf("of a checkpoint with a thousand lines: %v", err)
	}
	// An older copy that was restored sees it at once.
	if err := l.ConfrontSize(13); err != nil {
		t.Fatal(err)
	}
	var older *store.OlderCopyError
	if err := l.ConfrontSize(14); !errors.As(err, &older) {
		t.Fatalf("ConfrontSize: %v", err)
	}

	for name, answer := range map[string][]byte{
		"nothing": nil, "garbage": []byte("x"), "no end": []byte("— a b"), "its own": lastLine(good.Checkpoint),
		"another checkpoint's": lastLine(last), "too long": make([]byte, evidence.MaxCheckpointBytes+1),
	} {
		if line, _, err := CosignatureIn(answer, next.Checkpoint, l.Key(), w.Key()); err == nil {
			t.Errorf("%s: found %q", name, line)
		}
	}
	if _, _, err := CosignatureIn(lastLine(last), last, "x", w.Key()); err == nil {
		t.Error("found a cosignature under log key x")
	}
	if _, _, err := CosignatureIn(lastLine(last), last, l.Key(), "x"); err == nil {
		t.Error("found a cosignature by witness key x")
	}

	if n, err := good.Size(); err != nil || n != 11 {
		t.Errorf("size of a request: %d, %v", n, err)
	}
	if n, err := (AddCheckpoint{}).Size(); err == nil {
		t.Errorf("size of nothing: %d", n)
	}

	// State that cannot be read stops the witness; it does not begin anew.
	evidencetest.Must(t, os.WriteFile(w.path(l.Key()), []byte("x"), 0o644))
	_, err = w.Cosign(l.Key(), AddCheckpoint{0, nil, next.Checkpoint}, now)
	evidencetest.WantError(t, err, "is damaged")
}

// Whenever the witness dies, what it handed out before is what it remembers, or older.
func TestWitnessDies(t *testing.T) {
	mine := newLog(t, "m2")
	w, err := witnessOf(mine)
	evidencetest.Must(t, err)
	l, err := store.Create(filepath.Join(t.TempDir(), "log"), store.Options{Name: "other.example.org", Network: evidence.PSF, First: evidencetest.FirstHour})
	evidencetest.Must(t, err)
	defer l.Close()
	evidencetest.Grow(t, l, 1)
	first, err := requestOf(l, 0)
	evidencetest.Must(t, err)
	_, err = w.Cosign(l.Key(), first, time.Unix(1, 0))
	evidencetest.Must(t, err)
	evidencetest.Grow(t, l, 1)
	second, err := requestOf(l, 1)
	evidencetest.Must(t, err)
	for m := range durabletest.Mishaps {
		if m == durabletest.FailAfter || m == durabletest.KillAfter {
			continue // the state went ahead of what was handed out, see below
		}
		w.disk = &durabletest.BadDisk{Real: durable.Machine{}, When: func(int) (durabletest.Mishap, bool) { return m, true }}
		func() {
			defer func() { recover(); w.mu.TryLock(); w.mu.Unlock() }()
			if line, err := w.Cosign(l.Key(), second, time.Unix(2, 0)); err == nil {
				t.Errorf("mishap %d: handed out %q", m, line)
			}
		}()
		w.disk = durable.Machine{}
		if last, err := w.Last(l.Key()); err != nil || !strings.HasPrefix(string(last), evidencetest.TextOf(first.Checkpoint)) {
			t.Errorf("mishap %d: remembers %q, %v", m, last, err)
		}
	}
	w.disk = &durabletest.BadDisk{Real: durable.Machine{}, When: func(int) (durabletest.Mishap, bool) { return durabletest.FailAfter, true }}
	if _, err := w.Cosign(l.Key(), second, time.Unix(2, 0)); err == nil {
		t.Error("handed out what may not be on disk")
	}
	w.disk = durable.Machine{}
	// The log asks again: with the old size there is a conflict, with the new one it is served.
	var conflict *ConflictError
	if _, err := w.Cosign(l.Key(), second, time.Unix(3, 0)); !errors.As(err, &conflict) || conflict.Size != 2 {
		t.Fatalf("%v", err)
	}
	second.OldSize, second.Proof = 2, nil
	if _, err := w.Cosign(l.Key(), second, time.Unix(3, 0)); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseAddCheckpoint(f *testing.F) {
	l := newLog(f, "m1")
	grow(f, l, 1)
	r, err := requestOf(l, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Bytes())
	r.Proof = []evidence.Hash{{1}, {2}}
	f.Add(r.Bytes())
	f.Add([]byte("old 01\n\nx"))
	f.Add([]byte("old 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseAddCheckpoint(b); err == nil && !bytes.Equal(r.Bytes(), b) {
			t.Fatalf("took %q for %q", b, r.Bytes())
		}
	})
}
