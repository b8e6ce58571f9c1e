// Package scale makes the logs of a fleet, of thousands of relays and of dozens of monitors
// of which seven are due for each relay and hour (rule R21), and measures what it costs to
// keep them, to copy them and to judge by them.
//
// The logs are real: package store seals them, relays sign the vouchers, plan keys the
// plans, other monitors the checkpoints, and each verifies. Only the network is made up,
// and drand: a chain of the fleet's own has a round for each hour.
package scale

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Options say what fleet is made. Equal options make equal logs, to the byte.
type Options struct {
	Relays   int `json:"relays"`
	Monitors int `json:"monitors"`
	Hours    int `json:"hours"` // of [Month], from its first on
	// Witnesses are how many other monitors cosign each checkpoint.
	Witnesses int    `json:"witnesses"`
	Seed      uint64 `json:"seed"`
}

// Month is the one whose hours the logs tell.
var Month = evidence.MonthOf(time.Date(2026, time.September, 1, 0, 0, 0, 0, time.UTC))

// Validate names what cannot be.
func (o Options) Validate() error {
	var faults []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	want(o.Relays >= 1 && o.Relays <= evidence.MaxRecords, "relays: want 1 to %d, not %d", evidence.MaxRecords, o.Relays)
	want(o.Monitors >= 15 && o.Monitors <= 100, "monitors: want 15 to 100, not %d: of fewer all are due (R21), and a bundle holds no more logs", o.Monitors)
	want(o.Hours >= 1 && o.Hours <= Month.Hours(), "hours: want 1 to the %d of %s, not %d", Month.Hours(), Month, o.Hours)
	want(o.Witnesses >= 1 && o.Witnesses < o.Monitors, "witnesses: want 1 to one less than the monitors, not %d", o.Witnesses)
	return errors.Join(faults...)
}

// Fleet is one that was made.
type Fleet struct {
	Options
	// Made is what making it came to.
	Made Made `json:"made"`

	dir      string
	monitors []*watcher
	drand    *drand
	roster   *bounty.Roster // while it is made
	rules    *bounty.Rules
}

// Made is what making a fleet came to.
type Made struct {
	Records  int64 `json:"records"`
	Attempts int64 `json:"attempts"`
	// Listed are the relays that the roster lists, the first ones: more than these do not
	// fit into the file, see [bounty.MaxBytes].
	Listed  int     `json:"listed"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`
}

// The names in a fleet's folder.
const (
	fleetFile     = "fleet.json"
	rulesFile     = "rules.yaml"
	rosterFile    = "roster.yaml"
	committeeFile = "committee.txt"
	monitorsDir   = "monitors"
)

// Open opens a fleet that was made.
func Open(dir string) (*Fleet, error) {
	b, err := os.ReadFile(filepath.Join(dir, fleetFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no fleet that was made to its end: make one in a new folder", dir)
	}
	if err != nil {
		return nil, err
	}
	var was Fleet
	if err := json.Unmarshal(b, &was); err != nil {
		return nil, fmt.Errorf("read %s: %w", fleetFile, err)
	}
	f, err := found(dir, was.Options)
	if err != nil {
		return nil, err
	}
	f.Made = was.Made
	return f, nil
}

func (f *Fleet) path(elem ...string) string {
	return filepath.Join(append([]string{f.dir}, elem...)...)
}

// hour is the one with the number.
func (f *Fleet) hour(i int) evidence.Hour { return Month.First() + evidence.Hour(i) }

// asOf is when the logs are exported: the last hour is sealed and cosigned.
func (f *Fleet) asOf() time.Time { return sealing(f.hour(f.Hours - 1)).Add(10 * time.Minute) }

// sealing is when an hour is sealed; the others cosign it three minutes later.
func sealing(h evidence.Hour) time.Time { return h.End().Add(17 * time.Minute) }

// seedOf is the seed of a key, or of chance, by what it is for.
func (o Options) seedOf(what ...any) [32]byte {
	return sha256.Sum256(fmt.Appendln(fmt.Appendf(nil, "relay-appliance, scale, LAB %d ", o.Seed), what...))
}

// chance is always the same for the same words.
func (o Options) chance(what ...any) *rand.ChaCha8 { return rand.NewChaCha8(o.seedOf(what...)) }

// drand is a chain whose secret key is known, so that it has a round for any hour.
type drand struct {
	*beacon.Chain
	secret *bls.SecretKey
}

func (o Options) newDrand() (*drand, error) {
	seed := o.seedOf("drand")
	secret, err := bls.KeyGen(seed[:])
	if err != nil {
		return nil, err
	}
	chain, err := beacon.NewChain(fmt.Sprintf("%x", seed), secret.Public().Bytes(), Month.First().Start().AddDate(-1, 0, 0), 3*time.Second)
	return &drand{chain, secret}, err
}

// round is the first one of an hour.
func (d *drand) round(h evidence.Hour) []byte {
	r := beacon.Round{Number: d.First(h.Start())}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, r.Number))
	copy(r.Signature[:], d.secret.Sign(sum[:]))
	return r.Bytes()
}
