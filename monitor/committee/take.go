package committee

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Log is where a monitor's log is read: its own, or a copy. Nothing is trusted that comes
// from it.
type Log interface {
	evidence.Source
	// OpenRecords opens the file of a block's records, one a line; an error that wraps
	// fs.ErrNotExist: there is none.
	OpenRecords(block int64) (*os.File, error)
	// Forks convict monitors of having written two histories, see [evidence.NewFork].
	Forks() ([][]byte, error)
}

// Taken says what was new in a log.
type Taken struct {
	Log string `json:"log"` // its verifier key
	// Busy: another process goes on with it.
	Busy    bool  `json:"busy,omitempty"`
	Blocks  int64 `json:"blocks"`
	Records int64 `json:"records"`
	// Cut says why some of it cannot be taken in, and no verifier takes it.
	Cut string `json:"cut,omitempty"`
}

// Errors that say how a log stands to what was taken in of it.
var (
	// ErrBehind: it shows less. It is an older copy, or was put back to an older state.
	ErrBehind = errors.New("the log shows less than was taken in of it")
	// ErrForked: it shows another history.
	ErrForked = errors.New("THE LOG HAS TWO HISTORIES")
	errLost   = errors.New("another process has gone on with this log")
)

// Progress is how far a log's month has come.
type Progress struct {
	Log          string
	Month        evidence.Month
	Blocks, Size int64
}

// Take takes in what is new in a log, of the months and relays that are judged. It may be
// ended at any moment, and goes on the next time. said (nil: nobody asks) hears how far it is.
func (d *DB) Take(ctx context.Context, l Log, now time.Time, bases []*Basis, said func(Progress)) (Taken, error) {
	t := &taker{d: d, log: l, now: now, said: said, out: Taken{Log: l.Key()}, holder: fmt.Sprintf("%s-%d", d.name, d.turns.Add(1)), certs: map[string]bool{}}
	err := t.take(ctx, bases)
	if errors.Is(err, errLost) {
		t.out.Busy, err = true, nil
	}
	if err != nil {
		err = fmt.Errorf("log %s: %w", l.Origin(), err)
	}
	return t.out, err
}

type taker struct {
	d      *DB
	log    Log
	now    time.Time
	said   func(Progress)
	id     int64
	holder string
	certs  map[string]bool // certificates that are in the database, as far as was asked
	out    Taken
	// of the block that is being taken in
	fresh       map[string]bool // certificates
	rowsOfBlock int64
}

func (t *taker) take(ctx context.Context, bases []*Basis) (err error) {
	if free, err := t.claim(ctx); err != nil || !free {
		t.out.Busy = err == nil
		return err
	}
	defer func() { err = errors.Join(err, t.release(ctx)) }()
	if err := t.goesOn(ctx); err != nil {
		return err
	}
	forks, err := t.log.Forks()
	if err != nil {
		return err
	}
	if err := t.d.Convict(ctx, forks, bases); err != nil {
		return err
	}
	for _, b := range slices.SortedFunc(slices.Values(bases), func(a, b *Basis) int { return int(a.Month - b.Month) }) {
		if err := t.month(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", b.Month, err)
		}
	}
	return nil
}

// claim makes this process the one that goes on with the log, for a while.
func (t *taker) claim(ctx context.Context) (free bool, err error) {
	err = t.d.change(ctx, func(tx *sql.Tx) error {
		if err := t.d.exec(ctx, tx, "INSERT INTO logs (log_key) VALUES ($1) ON CONFLICT DO NOTHING", t.log.Key()); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, t.d.sql("UPDATE logs SET holder = $1, lease = {now} + $2 WHERE log_key = $3 AND lease < {now} RETURNING id"),
			t.holder, t.d.seconds(), t.log.Key()).Scan(&t.id)
		free = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return err
	})
	return free, err
}

func (d *DB) seconds() int64 { return int64(d.lease / time.Second) }

// cleanUp bounds what is done after all else, also after the end of a context.
const cleanUp = 20 * time.Second

func (t *taker) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	return t.d.change(ctx, func(tx *sql.Tx) error {
		return t.d.exec(ctx, tx, "UPDATE logs SET lease = 0 WHERE id = $1 AND holder = $2", t.id, t.holder)
	})
}

// mine makes sure that nobody else has gone on with the log, and that nobody does for a while.
func (t *taker) mine(ctx context.Context, tx *sql.Tx) error {
	res, err := tx.ExecContext(ctx, t.d.sql("UPDATE logs SET lease = {now} + $1 WHERE id = $2 AND holder = $3"), t.d.seconds(), t.id, t.holder)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = errLost
	}
	return err
}

