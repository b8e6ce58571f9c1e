package decision

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// The life of a month: an appeal before, a decision that answers it, an appeal against that,
// and another decision.
func TestLog(t *testing.T) {
	w, r := committee(t), newRelay(t)
	first, second := r.appeal(t, "Hour 14 was up."), r.appeal(t, "You forgot hour 15.")
	enter(t, w, first)
	m := mustRead(t, w).Month(r.id, november)
	if open := m.Open(); len(open) != 1 || open[0].SHA256 != first.Appeal.SHA256() || open[0].Says.Text != "Hour 14 was up." || m.Standing() != nil {
		t.Fatalf("after the appeal: %+v", m)
	}
	refused := r.paid(first.Appeal.SHA256())
	refused.Decision.Pay, refused.Decision.Refuse = nil, "Hour 14 was down."
	one := enter(t, w, refused)[0]
	enter(t, w, second)
	two := enter(t, w, instead(r.paid(second.Appeal.SHA256()), one))[0]

	l := mustRead(t, w)
	if l.Origin != "committee.example.org/decisions/psf" || l.Network != evidence.PSF || l.Checkpoint.Size != 4 {
		t.Errorf("got %d entries of %s", l.Checkpoint.Size, l.Origin)
	}
	if len(l.Months()) != 1 {
		t.Fatalf("%d months, want one", len(l.Months()))
	}
	m = l.Months()[0]
	if m.Relay != r.id || m.Month != november || len(m.Decisions) != 2 || len(m.Appeals) != 2 || len(m.Open()) != 0 {
		t.Errorf("got %+v", m)
	}
	if d := m.Decisions[0]; d.Hash != one || d.ReplacedBy != two || d.Words() != "refused: Hour 14 was down." {
		t.Errorf("the first decision: %+v", d)
	}
	if d := m.Standing(); d.Hash != two || d.ReplacedBy != "" || d.Pay.TxID != hash("d") || d.Why == "" || !d.At.Equal(at.Time) {
		t.Errorf("the second decision: %+v", d)
	}
	for i, by := range []string{one, two} {
		if got := m.Appeals[i].AnsweredBy; got != by {
			t.Errorf("appeal %d is answered by %s, want %s", i, got, by)
		}
	}
	// Each checkpoint of before is kept.
	for size := range int64(3) {
		if _, err := os.Stat(filepath.Join(w.Dir, tiles.CheckpointOf(size+1))); err != nil {
			t.Error(err)
		}
	}
}

// A client that knows nothing of this package reads the log: the signature with the library
// note, under the log's own verifier key, and the hashes with the library tlog.
func TestForeignClientReadsTheLog(t *testing.T) {
	w := committee(t)
	var entries []Entry
	for range 5 {
		entries = append(entries, newRelay(t).paid())
	}
	enter(t, w, entries...)
	key, err := Key(w.Key.VerifierKey(), evidence.PSF)
	evidencetest.Must(t, err)
	v, err := note.NewVerifier(key)
	evidencetest.Must(t, err)
	raw, err := os.ReadFile(filepath.Join(w.Dir, "checkpoint"))
	evidencetest.Must(t, err)
	n, err := note.Open(raw, note.VerifierList(v))
	evidencetest.Must(t, err)
	var origin, root string
	var tree tlog.Tree
	if _, err := fmt.Sscanf(n.Text, "%s\n%d\n%s\n", &origin, &tree.N, &root); err != nil {
		t.Fatal(err)
	}
	tree.Hash, err = tlog.ParseHash(root)
	evidencetest.Must(t, err)
	hashes := tlog.TileHashReader(tree, reader{w.Dir})
	body, err := os.ReadFile(filepath.Join(w.Dir, "tile/entries/000.p/5"))
	evidencetest.Must(t, err)
	for i := range entries {
		size := int(body[0])<<8 + int(body[1])
		line := body[2 : 2+size]
		body = body[2+size:]
		proof, err := tlog.ProveRecord(tree.N, int64(i), hashes)
		evidencetest.Must(t, err)
		evidencetest.Must(t, tlog.CheckRecord(proof, tree.N, tree.Hash, int64(i), tlog.RecordHash(line)))
	}
	if origin != "committee.example.org/decisions/psf" || len(body) != 0 {
		t.Errorf("origin %s, %d bytes left", origin, len(body))
	}
	l := mustRead(t, w)
	for old := int64(1); old < tree.N; old++ {
		proof, err := l.Consistency(old)
		evidencetest.Must(t, err)
		before, err := l.tree.Root(old)
		evidencetest.Must(t, err)
		evidencetest.Must(t, tlog.CheckTree(proof, tree.N, tree.Hash, old, before))
	}
	if _, err := l.Consistency(6); err == nil {
		t.Error("a proof from 6 entries on, of 5")
	}
}

