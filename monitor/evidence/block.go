package evidence

import (
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

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
	// Signed says that a checkpoint was signed with this block as the last. The
	// last block of a month is always signed.
	Signed bool `json:"signed"`
	// Software is what watched the hour, as it calls itself.
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
	Synchronised bool  `json:"synchronised"` // the kernel said so in every sample, of which there is one
	DriftMS      int64 `json:"drift_ms"`     // largest difference of wall and monotonic clock, without sign
}

// ClockSample is one look at the monitor's clock.
type ClockSample struct {
	At           Time  `json:"at"`
	Synchronised bool  `json:"synchronised"` // the kernel's clock is disciplined (adjtimex)
	DriftMS      int64 `json:"drift_ms"`     // wall against monotonic clock since the hour began
}

// MaxDrift is how far the wall clock may move against the monotonic one within an hour (rule R9).
const MaxDrift = 2 * time.Second

// Fault says why the clock is not to be trusted (rule R9); empty if it is.
func (c Clock) Fault() string {
	switch {
	case c.Samples == 0:
		return "the monitor's clock was not looked at"
	case !c.Synchronised:
		return "the monitor's clock was not synchronised"
	case c.DriftMS >= MaxDrift.Milliseconds():
		return "the monitor's clock was moved"
	}
	return ""
}

func sumUpClock(samples []ClockSample) Clock {
	c := Clock{Samples: len(samples), Synchronised: len(samples) > 0}
	for _, s := range samples {
		c.Synchronised = c.Synchronised && s.Synchronised
		c.DriftMS = max(c.DriftMS, s.DriftMS, -s.DriftMS)
	}
	return c
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

// beginGrace is how late in an hour a monitor may begin it and still have watched it all.
const beginGrace = time.Minute

// state is ok if this process began the hour in time and was not interrupted.
func (w *openWAL) state() State {
	if w.here && len(w.begins) == 1 && w.begins[0].At.Before(w.hour.Start().Add(beginGrace)) {
		return StateOK
	}
	return StatePartial
}

// header makes the head of a block out of the hour's write-ahead log, nil for a gap.
func (w *openWAL) header(h Hour, at time.Time, records *tree) (Header, error) {
	head := Header{Hour: h, State: StateGap, SealedAt: TimeOf(at), Clock: sumUpClock(nil), Records: records.size}
	if w != nil {
		head.State = w.state()
		if n := len(w.begins); n > 0 {
			head.Software = w.begins[n-1].Software
		}
		head.Clock, head.Controls, head.Schedule = sumUpClock(w.clock), w.controls, w.schedule
	}
	var err error
	head.Root, err = records.root(records.size)
	return head, err
}

// errClockAhead keeps a clock that jumped from filling the log with hours that never were.
var errClockAhead = errors.New("the clock is more than 400 days ahead of the last block: set it, or, if the monitor really was off for so long, start a new log")

const maxGap = 400 * 24
