package evidence

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"
)

// Network says what a log may hold: lab logs admit private addresses and the
// monitor's own host and never count; psf logs are evidence.
type Network string

// The networks.
const (
	Lab Network = "lab"
	PSF Network = "psf"
)

// Options fixes at creation what a log can never change.
type Options struct {
	// Name is the monitor's, such as a domain its operator holds: the log's
	// origin is <name>/relaymon/<network>.
	Name    string
	Network Network
	// First is the hour of the log's first block, usually the current one.
	First Hour
}

var (
	// ErrSealed is wrapped by the refusal of an entry for an hour that is sealed.
	ErrSealed = errors.New("hour is sealed")
	// ErrHeld is wrapped by [Log.Seal] between [Log.Hold] and [Log.Confront].
	ErrHeld = errors.New("nothing is signed until the witnesses have been asked for this log's last checkpoint")
	// ErrReadOnly is wrapped when a log that is closed, or was opened by [OpenRead], is to be written.
	ErrReadOnly = errors.New("log is not open for writing")
)

// Log is a monitor's evidence log on disk. Its methods may be called from
// several goroutines.
type Log struct {
	dir     string
	disk    disk
	lock    *os.File // nil: for reading only
	meta    meta
	key     secretKey
	witness secretKey

	mu      sync.Mutex
	tree    *tree             // over the headers of all blocks
	leaf    Hash              // of the last block
	last    *Header           // of the last block
	signed  int64             // size of the last checkpoint on disk
	headers map[Month]segment // where the next header goes on; one entry, the last month's
	wals    map[Hour]*openWAL
	held    bool
}

// openWAL is an hour's write-ahead log with the file it goes to.
type openWAL struct {
	*wal
	file segment
	here bool // begun by this process and not before
}

// meta is the file log.json, written last when a log is created.
type meta struct {
	Format     string `json:"format"`
	Origin     string `json:"origin"`
	First      Hour   `json:"first"`
	Key        string `json:"key"`
	WitnessKey string `json:"witness_key"`
}

const metaFormat = "relaymon-log/v1"

// The names within a log's folder.
const (
	metaFile    = "log.json"
	keyFile     = "log.key"
	witnessFile = "witness.key"
	lockFile    = "lock"
	walDir      = "wal"
	blocksDir   = "blocks"
	signedDir   = "checkpoints"
	certsDir    = "certs"
)

// Create makes a new log with new keys in dir, and opens it. A folder that holds
// a log already is refused (fs.ErrExist).
func Create(dir string, o Options) (*Log, error) { return create(realDisk{}, dir, o) }

func create(d disk, dir string, o Options) (*Log, error) {
	name, err := origin(o.Name, o.Network)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	if o.First <= 0 {
		return nil, fmt.Errorf("create log: first hour %s", o.First)
	}
	if err := d.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	// The lock is let go before open takes it again; what open reads is complete by then.
	defer lock.Close()
	if _, err := os.Lstat(filepath.Join(dir, metaFile)); err == nil {
		return nil, fmt.Errorf("create log in %s: there is one already: %w", dir, fs.ErrExist)
	}
	for _, sub := range []string{walDir, blocksDir, signedDir, certsDir} {
		if err := d.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("create log: %w", err)
		}
	}
	key, err := createKey(d, filepath.Join(dir, keyFile), name, algNote)
	if err != nil {
		return nil, err
	}
	witness, err := createKey(d, filepath.Join(dir, witnessFile), name+"/witness", algCosignature)
	if err != nil {
		return nil, err
	}
	m, err := Encode(meta{metaFormat, name, o.First, key.public().String(), witness.public().String()})
	if err != nil {
		return nil, err
	}
	if err := d.Create(filepath.Join(dir, metaFile), append(m, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	if err := lock.Close(); err != nil {
		return nil, err
	}
	return open(d, dir)
}

// createKey makes a key once. One that a creation which never came to its end
// has left behind has signed nothing, and is taken.
func createKey(d disk, path, name string, alg byte) (secretKey, error) {
	k, err := newSecretKey(rand.Reader, name, alg)
	if err != nil {
		return secretKey{}, err
	}
	err = d.Create(path, []byte(k.String()+"\n"), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readKey(path, name, alg)
	}
	if err != nil {
		return secretKey{}, fmt.Errorf("create key: %w", err)
	}
	return k, nil
}

func readKey(path, name string, alg byte) (secretKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return secretKey{}, fmt.Errorf("read key: %w", err)
	}
	k, err := parseSecretKey(strings.TrimSuffix(string(b), "\n"))
	if err != nil {
		return secretKey{}, fmt.Errorf("read key %s: %w; restore the file from the backup", path, err)
	}
	if k.name != name || k.alg != alg {
		return secretKey{}, fmt.Errorf("read key %s: it is the key of %s, not of %s; restore the file from the backup", path, k.name, name)
	}
	return k, nil
}