// goesOn checks that what was taken in is the begin of what the log shows.
func (t *taker) goesOn(ctx context.Context) error {
	var size int64
	var root string
	var notes [][]byte
	err := t.d.look(ctx, func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, "SELECT size, root FROM logs WHERE id = $1", t.id).Scan(&size, &root); err != nil || size == 0 {
			return err
		}
		packed, err := query(ctx, tx, "SELECT notes FROM taken WHERE log = $1 AND notes IS NOT NULL ORDER BY month DESC", scanBytes, t.id)
		for _, p := range packed {
			var month [][]byte
			if err := unpackJSON(p, &month); err != nil {
				return err
			}
			slices.Reverse(month)
			notes = append(notes, month...)
		}
		return err
	})
	if err != nil || size == 0 {
		return err
	}
	if t.log.Size() >= size {
		shown, err := rootOf(t.log, size)
		if err != nil {
			return fmt.Errorf("it does not show that it goes on from %d blocks: %w", size, err)
		}
		if shown.String() == root {
			return nil
		}
	} else {
		i := slices.IndexFunc(notes, func(n []byte) bool {
			held, _, err := evidence.ReadCheckpoint(n, t.log.Key())
			return err == nil && held.N <= t.log.Size()
		})
		behind := fmt.Errorf("%w: %d blocks, and %d are here. If its operator put a backup in place, the log must not go on from there; if this is a copy of the log, bring it up to date", ErrBehind, t.log.Size(), size)
		if i < 0 {
			return behind
		}
		held, _, err := evidence.ReadCheckpoint(notes[i], t.log.Key())
		if err != nil {
			return err
		}
		if shown, err := rootOf(t.log, held.N); err != nil || shown == held.Hash {
			return errors.Join(behind, err)
		}
	}
	return t.forked(ctx, size, notes)
}

func scanBytes(s scanner) (b []byte, err error) { return b, s.Scan(&b) }

func rootOf(l Log, size int64) (evidence.Hash, error) {
	if size == 0 {
		return evidence.Hash{}, nil
	}
	return tlog.TreeHash(size, l)
}

// pairTries is of how many sizes a second checkpoint is asked for.
const pairTries = 8

// forked keeps what convicts a log that shows another history. notes are the checkpoints
// that are here, the newest first.
func (t *taker) forked(ctx context.Context, size int64, notes [][]byte) error {
	fault := fmt.Errorf("%w: it shows another than was taken in of it, up to %d blocks. What is here stays, and nothing more is taken in", ErrForked, size)
	tried := 0
	for _, held := range notes {
		tree, _, err := evidence.ReadCheckpoint(held, t.log.Key())
		if err != nil || tree.N > t.log.Size() {
			continue
		}
		shown, err := rootOf(t.log, tree.N)
		if err != nil || shown == tree.Hash || tried == pairTries {
			break
		}
		tried++
		other, err := t.log.CheckpointOf(tree.N)
		if err != nil {
			continue
		}
		if pair, err := evidence.NewFork(held, other, t.log.Key()); err == nil {
			if err := t.d.keepFork(ctx, t.log.Key(), pair); err != nil {
				return errors.Join(fault, err)
			}
			return fmt.Errorf("%w; two checkpoints of %d blocks convict it: nothing in it counts", fault, tree.N)
		}
	}
	return fmt.Errorf("%w. It shows no second checkpoint of a size that is here, which would convict it: ask for both histories", fault)
}