type reader struct{ dir string }

func (reader) Height() int                     { return 8 }
func (reader) SaveTiles([]tlog.Tile, [][]byte) {}
func (r reader) ReadTiles(l []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range l {
		b, err := os.ReadFile(filepath.Join(r.dir, strings.Replace(t.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// What the rules refuse is refused when it is entered, and when it is read from a log that
// somebody with the committee's key made all the same.
func TestRules(t *testing.T) {
	r, other := newRelay(t), newRelay(t)
	open, answered := r.appeal(t, "open"), r.appeal(t, "answered")
	decided := r.paid(answered.Appeal.SHA256())
	replaced := newRelay(t)
	begin := []Entry{answered, decided, replaced.paid(), other.appeal(t, "another's"), open}
	standing, was := hashOf(t, decided), hashOf(t, replaced.paid())
	next := instead(replaced.paid(), was)
	next.Decision.Bundle = hash("f")
	begin = append(begin, next)
	ofAnother := other.paid(other.appeal(t, "another's").Appeal.SHA256())
	full := []Entry{}
	for i := range MaxAppeals {
		full = append(full, r.appeal(t, fmt.Sprint("number ", i)))
	}
	lab := r.paid()
	lab.Network, lab.Decision.Verdict = evidence.Lab, LabVerdict
	october := r.paid()
	october.Decision.Month--
	for name, tc := range map[string]struct {
		entry Entry
		want  string
	}{
		"decided already":       {r.paid(open.Appeal.SHA256()), "is decided already: paid to bitcoincash:qq"},
		"replaces nothing":      {instead(newRelay(t).paid(), standing), "has not been decided, so there is nothing to replace"},
		"replaces the replaced": {instead(replaced.paid(), was), "replaces: " + was + " was replaced already; the decision that stands is " + hashOf(t, next)},
		"replaces another's":    {instead(r.paid(open.Appeal.SHA256()), was), "is no decision about it"},
		"answers nothing":       {instead(r.paid(hash("1"), open.Appeal.SHA256()), standing), "there is no appeal " + hash("1")},
		"answers its own":       {ofAnother, ""},
		"another's answers":     {instead(r.paid(open.Appeal.SHA256(), ofAnother.Decision.Answers[0]), standing), "answers: there is no appeal " + ofAnother.Decision.Answers[0]},
		"answers twice":         {instead(r.paid(open.Appeal.SHA256(), answered.Appeal.SHA256()), standing), "was answered already, by " + standing},
		"an appeal stands open": {instead(r.paid(), standing), "answers: appeal " + open.Appeal.SHA256() + " stands open"},
		"an appeal of another month": {func() Entry {
			e := october
			d := *e.Decision
			d.Answers = []string{open.Appeal.SHA256()}
			e.Decision = &d
			return e
		}(), "there is no appeal"},
		"an appeal twice": {open, "appeal: it is in the log already, as " + open.Appeal.SHA256()},
		"another network": {lab, "network: the entry is of network lab, the log of psf"},
		"good":            {october, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := committee(t)
			enter(t, w, begin...)
			before := files(t, w.Dir)
			l, err := Open(w)
			evidencetest.Must(t, err)
			_, _, err = l.Enter(tc.entry)
			evidencetest.Must(t, l.Close())
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("entered: got error %v, want one that holds %q", err, tc.want)
			}
			if err != nil {
				if after := files(t, w.Dir); len(after) != len(before) || after["checkpoint"] != before["checkpoint"] {
					t.Error("what was refused left something")
				}
			}
			_, err = Read(forged(t, w, append(slices.Clone(begin), tc.entry)...), w.Key.VerifierKey())
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("read: got error %v, want one that holds %q", err, tc.want)
			}
		})
	}
	w := committee(t)
	enter(t, w, full...)
	l, err := Open(w)
	evidencetest.Must(t, err)
	defer l.Close()
	evidencetest.WantError(t, l.Check(r.appeal(t, "one more")), "there are 8 of "+r.id+" in 2026-11 already")
}

func hashOf(t testing.TB, e Entry) string {
	t.Helper()
	line, err := Encode(e)
	evidencetest.Must(t, err)
	return Hash(line)
}

// forged is a log as somebody makes it who has the committee's key and keeps to no rules.
func forged(t testing.TB, w Where, entries ...Entry) (dir string) {
	t.Helper()
	lines := [][]byte{}
	for _, e := range entries {
		line, err := evidence.Encode(e)
		evidencetest.Must(t, err)
		lines = append(lines, line)
	}
	return forgedOf(t, w, lines...)
}

func forgedOf(t testing.TB, w Where, lines ...[]byte) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "log")
	tree := evidence.NewTree()
	for _, line := range lines {
		evidencetest.Must(t, tree.Add(tlog.RecordHash(line)))
	}
	origin, err := Origin(w.Key.Name(), w.Network)
	evidencetest.Must(t, err)
	key, err := w.Key.Named(origin)
	evidencetest.Must(t, err)
	root, err := tree.Root(tree.Size)
	evidencetest.Must(t, err)
	raw, err := evidence.SignNote(evidence.Checkpoint{Origin: origin, Size: tree.Size, Root: root}.Text(), key)
	evidencetest.Must(t, err)
	f, err := tiles.OpenFolder(dir)
	evidencetest.Must(t, err)
	defer f.Close()
	evidencetest.Must(t, f.Publish(tiles.Step{Size: tree.Size, Hashes: tree, Headers: lines, Checkpoint: raw}))
	return dir
}

