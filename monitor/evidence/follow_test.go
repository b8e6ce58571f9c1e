package evidence_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// note5 is a checkpoint without any cosignature: three lines, an empty one, the log's.
func note5(t *testing.T, raw []byte) []byte {
	t.Helper()
	lines := bytes.SplitAfter(raw, []byte("\n"))
	if len(lines) < 6 {
		t.Fatalf("no checkpoint: %q", raw)
	}
	return bytes.Join(lines[:5], nil)
}

func TestMergeCheckpoints(t *testing.T) {
	w := scene.New(t, evidence.Lab, 1)
	w.Watch(nil)
	m := w.Monitors[0]
	raw, err := m.Log.Checkpoint()
	w.Must(err)
	bare := note5(t, raw)
	a, avkey := scene.NewWitness(t, "a")
	b, bvkey := scene.NewWitness(t, "b")
	junk, _ := scene.NewWitness(t, "a")
	at := w.AsOf
	early, late := scene.Cosign(a, avkey, bare, at), scene.Cosign(a, avkey, bare, at.Add(time.Minute))
	bad := scene.Cosign(junk, avkey, bare, at) // under a's name and key hash
	bline := scene.Cosign(b, bvkey, bare, at)
	with := func(lines ...[]byte) []byte { return append(bytes.Clone(bare), bytes.Join(lines, nil)...) }
	for what, c := range map[string]struct {
		held, offered []byte
		known         []string
		want          []byte
	}{
		"nothing":                           {bare, nil, nil, bare},
		"one offered":                       {bare, with(early), []string{avkey}, with(early)},
		"one held":                          {with(early), bare, []string{avkey}, with(early)},
		"two are sorted":                    {with(bline), with(early), []string{avkey, bvkey}, with(early, bline)},
		"in another order":                  {with(bline, early), nil, nil, with(early, bline)},
		"two of a key":                      {with(early), with(late), []string{avkey}, with(early, late)},
		"two of a key, the later is held":   {with(late), with(early), []string{avkey}, with(late, early)},
		"unknown: two of a key":             {with(late), with(early), nil, with(late, early)},
		"unknown: both":                     {with(late), with(bline), nil, with(late, bline)},
		"unknown: one that is there twice":  {with(late), with(bline, late), nil, with(late, bline)},
		"unknown: a bad one is held":        {with(bad), with(late), nil, with(bad, late)},
		"a bad one is left out":             {bare, with(bad), []string{avkey}, bare},
		"a bad one gives way, once known":   {with(bad), with(late), []string{avkey}, with(late)},
		"a bad one does not push out":       {with(late), with(bad, bline), []string{avkey}, with(late, bline)},
		"what is no cosignature is unknown": {bare, with([]byte("— x AAAAAAAA\n")), nil, with([]byte("— x AAAAAAAA\n"))},
	} {
		tree, got, err := evidence.MergeCheckpoints(c.held, c.offered, m.Log.Key(), c.known...)
		if err != nil || !bytes.Equal(got, c.want) || tree.N != m.Log.Size() {
			t.Errorf("%s: size %d, %v\n%s\nwant\n%s", what, tree.N, err, got, c.want)
		}
	}

	// A flood of unknown lines leaves room for those that are known.
	var flood [][]byte
	for range 90 {
		key, vkey := scene.NewWitness(t, strings.Repeat("f", 800))
		flood = append(flood, scene.Cosign(key, vkey, bare, at))
	}
	_, got, err := evidence.MergeCheckpoints(with(flood...)[:len(bare)+len(flood[0])*50], with(early), m.Log.Key(), avkey)
	if err != nil || len(got) > evidence.MaxCheckpointBytes || !bytes.Contains(got, early) {
		t.Errorf("after a flood: %d bytes, %v, with the cosignature: %v", len(got), err, bytes.Contains(got, early))
	}

	// Nor are there more lines than whoever opens a note takes, whatever stands in them.
	lines := func(kind string, n int) (out []byte) {
		for i := range n {
			out = fmt.Appendf(out, "— %s%02d AAAAAAAA\n", kind, i)
		}
		return out
	}
	lates := []byte{}
	for i := range 60 {
		lates = append(lates, scene.Cosign(b, bvkey, bare, at.Add(time.Duration(i)*time.Minute))...)
	}
	for what, c := range map[string][2][]byte{
		"of strangers":  {with(lines("A", 60)), with(lines("B", 60), early, bline)},
		"by one of two": {with(lates), with(lines("A", 60), early)},
	} {
		_, got, err := evidence.MergeCheckpoints(c[0], c[1], m.Log.Key(), avkey, bvkey)
		if err != nil || !bytes.Contains(got, early) || !bytes.Contains(got, bline) || bytes.Count(got, []byte("\n— ")) != 100 {
			t.Errorf("after many lines %s: %v\n%s", what, err, got)
		}
		if _, again, err := evidence.ReadCheckpoint(got, m.Log.Key(), avkey, bvkey); err != nil || !bytes.Equal(again, got) {
			t.Errorf("after many lines %s it is read as another: %v\n%s", what, err, again)
		}
	}

	// Copies that are both the log's own have one line a key.
	for _, c := range [][3][]byte{{with(early), with(late), with(early)}, {with(late), with(bline, early), with(late, bline)}, {bare, with(bline), with(bline)}} {
		if got, err := evidence.JoinCheckpoints(c[0], c[1], m.Log.Key()); err != nil || !bytes.Equal(got, c[2]) {
			t.Errorf("two of the log's own: %v\n%s\nwant\n%s", err, got, c[2])
		}
	}

	older, err := m.Log.CheckpointOf(1)
	w.Must(err)
	_, other := scene.NewWitness(t, m.Log.Origin())
	for what, c := range map[string]struct {
		held, offered []byte
		key           string
	}{
		"another size":     {bare, older, m.Log.Key()},
		"another key":      {bare, nil, scene.New(t, evidence.Lab, 1).Monitors[0].Log.Key()},
		"a witness's key":  {bare, nil, other},
		"no signature":     {bare[:len(bare)-1], nil, m.Log.Key()},
		"too long":         {with(flood...), nil, m.Log.Key()},
		"not a checkpoint": {[]byte("x\n"), nil, m.Log.Key()},
	} {
		if _, got, err := evidence.MergeCheckpoints(c.held, c.offered, c.key); err == nil {
			t.Errorf("%s was taken: %s", what, got)
		}
	}
	if _, _, err := evidence.MergeCheckpoints(bare, older, m.Log.Key()); !errors.Is(err, evidence.ErrOtherTree) {
		t.Errorf("another size: %v", err)
	}
}

