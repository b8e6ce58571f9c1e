package evidence

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	formats "github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxBlocks is how many blocks a log may have: far beyond 8,760 a year.
const MaxBlocks = 1 << 32

// Checkpoint is a signed statement of a log's size and root (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
	// Cosignatures are the signatures beside the log's, in order.
	Cosignatures []note.Signature
}

// Text is what is signed: origin, size and root, a line each.
func (c Checkpoint) Text() string {
	return string(formats.Checkpoint{Origin: c.Origin, Size: uint64(c.Size), Hash: c.Root[:]}.Marshal())
}

// ParseCheckpoint reads exactly what [Checkpoint.Text] writes; extension lines are refused.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var f formats.Checkpoint
	if _, err := f.Unmarshal([]byte(text)); err != nil {
		return Checkpoint{}, err
	}
	if len(f.Hash) != tlog.HashSize || f.Size > MaxBlocks {
		return Checkpoint{}, errors.New("its size or root hash is malformed")
	}
	c := Checkpoint{Origin: f.Origin, Size: int64(f.Size), Root: Hash(f.Hash)}
	if c.Text() != text {
		return Checkpoint{}, errors.New("its text is not in the one spelling")
	}
	return c, nil
}

// OpenCheckpoint verifies a checkpoint note of the log and its cosignatures.
func OpenCheckpoint(raw []byte, log note.Verifier, witnesses ...note.Verifier) (Checkpoint, error) {
	n, err := openNote(raw, log, witnesses...)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	if c.Origin != log.Name() {
		return Checkpoint{}, fmt.Errorf("checkpoint: it is of log %s, not of %s", c.Origin, log.Name())
	}
	c.Cosignatures = n.Sigs[1:]
	return c, nil
}

// openNote verifies a signed note: the author's signature first, then any
// number of others in the order of their names and key hashes, one a key, all
// of them known and good, all in the one spelling. So each byte of a note counts.
func openNote(raw []byte, author note.Verifier, others ...note.Verifier) (*note.Note, error) {
	n, err := ParseNote(raw, author, others...)
	if err != nil {
		return nil, err
	}
	if len(n.UnverifiedSigs) > 0 {
		return nil, fmt.Errorf("a signature is by a key that is not known, %s+%08x", n.UnverifiedSigs[0].Name, n.UnverifiedSigs[0].Hash)
	}
	return n, nil
}

// ParseNote verifies a signed note in the one spelling as [OpenCheckpoint] does, and lets
// signatures by others than those given pass, unverified.
func ParseNote(raw []byte, author note.Verifier, others ...note.Verifier) (*note.Note, error) {
	if len(raw) > maxNote {
		return nil, fmt.Errorf("note of %d bytes is too long", len(raw))
	}
	n, err := note.Open(raw, note.VerifierList(append([]note.Verifier{author}, others...)...))
	if err != nil {
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &unverified) {
			return nil, fmt.Errorf("%w: none is by %s+%08x", err, author.Name(), author.KeyHash())
		}
		return nil, err
	}
	if n.Sigs[0].Name != author.Name() || n.Sigs[0].Hash != author.KeyHash() {
		return nil, fmt.Errorf("the first signature is not by %s+%08x", author.Name(), author.KeyHash())
	}
	again, err := FormatNote(n.Text, slices.Concat(n.Sigs, n.UnverifiedSigs))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, raw) {
		return nil, errors.New("note is not in the one spelling (order, repetition or base64 of its signatures)")
	}
	return n, nil
}

// SignNote makes a note of which the key's owner is the only signer.
func SignNote(text string, author SigningKey) ([]byte, error) {
	return note.Sign(&note.Note{Text: text}, noteSigner{author})
}

// FormatNote writes a note in the one spelling; sigs[0] is the author's.
func FormatNote(text string, sigs []note.Signature) ([]byte, error) {
	if len(sigs) == 0 {
		return nil, errors.New("note has no signature")
	}
	sorted := slices.Clone(sigs)
	slices.SortStableFunc(sorted[1:], func(a, b note.Signature) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Hash, b.Hash))
	})
	var b bytes.Buffer
	b.WriteString(text)
	b.WriteString("\n")
	for _, s := range sorted {
		raw, err := base64.StdEncoding.DecodeString(s.Base64)
		if err != nil {
			return nil, fmt.Errorf("signature of %s: %w", s.Name, err)
		}
		fmt.Fprintf(&b, "— %s %s\n", s.Name, base64.StdEncoding.EncodeToString(raw))
	}
	return b.Bytes(), nil
}

// WitnessVerifiers are those of the witnesses' keys, without repetitions.
func WitnessVerifiers(vkeys []string) ([]note.Verifier, error) {
	var list []note.Verifier
	seen := make(map[string]bool)
	for _, k := range vkeys {
		v, err := WitnessVerifier(k)
		if err != nil {
			return nil, fmt.Errorf("witness: %w", err)
		}
		id := fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
		if seen[id] {
			continue
		}
		seen[id] = true
		list = append(list, v)
	}
	return list, nil
}

// Respell brings a note that verifies into the one spelling, without the signatures of others.
func Respell(raw []byte, author note.Verifier, others ...note.Verifier) ([]byte, error) {
	n, err := note.Open(raw, note.VerifierList(append(others, author)...))
	if err != nil {
		return nil, err
	}
	sigs := make([]note.Signature, 1, len(n.Sigs))
	for _, s := range n.Sigs {
		if s.Name == author.Name() && s.Hash == author.KeyHash() {
			sigs[0] = s
		} else {
			sigs = append(sigs, s)
		}
	}
	return FormatNote(n.Text, sigs)
}
