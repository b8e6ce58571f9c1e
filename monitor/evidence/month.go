package evidence

import "time"

// MonitorMonth is what one monitor's log shows of one relay in one month, as
// bytes that a stranger can check: see [VerifyMonth].
type MonitorMonth struct {
	Origin string // the log's
	Key    string // the log's verifier key; a verifier brings his own and compares
	Month  Month
	Relay  string // peer ID
	AsOf   Time

	// StartSize is the number of blocks before the month, Frontier the hashes of
	// the perfect subtrees they make, largest first. Start is the checkpoint of
	// that size (nil if it is 0).
	StartSize int64
	Frontier  []Hash
	Start     []byte

	// Headers are the month's sealed blocks in order, without a hole.
	Headers [][]byte
	// Checkpoints are all that were signed over them, in order; the last covers all.
	Checkpoints [][]byte
	// Proofs tell of each block with records, in order, whether one is of the relay;
	// Records are the relay's, in order. An hour without one is unknown.
	Proofs  [][]byte
	Records [][]byte
	// Tip is a checkpoint later than the month's (nil: there is none), and TipProof
	// shows that the blocks under them are under it as well (RFC 6962).
	Tip      []byte
	TipProof []Hash
	// Certificates are the leaves (DER) the records refer to, sorted by their SHA-256.
	Certificates [][]byte

	// Cut is why an export ends before the log does; it is in none of the files.
	Cut string

	// grownIndex is month.json with its members that nobody knows yet; nil: it has none.
	grownIndex []byte
}

// Keys are what a verifier brings along; none of it is taken from the bundle.
type Keys struct {
	Log       string   // verifier key of the log
	Witnesses []string // verifier keys of the witnesses; signatures by others are ignored
	Beacon    BeaconVerifier
	// Plan is the public key of the monitor's plan; empty: nothing is found out of when
	// attempts were due.
	Plan string
}

// VerifiedMonth is what was proven.
type VerifiedMonth struct {
	Origin  string
	Name    string // the monitor's, from the origin
	Network Network
	Month   Month
	Relay   string
	AsOf    Time
	// Size and Root are those of the last checkpoint.
	Size int64
	Root Hash
	// Tip is how far the log reached when the month was exported, which may be further
	// than the month.
	Tip   Tip
	Hours []VerifiedHour // every hour of the month the log holds, in order
	// Certificates holds the DER leaves by their SHA-256 in hex.
	Certificates map[string][]byte
	// Digest is the SHA-256 in hex over the hashes and names of the export's files.
	Digest string
}

// Tip is how far a log is known to reach.
type Tip struct {
	// End is the first hour that the tip does not cover. It is 0 if the export shows no
	// block of the month: then the log is not known to reach into it.
	End Hour
	// Cosigned tells when each witness cosigned that checkpoint, in the order of names.
	Cosigned []Cosigned
}

// VerifiedHour is an hour under the log's root.
type VerifiedHour struct {
	Header Header
	Record *Record // nil: the monitor holds nothing of the relay in this hour
	// Cosigned tells when each witness first cosigned a checkpoint over this hour, in the order of names.
	Cosigned []Cosigned
	// Round is the beacon of the header, if it is the hour's; else nil.
	Round []byte
	// ClockFault says why the monitor's clock is not to be trusted in this hour (rule R9); empty: it is.
	ClockFault string
	// Due is when the first attempt was due by the record's plan; zero without a good one.
	Due time.Time
	// PlanFault says why there is none: [NoPlan] or [ForeignPlan]; empty: there is one, or
	// no record, or no key to check it with.
	PlanFault string
	// Vouchers has one entry for each attempt of the record.
	Vouchers []VoucherCheck
}

// With is the hour with a record of it and what that shows.
func (h VerifiedHour) With(r *Record, e Examined) VerifiedHour {
	h.Record, h.Due, h.PlanFault, h.Vouchers = r, e.Due, e.PlanFault, e.Vouchers
	return h
}

// Cosigned is one witness's word: it had seen the hour's block at that time.
type Cosigned struct {
	Witness string // verifier key, as given in Keys
	At      time.Time
}
