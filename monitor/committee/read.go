package committee

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var _ Reader = (*DB)(nil)

// Months implements [Reader].
func (d *DB) Months(ctx context.Context) (out []evidence.Month, err error) {
	err = d.look(ctx, func(tx *sql.Tx) error {
		out, err = query(ctx, tx, "SELECT month FROM months ORDER BY month DESC", scanMonth)
		return err
	})
	return out, err
}

// Table implements [Reader]. A relay that was not judged yet has no line.
func (d *DB) Table(ctx context.Context, m evidence.Month) (out []Row, err error) {
	err = d.look(ctx, func(tx *sql.Tx) error {
		out, err = query(ctx, tx, "SELECT line FROM verdicts WHERE month = $1 AND line IS NOT NULL ORDER BY relay", func(s scanner) (r Row, err error) {
			b, err := scanBytes(s)
			if err == nil {
				err = unpackJSON(b, &r)
			}
			return r, err
		}, m)
		return err
	})
	return out, err
}

// Verdict implements [Reader]. What a verdict is drawn from besides (the forecast) is in the
// table: see [Row].
func (d *DB) Verdict(ctx context.Context, m evidence.Month, relay string) (*bounty.Verdict, error) {
	var packed []byte
	var fault string
	err := d.look(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT fault, verdict FROM verdicts WHERE month = $1 AND relay = $2", m, relay).Scan(&fault, &packed)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("verdict of %s in %s: %w", relay, m, fs.ErrNotExist)
	case err != nil:
		return nil, err
	case fault != "":
		return nil, fmt.Errorf("verdict of %s in %s: %w: it cannot be judged: %s", relay, m, fs.ErrNotExist, fault)
	case packed == nil:
		return nil, fmt.Errorf("verdict of %s in %s: %w yet", relay, m, fs.ErrNotExist)
	}
	v := &bounty.Verdict{}
	return v, unpackJSON(packed, v)
}

// Vantages implements [Reader].
func (d *DB) Vantages(ctx context.Context, m evidence.Month) (out []Vantage, err error) {
	err = d.look(ctx, func(tx *sql.Tx) error {
		var packed []byte
		err := tx.QueryRowContext(ctx, "SELECT vantages FROM months WHERE month = $1", m).Scan(&packed)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = unpackJSON(packed, &out)
		}
		if err != nil {
			return err
		}
		var keys []string
		for _, v := range out {
			keys = append(keys, v.Key)
		}
		void, err := voids(ctx, tx, keys)
		if err != nil {
			return err
		}
		for i := range out {
			v := &out[i]
			v.Void = void[v.Key]
			var ends sql.Null[evidence.Hour]
			var cut sql.NullString
			err := tx.QueryRowContext(ctx, `SELECT logs.trouble, taken.ends, taken.cut FROM logs LEFT JOIN taken ON taken.log = logs.id AND taken.month = $1 AND taken.spine IS NOT NULL
				WHERE logs.log_key = $2`, m, v.Key).Scan(&v.Trouble, &ends, &cut)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			if ends.Valid && ends.V > 0 {
				v.Reaches = &ends.V
			}
			if v.Trouble == "" {
				v.Trouble = cut.String
			}
		}
		return nil
	})
	return out, err
}
