package committee

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the database for which nothing is set up

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// DB keeps what was taken in of many monitors' logs, and the verdicts by it. All of it comes
// from the logs: it may be dropped at any time, and taken in again. Several processes may
// work on one database at once.
type DB struct {
	postgres bool
	write    *sql.DB
	read     *sql.DB // the same on PostgreSQL
	name     string  // of this process, in what it leases
	turns    atomic.Int64
	lease    time.Duration

	mu     sync.Mutex
	spines map[spineAt]*evidence.VerifiedMonth
}

// leaseTime is how long others leave alone what a process has taken on and gives no sign of
// any more: it was killed.
const leaseTime = 2 * time.Minute

// Bounds of a request to the database.
const (
	mostConnections = 8
	longestRequest  = 10 * time.Minute
	longestConnect  = 20 * time.Second
)

// Open opens the database at an address, and makes its tables if they are not there: a
// postgres:// URL, or the path of a file for the database that is built in.
func Open(ctx context.Context, address string) (*DB, error) {
	d := &DB{name: rand.Text()[:12], lease: leaseTime}
	var err error
	if IsPostgres(address) {
		err = d.openPostgres(address)
	} else {
		err = d.openFile(address)
	}
	if err == nil {
		err = d.migrate(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the committee's database: %w", err), d.Close())
	}
	return d, nil
}

// IsPostgres says whether an address is that of a PostgreSQL database.
func IsPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// CheckAddress says what is wrong with an address, without a password that stands in it.
func CheckAddress(address string) error {
	if !IsPostgres(address) {
		if scheme, _, is := strings.Cut(address, "://"); is {
			return fmt.Errorf("want postgres://USER@HOST/NAME, the path of a file, or nothing, not %.20s://", scheme)
		}
		return nil
	}
	_, err := pgx.ParseConfig(address)
	return err
}

func (d *DB) openPostgres(address string) error {
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		return err
	}
	cfg.ConnectTimeout = longestConnect
	for name, value := range map[string]string{
		"application_name":                    "relaymon committee",
		"statement_timeout":                   fmt.Sprint(longestRequest.Milliseconds()),
		"idle_in_transaction_session_timeout": fmt.Sprint(longestRequest.Milliseconds()), // a process that hangs keeps nobody waiting
	} {
		if _, given := cfg.RuntimeParams[name]; !given {
			cfg.RuntimeParams[name] = value
		}
	}
	d.postgres = true
	d.write = stdlib.OpenDB(*cfg)
	d.write.SetMaxOpenConns(mostConnections)
	d.write.SetConnMaxIdleTime(time.Minute)
	d.read = d.write
	return nil
}

func (d *DB) openFile(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// What a crash of the machine may undo is taken in again; the file stays whole.
	at := (&url.URL{Scheme: "file", Path: path}).String() + "?_pragma=busy_timeout(600000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=cache_size(-65536)"
	if d.write, err = sql.Open("sqlite", at+"&_txlock=immediate"); err != nil {
		return err
	}
	d.write.SetMaxOpenConns(1) // the file has one writer at a time
	if d.read, err = sql.Open("sqlite", at); err != nil {
		return err
	}
	d.read.SetMaxOpenConns(mostConnections)
	return nil
}

// Close ends the use of the database.
func (d *DB) Close() error {
	var err error
	if d.write != nil {
		err = d.write.Close()
	}
	if d.read != nil && d.read != d.write {
		err = errors.Join(err, d.read.Close())
	}
	return err
}