func TestBlockCheck(t *testing.T) {
	w := scene.New(t, evidence.Lab, 1)
	m := w.Monitors[0]
	var attempts []evidence.Attempt
	for range 5 {
		other := scene.New(t, evidence.Lab, 0)
		w.Relay, w.RelayID = other.Relay, other.RelayID
		attempts = append(attempts, w.Attempt(m, w.First, time.Minute))
	}
	w.Observe(m, w.First, attempts)
	w.Seal(m, w.First.End().Add(17*time.Minute))
	h, err := m.Log.Header(w.First)
	w.Must(err)
	lines, err := m.Log.RecordLines(0)
	w.Must(err)
	whole := append(bytes.Join(lines, []byte("\n")), '\n')
	check := func(r io.Reader) error {
		c := evidence.NewBlockCheck(h)
		if _, err := io.Copy(c, struct{ io.Reader }{r}); err != nil {
			return err
		}
		return c.End()
	}
	for what, r := range map[string]io.Reader{"at once": bytes.NewReader(whole), "byte by byte": iotest.OneByteReader(bytes.NewReader(whole)), "in halves": iotest.HalfReader(bytes.NewReader(whole))} {
		if err := check(r); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	changed := bytes.Clone(whole)
	i := bytes.Index(changed, []byte(`"duration_us":41000`))
	changed[i+len(`"duration_us":`)] = '5'
	for why, b := range map[string][]byte{
		"not those that were sealed": changed,
		"there are 4":                whole[:len(whole)-len(lines[4])-1],
		"not ended":                  whole[:len(whole)-1],
		"no more":                    append(bytes.Clone(whole), whole...),
		"not in order":               append(append(bytes.Clone(lines[1]), '\n'), whole...),
		"longer than":                bytes.Repeat([]byte("x"), evidence.MaxRecordBytes+1),
		"there are 0":                nil,
		"line 1":                     []byte("{}\n"),
	} {
		if err := check(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
}

func FuzzReadCheckpoint(f *testing.F) {
	w := scene.New(f, evidence.Lab, 2)
	w.Watch(nil)
	m := w.Monitors[0]
	raw, err := m.Log.Checkpoint()
	w.Must(err)
	f.Add(raw)
	f.Add(append(bytes.Clone(raw), "— x AAAAAAAA\n"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, one, err := evidence.ReadCheckpoint(b, m.Log.Key(), w.Monitors[1].CosignKey)
		if err != nil {
			return
		}
		again, two, err := evidence.ReadCheckpoint(one, m.Log.Key(), w.Monitors[1].CosignKey)
		if err != nil || !bytes.Equal(one, two) || again != tree || tree.N != m.Log.Size() {
			t.Errorf("%q is read as %q, and that as %q (%v), of %d blocks", b, one, two, err, tree.N)
		}
	})
}