// Convict takes in pairs of checkpoints that convict monitors of the rosters. What convicts
// nobody is left aside.
func (d *DB) Convict(ctx context.Context, forks [][]byte, bases []*Basis) error {
	keys := map[string]bool{}
	for _, b := range bases {
		for _, m := range b.Roster.Monitors {
			keys[m.LogKey] = true
		}
	}
	for _, f := range forks {
		for key := range keys {
			if _, err := evidence.OpenFork(f, key); err != nil {
				continue
			}
			if err := d.keepFork(ctx, key, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepFork keeps one fork of a log: it is enough.
func (d *DB) keepFork(ctx context.Context, key string, fork []byte) error {
	return d.change(ctx, func(tx *sql.Tx) error {
		var has bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM forks WHERE log_key = $1)", key).Scan(&has); err != nil || has {
			return err
		}
		if err := d.exec(ctx, tx, "INSERT INTO forks (log_key, sha256, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", key, evidence.SHA256Hex(fork), fork); err != nil {
			return err
		}
		return d.exec(ctx, tx, "UPDATE months SET news = news + 1")
	})
}

// held is what is in the database of a log's month.
type held struct {
	keys   string
	relays map[string]term
	upto   int64 // blocks of the log; 0: none yet
	print  string
	ends   evidence.Hour
}

func (t *taker) held(ctx context.Context, m evidence.Month) (h held, err error) {
	err = t.d.look(ctx, func(tx *sql.Tx) error {
		var relays []byte
		err := tx.QueryRowContext(ctx, "SELECT keys, relays, upto, print, ends FROM taken WHERE log = $1 AND month = $2", t.id, m).
			Scan(&h.keys, &relays, &h.upto, &h.print, &h.ends)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return unpackJSON(relays, &h.relays)
	})
	return h, err
}

// settledAfter is how far beyond a month's end a log must reach that nothing more is asked
// of it: no rule looks further than final_after, 72 hours, and a witness may be late.
const settledAfter = 4 * 24

// month takes in a month of the log: first its records, then the spine, without which no
// verdict sees them.
func (t *taker) month(ctx context.Context, b *Basis) error {
	m, keys := b.keys(t.log.Key())
	if m == nil || b.Month.End() <= t.log.First() {
		return nil
	}
	print, err := keysPrint(keys)
	if err != nil {
		return err
	}
	h, err := t.held(ctx, b.Month)
	if err != nil {
		return err
	}
	relays := b.relays()
	again := h.keys != print
	if !again && sameRelays(h.relays, relays) && h.print != "" && h.ends >= b.Month.End()+settledAfter {
		return nil
	}
	export, err := evidence.ExportSpine(t.log, b.Month, t.now, keys.Witnesses...)
	if err != nil {
		return err
	}
	if export.Cut != "" {
		t.out.Cut = export.Cut
	}
	if export.StartSize+int64(len(export.Headers)) == 0 {
		return nil // the log does not come to it
	}
	spinePrint, err := printOfSpine(export)
	if err != nil {
		return err
	}
	if !again && sameRelays(h.relays, relays) && h.print == spinePrint {
		return nil
	}
	spine, err := evidence.VerifySpine(export, keys)
	if err != nil {
		return err
	}
	from := export.StartSize
	if again {
		if err := t.begin(ctx, b.Month, spine, print, relays, from); err != nil {
			return err
		}
	} else {
		from = max(from, min(h.upto, rewound(b.Month, h, relays, export.StartSize, spine)))
		if err := t.goOn(ctx, b.Month, spine, relays, from); err != nil {
			return err
		}
	}
	examiner, err := evidence.NewExaminer(keys)
	if err != nil {
		return err
	}
	for i, hour := range spine.Hours {
		block := export.StartSize + int64(i)
		if block < from {
			continue
		}
		if err := t.block(ctx, b, block, hour.Header, relays, examiner); err != nil {
			return err
		}
		if t.said != nil {
			t.said(Progress{t.log.Key(), b.Month, int64(i) + 1, int64(len(spine.Hours))})
		}
	}
	return t.finish(ctx, b.Month, export, spine, spinePrint)
}

func sameRelays(a, b map[string]term) bool {
	return maps.EqualFunc(a, b, func(a, b term) bool {
		return a.From == b.From && (a.Until == nil) == (b.Until == nil) && (a.Until == nil || *a.Until == *b.Until)
	})
}

func (t term) holds(h evidence.Hour) bool { return bounty.Term{From: t.From, Until: t.Until}.Holds(h) }

// rewound is the first block with hours of relays that nobody asked for when it was taken
// in. As the committee does not change hours past, there is seldom one.
func rewound(m evidence.Month, h held, relays map[string]term, start int64, spine evidence.VerifiedMonth) int64 {
	for i, hour := range spine.Hours {
		for relay, now := range relays {
			was, known := h.relays[relay]
			if at := hour.Header.Hour; now.holds(at) && !(known && was.holds(at)) {
				return start + int64(i)
			}
		}
	}
	return h.upto
}

func printOfSpine(m evidence.MonitorMonth) (string, error) {
	m.AsOf = evidence.Time{}
	return printOf(m)
}

// begin takes in a log's month anew: none of its records is there.
func (t *taker) begin(ctx context.Context, m evidence.Month, spine evidence.VerifiedMonth, keys string, relays map[string]term, from int64) error {
	packed, err := packJSON(relays)
	if err != nil {
		return err
	}
	return t.d.change(ctx, func(tx *sql.Tx) error {
		if err := t.d.room(ctx, tx, m); err != nil {
			return err
		}
		if err := t.reach(ctx, tx, spine); err != nil {
			return err
		}
		if err := t.d.exec(ctx, tx, "DELETE FROM records WHERE month = $1 AND log = $2", m, t.id); err != nil {
			return err
		}
		if err := t.d.exec(ctx, tx, "DELETE FROM taken WHERE month = $1 AND log = $2", m, t.id); err != nil {
			return err
		}
		if err := t.d.exec(ctx, tx, "INSERT INTO taken (log, month, keys, relays, upto) VALUES ($1, $2, $3, $4, $5)", t.id, m, keys, packed, from); err != nil {
			return err
		}
		return t.d.exec(ctx, tx, "UPDATE months SET news = news + 1 WHERE month = $1", m)
	})
}

// goOn says from which block on records are taken in, and of whom.
func (t *taker) goOn(ctx context.Context, m evidence.Month, spine evidence.VerifiedMonth, relays map[string]term, from int64) error {
	packed, err := packJSON(relays)
	if err != nil {
		return err
	}
	return t.d.change(ctx, func(tx *sql.Tx) error {
		if err := t.reach(ctx, tx, spine); err != nil {
			return err
		}
		return t.d.exec(ctx, tx, "UPDATE taken SET relays = $1, upto = $2, print = '' WHERE log = $3 AND month = $4", packed, from, t.id, m)
	})
}

// reach says of which tree the records are that are taken in from now on, so that those of
// two histories never stand beside each other.
func (t *taker) reach(ctx context.Context, tx *sql.Tx, spine evidence.VerifiedMonth) error {
	if err := t.mine(ctx, tx); err != nil {
		return err
	}
	return t.d.exec(ctx, tx, "UPDATE logs SET size = $1, root = $2 WHERE id = $3 AND size < $1", spine.Size, spine.Root.String(), t.id)
}

// Bounds of what is in memory of a block at once.
const (
	mostRows  = 512
	mostBytes = 8 << 20
)

// block takes in the records of a block, all of them or none.
func (t *taker) block(ctx context.Context, b *Basis, block int64, h evidence.Header, relays map[string]term, examiner *evidence.Examiner) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	var f *os.File
	if h.Records > 0 {
		var err error
		if f, err = t.log.OpenRecords(block); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("the records of %s are missing: mirror the log anew, or ask its operator", h.Hour)
			}
			return err
		}
		defer f.Close()
	}
	err := t.d.change(ctx, func(tx *sql.Tx) error {
		t.fresh, t.rowsOfBlock = map[string]bool{}, 0
		if err := t.mine(ctx, tx); err != nil {
			return err
		}
		if f != nil {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if err := t.records(ctx, tx, b, f, h, relays, examiner); err != nil {
				return err
			}
		}
		return t.d.exec(ctx, tx, "UPDATE taken SET upto = $1 WHERE log = $2 AND month = $3", block+1, t.id, b.Month)
	})
	if err != nil {
		return err
	}
	t.out.Blocks++
	t.out.Records += t.rowsOfBlock
	if len(t.certs) >= mostKnown {
		clear(t.certs)
	}
	maps.Copy(t.certs, t.fresh)
	return nil
}