// takeLock makes this process the folder's only writer until the file is closed.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("log in %s is in use by another process; stop it first", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// Open opens the log in dir for writing and repairs what a crash left behind.
// It signs nothing: [Log.Seal] does. One process at a time may hold a log.
func Open(dir string) (*Log, error) { return open(realDisk{}, dir) }

func open(d disk, dir string) (*Log, error) {
	if _, err := os.Stat(filepath.Join(dir, metaFile)); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l, err := load(d, dir)
	if err == nil {
		err = l.sweep()
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	l.lock = lock
	return l, nil
}

// OpenRead opens the log in dir for reading, also while a monitor writes to it,
// and shows it as it is at this moment.
func OpenRead(dir string) (*Log, error) {
	// A writer may seal an hour, which removes its write-ahead file, while it is being read.
	for try := 0; ; try++ {
		l, err := load(realDisk{}, dir)
		if err == nil {
			return l, nil
		}
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open log: %w", err)
		}
	}
}

// load reads a log without changing anything.
func load(d disk, dir string) (*Log, error) {
	l := &Log{dir: dir, disk: d, tree: newTree(), headers: make(map[Month]segment), wals: make(map[Hour]*openWAL)}
	b, err := os.ReadFile(l.path(metaFile))
	if err != nil {
		return nil, err
	}
	if err := Decode(bytes.TrimSuffix(b, []byte("\n")), &l.meta); err != nil {
		return nil, fmt.Errorf("%s: %w", l.path(metaFile), err)
	}
	if l.meta.Format != metaFormat {
		return nil, fmt.Errorf("%s: format %q, want %s; a newer relaymon may know it", l.path(metaFile), l.meta.Format, metaFormat)
	}
	if _, _, err := ParseOrigin(l.meta.Origin); err != nil {
		return nil, fmt.Errorf("%s: %w", l.path(metaFile), err)
	}
	if l.key, err = readKey(l.path(keyFile), l.meta.Origin, algNote); err != nil {
		return nil, err
	}
	if l.witness, err = readKey(l.path(witnessFile), l.meta.Origin+"/witness", algCosignature); err != nil {
		return nil, err
	}
	if l.key.public().String() != l.meta.Key || l.witness.public().String() != l.meta.WitnessKey {
		return nil, fmt.Errorf("%s: its keys are not those in %s and %s; restore the files from one backup", l.path(metaFile), keyFile, witnessFile)
	}
	if _, err := os.Lstat(l.path(restoredFile)); err == nil {
		l.held = true
	}
	// The write-ahead files come first: an hour that is sealed meanwhile shows up
	// twice rather than not at all, and the block wins.
	wals, err := l.readWALs()
	if err != nil {
		return nil, err
	}
	if err := l.readHeaders(); err != nil {
		return nil, err
	}
	for _, w := range wals {
		if w.hour >= l.next() {
			l.wals[w.hour] = w
		}
	}
	return l, nil
}

// path is the name of something in the log's folder.
func (l *Log) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

const hourFileLayout = "2006-01-02T15"

// hourFile names a file after an hour; a colon is no character for a file name.
func hourFile(h Hour) string { return h.Start().Format(hourFileLayout) + ".jsonl" }

func parseHourFile(name string) (Hour, bool) {
	t, err := time.Parse(hourFileLayout, strings.TrimSuffix(name, ".jsonl"))
	return HourOf(t), err == nil && hourFile(HourOf(t)) == name
}

