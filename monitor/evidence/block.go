package evidence

import "golang.org/x/mod/sumdb/tlog"

// Hash is a hash of the log's or of a block's Merkle tree (RFC 6962).
type Hash = tlog.Hash

// State says how much of an hour the monitor watched.
type State string

// The states of a block.
const (
	StateOK      State = "ok"      // begun with the hour and not interrupted
	StatePartial State = "partial" // watched for a part of the hour
	StateGap     State = "gap"     // not watched
)

// Header is the head of an hour's block and, as canonical JSON, one leaf of the log.
type Header struct {
	Hour     Hour  `json:"hour"`
	Previous Hash  `json:"previous"` // leaf hash of the block before; zero for the first
	State    State `json:"state"`
	// SealedAt is the monitor's clock when it sealed the hour.
	SealedAt Time `json:"sealed_at"`
	// Signed says that a checkpoint was signed with this block as the last.
	Signed   bool      `json:"signed"`
	Software string    `json:"software,omitempty"`
	Clock    Clock     `json:"clock"`
	Controls []Control `json:"controls,omitempty"`
	// Schedule commits to the secret of a day to come or publishes that of a day past (rule R2).
	Schedule []Secret `json:"schedule,omitempty"`
	Records  int64    `json:"records"`
	Root     Hash     `json:"root"` // Merkle root over the records, sorted by peer ID
}

// Clock sums up the samples of the monitor's clock within an hour (rule R9).
type Clock struct {
	Samples      int   `json:"samples"`
	Synchronised bool  `json:"synchronised"` // the kernel said so in every sample
	DriftMS      int64 `json:"drift_ms"`     // largest difference of wall and monotonic clock
}

// ClockSample is one look at the monitor's clock.
type ClockSample struct {
	At           Time  `json:"at"`
	Synchronised bool  `json:"synchronised"` // the kernel's clock is disciplined (adjtimex)
	DriftMS      int64 `json:"drift_ms"`     // wall against monotonic clock since the hour began
}

// Secret is the schedule's secret of one day: first its SHA-256, a day later itself.
type Secret struct {
	Day    string `json:"day"`              // 2026-11-03
	SHA256 string `json:"sha256,omitempty"` // of the secret, hex: written on the day before or at its start
	Secret []byte `json:"secret,omitempty"` // written when the day is over
}

// Mark is a fact about the monitor itself. Exactly one field is set.
type Mark struct {
	Clock    *ClockSample `json:"clock,omitempty"`
	Control  *Control     `json:"control,omitempty"`
	Schedule *Secret      `json:"schedule,omitempty"`
}
