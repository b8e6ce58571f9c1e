package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// CheckReport says what [Check] saw.
type CheckReport struct {
	Origin      string        `json:"origin"`
	Key         string        `json:"key"`
	First       evidence.Hour `json:"first"`
	Blocks      int64         `json:"blocks"`
	Watched     int64         `json:"watched"`
	Gaps        int64         `json:"gaps"`
	Records     int64         `json:"records"`
	Attempts    int64         `json:"attempts"`
	Checkpoints int64         `json:"checkpoints"`
	// Cosignatures is how many there are by the given witnesses, all good, Others how
	// many by keys that were not given.
	Cosignatures int64 `json:"cosignatures"`
	Others       int64 `json:"other_cosignatures"`
	Certificates int64 `json:"certificates"`
	// Open are the hours that are not sealed yet.
	Open []evidence.Hour `json:"open"`
	// Faults say what is wrong, in the order it was met; none: the store is sound.
	Faults []string `json:"faults"`
}

// Check verifies a whole store without changing it, also while a monitor writes
// to it: every block, record, checkpoint and certificate, and the cosignatures of
// the given witnesses (verifier keys). Lines of hours that are not sealed yet have
// no hash over them and are checked for their form only. The error is of a store
// that cannot be read at all; what is wrong in it stands in the report.
func Check(dir string, witnesses ...string) (CheckReport, error) {
	l, err := OpenRead(dir)
	if err != nil {
		return CheckReport{}, fmt.Errorf("check: %w", err)
	}
	known, err := evidence.WitnessVerifiers(witnesses)
	if err != nil {
		return CheckReport{}, fmt.Errorf("check: %w", err)
	}
	c := newChecker(l, known...)
	for _, name := range []string{metaFile, keyFile, witnessFile, planFile, lockFile, restoredFile} {
		c.known[l.path(name)] = true
	}
	for _, name := range []string{keyFile, witnessFile, planFile} {
		if fi, err := os.Stat(l.path(name)); err == nil && fi.Mode().Perm()&0o077 != 0 {
			c.fault("%s may be read by others (mode %04o): chmod 600, and, if it may have been, start a log with a new key", l.path(name), fi.Mode().Perm())
		}
	}
	c.content()
	if err := c.strangers(); err != nil {
		return CheckReport{}, fmt.Errorf("check: %w", err)
	}
	return c.r, nil
}

type checker struct {
	l         *Log
	witnesses []note.Verifier
	r         CheckReport
	known     map[string]bool  // files that belong to the store
	last      []note.Signature // under the last checkpoint
	// quick: sealed records are those of their block, and their certificates are there;
	// what stands in them was checked when they were written. It takes a tenth of the time.
	quick bool
}

// certificateOf finds the certificates in the canonical JSON of a record: nothing else in
// it has this key, and in a text the quotes are escaped.
var certificateOf = regexp.MustCompile(`"sha256":"([0-9a-f]{64})"`)

func newChecker(l *Log, witnesses ...note.Verifier) *checker {
	return &checker{l: l, witnesses: witnesses, known: make(map[string]bool), r: CheckReport{
		Origin: l.meta.Origin, Key: l.meta.Key, First: l.meta.First, Open: l.unsealed(), Faults: []string{}}}
}

// content looks at all that a copy of the log has, too.
func (c *checker) content() {
	c.blocks()
	for h, w := range c.l.wals {
		c.known[c.l.walPath(h)] = true
		for _, r := range w.records() {
			if err := evidence.CheckRecord(r, h); err != nil {
				c.fault("open hour %s: %v", h, err)
			}
			c.attempts(r)
		}
	}
}

func (c *checker) fault(format string, a ...any) {
	c.r.Faults = append(c.r.Faults, fmt.Sprintf(format, a...))
}

func (c *checker) blocks() {
	l := c.l
	at := int64(0)
	for m := l.meta.First.Month(); at < l.tree.Size; m++ {
		c.known[l.headersPath(m)] = true
		lines, err := l.monthHeaders(m)
		if err != nil || len(lines) == 0 {
			c.fault("blocks of %s: %v", m, err)
			return
		}
		for _, line := range lines {
			h, err := evidence.DecodeHeader(line)
			if err != nil {
				c.fault("block %d: %v", at, err)
				return
			}
			at++
			c.told(h)
			c.block(h)
			if h.Signed {
				c.checkpoint(at)
			}
		}
	}
	c.r.Blocks = at
}

