package evidence

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// grow seals so many hours more, without anything in them, and returns the checkpoint.
func grow(t testing.TB, l *Log, hours int) []byte {
	t.Helper()
	for range hours {
		h := l.First() + Hour(l.Size())
		watch(t, l, h)
		_, err := l.Seal(closing(h))
		must(t, err)
	}
	cp, err := l.Checkpoint()
	must(t, err)
	return cp
}

func TestWitness(t *testing.T) {
	mine, dir := newLog(t)
	w, err := mine.Witness()
	must(t, err)
	l, err := Create(filepath.Join(t.TempDir(), "log"), Options{Name: "other.example.org", Network: PSF, First: firstHour})
	must(t, err)
	defer l.Close()
	now := closing(firstHour + 40)
	ask := func(old int64) error {
		t.Helper()
		r, err := l.AddCheckpointRequest(old)
		must(t, err)
		r, err = ParseAddCheckpoint(r.Bytes()) // over the wire
		must(t, err)
		line, err := w.Cosign(l.Key(), r, now)
		if err != nil {
			return err
		}
		own, at, err := CosignatureIn(append([]byte("— stranger.example.org AAAAAAAA\n"), line...), r.Checkpoint, l.Key(), w.Key())
		if err != nil || !bytes.Equal(own, line) || at.After(now) {
			t.Fatalf("found %q of %s in %q: %v", own, at, line, err)
		}
		must(t, l.AddCosignatures(l.Size(), line, w.Key()))
		return nil
	}
	if last, err := w.Last(l.Key()); err != nil || last != nil {
		t.Fatalf("last: %q, %v", last, err)
	}
	if _, err := l.AddCheckpointRequest(0); err == nil {
		t.Fatal("a log without checkpoint asks for a cosignature")
	}
	grow(t, l, 1)
	must(t, ask(0))
	first, err := w.Last(l.Key())
	must(t, err)
	now = now.Add(time.Hour)
	must(t, ask(1)) // again: it was not heard the first time
	if again, err := w.Last(l.Key()); err != nil || !bytes.Equal(first, again) {
		t.Fatalf("cosigned one checkpoint twice: %q, %q, %v", first, again, err)
	}
	grow(t, l, 4)
	must(t, ask(1))
	grow(t, l, 6)
	var conflict *ConflictError
	if err := ask(1); !errors.As(err, &conflict) || conflict.Size != 5 {
		t.Fatalf("asked with an old size: %v", err)
	}
	must(t, ask(5))
	last, err := w.Last(l.Key())
	must(t, err)
	cp, err := l.Checkpoint()
	must(t, err)
	if !bytes.Equal(last, cp) {
		t.Fatalf("remembers\n%s\nnot\n%s", last, cp)
	}
	must(t, l.Confront(last))
	if r := sound(t, l.dir); r.Others != 3 {
		t.Fatalf("%+v", r)
	}
	sound(t, dir)

	// It remembers after a start.
	must(t, mine.Close())
	mine, err = Open(dir)
	must(t, err)
	defer mine.Close()
	if w, err = mine.Witness(); err != nil {
		t.Fatal(err)
	}
	if err := ask(0); !errors.As(err, &conflict) || conflict.Size != 11 {
		t.Fatalf("asked anew: %v", err)
	}

	good, err := l.AddCheckpointRequest(11)
	must(t, err)
	grow(t, l, 2)
	next, err := l.AddCheckpointRequest(11)
	must(t, err)
	for name, c := range map[string]struct {
		key  string
		r    AddCheckpoint
		want error
	}{
		"another log's key": {mine.Key(), good, ErrNotTheLogs},
		"no checkpoint":     {l.Key(), AddCheckpoint{OldSize: 11}, ErrNotTheLogs},
		"too large old":     {l.Key(), AddCheckpoint{14, nil, next.Checkpoint}, ErrOldSize},
		"no proof":          {l.Key(), AddCheckpoint{11, nil, next.Checkpoint}, ErrInconsistent},
		"bad proof":         {l.Key(), AddCheckpoint{11, append([]Hash{{1}}, next.Proof[1:]...), next.Checkpoint}, ErrInconsistent},
		"needless proof":    {l.Key(), AddCheckpoint{11, next.Proof, good.Checkpoint}, ErrInconsistent},
		"changed text":      {l.Key(), AddCheckpoint{11, next.Proof, bytes.Replace(next.Checkpoint, []byte("\n13\n"), []byte("\n14\n"), 1)}, ErrNotTheLogs},
		"not a checkpoint":  {l.Key(), AddCheckpoint{11, next.Proof, signedText(t, l, "x\n")}, ErrNotTheLogs},
		"another origin":    {l.Key(), AddCheckpoint{11, next.Proof, signedText(t, l, strings.Replace(textOf(next.Checkpoint), "other", "mother", 1))}, ErrNotTheLogs},
		"extension line":    {l.Key(), AddCheckpoint{11, next.Proof, signedText(t, l, textOf(next.Checkpoint)+"more\n")}, ErrNotTheLogs},
	} {
		if line, err := w.Cosign(c.key, c.r, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %q, %v, want %v", name, line, err, c.want)
		}
	}
	if _, err := w.Cosign("x", good, now); err == nil {
		t.Error("cosigned with log key x")
	}
	// A fork: the same size, or a larger one, with another history.
	fork := checkpoint{origin: l.Origin(), size: 11, root: Hash{1}}
	if forks, err := mine.Forks(); err != nil || len(forks) != 0 {
		t.Errorf("forks: %q, %v", forks, err)
	}
	proof := signedText(t, l, fork.text())
	for range 2 {
		if _, err := w.Cosign(l.Key(), AddCheckpoint{11, nil, proof}, now); !errors.Is(err, ErrInconsistent) || !errors.Is(err, ErrForked) {
			t.Errorf("cosigned a fork of the same size: %v", err)
		}
	}
	// What convicts the log is kept: what was cosigned, and the other.
	pair, err := NewFork(proof, good.Checkpoint, l.Key())
	must(t, err)
	if forks, err := mine.Forks(); err != nil || len(forks) != 1 || !bytes.Equal(forks[0], pair) {
		t.Errorf("forks: %q, %v", forks, err)
	}
	fork.size = 13
	if _, err := w.Cosign(l.Key(), AddCheckpoint{11, next.Proof, signedText(t, l, fork.text())}, now); !errors.Is(err, ErrInconsistent) {
		t.Errorf("cosigned a fork: %v", err)
	}
	// An older copy that was restored sees it at once.
	if err := l.ConfrontSize(13); err != nil {
		t.Fatal(err)
	}
	var older *OlderCopyError
	if err := l.ConfrontSize(14); !errors.As(err, &older) {
		t.Fatalf("ConfrontSize: %v", err)
	}

	for name, answer := range map[string][]byte{
		"nothing": nil, "garbage": []byte("x"), "no end": []byte("— a b"), "its own": lastLine(good.Checkpoint),
		"another checkpoint's": lastLine(last), "too long": make([]byte, maxCheckpoint+1),
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
	must(t, os.WriteFile(w.path(l.Key()), []byte("x"), 0o644))
	_, err = w.Cosign(l.Key(), AddCheckpoint{0, nil, next.Checkpoint}, now)
	wantError(t, err, "is damaged")
}

func textOf(raw []byte) string {
	text, _, _ := strings.Cut(string(raw), "\n\n")
	return text + "\n"
}

func signedText(t testing.TB, l *Log, text string) []byte {
	t.Helper()
	raw, err := signNote(text, l.key)
	must(t, err)
	return raw
}

// Whenever the witness dies, what it handed out before is what it remembers, or older.
func TestWitnessDies(t *testing.T) {
	mine, _ := newLog(t)
	w, err := mine.Witness()
	must(t, err)
	l, err := Create(filepath.Join(t.TempDir(), "log"), Options{Name: "other.example.org", Network: PSF, First: firstHour})
	must(t, err)
	defer l.Close()
	grow(t, l, 1)
	first, err := l.AddCheckpointRequest(0)
	must(t, err)
	_, err = w.Cosign(l.Key(), first, time.Unix(1, 0))
	must(t, err)
	grow(t, l, 1)
	second, err := l.AddCheckpointRequest(1)
	must(t, err)
	for m := range mishaps {
		if m == failAfter || m == killAfter {
			continue // the state went ahead of what was handed out, see below
		}
		w.disk = &badDisk{real: realDisk{}, when: func(int) (mishap, bool) { return m, true }}
		func() {
			defer func() { recover(); w.mu.TryLock(); w.mu.Unlock() }()
			if line, err := w.Cosign(l.Key(), second, time.Unix(2, 0)); err == nil {
				t.Errorf("mishap %d: handed out %q", m, line)
			}
		}()
		w.disk = realDisk{}
		if last, err := w.Last(l.Key()); err != nil || !strings.HasPrefix(string(last), textOf(first.Checkpoint)) {
			t.Errorf("mishap %d: remembers %q, %v", m, last, err)
		}
	}
	w.disk = &badDisk{real: realDisk{}, when: func(int) (mishap, bool) { return failAfter, true }}
	if _, err := w.Cosign(l.Key(), second, time.Unix(2, 0)); err == nil {
		t.Error("handed out what may not be on disk")
	}
	w.disk = realDisk{}
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

func FuzzAddCheckpoint(f *testing.F) {
	l, _, _, _ := workedExample(f)
	r, err := l.AddCheckpointRequest(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Bytes())
	r.Proof = []Hash{{1}, {2}}
	f.Add(r.Bytes())
	f.Add([]byte("old 01\n\nx"))
	f.Add([]byte("old 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseAddCheckpoint(b); err == nil && !bytes.Equal(r.Bytes(), b) {
			t.Fatalf("took %q for %q", b, r.Bytes())
		}
	})
}
