package evidence

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What somebody needs who follows a whole log of another's, instead of reading one
// relay's months.

// ReadCheckpoint verifies a checkpoint that was received, and tells the size and root
// that it is of. It returns the checkpoint in the one spelling. Lines by keys that are not
// known stay, unverified: another reader may know them. What is left out: a line by a
// witness that does not verify, a second one by the same key, and unknown lines for which
// there is no room.
func ReadCheckpoint(raw []byte, logKey string, witnesses ...string) (tlog.Tree, []byte, error) {
	return MergeCheckpoints(raw, nil, logKey, witnesses...)
}

// ErrOtherTree is wrapped when two checkpoints are not of the same size and root.
var ErrOtherTree = errors.New("they are not of one tree")

// MergeCheckpoints is [ReadCheckpoint] of a checkpoint that is held, together with the
// cosignatures of another copy of it (nil: none). No cosignature that is held is lost, but
// one that does not verify. Of two by one key the one that is held stays: it is what the
// log's headers may tell of.
func MergeCheckpoints(held, offered []byte, logKey string, witnesses ...string) (tlog.Tree, []byte, error) {
	fail := func(err error) (tlog.Tree, []byte, error) { return tlog.Tree{}, nil, fmt.Errorf("checkpoint: %w", err) }
	log, err := LogVerifier(logKey)
	if err != nil {
		return fail(err)
	}
	known, err := WitnessVerifiers(witnesses)
	if err != nil {
		return fail(err)
	}
	first, err := openLoose(held, log)
	if err != nil {
		return fail(err)
	}
	all := first.UnverifiedSigs
	if offered != nil {
		second, err := openLoose(offered, log)
		if err != nil {
			return fail(err)
		}
		if second.Text != first.Text {
			return fail(fmt.Errorf("%w: %q and %q", ErrOtherTree, first.Text, second.Text))
		}
		all = append(all, second.UnverifiedSigs...)
	}
	c, err := ParseCheckpoint(first.Text)
	if err != nil {
		return fail(err)
	}
	if c.Origin != log.Name() {
		return fail(fmt.Errorf("it is of log %s, not of %s", c.Origin, log.Name()))
	}
	out, err := fitting(first.Text, first.Sigs[0], onePerKey(first.Text, all, known))
	if err != nil {
		return fail(err)
	}
	return tlog.Tree{N: c.Size, Hash: c.Root}, out, nil
}

// openLoose verifies the author's signature of a note, whatever else stands under it.
func openLoose(raw []byte, author note.Verifier) (*note.Note, error) {
	if len(raw) > MaxCheckpointBytes {
		return nil, fmt.Errorf("%d bytes are too long, want %d at most", len(raw), MaxCheckpointBytes)
	}
	n, err := note.Open(raw, note.VerifierList(author))
	if err != nil {
		return nil, fmt.Errorf("%w (want one by %s+%08x)", err, author.Name(), author.KeyHash())
	}
	return n, nil
}

// judgedSignature is a signature line, and whether it was verified.
type judgedSignature struct {
	note.Signature
	good bool
}