// told checks that the cosignatures of which a header tells are there: no month is taken
// without them.
func (c *checker) told(h evidence.Header) {
	for _, held := range h.Cosigned {
		there := slices.ContainsFunc(c.last, func(s note.Signature) bool {
			at, err := evidence.CosignedAt(s)
			return err == nil && at.Equal(held.Time.Time) && fmt.Sprintf("%s+%08x", s.Name, s.Hash) == held.Witness
		})
		if !there {
			c.fault("block %s tells that %s cosigned the checkpoint before it at %s, and that cosignature is not there", h.Hour, held.Witness, held.Time)
		}
	}
}

func (c *checker) block(h evidence.Header) {
	if h.State == evidence.StateGap {
		c.r.Gaps++
	} else {
		c.r.Watched++
	}
	if h.Records > 0 {
		c.known[c.l.recordsPath(h.Hour)] = true
	}
	lines, err := c.l.recordLines(h.Hour)
	if err != nil {
		c.fault("records of %s: %v", h.Hour, err)
		return
	}
	root, err := evidence.RecordsRoot(lines)
	if err != nil {
		c.fault("records of %s: %v", h.Hour, err)
		return
	}
	if int64(len(lines)) != h.Records || root != h.Root {
		c.fault("records of %s: they are not those of the block", h.Hour)
		return
	}
	if c.quick {
		for _, line := range lines {
			for _, cert := range certificateOf.FindAllSubmatch(line, -1) {
				if err := c.certificate(string(cert[1])); err != nil {
					c.fault("records of %s: %v", h.Hour, err)
				}
			}
		}
		return
	}
	last := ""
	for _, line := range lines {
		r, err := evidence.DecodeRecord(line, h.Hour)
		if err != nil {
			c.fault("records of %s: %v", h.Hour, err)
			continue
		}
		if r.PeerID <= last {
			c.fault("records of %s: %s is not in order", h.Hour, r.PeerID)
		}
		last = r.PeerID
		c.attempts(r)
	}
}

func (c *checker) attempts(r evidence.Record) {
	c.r.Records++
	c.r.Attempts += int64(len(r.Attempts))
	for _, a := range r.Attempts {
		cert := a.Facts.Certificate
		if cert == nil {
			continue
		}
		if err := c.certificate(cert.SHA256); err != nil {
			c.fault("record of %s in %s: %v", r.PeerID, r.Hour, err)
		}
	}
}

// certificate looks at each once.
func (c *checker) certificate(sha string) error {
	path := c.l.certPath(sha)
	if c.known[path] {
		return nil
	}
	c.known[path] = true
	c.r.Certificates++
	_, err := c.l.certificate(sha)
	return err
}

func (c *checker) checkpoint(size int64) {
	c.known[c.l.checkpointPath(size)] = true
	p, err := c.l.readCheckpoint(size, c.witnesses...)
	if err != nil {
		// The last one may not have been signed yet when the monitor stopped.
		if size < c.l.tree.Size || !errors.Is(err, fs.ErrNotExist) {
			c.fault("checkpoint of size %d: %v", size, err)
		}
		return
	}
	if root, err := c.l.tree.Root(size); err != nil || root != p.Root {
		c.fault("checkpoint of size %d: its root is not that of the blocks", size)
	}
	c.r.Checkpoints++
	c.last = p.Cosignatures
	for _, sig := range p.Cosignatures {
		if slices.ContainsFunc(c.witnesses, func(w note.Verifier) bool { return w.Name() == sig.Name && w.KeyHash() == sig.Hash }) {
			c.r.Cosignatures++
		} else {
			c.r.Others++
		}
	}
}

// strangers names files that no block or record accounts for.
func (c *checker) strangers() error {
	return filepath.WalkDir(c.l.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() || c.known[path] || strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		// Leaves may be kept for an attempt that was then refused; a newer block
		// may have been sealed, and its hour's write-ahead file be gone, meanwhile.
		switch filepath.Dir(path) {
		case c.l.path(certsDir), c.l.path(walDir), c.l.path(witnessDir):
			return nil
		}
		if c.later(path, d.Name()) {
			return nil
		}
		c.fault("%s belongs to no block; move it away", path)
		return nil
	})
}

// later says whether a file is of a block that was not there when the log was
// read: the monitor went on, or stopped before it had written the header.
func (c *checker) later(path, name string) bool {
	if h, ok := evidence.ParseHourFile(name); ok {
		return h >= c.l.next() && path == c.l.recordsPath(h)
	}
	if m, err := evidence.ParseMonth(strings.TrimSuffix(name, ".jsonl")); err == nil {
		return m >= c.l.next().Month() && path == c.l.headersPath(m)
	}
	size, err := strconv.ParseInt(name, 10, 64)
	return err == nil && size > c.l.tree.Size && path == c.l.checkpointPath(size)
}
