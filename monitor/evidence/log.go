package evidence

import (
	"crypto/ed25519"
	"time"

	"golang.org/x/mod/sumdb/tlog"
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

// Create makes a new log with new keys in dir, and opens it. A folder that holds
// a log already is refused (fs.ErrExist).
func Create(dir string, o Options) (*Log, error) { panic("being written") }

// Open opens the log in dir for writing and repairs what a crash left behind.
// It signs nothing: [Log.Seal] does. One process at a time may hold a log.
func Open(dir string) (*Log, error) { panic("being written") }

// Log is a monitor's evidence log on disk. Its methods may be called from
// several goroutines.
type Log struct{}

// Close lets go of the log; attempts and blocks are on disk already.
func (l *Log) Close() error { panic("being written") }

// Origin is <name>/relaymon/<network>.
func (l *Log) Origin() string { panic("being written") }

// Network is what was fixed at creation.
func (l *Log) Network() Network { panic("being written") }

// Key is the verifier key of the log, as it stands in a roster.
func (l *Log) Key() string { panic("being written") }

// WitnessKey is the verifier key with which this monitor cosigns others' checkpoints.
func (l *Log) WitnessKey() string { panic("being written") }

// First is the hour of the first block; block i is of hour First+i.
func (l *Log) First() Hour { panic("being written") }

// Size is the number of sealed hours under the last checkpoint.
func (l *Log) Size() int64 { panic("being written") }

// Begin notes that the monitor is watching hour h from at on. It is called once
// at the start of every hour, and again after any interruption (a start, a
// suspended host): an hour that was begun late or twice is sealed partial, one
// that was not begun is a gap.
func (l *Log) Begin(h Hour, at time.Time, software string) error { panic("being written") }

// Append writes an attempt that belongs to hour h; when it returns nil the
// attempt is on disk and counts. certs are the DER leaves that the attempt
// refers to. Hours already sealed are refused.
func (l *Log) Append(h Hour, a Attempt, certs ...[]byte) error { panic("being written") }

// Mark writes facts about the monitor itself (clock, controls, schedule) that
// will stand in the header of hour h.
func (l *Log) Mark(h Hour, m Mark) error { panic("being written") }

// Seal seals every hour that has closed by now (at :16 of the next), with
// blocks for the gaps, and signs a checkpoint. It may be repeated after an error.
func (l *Log) Seal(now time.Time) ([]Header, error) { panic("being written") }

// Records are the records of hour h in the order of their peer IDs, sealed or not.
func (l *Log) Records(h Hour) ([]Record, error) { panic("being written") }

// Header is the header of a sealed hour; fs.ErrNotExist for others.
func (l *Log) Header(h Hour) (Header, error) { panic("being written") }

// Checkpoint is the last checkpoint, a signed note with the cosignatures it has; nil before the first.
func (l *Log) Checkpoint() ([]byte, error) { panic("being written") }

// AddCosignatures adds to the checkpoint of the given size those lines of
// signatures that verify with one of the witnesses' keys.
func (l *Log) AddCosignatures(size int64, lines []byte, witnesses ...string) error {
	panic("being written")
}

// ProveConsistency proves that the tree of size newSize extends that of oldSize.
func (l *Log) ProveConsistency(oldSize, newSize int64) (tlog.TreeProof, error) {
	panic("being written")
}

// Month exports what shows the month of one relay, as of a time (which only
// cuts away what came later). Of the cosignatures it holds those by the given
// witnesses (verifier keys).
func (l *Log) Month(m Month, relay string, asOf time.Time, witnesses ...string) (MonitorMonth, error) {
	panic("being written")
}

// SignStatement puts an in-toto statement into a DSSE envelope signed by the log's key.
func (l *Log) SignStatement(statement []byte) ([]byte, error) { panic("being written") }

// VerifyStatement opens an envelope that [Log.SignStatement] made and returns the statement.
func VerifyStatement(envelope []byte, logKey string) ([]byte, error) { panic("being written") }

// Check verifies a whole store without changing it.
func Check(dir string) (CheckReport, error) { panic("being written") }

// CheckReport says what [Check] saw.
type CheckReport struct {
	Origin      string   `json:"origin"`
	First       Hour     `json:"first"`
	Blocks      int64    `json:"blocks"`
	OK          int64    `json:"ok"`
	Partial     int64    `json:"partial"`
	Gaps        int64    `json:"gaps"`
	Records     int64    `json:"records"`
	Attempts    int64    `json:"attempts"`
	Checkpoints int64    `json:"checkpoints"`
	Open        []Hour   `json:"open,omitempty"`
	Faults      []string `json:"faults,omitempty"` // empty: the store is sound
}

// unsure keeps the import until the signing is written.
var _ ed25519.PublicKey