// tables in the order in which they are made. Those of the newest version are last.
var migrations = [][]string{{
	// A log, and how much of its tree was taken in. Who goes on with it has the lease.
	`CREATE TABLE logs (id {id}, log_key {text} NOT NULL UNIQUE, size BIGINT NOT NULL DEFAULT 0, root {text} NOT NULL DEFAULT '',
		trouble {text} NOT NULL DEFAULT '', lease BIGINT NOT NULL DEFAULT 0, holder {text} NOT NULL DEFAULT '')`,
	// A log's month: the keys by which it is verified, the relays whose records are wanted,
	// the blocks of the log whose records are here, and, if all are, the spine.
	`CREATE TABLE taken (log BIGINT NOT NULL, month BIGINT NOT NULL, keys {text} NOT NULL, relays {bytes} NOT NULL, upto BIGINT NOT NULL,
		print {text} NOT NULL DEFAULT '', spine {bytes}, notes {bytes}, ends BIGINT NOT NULL DEFAULT 0, cut {text} NOT NULL DEFAULT '', PRIMARY KEY (log, month))`,
	`CREATE TABLE records (month BIGINT NOT NULL, relay {text} NOT NULL, log BIGINT NOT NULL, hour BIGINT NOT NULL, data {bytes} NOT NULL,
		PRIMARY KEY (month, relay, log, hour)){partitioned}`,
	`CREATE TABLE certificates (sha256 {text} NOT NULL PRIMARY KEY)`,
	`CREATE TABLE forks (log_key {text} NOT NULL, sha256 {text} NOT NULL, data {bytes} NOT NULL, PRIMARY KEY (log_key, sha256))`,
	// A month: by what it is judged, and how often something new came in.
	`CREATE TABLE months (month BIGINT NOT NULL PRIMARY KEY, news BIGINT NOT NULL DEFAULT 0, basis {text} NOT NULL,
		rules_serial BIGINT NOT NULL, roster_serial BIGINT NOT NULL, vantages {bytes} NOT NULL)`,
	// A verdict is stale if it has seen less news than there are.
	`CREATE TABLE verdicts (month BIGINT NOT NULL, relay {text} NOT NULL, seen BIGINT NOT NULL DEFAULT -1, fault {text} NOT NULL DEFAULT '',
		verdict {bytes}, line {bytes}, lease BIGINT NOT NULL DEFAULT 0, holder {text} NOT NULL DEFAULT '', PRIMARY KEY (month, relay))`,
}}

var tables = []string{"logs", "taken", "records", "certificates", "forks", "months", "verdicts", "schema_version"}

// lockOfTables is of who makes or drops tables. The number means nothing.
const lockOfTables = 0x72656c6179

// sql writes a request in the words of the database.
func (d *DB) sql(s string) string {
	if d.postgres {
		return strings.NewReplacer("{id}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "{bytes}", "BYTEA", "{text}", `TEXT COLLATE "C"`,
			"{partitioned}", " PARTITION BY LIST (month)", "{now}", "extract(epoch from clock_timestamp())::bigint",
			"{locked}", " FOR UPDATE", "{unlocked}", " FOR UPDATE SKIP LOCKED").Replace(s)
	}
	return strings.NewReplacer("{id}", "INTEGER PRIMARY KEY", "{bytes}", "BLOB", "{text}", "TEXT",
		"{partitioned}", " WITHOUT ROWID", "{now}", "unixepoch()", "{locked}", "", "{unlocked}", "").Replace(s)
}

// mostTries is how often a transaction is tried that stood in another's way.
const mostTries = 5

// change does something in one transaction: all of it, or nothing. Of two that stand in each
// other's way the database ends one, which is done again.
func (d *DB) change(ctx context.Context, do func(*sql.Tx) error) (err error) {
	for range mostTries {
		err = d.changeOnce(ctx, do)
		var fault *pgconn.PgError
		if !errors.As(err, &fault) || fault.Code != codeDeadlock && fault.Code != codeSerialization {
			break
		}
	}
	return err
}

// Codes of PostgreSQL's errors.
const (
	codeDeadlock      = "40P01"
	codeSerialization = "40001"
)