func (l *Log) walPath(h Hour) string { return l.path(walDir, hourFile(h)) }

func (l *Log) headersPath(m Month) string { return l.path(blocksDir, m.String()+".jsonl") }

func (l *Log) recordsPath(h Hour) string {
	return l.path(blocksDir, h.Month().String(), hourFile(h))
}

func (l *Log) checkpointPath(size int64) string {
	return l.path(signedDir, fmt.Sprintf("%08d", size))
}

func (l *Log) certPath(sha string) string { return l.path(certsDir, sha+".der") }

func (l *Log) readWALs() ([]*openWAL, error) {
	files, err := os.ReadDir(l.path(walDir))
	if err != nil {
		return nil, err
	}
	var list []*openWAL
	for _, f := range files {
		h, ok := parseHourFile(f.Name())
		if !ok {
			continue
		}
		b, err := os.ReadFile(l.walPath(h))
		if err != nil {
			return nil, err
		}
		w, err := readWAL(b, h)
		if err != nil {
			return nil, fmt.Errorf("%s is damaged: %w; move it away to give up this hour", l.walPath(h), err)
		}
		list = append(list, &openWAL{wal: w, file: segment{disk: l.disk, path: l.walPath(h), good: w.good}})
	}
	return list, nil
}

// errDamaged is what a store says that no crash can have left.
func (l *Log) errDamaged(format string, a ...any) error {
	return fmt.Errorf("log in %s is damaged: %w; restore it from a backup", l.dir, fmt.Errorf(format, a...))
}

// readHeaders builds the tree and checks it against the last checkpoint.
func (l *Log) readHeaders() error {
	size, err := l.lastCheckpoint(maxSize)
	if err != nil {
		return err
	}
	for m := l.meta.First.Month(); ; m++ {
		b, err := os.ReadFile(l.headersPath(m))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		good, err := l.readMonthHeaders(m, b, size)
		if err != nil {
			return err
		}
		clear(l.headers)
		l.headers[m] = segment{disk: l.disk, path: l.headersPath(m), good: good}
		if l.next() < m.End() {
			break
		}
	}
	if size > l.tree.size {
		return l.errDamaged("its last checkpoint is of %d blocks, it has %d", size, l.tree.size)
	}
	// A writer may have signed another meanwhile.
	if size, err = l.lastCheckpoint(l.tree.size); err != nil || size == 0 {
		return err
	}
	c, err := l.readCheckpoint(size)
	if err != nil {
		return err
	}
	root, err := l.tree.root(size)
	if err != nil {
		return err
	}
	if root != c.root {
		return l.errDamaged("its blocks do not make the root of the checkpoint of size %d", size)
	}
	l.signed = size
	return nil
}

// readMonthHeaders adds the lines of a month's file to the tree. Lines after the
// last checkpoint may have been torn by a crash; nothing was signed over them.
func (l *Log) readMonthHeaders(m Month, b []byte, signed int64) (good int64, err error) {
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		h, err := decodeHeader(line)
		if err == nil {
			err = l.follows(h)
		}
		if err == nil && h.Hour.Month() != m {
			err = fmt.Errorf("block %s is not of %s", h.Hour, m)
		}
		if err != nil || !whole {
			if l.tree.size < signed {
				return 0, l.errDamaged("block %d: %w", l.tree.size, err)
			}
			return good, nil
		}
		if err := l.addHeader(h, line); err != nil {
			return 0, err
		}
		good += int64(len(line)) + 1
		b = rest
	}
	return good, nil
}

// follows says whether a header may come next.
func (l *Log) follows(h Header) error {
	if h.Hour != l.next() {
		return fmt.Errorf("block is of hour %s, want %s", h.Hour, l.next())
	}
	if h.Previous != l.leaf {
		return fmt.Errorf("block %s does not refer to the one before", h.Hour)
	}
	return nil
}

func (l *Log) addHeader(h Header, line []byte) error {
	leaf := tlog.RecordHash(line)
	if err := l.tree.add(leaf); err != nil {
		return err
	}
	l.leaf, l.last = leaf, &h
	return nil
}

