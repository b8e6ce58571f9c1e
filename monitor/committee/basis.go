package committee

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Basis is by what a month is judged.
type Basis struct {
	Month    evidence.Month
	Rules    *bounty.Rules
	Roster   *bounty.Roster
	Releases *release.List // nil: none is known
	Geo      bounty.Geo
	Beacon   evidence.BeaconVerifier
	// SignedBy names the keys that rules and roster say they are signed by.
	RulesSignedBy, RosterSignedBy []string
}

// ErrOlder is wrapped where the database was judged by newer files of the committee.
var ErrOlder = errors.New("the database was judged by newer files of the committee")

// print is that of all that a verdict depends on besides the logs: what there must be, and
// the release list, if it is at hand.
func (b *Basis) print() (string, error) {
	var geo []bounty.Source
	if b.Geo != nil {
		geo = b.Geo.Sources()
	}
	print, err := printOf([]any{bounty.ReportVersion, b.Rules.SHA256, b.RulesSignedBy, b.Roster.SHA256, b.RosterSignedBy, geo, b.Beacon != nil})
	if b.Releases != nil {
		print += " " + b.Releases.SHA256
	}
	return print, err
}

func printOf(v any) (string, error) {
	text, err := json.Marshal(v)
	return fmt.Sprintf("%x", sha256.Sum256(text)), err
}

// keys are those by which a log's month is verified; nil: no monitor of the roster has it.
func (b *Basis) keys(log string) (*bounty.Monitor, evidence.Keys) {
	m := b.Roster.LogMonitor(log, b.Month)
	if m == nil {
		return nil, evidence.Keys{}
	}
	return m, evidence.Keys{Log: log, Plan: m.PlanKey, Witnesses: b.Roster.WitnessKeys(b.Month), Beacon: b.Beacon}
}

func keysPrint(k evidence.Keys) (string, error) {
	return printOf([]any{k.Log, k.Plan, k.Witnesses, k.Beacon != nil})
}

// term is when a relay is judged.
type term struct {
	From  evidence.Hour  `json:"from"`
	Until *evidence.Hour `json:"until,omitempty"`
}

// relays are those that are judged in some hour of the month.
func (b *Basis) relays() map[string]term {
	out := map[string]term{}
	for i := range b.Roster.Relays {
		if r := &b.Roster.Relays[i]; r.Enrolled < b.Month.End() && (r.Until == nil || *r.Until > b.Month.First()) {
			out[r.PeerID] = term{r.Enrolled, r.Until}
		}
	}
	return out
}

// vantages are the month's monitors, in the order of the roster.
func (b *Basis) vantages() []Vantage {
	out := []Vantage{}
	whole := bounty.Term{From: b.Month.First(), Until: ptr(b.Month.End())}
	for _, m := range b.Roster.Monitors {
		if (m.Until == nil || whole.From < *m.Until) && m.From < *whole.Until {
			out = append(out, Vantage{Monitor: m.Name, Operator: m.Operator, Committee: m.Committee, Place: m.Place, Key: m.LogKey})
		}
	}
	return out
}

func ptr[T any](v T) *T { return &v }

// Settle makes a basis the one by which its month is judged. If it is another one than
// before, all verdicts of the month are stale.
func (d *DB) Settle(ctx context.Context, b *Basis) error {
	if err := d.settle(ctx, b); err != nil {
		return fmt.Errorf("%s: %w", b.Month, err)
	}
	return nil
}

func (d *DB) settle(ctx context.Context, b *Basis) error {
	print, err := b.print()
	if err != nil {
		return err
	}
	vantages, err := packJSON(b.vantages())
	if err != nil {
		return err
	}
	return d.change(ctx, func(tx *sql.Tx) error {
		var was string
		var rules, roster int
		err := tx.QueryRowContext(ctx, d.sql("SELECT basis, rules_serial, roster_serial FROM months WHERE month = $1{locked}"), b.Month).Scan(&was, &rules, &roster)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case was == print:
			return nil
		case rules > b.Rules.Serial || roster > b.Roster.Serial:
			return fmt.Errorf("%w, rules serial %d and roster serial %d; here are %d and %d: bring the newer ones", ErrOlder, rules, roster, b.Rules.Serial, b.Roster.Serial)
		case b.Releases == nil && strings.HasPrefix(was, print+" "): // or two processes would undo each other's work
			return fmt.Errorf("%w: it was with the release list that the roster names, and that is not here: bring it", ErrOlder)
		}
		if err := d.exec(ctx, tx, `INSERT INTO months (month, basis, rules_serial, roster_serial, vantages) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (month) DO UPDATE SET basis = excluded.basis, rules_serial = excluded.rules_serial, roster_serial = excluded.roster_serial,
				vantages = excluded.vantages, news = months.news + 1`,
			b.Month, print, b.Rules.Serial, b.Roster.Serial, vantages); err != nil {
			return err
		}
		relays := b.relays()
		there, err := query(ctx, tx, "SELECT relay FROM verdicts WHERE month = $1", scanText, b.Month)
		if err != nil {
			return err
		}
		for _, relay := range there {
			if _, still := relays[relay]; !still {
				if err := d.exec(ctx, tx, "DELETE FROM verdicts WHERE month = $1 AND relay = $2", b.Month, relay); err != nil {
					return err
				}
			}
			delete(relays, relay)
		}
		for relay := range relays {
			if err := d.exec(ctx, tx, "INSERT INTO verdicts (month, relay) VALUES ($1, $2) ON CONFLICT DO NOTHING", b.Month, relay); err != nil {
				return err
			}
		}
		return nil
	})
}

func scanText(s scanner) (t string, err error) { return t, s.Scan(&t) }
