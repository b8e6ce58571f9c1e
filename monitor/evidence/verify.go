package evidence

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
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
	var hours []VerifiedHour
	out, err := VerifyHours(m, k, func(h VerifiedHour) error {
		hours = append(hours, h)
		return nil
	})
	out.Hours = hours
	return out, err
}

// VerifyHours is [VerifyMonth] that hands over each hour, in order, instead of keeping
// them all: with their records they are much larger than the rest. If there is an error
// in the end, also one of visit, nothing counts that was handed over.
func VerifyHours(m MonitorMonth, k Keys, visit func(VerifiedHour) error) (VerifiedMonth, error) {
	v := monthVerifier{m: m, keys: k, visit: visit}
	if err := v.verify(v.identity, v.relay, v.start, v.blocks, v.checkpoints, v.tip, v.certificates, v.records, v.allUsed); err != nil {
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
	before    Checkpoint        // over the blocks before the month
	names     map[string]string // witness's key name and hash to its key as given
	examiner  *Examiner
	tree      *Tree
	hours     []VerifiedHour  // of the month's blocks; their records come last
	used      map[string]bool // certificates that were referred to
	visit     func(VerifiedHour) error
	out       VerifiedMonth
}

func (v *monthVerifier) verify(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// identity checks whose export it is.
func (v *monthVerifier) identity() (err error) {
	if v.m.Key != v.keys.Log {
		return fmt.Errorf("it is of the log with the key %s, want %s", v.m.Key, v.keys.Log)
	}
	if v.log, err = LogVerifier(v.keys.Log); err != nil {
		return err
	}
	if v.m.Origin != v.log.Name() {
		return fmt.Errorf("origin %s is not the name of the log's key %s", v.m.Origin, v.log.Name())
	}
	name, network, err := ParseOrigin(v.m.Origin)
	if err != nil {
		return err
	}
	if v.examiner, err = NewExaminer(v.keys); err != nil {
		return err
	}
	v.witnesses, v.names = v.examiner.vouchers.witnesses, v.examiner.vouchers.names
	v.out = VerifiedMonth{Origin: v.m.Origin, Name: name, Network: network, Month: v.m.Month, AsOf: v.m.AsOf}
	return nil
}

// relay checks of whom the export is.
func (v *monthVerifier) relay() (err error) {
	if err := checkPeer(v.m.Relay); err != nil {
		return err
	}
	v.out.Relay, v.out.Certificates = v.m.Relay, make(map[string][]byte)
	v.out.Digest, err = v.m.digest()
	return err
}

func signerID(name string, hash uint32) string { return fmt.Sprintf("%s+%08x", name, hash) }

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
	c, err := OpenCheckpoint(v.m.Start, v.log, v.witnesses...)
	if err != nil {
		return err
	}
	root, err := v.tree.Root(v.tree.Size)
	if err != nil {
		return err
	}
	if c.Size != v.m.StartSize || c.Root != root {
		return fmt.Errorf("the checkpoint before the month is of size %d, or not of the frontier of %d blocks", c.Size, v.m.StartSize)
	}
	v.out.Size, v.out.Root, v.before = c.Size, c.Root, c
	_, err = v.cosigned(c)
	return err
}

// blocks checks that the hours follow each other without a hole.
func (v *monthVerifier) blocks() error {
	for i, line := range v.m.Headers {
		h, err := DecodeHeader(line)
		if err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		switch {
		case i == 0 && v.m.StartSize > 0 && h.Hour != v.m.Month.First():
			return fmt.Errorf("block 0 is of hour %s, want the month's first", h.Hour)
		case i == 0 && v.m.StartSize == 0 && h.Previous != (Hash{}):
			return errors.New("the log's first block refers to one before")
		case i > 0 && h.Hour != v.hours[i-1].Header.Hour+1:
			return fmt.Errorf("block %d is of hour %s, the one before of %s", i, h.Hour, v.hours[i-1].Header.Hour)
		case len(h.Cosigned) > 0 && (i > 0 && !v.hours[i-1].Header.Signed || v.tree.Size == 0):
			return fmt.Errorf("block %s tells of cosignatures, and there is no checkpoint over the blocks before it", h.Hour)
		case i > 0 && h.Previous != tlog.RecordHash(v.m.Headers[i-1]):
			return fmt.Errorf("block %s does not refer to the one before", h.Hour)
		case !v.m.Month.Contains(h.Hour):
			return fmt.Errorf("block %s is not of the month", h.Hour)
		case h.SealedAt.After(v.m.AsOf.Time):
			return fmt.Errorf("block %s was sealed after %s", h.Hour, v.m.AsOf)
		}
		if err := v.tree.Add(tlog.RecordHash(line)); err != nil {
			return err
		}
		v.hours = append(v.hours, VerifiedHour{Header: h, ClockFault: h.Clock.Fault()})
	}
	if last := v.last(); last != nil && !last.Signed {
		return fmt.Errorf("the last block %s is under no checkpoint", last.Hour)
	}
	return nil
}

// last is the month's last header; nil, if the log does not come to the month.
func (v *monthVerifier) last() *Header {
	if len(v.hours) == 0 {
		return nil
	}
	return &v.hours[len(v.hours)-1].Header
}

// checkpoints checks that each was signed over the blocks before it, and who
// cosigned which hours when.
func (v *monthVerifier) checkpoints() error {
	var signed []int // headers that end a checkpoint
	for i, h := range v.hours {
		if h.Header.Signed {
			signed = append(signed, i)
		}
	}
	if len(signed) != len(v.m.Checkpoints) {
		return fmt.Errorf("there are %d checkpoints for %d signed blocks", len(v.m.Checkpoints), len(signed))
	}
	opened := make([]Checkpoint, len(signed))
	err := parallel(len(signed), func(n int) error {
		h, size := v.hours[signed[n]].Header, v.m.StartSize+int64(signed[n])+1
		c, err := OpenCheckpoint(v.m.Checkpoints[n], v.log, v.witnesses...)
		if err != nil {
			return fmt.Errorf("block %s: %w", h.Hour, err)
		}
		root, err := v.tree.Root(size)
		if err != nil {
			return err
		}
		if c.Size != size || c.Root != root {
			return fmt.Errorf("the checkpoint over block %s is of size %d, want %d, or its root is not that of the blocks", h.Hour, c.Size, size)
		}
		opened[n] = c
		return nil
	})
	if err != nil {
		return err
	}
	if err := v.held(signed, opened); err != nil {
		return err
	}
	covered := 0                                           // hours under the checkpoints so far
	earliest := make([]map[string]time.Time, len(v.hours)) // by hour and witness
	for n, i := range signed {
		c, h := opened[n], v.hours[i].Header
		v.out.Size, v.out.Root = c.Size, c.Root
		if earliest[i], err = v.cosigned(c); err != nil {
			return err
		}
		for _, s := range c.Cosignatures {
			at := earliest[i][v.names[signerID(s.Name, s.Hash)]]
			if at.Before(h.SealedAt.Add(-maxWitnessLag)) {
				for j := covered; j <= i; j++ {
					if v.hours[j].ClockFault == "" {
						v.hours[j].ClockFault = fmt.Sprintf("%s cosigned at %s what the monitor says it sealed at %s", s.Name, TimeOf(at), h.SealedAt)
					}
				}
			}
		}
		covered = i + 1
	}
	if last := v.last(); last != nil {
		v.out.Tip = Tip{last.Hour + 1, list(earliest[len(earliest)-1])}
	}
	// What a later checkpoint covers was seen by its witnesses as well. But a time
	// before the sealing of the last block it covers is wrong, be it by the witness's
	// clock or the monitor's: it speaks for no hour before that checkpoint.
	first, wrong := make(map[string]time.Time), make(map[string]time.Time)
	for i := len(v.hours) - 1; i >= 0; i-- {
		if h := v.hours[i].Header; h.Signed {
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
		v.hours[i].Cosigned = list(seen)
	}
	return nil
}

// held checks that the cosignatures of which headers tell are there: nobody can leave out
// what the monitor held, nor put another of the same witness in its place. One of before
// the sealing would say that the monitor's clock was wrong, and so take its vote away.
// Those by witnesses that are not known are nothing to us.
func (v *monthVerifier) held(signed []int, opened []Checkpoint) error {
	before := v.before
	for i, n := 0, 0; i < len(v.hours); i++ {
		h := v.hours[i].Header
		for _, c := range h.Cosigned {
			key, known := v.names[c.Witness]
			if !known {
				continue
			}
			times, err := v.cosigned(before)
			if err != nil {
				return err
			}
			if at, there := times[key]; !there || !at.Equal(c.Time.Time) {
				return fmt.Errorf("block %s tells that %s cosigned the checkpoint of size %d at %s, and that cosignature is not there", h.Hour, c.Witness, before.Size, c.Time)
			}
		}
		if n < len(signed) && signed[n] == i {
			before = opened[n]
			n++
		}
	}
	return nil
}

// cosigned tells when each witness cosigned a checkpoint: none after the time as of which
// the export was made.
func (v *monthVerifier) cosigned(c Checkpoint) (map[string]time.Time, error) {
	times := make(map[string]time.Time)
	for _, s := range c.Cosignatures {
		at, err := CosignedAt(s)
		if err != nil {
			return nil, err
		}
		if at.After(v.m.AsOf.Time) {
			return nil, fmt.Errorf("%s cosigned the checkpoint of size %d at %s, which is after %s", s.Name, c.Size, TimeOf(at), v.m.AsOf)
		}
		times[v.names[signerID(s.Name, s.Hash)]] = at
	}
	return times, nil
}

// list puts times in the order of the witnesses' names.
func list(times map[string]time.Time) (out []Cosigned) {
	for _, key := range slices.Sorted(maps.Keys(times)) {
		out = append(out, Cosigned{key, times[key]})
	}
	return out
}

// tip checks how far the log reaches beyond the month.
func (v *monthVerifier) tip() error {
	if v.m.Tip == nil {
		if len(v.m.TipProof) > 0 {
			return errors.New("there is a proof for a tip, and no tip")
		}
		return nil
	}
	last := v.last()
	if last == nil || last.Hour != v.m.Month.End()-1 {
		return errors.New("there is a tip, which is later than the month, and the month's blocks do not come to its end")
	}
	c, err := OpenCheckpoint(v.m.Tip, v.log, v.witnesses...)
	if err != nil {
		return fmt.Errorf("tip: %w", err)
	}
	if c.Size <= v.out.Size {
		return fmt.Errorf("the tip is of size %d, the month's last checkpoint of %d: want a later one or none", c.Size, v.out.Size)
	}
	if err := tlog.CheckTree(v.m.TipProof, c.Size, c.Root, v.out.Size, v.out.Root); err != nil {
		return fmt.Errorf("the blocks of the month are not under the tip: %w", err)
	}
	end := v.out.Tip.End + Hour(c.Size-v.out.Size)
	if !(end - 1).Closed(v.m.AsOf.Time) {
		return fmt.Errorf("the tip covers hours up to %s, which had not closed at %s", end-1, v.m.AsOf)
	}
	times, err := v.cosigned(c)
	if err != nil {
		return fmt.Errorf("tip: %w", err)
	}
	v.out.Tip = Tip{end, list(times)}
	return nil
}

func (v *monthVerifier) certificates() error {
	v.used = make(map[string]bool)
	last := ""
	for _, der := range v.m.Certificates {
		sha := SHA256Hex(der)
		if sha <= last {
			return errors.New("certificates are not in the order of their hashes")
		}
		last = sha
		if err := checkLeaf(der); err != nil {
			return fmt.Errorf("certificate %s: %w", sha, err)
		}
		v.out.Certificates[sha] = der
	}
	return nil
}

// atOnce is how many records are in memory, if nobody keeps them.
const atOnce = 32

// records checks that of each block with records there is the relay's, or a proof that
// it has none, judges the vouchers, and hands over the hours.
func (v *monthVerifier) records() error {
	proofs, records := v.m.Proofs, v.m.Records
	for len(v.hours) > 0 {
		hours := v.hours[:min(atOnce, len(v.hours))]
		v.hours = v.hours[len(hours):]
		var jobs []recordJob
		for i := range hours {
			h := hours[i].Header
			if h.Records == 0 {
				continue
			}
			job := recordJob{hour: &hours[i]}
			if len(proofs) == 0 {
				return fmt.Errorf("block %s: it has %d records, and nothing shows whether one is of the relay", h.Hour, h.Records)
			}
			if err := DecodeLine(proofs[0], maxBlockProof, &job.proof); err != nil {
				return fmt.Errorf("block %s: the proof of what it holds of the relay: %w", h.Hour, err)
			}
			if job.proof.Hour != h.Hour {
				return fmt.Errorf("block %s: nothing shows whether one of its %d records is of the relay; the next proof is of %s", h.Hour, h.Records, job.proof.Hour)
			}
			proofs = proofs[1:]
			if job.proof.Present {
				if len(records) == 0 {
					return fmt.Errorf("block %s: the relay's record is missing", h.Hour)
				}
				job.record, records = records[0], records[1:]
			}
			jobs = append(jobs, job)
		}
		if err := parallel(len(jobs), func(i int) error {
			if err := v.record(jobs[i]); err != nil {
				return fmt.Errorf("block %s: %w", jobs[i].hour.Header.Hour, err)
			}
			return nil
		}); err != nil {
			return err
		}
		v.rounds(hours)
		v.examine(hours)
		for i, h := range hours {
			if h.Record != nil {
				for _, a := range h.Record.Attempts {
					if err := v.attempt(a); err != nil {
						return fmt.Errorf("record of %s: %w", h.Record.Hour, err)
					}
				}
			}
			if err := v.visit(h); err != nil {
				return err
			}
			hours[i] = VerifiedHour{}
		}
	}
	if len(proofs) > 0 || len(records) > 0 {
		return fmt.Errorf("%d proofs and %d records are of no block that has records", len(proofs), len(records))
	}
	return nil
}

// rounds takes over those beacons that are their hours'. Another one is nothing: a
// monitor that writes it gains nothing by it.
func (v *monthVerifier) rounds(hours []VerifiedHour) {
	if v.keys.Beacon == nil {
		return
	}
	_ = parallel(len(hours), func(i int) error {
		if h := hours[i].Header; len(h.Round) > 0 && v.keys.Beacon.VerifyBeacon(h.Round, h.Hour.Start()) == nil {
			hours[i].Round = h.Round
		}
		return nil
	})
}

// recordJob is what there is of a block's records.
type recordJob struct {
	hour   *VerifiedHour
	proof  blockProof
	record []byte // the relay's; nil: it has none
}

func (v *monthVerifier) record(j recordJob) error {
	if err := j.proof.check(j.hour.Header, v.m.Relay, j.record); err != nil || j.record == nil {
		return err
	}
	r, err := DecodeRecord(j.record, j.hour.Header.Hour)
	if err != nil {
		return err
	}
	if r.PeerID != v.m.Relay {
		return fmt.Errorf("the record is of relay %s", r.PeerID)
	}
	j.hour.Record = &r
	return nil
}

// examine finds out what the records of some hours show.
func (v *monthVerifier) examine(hours []VerifiedHour) {
	var records []*Record
	for i := range hours {
		if r := hours[i].Record; r != nil {
			records = append(records, r)
		}
	}
	examined := v.examiner.Examine(records)
	for i := range hours {
		if hours[i].Record != nil {
			hours[i], examined = hours[i].With(hours[i].Record, examined[0]), examined[1:]
		}
	}
}

// attempt checks that the certificate an attempt names is there. What the record says of
// it is the monitor's word, as all of the record is.
func (v *monthVerifier) attempt(a Attempt) error {
	c := a.Facts.Certificate
	if c == nil {
		return nil
	}
	if _, ok := v.out.Certificates[c.SHA256]; !ok {
		return fmt.Errorf("certificate %.80s is missing", c.SHA256)
	}
	v.used[c.SHA256] = true
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

// parallel calls f for 0 to n-1, on all processors: most of the work is signatures.
// The error is that of the smallest index, so that it is always the same one.
func parallel(n int, f func(i int) error) error {
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