func (d *DB) changeOnce(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// look reads the database as it is at one moment.
func (d *DB) look(ctx context.Context, do func(*sql.Tx) error) error {
	o := &sql.TxOptions{ReadOnly: true}
	if d.postgres {
		o.Isolation = sql.LevelRepeatableRead
	}
	tx, err := d.read.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(do(tx), tx.Rollback())
}

func (d *DB) exec(ctx context.Context, tx *sql.Tx, s string, args ...any) error {
	_, err := tx.ExecContext(ctx, d.sql(s), args...)
	return err
}

// alone waits until no other process makes or drops tables.
func (d *DB) alone(ctx context.Context, tx *sql.Tx) error {
	if !d.postgres {
		return nil // nobody else writes
	}
	return d.exec(ctx, tx, "SELECT pg_advisory_xact_lock($1)", lockOfTables)
}

func (d *DB) migrate(ctx context.Context) error {
	return d.change(ctx, func(tx *sql.Tx) error {
		if err := d.alone(ctx, tx); err != nil {
			return err
		}
		return d.makeTables(ctx, tx)
	})
}

func (d *DB) makeTables(ctx context.Context, tx *sql.Tx) error {
	if err := d.exec(ctx, tx, "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)"); err != nil {
		return err
	}
	var version int
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("its tables are of version %d, and this program knows %d: use the newer program, or let \"relaymon committee rebuild\" make them anew", version, len(migrations))
	}
	for _, step := range migrations[version:] {
		for _, s := range step {
			if err := d.exec(ctx, tx, s); err != nil {
				return err
			}
		}
		version++
		if err := d.exec(ctx, tx, "INSERT INTO schema_version VALUES ($1)", version); err != nil {
			return err
		}
	}
	return nil
}

// Drop empties the database at an address: what was in it is taken in anew.
func Drop(ctx context.Context, address string) error {
	fail := func(err error) error { return fmt.Errorf("drop the committee's database: %w", err) }
	d := &DB{}
	var err error
	if IsPostgres(address) {
		err = d.openPostgres(address)
	} else if _, missing := os.Stat(address); errors.Is(missing, fs.ErrNotExist) {
		return nil
	} else {
		err = d.openFile(address)
	}
	if err != nil {
		return fail(err)
	}
	err = d.change(ctx, func(tx *sql.Tx) error {
		if err := d.alone(ctx, tx); err != nil {
			return err
		}
		for _, name := range tables {
			if err := d.exec(ctx, tx, "DROP TABLE IF EXISTS "+name); err != nil {
				return err
			}
		}
		return d.makeTables(ctx, tx)
	})
	if err == nil && !d.postgres {
		_, err = d.write.ExecContext(ctx, "VACUUM") // gives the room back
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// room makes room for the records of a month.
func (d *DB) room(ctx context.Context, tx *sql.Tx, m evidence.Month) error {
	if !d.postgres {
		return nil
	}
	if err := d.alone(ctx, tx); err != nil {
		return err
	}
	return d.exec(ctx, tx, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF records FOR VALUES IN (%d)", partition(m), m))
}

func partition(m evidence.Month) string { return "records_" + strings.ReplaceAll(m.String(), "-", "_") }

// Forget drops the months before one.
func (d *DB) Forget(ctx context.Context, before evidence.Month) error {
	var old []evidence.Month
	err := d.look(ctx, func(tx *sql.Tx) (err error) {
		old, err = query(ctx, tx, "SELECT month FROM months WHERE month < $1", scanMonth, before)
		return err
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return d.change(ctx, func(tx *sql.Tx) error {
		if err := d.alone(ctx, tx); err != nil {
			return err
		}
		for _, m := range old {
			drop := fmt.Sprintf("DELETE FROM records WHERE month = %d", m)
			if d.postgres {
				drop = "DROP TABLE IF EXISTS " + partition(m)
			}
			if err := d.exec(ctx, tx, drop); err != nil {
				return err
			}
			for _, table := range []string{"taken", "verdicts", "months"} {
				if err := d.exec(ctx, tx, "DELETE FROM "+table+" WHERE month = $1", m); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

type scanner interface{ Scan(into ...any) error }

func scanMonth(s scanner) (m evidence.Month, err error) { return m, s.Scan(&m) }

// query reads all rows of a request.
func query[T any](ctx context.Context, tx *sql.Tx, s string, scan func(scanner) (T, error), args ...any) ([]T, error) {
	rows, err := tx.QueryContext(ctx, s, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}