func (t *taker) records(ctx context.Context, tx *sql.Tx, b *Basis, f io.Reader, h evidence.Header, relays map[string]term, examiner *evidence.Examiner) error {
	var records []*evidence.Record
	var lines [][]byte
	size := 0
	flush := func() error {
		err := t.rows(ctx, tx, b.Month, h.Hour, records, lines, examiner)
		records, lines, size = records[:0], lines[:0], 0
		return err
	}
	check := evidence.NewBlockCheck(h)
	check.Each = func(r evidence.Record, line []byte) error {
		if at, ok := relays[r.PeerID]; !ok || !at.holds(h.Hour) {
			return nil
		}
		records, lines, size = append(records, &r), append(lines, bytes.Clone(line)), size+len(line)
		if len(records) < mostRows && size < mostBytes {
			return nil
		}
		return flush()
	}
	if _, err := io.Copy(check, f); err != nil {
		return err
	}
	if err := check.End(); err != nil {
		return err
	}
	return flush()
}

// rows puts records into the database. What is there already stays.
func (t *taker) rows(ctx context.Context, tx *sql.Tx, m evidence.Month, h evidence.Hour, records []*evidence.Record, lines [][]byte, examiner *evidence.Examiner) error {
	if len(records) == 0 {
		return nil
	}
	relays, data := make([]string, len(records)), make([][]byte, len(records))
	for i, e := range examiner.Examine(records) {
		for _, a := range records[i].Attempts {
			if err := t.certificate(ctx, tx, a.Facts.Certificate); err != nil {
				return fmt.Errorf("record of %s in %s: %w", records[i].PeerID, h, err)
			}
		}
		var err error
		if data[i], err = packRow(lines[i], e); err != nil {
			return err
		}
		relays[i] = records[i].PeerID
	}
	n, err := t.insert(ctx, tx, m, h, relays, data)
	t.rowsOfBlock += n
	return err
}

