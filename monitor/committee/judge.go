package committee

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Judged says how many relays of a month were judged by this process, and what went wrong.
type Judged struct {
	Month  evidence.Month `json:"month"`
	Relays int64          `json:"relays"`
	Faults []string       `json:"faults,omitempty"`
}

// mostFaults is how many are told at once.
const mostFaults = 20

// Judge judges all relays of a month about which there are news, so many at once, together
// with other processes that do so. It ends when there is none left that nobody has taken on.
//
// Of each monitor the verdict has no digest: that is of the files of a bundle, with proofs
// for one relay, which are made for bundles only.
func (d *DB) Judge(ctx context.Context, b *Basis, workers int, said func(relays int64)) (Judged, error) {
	out := Judged{Month: b.Month}
	if err := d.Settle(ctx, b); err != nil {
		return out, err
	}
	print, err := b.print()
	if err != nil {
		return out, err
	}
	holder := fmt.Sprintf("%s-%d", d.name, d.turns.Add(1))
	var mu sync.Mutex
	var relays atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range max(workers, 1) {
		g.Go(func() error {
			for {
				relay, err := d.claimRelay(ctx, b.Month, holder)
				if err != nil || relay == "" {
					return err
				}
				fault, err := d.judge(ctx, b, print, relay)
				if err != nil {
					return fmt.Errorf("%s of %s: %w", b.Month, relay, err)
				}
				n := relays.Add(1)
				mu.Lock()
				if fault != nil && len(out.Faults) < mostFaults {
					out.Faults = append(out.Faults, fmt.Sprintf("%s: %v", relay, fault))
				}
				if said != nil {
					said(n)
				}
				mu.Unlock()
			}
		})
	}
	err = g.Wait()
	out.Relays = relays.Load()
	slices.Sort(out.Faults)
	return out, err
}

// claimRelay takes on a relay whose verdict is stale; empty: there is none. The lease ends
// by itself.
func (d *DB) claimRelay(ctx context.Context, m evidence.Month, holder string) (relay string, err error) {
	err = d.change(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, d.sql(`UPDATE verdicts SET holder = $1, lease = {now} + $2 WHERE month = $3 AND relay = (
			SELECT relay FROM verdicts WHERE month = $3 AND lease < {now} AND seen < (SELECT news FROM months WHERE month = $3)
			ORDER BY seen, relay LIMIT 1{unlocked}) RETURNING relay`), holder, d.seconds(), m).Scan(&relay)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return err
	})
	return relay, err
}

// errOtherBasis: another process has newer files of the committee.
var errOtherBasis = fmt.Errorf("%w while this went on: nothing is lost, it is judged there", ErrOlder)

