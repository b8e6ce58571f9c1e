package witness

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Witness cosigns the checkpoints of other monitors' logs. It vouches that each
// extends the one before: for every log it keeps, durably and before it hands out
// the cosignature, what it cosigned last, and it never cosigns anything that is
// not consistent with that. The rules are those of C2SP tlog-witness
// (https://c2sp.org/tlog-witness).
type Witness struct {
	dir  string
	disk durable.Disk
	key  evidence.SigningKey
	mu   sync.Mutex
}

// New is the witness with the given key, which keeps in dir what it cosigned. One
// process at a time may have it: a monitor's log, with its lock, sees to that.
func New(dir string, key evidence.SigningKey) (*Witness, error) {
	return newOn(durable.Machine{}, dir, key)
}

func newOn(d durable.Disk, dir string, key evidence.SigningKey) (*Witness, error) {
	if err := d.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	return &Witness{dir: dir, disk: d, key: key}, nil
}

// Key is the witness's verifier key.
func (w *Witness) Key() string { return w.key.VerifierKey() }

// The refusals of a witness, each with the status of the HTTP answer that
// tlog-witness wants for it.
var (
	ErrNotTheLogs   = errors.New("checkpoint is not signed by the log's key")        // 403
	ErrOldSize      = errors.New("old size is larger than the checkpoint's")         // 400
	ErrInconsistent = errors.New("checkpoint does not extend the one cosigned last") // 422
)

// ErrForked is wrapped, together with [ErrInconsistent], when the log has signed
// another root of the size that was cosigned last.
var ErrForked = errors.New("log has forked")

// ConflictError says that the log's last checkpoint is of another size than the
// request supposes: status 409.
type ConflictError struct{ Size int64 }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the checkpoint cosigned last is of size %d", e.Size)
}

// AddCheckpoint is the request of tlog-witness for a cosignature.
type AddCheckpoint struct {
	OldSize    int64           // that of the checkpoint the witness cosigned last, as the log believes
	Proof      []evidence.Hash // that the new one extends it
	Checkpoint []byte          // signed note
}

// Size is that of the checkpoint, whose signature is not looked at.
func (r AddCheckpoint) Size() (int64, error) {
	text, _, _ := bytes.Cut(r.Checkpoint, []byte("\n\n"))
	c, err := evidence.ParseExtended(string(text) + "\n")
	if err != nil {
		return 0, fmt.Errorf("add-checkpoint: %w", err)
	}
	return c.Size, nil
}

const maxProof = 63

// Bytes is the request's body.
func (r AddCheckpoint) Bytes() []byte {
	b := fmt.Appendf(nil, "old %d\n", r.OldSize)
	for _, h := range r.Proof {
		b = append(b, h.String()+"\n"...)
	}
	return append(append(b, '\n'), r.Checkpoint...)
}