func (t *taker) insert(ctx context.Context, tx *sql.Tx, m evidence.Month, h evidence.Hour, relays []string, data [][]byte) (rows int64, err error) {
	if t.d.postgres {
		res, err := tx.ExecContext(ctx, "INSERT INTO records (month, relay, log, hour, data) SELECT $1, r, $2, $3, d FROM unnest($4::text[], $5::bytea[]) AS t (r, d) ON CONFLICT DO NOTHING",
			m, t.id, h, relays, data)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
	s, err := tx.PrepareContext(ctx, "INSERT INTO records (month, relay, log, hour, data) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING")
	if err != nil {
		return 0, err
	}
	defer s.Close()
	for i, relay := range relays {
		res, err := s.ExecContext(ctx, m, relay, t.id, h, data[i])
		if err != nil {
			return rows, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return rows, err
		}
		rows += n
	}
	return rows, nil
}

// mostKnown bounds the certificates that are known to be in the database.
const mostKnown = 1 << 16

// certificate checks that the leaf that a record names is there, as whoever makes a bundle
// will need it.
func (t *taker) certificate(ctx context.Context, tx *sql.Tx, c *evidence.Certificate) error {
	if c == nil || t.certs[c.SHA256] || t.fresh[c.SHA256] {
		return nil
	}
	var has bool
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM certificates WHERE sha256 = $1)", c.SHA256).Scan(&has); err != nil {
		return err
	}
	if !has {
		der, err := t.log.CertificateOf(c.SHA256)
		if err == nil {
			err = evidence.CheckCertificate(*c, der)
		}
		if err != nil {
			return err
		}
		if err := t.d.exec(ctx, tx, "INSERT INTO certificates (sha256) VALUES ($1) ON CONFLICT DO NOTHING", c.SHA256); err != nil {
			return err
		}
	}
	t.fresh[c.SHA256] = true
	return nil
}

// finish shows a month's records to those who judge.
func (t *taker) finish(ctx context.Context, m evidence.Month, export evidence.MonitorMonth, spine evidence.VerifiedMonth, print string) error {
	packed, err := packJSON(spine)
	if err != nil {
		return err
	}
	notes := export.Checkpoints
	for _, n := range [][]byte{export.Start, export.Tip} {
		if n != nil {
			notes = append(slices.Clip(notes), n)
		}
	}
	slices.SortStableFunc(notes, func(a, b []byte) int { return int(sizeIn(a) - sizeIn(b)) })
	packedNotes, err := packJSON(notes)
	if err != nil {
		return err
	}
	return t.d.change(ctx, func(tx *sql.Tx) error {
		if err := t.reach(ctx, tx, spine); err != nil {
			return err
		}
		if err := t.d.exec(ctx, tx, "UPDATE taken SET print = $1, spine = $2, notes = $3, ends = $4, cut = $5 WHERE log = $6 AND month = $7",
			print, packed, packedNotes, spine.Tip.End, export.Cut, t.id, m); err != nil {
			return err
		}
		return t.d.exec(ctx, tx, "UPDATE months SET news = news + 1 WHERE month = $1", m)
	})
}

// sizeIn is the size in a checkpoint that was verified.
func sizeIn(note []byte) int64 {
	c, err := evidence.ParseCheckpoint(string(note[:bytes.Index(note, []byte("\n\n"))+1]))
	if err != nil {
		return 0
	}
	return c.Size
}

// mostTrouble is how much is said of it.
const mostTrouble = 1000

// Trouble says why nothing more of a log is taken in, or, with an empty text, that there is
// no trouble.
func (d *DB) Trouble(ctx context.Context, log, text string) error {
	text = evidence.Clean(text, mostTrouble)
	return d.change(ctx, func(tx *sql.Tx) error {
		return d.exec(ctx, tx, `INSERT INTO logs (log_key, trouble) VALUES ($1, $2) ON CONFLICT (log_key) DO UPDATE SET trouble = excluded.trouble`, log, text)
	})
}
