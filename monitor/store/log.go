package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var (
	// ErrSealed is wrapped by the refusal of an entry for an hour that is sealed.
	ErrSealed = errors.New("hour is sealed")
	// ErrUnfit is wrapped by the refusal of an entry for what it holds: the disk is well.
	ErrUnfit = errors.New("not fit for the log")
	// ErrHeld is wrapped by [Log.Seal] between [Log.Hold] and [Log.Confront].
	ErrHeld = errors.New("nothing is signed until the witnesses have been asked for this log's last checkpoint")
	// ErrReadOnly is wrapped when a log that is closed, or was opened by [OpenRead], is to be written.
	ErrReadOnly = errors.New("log is not open for writing")
)

// Log is a monitor's evidence log on disk. Its methods may be called from
// several goroutines.
type Log struct {
	dir     string
	disk    durable.Disk
	lock    *os.File // nil: for reading only
	meta    meta
	key     evidence.SigningKey
	witness evidence.SigningKey
	plan    *bls.SecretKey

	mu      sync.Mutex
	tree    *evidence.Tree             // over the headers of all blocks
	leaf    evidence.Hash              // of the last block
	last    *evidence.Header           // of the last block
	signed  int64                      // size of the last checkpoint on disk
	headers map[evidence.Month]segment // where the next header goes on; one entry, the last month's
	wals    map[evidence.Hour]*openWAL
	held    bool
	refused bool // the disk did not take the last write, see [Log.Room]

	lately sealedCertificates // with a lock of its own

	// Round is the beacon that the header of an hour is to hold; nil, or none: no header
	// holds one. It is set before the first [Log.Seal].
	Round func(evidence.Hour) []byte
}

// openWAL is an hour's write-ahead log with the file it goes to.
type openWAL struct {
	*wal
	file segment
}

// Close lets go of the log; attempts and blocks are on disk already.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.wals {
		w.file.close()
	}
	for m, s := range l.headers {
		s.close()
		l.headers[m] = s
	}
	if l.lock == nil {
		return nil
	}
	err := l.lock.Close()
	l.lock = nil
	return err
}

// Origin is <name>/relaymon/<network>.
func (l *Log) Origin() string { return l.meta.Origin }

// Network is what was fixed at creation.
func (l *Log) Network() evidence.Network {
	_, n, _ := evidence.ParseOrigin(l.meta.Origin)
	return n
}

// Key is the verifier key of the log, as it stands in a roster.
func (l *Log) Key() string { return l.meta.Key }

// WitnessKey is the verifier key with which this monitor cosigns others' checkpoints.
func (l *Log) WitnessKey() string { return l.meta.WitnessKey }

// First is the hour of the first block; block i is of hour First+i.
func (l *Log) First() evidence.Hour { return l.meta.First }

// Size is the number of sealed hours under the last checkpoint.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signed
}

// next is the hour of the next block.
func (l *Log) next() evidence.Hour { return l.meta.First + evidence.Hour(l.tree.Size) }

// Begin notes that the monitor is watching hour h from at on. It is called at the
// start of every hour, and again after a start within it. An hour that was not begun
// and holds nothing is a gap.
func (l *Log) Begin(h evidence.Hour, at time.Time, software string) error {
	return l.write(h, entry{Begin: &begin{evidence.TimeOf(at), software}})
}

// Append writes an attempt that belongs to hour h; when it returns nil the
// attempt is on disk and counts. If the attempt refers to a certificate, its DER
// must come along unless the log keeps it already. Hours already sealed are
// refused (ErrSealed).
func (l *Log) Append(h evidence.Hour, a evidence.Attempt, certs ...[]byte) error {
	if err := l.write(h, entry{Attempt: &a}, certs...); err != nil {
		return fmt.Errorf("append attempt on %s: %w", a.PeerID, err)
	}
	return nil
}

// Mark writes facts about the monitor itself (clock, missed attempts) that will
// stand in the header of hour h.
func (l *Log) Mark(h evidence.Hour, m evidence.Mark) error { return l.write(h, entry{Mark: &m}) }

