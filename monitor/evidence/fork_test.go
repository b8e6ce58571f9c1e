package evidence_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// A fork has one spelling, whichever way its checkpoints came, and every byte counts.
func TestFork(t *testing.T) {
	l, _ := newLog(t)
	other, _ := newLog(t)
	signed := func(by testLog, size int64, root byte) []byte {
		return evidencetest.SignedText(t, by.dir, evidence.Checkpoint{Origin: l.Origin(), Size: size, Root: evidence.Hash{root}}.Text())
	}
	a, b := signed(l, 5, 1), signed(l, 5, 2)
	fork, err := evidence.NewFork(b, a, l.Key())
	evidencetest.Must(t, err)
	if again, err := evidence.NewFork(a, b, l.Key()); err != nil || !bytes.Equal(again, fork) {
		t.Errorf("the other way round: %q, %v", again, err)
	}
	if f, err := evidence.OpenFork(fork, l.Key()); err != nil || f.Size != 5 || f.Roots != [2]evidence.Hash{{1}, {2}} {
		t.Errorf("got %+v, %v", f, err)
	}
	for name, c := range map[string]struct {
		a, b []byte
		want string
	}{
		"the same":          {a, a, "they agree"},
		"of two sizes":      {a, signed(l, 6, 2), "do not contradict each other"},
		"by another key":    {a, signed(other, 5, 2), "no verifiable signature"},
		"of another origin": {a, evidencetest.SignedText(t, l.dir, strings.Replace(evidencetest.TextOf(b), l.Origin(), "x.example.org/relaymon/psf", 1)), "not of"},
		"no checkpoint":     {a, []byte("hello\n"), "malformed"},
	} {
		if _, err := evidence.NewFork(c.a, c.b, l.Key()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":         nil,
		"one":             a,
		"three":           bytes.Join([][]byte{a, b, b}, []byte("\n")),
		"the other order": bytes.Join([][]byte{b, a}, []byte("\n")),
		"a line behind":   slices.Concat(fork, []byte("\n")),
		"too long":        append(bytes.Clone(fork), make([]byte, 2*evidence.MaxNote)...),
	} {
		if _, err := evidence.OpenFork(bad, l.Key()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := evidence.OpenFork(fork, other.Key()); err == nil {
		t.Error("it convicts another log")
	}
	for i := range fork {
		bad := bytes.Clone(fork)
		bad[i] ^= 1
		if _, err := evidence.OpenFork(bad, l.Key()); err == nil {
			t.Fatalf("byte %d (%q) goes unseen", i, around(fork, i))
		}
	}
}

func FuzzOpenFork(f *testing.F) {
	l, _ := newLog(f)
	a := evidencetest.SignedText(f, l.dir, evidence.Checkpoint{Origin: l.Origin(), Size: 5, Root: evidence.Hash{1}}.Text())
	b := evidencetest.SignedText(f, l.dir, evidence.Checkpoint{Origin: l.Origin(), Size: 5, Root: evidence.Hash{2}}.Text())
	fork, err := evidence.NewFork(a, b, l.Key())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fork)
	f.Add(a)
	f.Add([]byte("\n\n\n\n\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := evidence.OpenFork(raw, l.Key()); err == nil && !bytes.Equal(raw, fork) {
			t.Error("another spelling of the fork, or a forged one")
		}
	})
}
