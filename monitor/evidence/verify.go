package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxWitnessLag is how far behind the sealing a witness's clock may be (rule R9).
const maxWitnessLag = 5 * time.Second

// VerifyMonth checks every byte of m and returns what it shows. It is pure: no
// clock, no network, no files. Bad vouchers and clocks are facts of the log and
// are reported with their hours; everything else that is not as it should be is an
// error.
func VerifyMonth(m MonitorMonth, k Keys) (VerifiedMonth, error) {
	v := monthVerifier{m: m, keys: k}
	if err := v.verify(); err != nil {
		return VerifiedMonth{}, fmt.Errorf("verify %s of %s by %s: %w", m.Month, m.Relay, m.Origin, err)
	}
	return v.out, nil
}

// monthVerifier walks through an export from the outside in.
type monthVerifier struct {
	m         MonitorMonth
	keys      Keys
	log       note.Verifier
	witnesses []note.Verifier
	names     map[string]string // witness's key name and hash to its key as given
	vouchers  *Vouchers
	headers   []Header
	tree      *tree
	used      map[string]bool // certificates that were referred to
	out       VerifiedMonth
}

func (v *monthVerifier) verify() error {
	for _, step := range []func() error{
		v.identity, v.start, v.blocks, v.checkpoints, v.schedule, v.certificates, v.records, v.open, v.allUsed,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// identity checks whose export it is, and that nothing of it was changed since.
func (v *monthVerifier) identity() (err error) {
	if v.m.Key != v.keys.Log {
		return fmt.Errorf("it is signed by log key %s, want %s", v.m.Key, v.keys.Log)
	}
	if v.log, err = logVerifier(v.keys.Log); err != nil {
		return err
	}
	if v.m.Origin != v.log.Name() {
		return fmt.Errorf("origin %s is not the name of the log's key %s", v.m.Origin, v.log.Name())
	}
	name, network, err := ParseOrigin(v.m.Origin)
	if err != nil {
		return err
	}
	if err := checkPeer(v.m.Relay); err != nil {
		return err
	}
	if v.vouchers, err = NewVouchers(v.keys); err != nil {
		return err
	}
	v.witnesses, v.names = v.vouchers.witnesses, v.vouchers.names
	text, err := v.m.noteText()
	if err != nil {
		return err
	}
	n, err := openNote(v.m.Note, v.log)
	if err != nil {
		return fmt.Errorf("note: %w", err)
	}
	if n.Text != text {
		return fmt.Errorf("note: it is not over these files: %s", firstDifference(n.Text, text))
	}
	sum := sha256.Sum256([]byte(text))
	v.out = VerifiedMonth{Origin: v.m.Origin, Name: name, Network: network, Month: v.m.Month, Relay: v.m.Relay,
		AsOf: v.m.AsOf, Digest: hex.EncodeToString(sum[:]), Certificates: make(map[string][]byte)}
	return nil
}

func signerID(name string, hash uint32) string { return fmt.Sprintf("%s+%08x", name, hash) }

// firstDifference names the first line in which two texts differ.
func firstDifference(signed, found string) string {
	a, b := strings.Split(signed, "\n"), strings.Split(found, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("it says %q, they are %q", a[i], b[i])
		}
	}
	return "it lists others"
}

// start rebuilds the tree before the month.
func (v *monthVerifier) start() (err error) {
	if v.tree, err = frontierTree(v.m.StartSize, v.m.Frontier); err != nil {
		return err
	}
	if v.m.StartSize == 0 {
		if v.m.Start != nil {
			return errors.New("the log begins in this month, and there is a checkpoint before it")
		}
		return nil
	}
	c, err := openCheckpoint(v.m.Start, v.log, v.witnesses...)
	if err != nil {
		return err
	}
	root, err := v.tree.root(v.tree.size)
	if err != nil {
		return err
	}
	if c.size != v.m.StartSize || c.root != root {
		return fmt.Errorf("the checkpoint before the month is of size %d, or not of the frontier of %d blocks", c.size, v.m.StartSize)
	}
	v.out.Size, v.out.Root = c.size, c.root
	return nil
}

// blocks checks that the hours follow each other without a hole.
func (v *monthVerifier) blocks() error {
	for i, line := range v.m.Headers {
		h, err := decodeHeader(line)
		if err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		switch {
		case i == 0 && v.m.StartSize > 0 && h.Hour != v.m.Month.First():
			return fmt.Errorf("block 0 is of hour %s, want the month's first", h.Hour)
		case i == 0 && v.m.StartSize == 0 && h.Previous != (Hash{}):
			return errors.New("the log's first block refers to one before")
		case i > 0 && h.Hour != v.headers[i-1].Hour+1:
			return fmt.Errorf("block %d is of hour %s, the one before of %s", i, h.Hour, v.headers[i-1].Hour)
		case i > 0 && h.Previous != tlog.RecordHash(v.m.Headers[i-1]):
			return fmt.Errorf("block %s does not refer to the one before", h.Hour)
		case !v.m.Month.Contains(h.Hour):
			return fmt.Errorf("block %s is not of the month", h.Hour)
		case h.SealedAt.After(v.m.AsOf.Time):
			return fmt.Errorf("block %s was sealed after %s", h.Hour, v.m.AsOf)
		}
		if err := v.tree.add(tlog.RecordHash(line)); err != nil {
			return err
		}
		v.headers = append(v.headers, h)
		v.out.Hours = append(v.out.Hours, VerifiedHour{Header: h, ClockFault: h.Clock.Fault()})
	}
	if n := len(v.headers); n > 0 {
		last := v.headers[n-1]
		if !last.Signed {
			return fmt.Errorf("the last block %s is under no checkpoint", last.Hour)
		}
	}
	return nil
}

// checkpoints checks that each was signed over the blocks before it, and who
// cosigned which hours when.
func (v *monthVerifier) checkpoints() error {
	var signed []int // headers that end a checkpoint
	for i, h := range v.headers {
		if h.Signed {
			signed = append(signed, i)
		}
	}
	if len(signed) != len(v.m.Checkpoints) {
		return fmt.Errorf("there are %d checkpoints for %d signed blocks", len(v.m.Checkpoints), len(signed))
	}
	opened := make([]checkpoint, len(signed))
	err := each(len(signed), func(n int) error {
		h, size := v.headers[signed[n]], v.m.StartSize+int64(signed[n])+1
		c, err := openCheckpoint(v.m.Checkpoints[n], v.log, v.witnesses...)
		if err != nil {
			return fmt.Errorf("block %s: %w", h.Hour, err)
		}
		root, err := v.tree.root(size)
		if err != nil {
			return err
		}
		if c.size != size || c.root != root {
			return fmt.Errorf("the checkpoint over block %s is of size %d, want %d, or its root is not that of the blocks", h.Hour, c.size, size)
		}
		opened[n] = c
		return nil
	})
	if err != nil {
		return err
	}
	covered := 0                                             // hours under the checkpoints so far
	earliest := make([]map[string]time.Time, len(v.headers)) // by hour and witness
	for n, i := range signed {
		c, h := opened[n], v.headers[i]
		v.out.Size, v.out.Root = c.size, c.root
		times := make(map[string]time.Time)
		for _, s := range c.sigs {
			at, err := cosignedAt(s)
			if err != nil {
				return err
			}
			key := v.names[signerID(s.Name, s.Hash)]
			times[key] = at
			if at.Before(h.SealedAt.Add(-maxWitnessLag)) {
				for j := covered; j <= i; j++ {
					if v.out.Hours[j].ClockFault == "" {
						v.out.Hours[j].ClockFault = fmt.Sprintf("%s cosigned at %s what the monitor says it sealed at %s", s.Name, TimeOf(at), h.SealedAt)
					}
				}
			}
		}
		earliest[i] = times
		covered = i + 1
	}
	// What a later checkpoint covers was seen by its witnesses as well. But a time
	// before the sealing of the last block it covers is wrong, be it by the witness's
	// clock or the monitor's: it speaks for no hour before that checkpoint.
	first, wrong := make(map[string]time.Time), make(map[string]time.Time)
	for i := len(v.headers) - 1; i >= 0; i-- {
		if h := v.headers[i]; h.Signed {
			clear(wrong)
			for key, at := range earliest[i] {
				if at.Before(h.SealedAt.Add(-maxWitnessLag)) {
					wrong[key] = at
				} else if old, ok := first[key]; !ok || at.Before(old) {
					first[key] = at
				}
			}
		}
		seen := maps.Clone(first)
		maps.Copy(seen, wrong)
		for _, key := range slices.Sorted(maps.Keys(seen)) {
			v.out.Hours[i].Cosigned = append(v.out.Hours[i].Cosigned, Cosigned{key, seen[key]})
		}
	}
	return nil
}

func (v *monthVerifier) certificates() error {
	v.used = make(map[string]bool)
	last := ""
	for _, der := range v.m.Certificates {
		sha := hashHex(der)
		if sha <= last {
			return errors.New("certificates are not in the order of their hashes")
		}
		last = sha
		v.out.Certificates[sha] = der
	}
	return nil
}

// records checks that each is in its block, and judges the vouchers.
func (v *monthVerifier) records() error {
	blocks := make([]int, len(v.m.Records)) // of which header each is
	for i, p := range v.m.Records {
		if i > 0 && p.Hour <= v.m.Records[i-1].Hour {
			return fmt.Errorf("record of %s is not in order", p.Hour)
		}
		if len(v.headers) == 0 || p.Hour < v.headers[0].Hour || p.Hour > v.headers[len(v.headers)-1].Hour {
			return fmt.Errorf("record of %s has no block", p.Hour)
		}
		blocks[i] = int(p.Hour - v.headers[0].Hour)
	}
	err := each(len(v.m.Records), func(i int) error {
		if err := v.record(v.m.Records[i], &v.out.Hours[blocks[i]]); err != nil {
			return fmt.Errorf("record of %s: %w", v.m.Records[i].Hour, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, h := range v.out.Hours {
		if h.Record == nil {
			continue
		}
		for _, a := range h.Record.Attempts {
			if err := v.attempt(a); err != nil {
				return fmt.Errorf("record of %s: %w", h.Record.Hour, err)
			}
		}
	}
	return nil
}

func (v *monthVerifier) record(p ProvenRecord, hour *VerifiedHour) error {
	h := hour.Header
	if err := tlog.CheckRecord(p.Proof, h.Records, h.Root, p.Index, tlog.RecordHash(p.Record)); err != nil {
		return fmt.Errorf("it is not in its block: %w", err)
	}
	r, err := decodeRecord(p.Record, p.Hour)
	if err != nil {
		return err
	}
	if r.PeerID != v.m.Relay {
		return fmt.Errorf("it is of relay %s", r.PeerID)
	}
	hour.Record = &r
	for _, a := range r.Attempts {
		hour.Vouchers = append(hour.Vouchers, v.vouchers.Verify(a, p.Hour))
	}
	return nil
}

// attempt checks that the certificate an attempt tells of is there.
func (v *monthVerifier) attempt(a Attempt) error {
	c := a.Facts.Certificate
	if c == nil {
		return nil
	}
	der, ok := v.out.Certificates[c.SHA256]
	if !ok {
		return fmt.Errorf("certificate %s is missing", c.SHA256)
	}
	v.used[c.SHA256] = true
	return checkCertificate(*c, der)
}

// open checks the hours that are not sealed yet. Only the note vouches for them.
func (v *monthVerifier) open() error {
	for i, o := range v.m.Open {
		if i > 0 && o.Hour <= v.m.Open[i-1].Hour || !v.m.Month.Contains(o.Hour) ||
			len(v.headers) > 0 && o.Hour <= v.headers[len(v.headers)-1].Hour {
			return fmt.Errorf("open hour %s is out of place", o.Hour)
		}
		if len(o.Lines) == 0 || !bytes.HasSuffix(o.Lines, []byte("\n")) {
			return fmt.Errorf("open hour %s: the last line is not ended", o.Hour)
		}
		lines, err := splitLines(o.Lines)
		if err != nil {
			return err
		}
		r := Record{PeerID: v.m.Relay, Hour: o.Hour}
		for _, line := range lines {
			var a Attempt
			if err := Decode(line, &a); err != nil {
				return fmt.Errorf("open hour %s: %w", o.Hour, err)
			}
			if err := v.attempt(a); err != nil {
				return fmt.Errorf("open hour %s: %w", o.Hour, err)
			}
			if a.Started.After(v.m.AsOf.Time) {
				return fmt.Errorf("open hour %s: attempt of %s is after %s", o.Hour, a.Started, v.m.AsOf)
			}
			r.Attempts = append(r.Attempts, a)
		}
		slices.SortStableFunc(r.Attempts, func(a, b Attempt) int { return a.Started.Compare(b.Started.Time) })
		if err := checkRecord(r, o.Hour); err != nil {
			return fmt.Errorf("open hour %s: %w", o.Hour, err)
		}
		v.out.Open = append(v.out.Open, r)
	}
	return nil
}

func (v *monthVerifier) allUsed() error {
	for sha := range v.out.Certificates {
		if !v.used[sha] {
			return fmt.Errorf("no record refers to certificate %s", sha)
		}
	}
	return nil
}

// each calls f for 0 to n-1, on all processors: most of the work is signatures.
// The error is that of the smallest index, so that it is always the same one.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	var g sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		g.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				errs[i] = f(int(i))
			}
		})
	}
	g.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