// onePerKey drops what does not verify and what is there twice. Good ones come first.
func onePerKey(text string, list []note.Signature, known []note.Verifier) (out []judgedSignature) {
	for _, s := range list {
		i := slices.IndexFunc(known, func(v note.Verifier) bool { return v.Name() == s.Name && v.KeyHash() == s.Hash })
		if i >= 0 && !verifies(text, s, known[i]) {
			continue
		}
		if !slices.ContainsFunc(out, func(o judgedSignature) bool { return o.Name == s.Name && o.Hash == s.Hash }) {
			out = append(out, judgedSignature{s, i >= 0})
		}
	}
	slices.SortStableFunc(out, func(a, b judgedSignature) int {
		return cmp.Or(-cmp.Compare(btoi(a.good), btoi(b.good)), strings.Compare(a.Name, b.Name), cmp.Compare(a.Hash, b.Hash))
	})
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func verifies(text string, s note.Signature, v note.Verifier) bool {
	raw, err := base64.StdEncoding.DecodeString(s.Base64)
	return err == nil && len(raw) > 4 && v.Verify([]byte(text), raw[4:])
}

// HasHeld says whether a checkpoint has the cosignatures of which the header of the block
// after it tells, of the same times. Those by the given witnesses must be good.
func HasHeld(checkpoint []byte, told []Held, logKey string, witnesses ...string) (bool, error) {
	log, err := LogVerifier(logKey)
	if err != nil {
		return false, err
	}
	known, err := WitnessVerifiers(witnesses)
	if err != nil {
		return false, err
	}
	n, err := openLoose(checkpoint, log)
	if err != nil {
		return false, err
	}
	there := make(map[string]Time)
	for _, s := range n.UnverifiedSigs {
		i := slices.IndexFunc(known, func(v note.Verifier) bool { return v.Name() == s.Name && v.KeyHash() == s.Hash })
		if at, err := CosignedAt(s); err == nil && (i < 0 || verifies(n.Text, s, known[i])) {
			there[signerID(s.Name, s.Hash)] = TimeOf(at)
		}
	}
	return !slices.ContainsFunc(told, func(c Held) bool {
		at, ok := there[c.Witness]
		return !ok || !at.Equal(c.Time.Time)
	}), nil
}

// fitting is the note with as many of the signatures as there is room for.
func fitting(text string, author note.Signature, list []judgedSignature) ([]byte, error) {
	sigs := []note.Signature{author}
	out, err := FormatNote(text, sigs)
	for _, s := range list {
		if err != nil {
			return nil, err
		}
		var more []byte
		if more, err = FormatNote(text, append(sigs, s.Signature)); err == nil && len(more) <= MaxCheckpointBytes {
			sigs, out = append(sigs, s.Signature), more
		}
	}
	return out, err
}

// BlockCheck takes the canonical records of a block, one after the other, and says in the
// end whether they are those of its header. So a block need not be in memory as a whole.
type BlockCheck struct {
	header Header
	places prefixTree
	last   string
	tail   []byte // of [BlockCheck.Write]: the begin of a line that is not whole
}

// NewBlockCheck begins with a header.
func NewBlockCheck(h Header) *BlockCheck { return &BlockCheck{header: h} }

// Write takes bytes of the file of a block's records: one canonical record a line, sorted
// by peer ID.
func (c *BlockCheck) Write(p []byte) (n int, err error) {
	for n < len(p) {
		end := bytes.IndexByte(p[n:], '\n')
		if end < 0 {
			if len(c.tail)+len(p)-n > MaxRecordBytes {
				return n, fmt.Errorf("records of %s: a line is longer than %d bytes", c.header.Hour, MaxRecordBytes)
			}
			c.tail = append(c.tail, p[n:]...)
			return len(p), nil
		}
		line := p[n : n+end]
		if len(c.tail) > 0 {
			line = append(c.tail, line...)
			c.tail = c.tail[:0]
		}
		if err := c.add(line); err != nil {
			return n, fmt.Errorf("records of %s: line %d: %w", c.header.Hour, len(c.places)+1, err)
		}
		n += end + 1
	}
	return n, nil
}

func (c *BlockCheck) add(line []byte) error {
	if int64(len(c.places)) == c.header.Records {
		return fmt.Errorf("the block has %d records and no more", c.header.Records)
	}
	r, err := DecodeRecord(line, c.header.Hour)
	if err != nil {
		return err
	}
	if r.PeerID <= c.last {
		return fmt.Errorf("%s is not in order", r.PeerID)
	}
	c.last = r.PeerID
	c.places = append(c.places, placeOf(r.PeerID, line))
	return nil
}

// End says whether the records that were taken are those of the header.
func (c *BlockCheck) End() error {
	switch {
	case len(c.tail) > 0:
		return fmt.Errorf("records of %s: the last line is not ended: %w", c.header.Hour, io.ErrUnexpectedEOF)
	case int64(len(c.places)) != c.header.Records:
		return fmt.Errorf("records of %s: there are %d, the block has %d", c.header.Hour, len(c.places), c.header.Records)
	}
	slices.SortFunc(c.places, func(a, b place) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	if c.places.root() != c.header.Root {
		return fmt.Errorf("records of %s: they are not those that were sealed", c.header.Hour)
	}
	return nil
}

// CheckKeys says whether these are the verifier keys of a log and of witnesses.
func CheckKeys(logKey string, witnesses ...string) error {
	_, err := LogVerifier(logKey)
	if err == nil {
		_, err = WitnessVerifiers(witnesses)
	}
	return err
}