// lastCheckpoint is the largest size up to limit of which there is a checkpoint
// file; 0 if there is none.
func (l *Log) lastCheckpoint(limit int64) (int64, error) {
	files, err := os.ReadDir(l.path(signedDir))
	if err != nil {
		return 0, err
	}
	var last int64
	for _, f := range files {
		var size int64
		if _, err := fmt.Sscanf(f.Name(), "%d", &size); err == nil && size <= limit && l.checkpointPath(size) == l.path(signedDir, f.Name()) {
			last = max(last, size)
		}
	}
	return last, nil
}

// readCheckpoint reads a checkpoint of this log. Its cosignatures were verified
// when they came in; those of the given witnesses are again.
func (l *Log) readCheckpoint(size int64, witnesses ...note.Verifier) (checkpoint, error) {
	b, err := os.ReadFile(l.checkpointPath(size))
	if err != nil {
		return checkpoint{}, err
	}
	n, err := parseNote(b, noteVerifier{l.key.public()}, witnesses...)
	if err != nil {
		return checkpoint{}, l.errDamaged("checkpoint of size %d: %w", size, err)
	}
	c, err := parseCheckpointText(n.Text)
	if err != nil || c.size != size || c.origin != l.meta.Origin {
		return checkpoint{}, l.errDamaged("checkpoint of size %d: its text is %q", size, n.Text)
	}
	c.sigs = append(n.Sigs[1:], n.UnverifiedSigs...)
	return c, nil
}

// sweep removes what a crash left: temporary files, and write-ahead files of
// hours that are sealed.
func (l *Log) sweep() error {
	dirs := []string{l.dir, l.path(walDir), l.path(blocksDir), l.path(signedDir), l.path(certsDir)}
	if m := l.next().Month(); l.tree.size > 0 {
		dirs = append(dirs, l.path(blocksDir, m.String()), l.path(blocksDir, l.last.Hour.Month().String()))
	}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") && f.Type().IsRegular() {
				if err := l.disk.Remove(filepath.Join(dir, f.Name())); err != nil {
					return err
				}
			}
		}
	}
	return l.removeSealedWALs()
}

func (l *Log) removeSealedWALs() error {
	files, err := os.ReadDir(l.path(walDir))
	if err != nil {
		return err
	}
	for _, f := range files {
		if h, ok := parseHourFile(f.Name()); ok && h < l.next() {
			if err := l.disk.Remove(l.walPath(h)); err != nil {
				return err
			}
		}
	}
	return nil
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
func (l *Log) Network() Network {
	_, n, _ := ParseOrigin(l.meta.Origin)
	return n
}

// Key is the verifier key of the log, as it stands in a roster.
func (l *Log) Key() string { return l.meta.Key }

// WitnessKey is the verifier key with which this monitor cosigns others' checkpoints.
func (l *Log) WitnessKey() string { return l.meta.WitnessKey }

// First is the hour of the first block; block i is of hour First+i.
func (l *Log) First() Hour { return l.meta.First }

// Size is the number of sealed hours under the last checkpoint.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signed
}

// next is the hour of the next block.
func (l *Log) next() Hour { return l.meta.First + Hour(l.tree.size) }

// Begin notes that the monitor is watching hour h from at on. It is called once
// at the start of every hour, and again after any interruption (a start, a
// suspended host): an hour that was begun late or twice is sealed partial, one
// that was not begun and holds nothing is a gap.
func (l *Log) Begin(h Hour, at time.Time, software string) error {
	return l.write(h, entry{Begin: &begin{TimeOf(at), software}})
}

// Append writes an attempt that belongs to hour h; when it returns nil the
// attempt is on disk and counts. If the attempt refers to a certificate, its DER
// must come along unless the log keeps it already. Hours already sealed are
// refused (ErrSealed).
func (l *Log) Append(h Hour, a Attempt, certs ...[]byte) error {
	if err := l.write(h, entry{Attempt: &a}, certs...); err != nil {
		return fmt.Errorf("append attempt on %s: %w", a.PeerID, err)
	}
	return nil
}