// judge judges one relay. What is wrong with its case is said in place of a verdict.
func (d *DB) judge(ctx context.Context, b *Basis, print, relay string) (fault, err error) {
	var news int64
	var v *bounty.Verdict
	err = d.look(ctx, func(tx *sql.Tx) error {
		var basis string
		if err := tx.QueryRowContext(ctx, "SELECT news, basis FROM months WHERE month = $1", b.Month).Scan(&news, &basis); err != nil {
			return err
		}
		if basis != print {
			return errOtherBasis
		}
		c, err := d.caseOf(ctx, tx, b, relay)
		if err != nil {
			return err
		}
		v, fault = bounty.Judge(c)
		var broken *readError
		if errors.As(fault, &broken) { // the database, not the case
			return broken.err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var verdict, line []byte
	words := ""
	if fault != nil {
		words = fault.Error()
	} else {
		// As a reader gets it, so that two drawings of it are the same.
		report, err := evidence.Encode(v)
		if err != nil {
			return nil, err
		}
		verdict = pack(report)
		if line, err = packJSON(RowOf(v, b.Rules)); err != nil {
			return nil, err
		}
	}
	return fault, d.change(ctx, func(tx *sql.Tx) error {
		return d.exec(ctx, tx, "UPDATE verdicts SET seen = $1, fault = $2, verdict = $3, line = $4, lease = 0 WHERE month = $5 AND relay = $6 AND seen < $1",
			news, words, verdict, line, b.Month, relay)
	})
}

type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

// part is a log's month that can be judged.
type part struct {
	id         int64
	key, keys  string
	spinePrint string
}

// caseOf puts together all that is judged, in the order of a bundle. It is read as it is gone
// through, in the transaction.
func (d *DB) caseOf(ctx context.Context, tx *sql.Tx, b *Basis, relay string) (bounty.Case, error) {
	c := bounty.Case{Rules: b.Rules, Roster: b.Roster, Releases: b.Releases, Geo: b.Geo, Relay: relay, Month: b.Month,
		RulesSignedBy: b.RulesSignedBy, RosterSignedBy: b.RosterSignedBy}
	parts, err := query(ctx, tx, `SELECT taken.log, logs.log_key, taken.keys, taken.print FROM taken JOIN logs ON logs.id = taken.log
		WHERE taken.month = $1 AND taken.spine IS NOT NULL`, func(s scanner) (p part, err error) {
		return p, s.Scan(&p.id, &p.key, &p.keys, &p.spinePrint)
	}, b.Month)
	if err != nil {
		return c, err
	}
	parts = slices.DeleteFunc(parts, func(p part) bool {
		m, keys := b.keys(p.key)
		print, err := keysPrint(keys)
		return m == nil || err != nil || print != p.keys // it waits to be taken in anew
	})
	slices.SortFunc(parts, func(a, b part) int {
		x, y := sha256.Sum256([]byte(a.key)), sha256.Sum256([]byte(b.key))
		return bytes.Compare(x[:], y[:])
	})
	var keys []string
	for _, p := range parts {
		keys = append(keys, p.key)
	}
	void, err := voids(ctx, tx, keys)
	if err != nil {
		return c, err
	}
	for _, p := range parts {
		m, _ := b.keys(p.key)
		c.Logs = append(c.Logs, bounty.Log{Monitor: m.Name, Key: p.key, Void: void[p.key], Read: func(visit func(evidence.VerifiedHour) error) (evidence.VerifiedMonth, error) {
			v, err := d.readLog(ctx, tx, p, b.Month, relay, visit)
			if err != nil {
				err = &readError{fmt.Errorf("log of monitor %s: %w", m.Name, err)}
			}
			return v, err
		}})
	}
	return c, nil
}

func voids(ctx context.Context, tx *sql.Tx, keys []string) (map[string]string, error) {
	forks, err := query(ctx, tx, "SELECT data FROM forks", scanBytes)
	if err != nil {
		return nil, err
	}
	return bundle.Voids(forks, keys)
}

// readLog hands over a log's hours with the relay's records.
func (d *DB) readLog(ctx context.Context, tx *sql.Tx, p part, m evidence.Month, relay string, visit func(evidence.VerifiedHour) error) (evidence.VerifiedMonth, error) {
	spine, err := d.spine(ctx, tx, p, m)
	if err != nil {
		return evidence.VerifiedMonth{}, err
	}
	out := *spine
	out.Relay, out.Hours = relay, nil
	rows, err := tx.QueryContext(ctx, "SELECT hour, data FROM records WHERE month = $1 AND relay = $2 AND log = $3 ORDER BY hour", m, relay, p.id)
	if err != nil {
		return out, err
	}
	defer rows.Close()
	var at evidence.Hour
	var data []byte
	more := rows.Next()
	for _, h := range spine.Hours {
		for more {
			if err := rows.Scan(&at, &data); err != nil {
				return out, err
			}
			if at >= h.Header.Hour {
				break
			}
			more = rows.Next()
		}
		if more && at == h.Header.Hour {
			record, shows, err := unpackRow(data, at)
			if err != nil {
				return out, err
			}
			h = h.With(record, shows)
		}
		if err := visit(h); err != nil {
			return out, err
		}
	}
	return out, rows.Err()
}

// spineAt says which spine it is.
type spineAt struct {
	month evidence.Month
	log   int64
}

// spine reads a log's month without records, or has it from before.
func (d *DB) spine(ctx context.Context, tx *sql.Tx, p part, m evidence.Month) (*evidence.VerifiedMonth, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := spineAt{m, p.id}
	if s := d.spines[at]; s != nil && p.spinePrint != "" && s.Digest == p.spinePrint+p.keys {
		return withoutDigest(s), nil
	}
	var packed []byte
	if err := tx.QueryRowContext(ctx, "SELECT spine FROM taken WHERE log = $1 AND month = $2", p.id, m).Scan(&packed); err != nil {
		return nil, err
	}
	s := &evidence.VerifiedMonth{}
	if err := unpackJSON(packed, s); err != nil {
		return nil, err
	}
	for other := range d.spines {
		if other.month != m {
			delete(d.spines, other)
		}
	}
	if d.spines == nil {
		d.spines = map[spineAt]*evidence.VerifiedMonth{}
	}
	s.Digest = p.spinePrint + p.keys
	d.spines[at] = s
	return withoutDigest(s), nil
}

func withoutDigest(s *evidence.VerifiedMonth) *evidence.VerifiedMonth {
	out := *s
	out.Digest = ""
	return &out
}