// ParseAddCheckpoint reads exactly what Bytes writes. The checkpoint is not looked at.
func ParseAddCheckpoint(body []byte) (AddCheckpoint, error) {
	fail := func(what string) (AddCheckpoint, error) {
		return AddCheckpoint{}, fmt.Errorf("add-checkpoint: %s", what)
	}
	head, checkpoint, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok || len(body) > maxBody {
		return fail(fmt.Sprintf("want a head, an empty line and a checkpoint, and no more than %d bytes", maxBody))
	}
	lines := strings.Split(string(head), "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	n, err := strconv.ParseInt(size, 10, 64)
	if !ok || err != nil || n < 0 || n > evidence.MaxBlocks || strconv.FormatInt(n, 10) != size {
		return fail("want \"old <size>\" in the first line")
	}
	if len(lines)-1 > maxProof {
		return fail("the proof is too long")
	}
	r := AddCheckpoint{OldSize: n, Checkpoint: checkpoint}
	for _, line := range lines[1:] {
		raw, err := evidence.CanonicalBase64(line)
		if err != nil || len(raw) != tlog.HashSize {
			return fail("the proof wants a hash in base64 in each line")
		}
		r.Proof = append(r.Proof, evidence.Hash(raw))
	}
	return r, nil
}

// path is the name of the file with what was cosigned last of a log.
func (w *Witness) path(logKey string) string {
	return filepath.Join(w.dir, evidence.SHA256Hex([]byte(logKey)))
}

// Last is the last checkpoint that was cosigned of the log with the given verifier
// key, with the cosignature; nil if there is none.
func (w *Witness) Last(logKey string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, raw, err := w.last(logKey)
	return raw, err
}

func (w *Witness) last(logKey string) (evidence.Checkpoint, []byte, error) {
	log, err := evidence.LogVerifier(logKey)
	if err != nil {
		return evidence.Checkpoint{}, nil, err
	}
	raw, err := os.ReadFile(w.path(logKey))
	if errors.Is(err, fs.ErrNotExist) {
		root, err := tlog.TreeHash(0, nil)
		return evidence.Checkpoint{Origin: log.Name(), Root: root}, nil, err
	}
	if err != nil {
		return evidence.Checkpoint{}, nil, fmt.Errorf("witness: %w", err)
	}
	c, err := evidence.OpenExtended(raw, log, w.key.Verifier())
	if err != nil {
		// Going on as if nothing had been cosigned would be what a witness must never do.
		return evidence.Checkpoint{}, nil, fmt.Errorf("witness: %s is damaged: %w; restore it from a backup", w.path(logKey), err)
	}
	return c, raw, nil
}

// maxText is how long a checkpoint's text may be, with lines to which others give a
// meaning: two of them, should they ever convict the log, fit into a bundle.
const maxText = 1 << 10

// Cosign answers a request for the log with the given verifier key: a signature
// line, or one of the refusals.
func (w *Witness) Cosign(logKey string, r AddCheckpoint, at time.Time) ([]byte, error) {
	log, err := evidence.LogVerifier(logKey)
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	// Signatures by others may stand below the log's; they are not looked at.
	n, err := note.Open(r.Checkpoint, note.VerifierList(log))
	if err != nil || len(r.Checkpoint) > evidence.MaxCheckpointBytes {
		return nil, fmt.Errorf("witness %s: %w (%v)", log.Name(), ErrNotTheLogs, err)
	}
	c, err := evidence.ParseExtended(n.Text)
	if err != nil || c.Origin != log.Name() {
		return nil, fmt.Errorf("witness %s: %w (%v)", log.Name(), ErrNotTheLogs, err)
	}
	if len(n.Text) > maxText {
		return nil, fmt.Errorf("witness %s: %w (its text has %d bytes, want %d at most)", log.Name(), ErrNotTheLogs, len(n.Text), maxText)
	}
	if r.OldSize > c.Size {
		return nil, fmt.Errorf("witness %s: %w", log.Name(), ErrOldSize)
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	old, raw, err := w.last(logKey)
	if err != nil {
		return nil, err
	}
	if r.OldSize != old.Size {
		return nil, fmt.Errorf("witness %s: %w", log.Name(), &ConflictError{old.Size})
	}
	if c.Size == old.Size && c.Root != old.Root {
		err := fmt.Errorf("witness %s: %w: %w", log.Name(), ErrInconsistent, ErrForked)
		if raw == nil {
			return nil, err // of no block: there is nothing that it contradicts
		}
		return nil, errors.Join(err, w.keepFork(logKey, raw, r.Checkpoint))
	}
	if err := extends(c, old, r.Proof); err != nil {
		return nil, fmt.Errorf("witness %s: %w", log.Name(), err)
	}
	if raw != nil && c.Text() == old.Text() {
		return lastLine(raw), nil // it was not heard the first time
	}
	signed, err := note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs}, w.key.Cosigner(at))
	if err != nil {
		return nil, fmt.Errorf("witness %s: %w", log.Name(), err)
	}
	// Only the one spelling is kept, whatever came in.
	if signed, err = evidence.Respell(signed, log, w.key.Verifier()); err != nil {
		return nil, fmt.Errorf("witness %s: %w", log.Name(), err)
	}
	if err := w.disk.Replace(w.path(logKey), signed, 0o644); err != nil {
		return nil, fmt.Errorf("witness %s: %w", log.Name(), err)
	}
	return lastLine(signed), nil
}

// lastLine is the signature of the witness in a checkpoint that it keeps.
func lastLine(signed []byte) []byte {
	return signed[bytes.LastIndexByte(signed[:len(signed)-1], '\n')+1:]
}

const forkSuffix = ".fork"

// keepFork keeps what convicts a log: the checkpoint that was cosigned, and another of
// the same size that the log has signed as well. The first such pair is enough.
func (w *Witness) keepFork(logKey string, cosigned, other []byte) error {
	pair, err := evidence.NewFork(cosigned, other, logKey)
	if err != nil {
		return err
	}
	if err := w.disk.Create(w.path(logKey)+forkSuffix, pair, 0o644); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// extends checks that the tree under c has the one under old as its beginning.
func extends(c, old evidence.Checkpoint, proof []evidence.Hash) error {
	if old.Size == 0 || old.Size == c.Size {
		if len(proof) > 0 {
			return fmt.Errorf("%w: there is nothing to prove", ErrInconsistent)
		}
		return nil
	}
	if err := tlog.CheckTree(proof, c.Size, c.Root, old.Size, old.Root); err != nil {
		return fmt.Errorf("%w: %v", ErrInconsistent, err)
	}
	return nil
}

// CosignatureIn finds the signature line of the witness with the given verifier key
// in its answer about a checkpoint, and says of when it is. Lines by others are
// passed over, a bad one is an error.
func CosignatureIn(answer, checkpoint []byte, logKey, witnessKey string) (line []byte, at time.Time, err error) {
	fail := func(err error) ([]byte, time.Time, error) {
		return nil, time.Time{}, fmt.Errorf("cosignature: %w", err)
	}
	log, err := evidence.LogVerifier(logKey)
	if err != nil {
		return fail(err)
	}
	witness, err := evidence.WitnessVerifier(witnessKey)
	if err != nil {
		return fail(err)
	}
	if len(answer) > evidence.MaxCheckpointBytes || len(checkpoint) > evidence.MaxCheckpointBytes {
		return fail(errors.New("the answer is too long"))
	}
	n, err := note.Open(append(bytes.Clone(checkpoint), answer...), note.VerifierList(log, witness))
	if err != nil {
		return fail(err)
	}
	for _, s := range n.Sigs {
		if s.Name != witness.Name() || s.Hash != witness.KeyHash() {
			continue
		}
		if at, err = evidence.CosignedAt(s); err != nil {
			return fail(err)
		}
		return fmt.Appendf(nil, "— %s %s\n", s.Name, s.Base64), at, nil
	}
	return fail(fmt.Errorf("there is none by %s+%08x", witness.Name(), witness.KeyHash()))
}