// Mark writes facts about the monitor itself (clock, controls, schedule) that
// will stand in the header of hour h.
func (l *Log) Mark(h Hour, m Mark) error { return l.write(h, entry{Mark: &m}) }

func (l *Log) write(h Hour, e entry, certs ...[]byte) error {
	if err := e.check(h); err != nil {
		return err
	}
	line, err := Encode(e)
	if err != nil {
		return err
	}
	if len(line) > maxAttempt {
		return fmt.Errorf("entry of %d bytes is too long", len(line))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(h, e, line, certs...)
}

// append writes an entry that was checked, with its encoding.
func (l *Log) append(h Hour, e entry, line []byte, certs ...[]byte) error {
	if l.lock == nil {
		return ErrReadOnly
	}
	if h < l.next() {
		return fmt.Errorf("hour %s: %w", h, ErrSealed)
	}
	w := l.wals[h]
	if w == nil {
		w = &openWAL{wal: newWAL(h), file: segment{disk: l.disk, path: l.walPath(h)}, here: true}
	}
	if err := w.admits(e); err != nil {
		return err
	}
	if e.Attempt != nil {
		if err := l.keepCertificate(e.Attempt.Facts.Certificate, certs); err != nil {
			return err
		}
	}
	if err := w.file.append(append(bytes.Clone(line), '\n')); err != nil {
		return fmt.Errorf("write to hour %s: %w", h, err)
	}
	w.add(e, line)
	l.wals[h] = w
	return nil
}

// Records are the records of hour h in the order of their peer IDs, sealed or not.
func (l *Log) Records(h Hour) ([]Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.wals[h]; w != nil {
		records, _ := w.records()
		return records, nil
	}
	if h < l.meta.First || h >= l.next() {
		return nil, nil
	}
	lines, err := l.recordLines(h)
	if err != nil {
		return nil, err
	}
	list := make([]Record, len(lines))
	for i, line := range lines {
		if list[i], err = decodeRecord(line, h); err != nil {
			return nil, l.errDamaged("records of %s: %w", h, err)
		}
	}
	return list, nil
}

// recordLines are the canonical records of a sealed hour.
func (l *Log) recordLines(h Hour) ([][]byte, error) {
	b, err := os.ReadFile(l.recordsPath(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return splitLines(b)
}

// splitLines cuts a file into its lines; each must be ended.
func splitLines(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[len(b)-1] != '\n' {
		return nil, errors.New("the last line is not ended")
	}
	return bytes.Split(b[:len(b)-1], []byte("\n")), nil
}

// joinLines is the inverse of splitLines.
func joinLines(lines [][]byte) []byte {
	var b []byte
	for _, line := range lines {
		b = append(append(b, line...), '\n')
	}
	return b
}

// monthHeaders are the lines of a month's sealed blocks.
func (l *Log) monthHeaders(m Month) ([][]byte, error) {
	if m < l.meta.First.Month() || l.tree.size == 0 || m > l.last.Hour.Month() {
		return nil, nil
	}
	b, err := os.ReadFile(l.headersPath(m))
	if err != nil {
		return nil, err
	}
	if s, ok := l.headers[m]; ok { // a torn line after it does not count
		b = b[:min(int64(len(b)), s.good)]
	}
	return splitLines(b)
}

// Header is the header of a sealed hour; fs.ErrNotExist for others.
func (l *Log) Header(h Hour) (Header, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h < l.meta.First || h >= l.next() {
		return Header{}, fmt.Errorf("block %s: %w", h, fs.ErrNotExist)
	}
	lines, err := l.monthHeaders(h.Month())
	if err != nil {
		return Header{}, err
	}
	i := int(h - max(h.Month().First(), l.meta.First))
	if i >= len(lines) {
		return Header{}, l.errDamaged("block %s is missing", h)
	}
	return decodeHeader(lines[i])
}

// Unsealed are the hours that hold something and have no block yet, in order.
func (l *Log) Unsealed() []Hour {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsealed()
}

func (l *Log) unsealed() []Hour {
	var list []Hour
	for h := range l.wals {
		list = append(list, h)
	}
	slices.Sort(list)
	return list
}