func TestReadTellsAllFaults(t *testing.T) {
	w, r := committee(t), newRelay(t)
	bad := r.paid()
	bad.Decision.Bundle = "?"
	_, err := Read(forged(t, w, bad, r.paid(), r.paid(), instead(r.paid(), hash("1"))), w.Key.VerifierKey())
	for _, want := range []string{"entry 0: entry: bundle: want a SHA-256", "entry 2: " + r.id + " in 2026-11 is decided already", "entry 3: replaces: " + hash("1")} {
		evidencetest.WantError(t, err, want)
	}
	many := make([][]byte, 30)
	for i := range many {
		many[i] = []byte("{}")
	}
	_, err = Read(forgedOf(t, w, many...), w.Key.VerifierKey())
	evidencetest.WantError(t, err, "it is read no further")
	if n := strings.Count(err.Error(), "\n"); n > maxFaults {
		t.Errorf("%d lines of faults", n)
	}
}

// Every byte that is changed in any file of the log, every file that is gone and every cut
// is found.
func TestMangled(t *testing.T) {
	w, r := committee(t), newRelay(t)
	a := r.appeal(t, "It was up.")
	enter(t, w, a, r.paid(a.Appeal.SHA256()), newRelay(t).paid())
	good := files(t, w.Dir)
	dir := filepath.Join(t.TempDir(), "copy")
	refused := func(what string) {
		t.Helper()
		if _, err := Read(dir, w.Key.VerifierKey()); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	lay(t, dir, good)
	if _, err := Read(dir, w.Key.VerifierKey()); err != nil {
		t.Fatal(err)
	}
	for name, data := range good {
		path := filepath.Join(dir, filepath.FromSlash(name))
		write := func(b []byte) { evidencetest.Must(t, os.WriteFile(path, b, 0o644)) }
		for i := range data {
			bad := []byte(data)
			bad[i] ^= 1
			write(bad)
			refused(fmt.Sprintf("%s: byte %d changed", name, i))
			if i%16 == 0 {
				write([]byte(data[:i]))
				refused(fmt.Sprintf("%s: cut after byte %d", name, i))
			}
		}
		write([]byte(data + "x"))
		refused(name + ": a byte more")
		evidencetest.Must(t, os.Remove(path))
		needed := name == "checkpoint" || strings.HasSuffix(name, "/000.p/3")
		if _, err := Read(dir, w.Key.VerifierKey()); (err != nil) != needed {
			t.Errorf("%s is gone: %v", name, err)
		}
		write([]byte(data))
	}
}

func TestAttacks(t *testing.T) {
	w, r := committee(t), newRelay(t)
	enter(t, w, r.paid(), newRelay(t).paid())
	key := w.Key.VerifierKey()
	// Another key of the committee's name.
	twin := committee(t)
	enter(t, twin, r.paid())
	_, err := Read(twin.Dir, key)
	evidencetest.WantError(t, err, "checkpoint: ")
	// Another committee.
	other := committee(t)
	other.Key, err = evidence.NewSigningKey(bytes.NewReader(bytes.Repeat([]byte{7}, 64)), "other.example.org", evidence.LogKeyType)
	evidencetest.Must(t, err)
	enter(t, other, r.paid())
	_, err = Read(other.Dir, key)
	evidencetest.WantError(t, err, `it is of the committee "other.example.org", not of "committee.example.org"`)
	// A checkpoint of the committee's key in its own name, as under a roster, is none of the log's.
	c := mustRead(t, w).Checkpoint
	dir := filepath.Join(t.TempDir(), "copy")
	stamped := func(text string, signer evidence.SigningKey) error {
		raw, err := evidence.SignNote(text, signer)
		evidencetest.Must(t, err)
		all := files(t, w.Dir)
		all["checkpoint"] = string(raw)
		lay(t, dir, all)
		_, err = Read(dir, key)
		return err
	}
	evidencetest.WantError(t, stamped(c.Text(), w.Key), "checkpoint: ")
	named, err := w.Key.Named(c.Origin)
	evidencetest.Must(t, err)
	evidencetest.Must(t, stamped(c.Text(), named))
	evidencetest.WantError(t, stamped(strings.Replace(c.Text(), "/psf", "/lab", 1), named), "checkpoint: ")
	evidencetest.WantError(t, stamped(strings.Replace(c.Text(), "/psf", "/moon", 1), named), `network "moon"`)
	evidencetest.WantError(t, stamped("committee.example.org/relaymon/psf\n2\n"+c.Root.String()+"\n", named), "no log of decisions")
	for _, size := range []string{"0", "65536", "3", "1"} {
		if err := stamped(c.Origin+"\n"+size+"\n"+c.Root.String()+"\n", named); err == nil {
			t.Errorf("the root of 2 entries as one of %s: accepted", size)
		}
	}
	// A lab's log, and a psf entry in it.
	lab := w
	lab.Network = evidence.Lab
	_, err = Read(forged(t, lab, r.paid()), key)
	evidencetest.WantError(t, err, "entry 0: network: the entry is of network psf, the log of lab")
	lab.Memory += "x"
	lab.First = false
	_, err = Open(lab)
	evidencetest.WantError(t, err, "it is of network psf, and this entry is of network lab")
	// A history of before, as everybody has it who kept a copy: alone it is good. Only who
	// remembers a later checkpoint knows.
	lay(t, dir, files(t, w.Dir))
	enter(t, w, newRelay(t).paid())
	if l, err := Read(dir, key); err != nil || l.Checkpoint.Size != 2 {
		t.Errorf("an older copy: %v", err)
	}
	older := w
	older.Dir = dir
	_, err = Open(older)
	evidencetest.WantError(t, err, "this is an older copy: it has 2 entries, and a checkpoint of 3 was signed")
	// Two histories of one key.
	fork := w
	fork.Memory += "-of-another-machine"
	fork.Dir = dir
	enter(t, fork, newRelay(t).paid())
	_, err = Open(older)
	evidencetest.WantError(t, err, "the log has forked: the root of 3 entries")
	a, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	evidencetest.Must(t, err)
	if _, err := evidence.NewFork(a, mustRead(t, w).Signed(), mustRead(t, w).VerifierKey()); err != nil {
		t.Errorf("the two histories convict nobody: %v", err)
	}
}

func TestOpenRefused(t *testing.T) {
	w, r := committee(t), newRelay(t)
	_, err := Open(w)
	evidencetest.WantError(t, err, "is this the right folder?")
	if _, err := os.Stat(w.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a folder was made")
	}
	inside := w
	inside.First, inside.Memory = true, filepath.Join(w.Dir, "committee.key.decisions-psf")
	_, err = Open(inside)
	evidencetest.WantError(t, err, "keep the key elsewhere")
	enter(t, w, r.paid())
	again := w
	again.First = true
	_, err = Open(again)
	evidencetest.WantError(t, err, "there is one already: leave out --first")
	mistyped := w
	mistyped.Dir += "2"
	_, err = Open(mistyped)
	evidencetest.WantError(t, err, "there is none, but one was signed with this key")
	mistyped.First = true
	_, err = Open(mistyped)
	evidencetest.WantError(t, err, "a log was begun with this key already")
	if _, err := os.Stat(mistyped.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a folder was made")
	}
	stranger := w
	stranger.Key = committee(t).Key
	_, err = Open(stranger)
	evidencetest.WantError(t, err, "checkpoint: ")
	evidencetest.Must(t, os.WriteFile(w.Memory, []byte("?"), 0o644))
	_, err = Open(w)
	evidencetest.WantError(t, err, "is not what was signed last")
	evidencetest.Must(t, os.Remove(w.Memory)) // the key on another machine
	enter(t, w, newRelay(t).paid())
	files := files(t, w.Dir)
	files["tile/entries/000.p/2"] = strings.Replace(files["tile/entries/000.p/2"], "ELIGIBLE", "eligible", 1)
	lay(t, w.Dir, files)
	_, err = Open(w)
	evidencetest.WantError(t, err, "not those that the committee signed")
	taken := committee(t)
	taken.First = true
	evidencetest.Must(t, os.MkdirAll(taken.Dir, 0o755))
	evidencetest.Must(t, os.WriteFile(filepath.Join(taken.Dir, "letters"), nil, 0o644))
	_, err = Open(taken)
	if !errors.Is(err, tiles.ErrTaken) {
		t.Errorf("a folder of letters: %v", err)
	}
}

// What is repeated is found, and not entered twice.
func TestFind(t *testing.T) {
	w, r := committee(t), newRelay(t)
	a := r.appeal(t, "It was up.")
	hashes := enter(t, w, a, r.paid(a.Appeal.SHA256()))
	l, err := Open(w)
	evidencetest.Must(t, err)
	defer l.Close()
	later := r.paid(a.Appeal.SHA256())
	later.At = evidence.TimeOf(at.Add(time.Hour))
	for i, e := range []Entry{a, later} {
		if index, h, ok := l.Find(e); !ok || index != int64(i) || h != hashes[i] {
			t.Errorf("entry %d: found %v at %d, %s", i, ok, index, h)
		}
	}
	other := r.paid(a.Appeal.SHA256())
	other.Decision.Pay.TxID = hash("e")
	lab := later
	lab.Network = evidence.Lab
	for name, e := range map[string]Entry{"another payment": other, "another relay": newRelay(t).paid(), "another text": r.appeal(t, "It was down."), "a lab": lab, "none": {}} {
		if _, _, ok := func() (int64, string, bool) {
			if e.Decision == nil && e.Appeal == nil {
				return 0, "", false
			}
			return l.Find(e)
		}(); ok {
			t.Errorf("%s: found", name)
		}
	}
}

func TestCosignatures(t *testing.T) {
	w, r := committee(t), newRelay(t)
	enter(t, w, r.paid())
	w1, w2 := evidencetest.NewWitness(t, "w1.example.org"), evidencetest.NewWitness(t, "w2.example.org")
	raw := mustRead(t, w).Signed()
	stamp := time.Date(2026, 12, 10, 10, 0, 0, 0, time.UTC)
	key := w.Key.VerifierKey()
	for _, witness := range []evidencetest.Witness{w2, w1, w1} {
		cosigned := append(bytes.Clone(raw), witness.Cosign(t, raw, stamp)...)
		evidencetest.Must(t, AddCosignatures(w.Dir, key, cosigned, w1.VKey(), w2.VKey()))
	}
	l, err := Read(w.Dir, key, w1.VKey(), w2.VKey())
	evidencetest.Must(t, err)
	if n := len(l.Checkpoint.Cosignatures); n != 2 {
		t.Errorf("%d cosignatures, want 2", n)
	}
	if l, err = Read(w.Dir, key); err != nil || len(l.Checkpoint.Cosignatures) != 0 {
		t.Errorf("without witnesses: %v, %v", err, l.Checkpoint.Cosignatures)
	}
	// A line that does not verify is left out where the witness is known.
	line := w1.Cosign(t, []byte(strings.Replace(string(raw), "\n1\n", "\n7\n", 1)), stamp)
	evidencetest.Must(t, AddCosignatures(w.Dir, key, append(bytes.Clone(raw), line...), w1.VKey(), w2.VKey()))
	l, err = Read(w.Dir, key, w1.VKey(), w2.VKey())
	evidencetest.Must(t, err)
	if n := len(l.Checkpoint.Cosignatures); n != 2 {
		t.Errorf("%d cosignatures, want 2", n)
	}
	// The log goes on, and keeps them under the older checkpoint.
	enter(t, w, newRelay(t).paid())
	older, err := os.ReadFile(filepath.Join(w.Dir, tiles.CheckpointOf(1)))
	if err != nil || strings.Count(string(older), "— ") != 3 {
		t.Errorf("the older checkpoint is %q (%v)", older, err)
	}
	evidencetest.WantError(t, AddCosignatures(w.Dir, key, append(bytes.Clone(raw), w1.Cosign(t, raw, stamp)...), w1.VKey()), "not of one tree")
	// A byte of a cosignature.
	raw = mustRead(t, w).Signed()
	evidencetest.Must(t, AddCosignatures(w.Dir, key, append(bytes.Clone(raw), w1.Cosign(t, raw, stamp)...), w1.VKey()))
	all := files(t, w.Dir)
	at := strings.LastIndex(all["checkpoint"], " ") + 1
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(all["checkpoint"][at:]))
	evidencetest.Must(t, err)
	sig[20] ^= 1
	all["checkpoint"] = all["checkpoint"][:at] + base64.StdEncoding.EncodeToString(sig) + "\n"
	lay(t, w.Dir, all)
	if _, err := Read(w.Dir, key, w1.VKey()); err == nil {
		t.Error("a bad cosignature of a witness that was named: accepted")
	}
	evidencetest.WantError(t, AddCosignatures(t.TempDir(), key, raw), "no such file")
}

// An appeal of one relay cannot be another's, nor of another month: the relay signed both.
// What can be done with a signed one is to hand it in.
func TestAppealIsOfItsRelay(t *testing.T) {
	w, r := committee(t), newRelay(t)
	a := r.appeal(t, "It was up.")
	lab := r.signed(t, statement.Statement{Kind: statement.Appeal, Network: "lab", PeerID: r.id, Operator: "alice", Month: "2026-11", Text: "x", Made: at.Truncate(time.Second)})
	enter(t, w, a)
	l, err := Open(w)
	evidencetest.Must(t, err)
	defer l.Close()
	evidencetest.WantError(t, l.Check(lab), "network: the entry is of network lab, the log of psf")
	lab.Network = evidence.PSF
	evidencetest.WantError(t, l.Check(lab), "the relay signed it for network lab")
	for _, m := range l.Months() {
		if m.Relay != r.id || m.Month != november {
			t.Errorf("the appeal is in %s of %s", m.Month, m.Relay)
		}
	}
}
