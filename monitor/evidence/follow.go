package evidence

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What somebody needs who follows a whole log of another's, instead of reading one
// relay's months.

// ReadCheckpoint verifies a checkpoint that was received, and tells the size and root
// that it is of. It returns the checkpoint with its lines in order. Lines by keys that are
// not known stay, unverified: another reader may know them. What is left out: a line by a
// witness that does not verify, one that is there twice, and those for which there is no
// room; the first good one of each witness has room before all others.
func ReadCheckpoint(raw []byte, logKey string, witnesses ...string) (tlog.Tree, []byte, error) {
	return MergeCheckpoints(raw, nil, logKey, witnesses...)
}

// ErrOtherTree is wrapped when two checkpoints are not of the same size and root.
var ErrOtherTree = errors.New("they are not of one tree")

// MergeCheckpoints is [ReadCheckpoint] of a checkpoint that is held, together with the
// cosignatures of another copy of it (nil: none). Two lines by one key stay beside each
// other: which of them is good, or the one that the log's headers tell of, may be known to
// a later reader only.
func MergeCheckpoints(held, offered []byte, logKey string, witnesses ...string) (tlog.Tree, []byte, error) {
	return merge(held, offered, false, logKey, witnesses...)
}

// JoinCheckpoints is [MergeCheckpoints] of two copies that are both the log's own. Of two
// lines by one key that of the first copy stays.
func JoinCheckpoints(first, second []byte, logKey string) ([]byte, error) {
	_, out, err := merge(first, second, true, logKey)
	return out, err
}

func merge(held, offered []byte, onePerKey bool, logKey string, witnesses ...string) (tlog.Tree, []byte, error) {
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
	out, err := fitting(first.Text, first.Sigs[0], inOrder(first.Text, all, known, onePerKey))
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

// inOrder drops what does not verify and what is there twice. The first good one of each
// witness comes before all others.
func inOrder(text string, list []note.Signature, known []note.Verifier, onePerKey bool) []note.Signature {
	var good, others []note.Signature
	for _, s := range list {
		v := verifierOf(s, known)
		same := func(o note.Signature) bool {
			return o.Name == s.Name && o.Hash == s.Hash && (onePerKey || sameBytes(o.Base64, s.Base64))
		}
		if v != nil && !verifies(text, s, v) || slices.ContainsFunc(good, same) || slices.ContainsFunc(others, same) {
			continue
		}
		if v != nil && !slices.ContainsFunc(good, func(o note.Signature) bool { return o.Name == s.Name && o.Hash == s.Hash }) {
			good = append(good, s)
		} else {
			others = append(others, s)
		}
	}
	return append(good, others...)
}

// verifierOf is the one of a signature's key; nil: the key is not known.
func verifierOf(s note.Signature, known []note.Verifier) note.Verifier {
	for _, v := range known {
		if v.Name() == s.Name && v.KeyHash() == s.Hash {
			return v
		}
	}
	return nil
}

// sameBytes says whether two spellings are of the same bytes.
func sameBytes(a, b string) bool {
	x, errX := base64.StdEncoding.DecodeString(a)
	y, errY := base64.StdEncoding.DecodeString(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
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
	return !slices.ContainsFunc(told, func(c Held) bool {
		return !slices.ContainsFunc(n.UnverifiedSigs, func(s note.Signature) bool {
			v := verifierOf(s, known)
			return c.is(s) && (v == nil || verifies(n.Text, s, v))
		})
	}), nil
}

// is says whether a signature is the cosignature that a header tells of, as its key and
// time say.
func (c Held) is(s note.Signature) bool {
	at, err := CosignedAt(s)
	return err == nil && c.Witness == signerID(s.Name, s.Hash) && TimeOf(at).Equal(c.Time.Time)
}

// maxSignatures is of how many lines a note is read, by whatever reads C2SP signed-note.
const maxSignatures = 100

// fitting is the note with as many of the signatures as there is room for.
func fitting(text string, author note.Signature, list []note.Signature) ([]byte, error) {
	sigs := []note.Signature{author}
	out, err := FormatNote(text, sigs)
	for _, s := range list {
		if err != nil {
			return nil, err
		}
		if len(sigs) == maxSignatures {
			break
		}
		var more []byte
		if more, err = FormatNote(text, append(sigs, s)); err == nil && len(more) <= MaxCheckpointBytes {
			sigs, out = append(sigs, s), more
		}
	}
	return out, err
}

// BlockCheck takes the canonical records of a block, one after the other, and says in the
// end whether they are those of its header. So a block need not be in memory as a whole.
type BlockCheck struct {
	// Each is handed the records, with their lines, which may not be kept; nil: nobody asks.
	// They are those of the header only if [BlockCheck.End] says so.
	Each   func(r Record, line []byte) error
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
	if c.Each == nil {
		return nil
	}
	return c.Each(r, line)
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