func (l *Log) write(h evidence.Hour, e entry, certs ...[]byte) error {
	if err := e.check(h); err != nil {
		return unfit(err)
	}
	line, err := evidence.Encode(e)
	if err != nil {
		return unfit(err)
	}
	if len(line) > maxEntry {
		return unfit(fmt.Errorf("entry of %d bytes is too long", len(line)))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(h, e, line, certs...)
}

func unfit(err error) error { return fmt.Errorf("%w: %w", ErrUnfit, err) }

// append writes an entry that was checked, with its encoding.
func (l *Log) append(h evidence.Hour, e entry, line []byte, certs ...[]byte) error {
	if l.lock == nil {
		return ErrReadOnly
	}
	if h < l.next() {
		return fmt.Errorf("hour %s: %w", h, ErrSealed)
	}
	w := l.wals[h]
	if w == nil {
		w = &openWAL{wal: newWAL(h), file: segment{disk: l.disk, path: l.walPath(h)}}
	}
	if err := w.admits(e, line); err != nil {
		return unfit(err)
	}
	if e.Attempt != nil {
		if err := l.keepCertificate(e.Attempt.Facts.Certificate, certs); err != nil {
			return err
		}
	}
	if err := w.file.append(append(bytes.Clone(line), '\n')); err != nil {
		l.refused = true
		return fmt.Errorf("write to hour %s: %w", h, err)
	}
	w.add(e, line)
	l.wals[h] = w
	return nil
}

// Clock sums up the clock samples of an hour that is not sealed, and more.
func (l *Log) Clock(h evidence.Hour, more ...evidence.ClockSample) evidence.Clock {
	return evidence.SumUpClock(append(l.samples(h), more...))
}

// Even says whether the clock ran evenly from the first sample of hour h up to now:
// in one boot, and without a step. What was measured by it since then holds.
func (l *Log) Even(h evidence.Hour, now evidence.ClockSample) bool {
	list := l.samples(h)
	other := func(s evidence.ClockSample) bool { return s.Boot != now.Boot }
	return len(list) > 0 && !slices.ContainsFunc(list, other) && !evidence.SumUpClock(append(list, now)).Moved(evidence.MinStep)
}

func (l *Log) samples(h evidence.Hour) []evidence.ClockSample {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.wals[h]; w != nil {
		return slices.Clone(w.clock)
	}
	return nil
}

// Records are the records of hour h in the order of their peer IDs, sealed or not.
func (l *Log) Records(h evidence.Hour) ([]evidence.Record, error) {
	l.mu.Lock()
	w, next := l.wals[h], l.next()
	if w != nil {
		defer l.mu.Unlock()
		return w.records(), nil
	}
	l.mu.Unlock() // what is sealed does not change, and reading it takes a while
	if h < l.meta.First || h >= next {
		return nil, nil
	}
	head, err := l.Header(h)
	if err != nil {
		return nil, err
	}
	return l.sealedRecords(head)
}

// sealedRecords are those of the hour of a header. They were checked when the hour was
// sealed; that they are still the same the header's root tells, in a fraction of the time.
func (l *Log) sealedRecords(head evidence.Header) ([]evidence.Record, error) {
	if head.Records == 0 {
		return nil, nil
	}
	damaged := func(err error) ([]evidence.Record, error) {
		return nil, l.errDamaged("records of %s: %w", head.Hour, err)
	}
	lines, err := l.recordLines(head.Hour)
	if err != nil {
		return damaged(err)
	}
	root, err := evidence.RecordsRoot(lines)
	if err != nil {
		return damaged(err)
	}
	if root != head.Root {
		return damaged(errors.New("they are not those that were sealed"))
	}
	list := make([]evidence.Record, len(lines))
	for i, line := range lines {
		if err := evidence.DecodeSealed(line, &list[i]); err != nil {
			return damaged(err)
		}
	}
	return list, nil
}

// Progress is how far a log has come. What is added to the log changes it.
type Progress struct {
	// Next is the hour of the next block: all before it are sealed.
	Next evidence.Hour
	// Unsealed are the hours that hold something and have no block yet, in order.
	Unsealed []UnsealedHour
}

// UnsealedHour is an hour that may still grow, and how much was written of it.
type UnsealedHour struct {
	Hour  evidence.Hour
	Bytes int64
}

// Progress tells how far the log has come, without reading any of it: whoever keeps
// what it holds knows by this what to read again.
func (l *Log) Progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Progress{Next: l.next()}
	for _, h := range l.unsealed() {
		p.Unsealed = append(p.Unsealed, UnsealedHour{h, l.wals[h].file.good})
	}
	return p
}

// recordLines are the canonical records of a sealed hour.
func (l *Log) recordLines(h evidence.Hour) ([][]byte, error) {
	b, err := os.ReadFile(l.recordsPath(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return evidence.SplitLines(b)
}

// joinLines is the inverse of [evidence.SplitLines].
func joinLines(lines [][]byte) []byte {
	var b []byte
	for _, line := range lines {
		b = append(append(b, line...), '\n')
	}
	return b
}

// monthHeaders are the lines of a month's sealed blocks.
func (l *Log) monthHeaders(m evidence.Month) ([][]byte, error) {
	if m < l.meta.First.Month() || l.tree.Size == 0 || m > l.last.Hour.Month() {
		return nil, nil
	}
	b, err := os.ReadFile(l.headersPath(m))
	if err != nil {
		return nil, err
	}
	if s, ok := l.headers[m]; ok { // a torn line after it does not count
		b = b[:min(int64(len(b)), s.good)]
	}
	return evidence.SplitLines(b)
}

// Header is the header of a sealed hour; fs.ErrNotExist for others.
func (l *Log) Header(h evidence.Hour) (evidence.Header, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h < l.meta.First || h >= l.next() {
		return evidence.Header{}, fmt.Errorf("block %s: %w", h, fs.ErrNotExist)
	}
	lines, err := l.monthHeaders(h.Month())
	if err != nil {
		return evidence.Header{}, err
	}
	i := int(h - max(h.Month().First(), l.meta.First))
	if i >= len(lines) {
		return evidence.Header{}, l.errDamaged("block %s is missing", h)
	}
	return evidence.DecodeHeader(lines[i])
}

// Unsealed are the hours that hold something and have no block yet, in order.
func (l *Log) Unsealed() []evidence.Hour {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsealed()
}

// unsealed are the hours that hold something and have no block yet, in order.
func (l *Log) unsealed() []evidence.Hour {
	var list []evidence.Hour
	for h := range l.wals {
		list = append(list, h)
	}
	slices.Sort(list)
	return list
}

// SignStatement puts an in-toto statement into a DSSE envelope signed by the log's
// key, see [evidence.SignStatement].
func (l *Log) SignStatement(statement []byte) ([]byte, error) {
	return evidence.SignStatement(statement, l.key)
}
