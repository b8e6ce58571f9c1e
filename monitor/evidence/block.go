package evidence

import (
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a hash of the log's Merkle tree (RFC 6962) or of a block's.
type Hash = tlog.Hash

// State says whether the monitor watched an hour.
type State string

// The states of a block.
const (
	StateOK  State = "ok"  // watched, if only for a part of the hour
	StateGap State = "gap" // not watched
)

// Header is the head of an hour's block and, as canonical JSON, one leaf of the log.
type Header struct {
	// Cosigned are the cosignatures that the monitor held under the checkpoint over the
	// blocks before this one when it sealed it, in the order of the witnesses. So they
	// cannot be withdrawn. If the block before was not signed there is no such checkpoint.
	Cosigned []Held `json:"cosigned,omitempty"`
	Hour     Hour   `json:"hour"`
	Previous Hash   `json:"previous"` // leaf hash of the block before; zero for the first
	State    State  `json:"state"`
	// SealedAt is the monitor's clock when it sealed the hour.
	SealedAt Time `json:"sealed_at"`
	// Signed says that a checkpoint was signed with this block as the last. The
	// last block of a month is always signed.
	Signed bool `json:"signed"`
	// Software is what watched the hour, as it calls itself.
	Software string `json:"software,omitempty"`
	Clock    Clock  `json:"clock"`
	// Missed attempts were due and not made: the monitor was overloaded and had no
	// place for them.
	Missed  int64 `json:"missed,omitempty"`
	Records int64 `json:"records"`
	Root    Hash  `json:"root"` // of the prefix tree over the records
	// Round is the hour's beacon, if the monitor had it and it says who was due (rule R21).
	Round   []byte `json:"round,omitempty"`
	Version int    `json:"version"` // [FormatVersion]
}

// Held says that the monitor held a cosignature.
type Held struct {
	Time    Time   `json:"time"`    // of the cosignature
	Witness string `json:"witness"` // the name and the hash of its key, "name+6467e1ed"
}

// Clock sums up the samples of the monitor's clock, from the hour's begin until it
// closed (rule R9).
type Clock struct {
	Samples int `json:"samples"`
	// Synchronised: the kernel said so in every sample, of which there is one, or in
	// the next. Right after a step it says so of no clock, and is not asked.
	Synchronised bool `json:"synchronised"`
	// DriftMS is how far the wall clock moved in all against one that never steps:
	// the largest difference of the two less the smallest.
	DriftMS int64 `json:"drift_ms"`
	// Steps are the moves of a second and more, in order. The list ends at [MaxSteps].
	Steps []ClockStep `json:"steps,omitempty"`
}

// ClockStep is a move of the wall clock at once: somebody or something has set it.
type ClockStep struct {
	At   Time  `json:"at"`    // the wall clock when it was seen, after the step
	ByMS int64 `json:"by_ms"` // above 0: forward
}

// ClockSample is one look at the monitor's clocks.
type ClockSample struct {
	At           Time `json:"at"`
	Synchronised bool `json:"synchronised"` // the kernel's clock is disciplined (adjtimex)
	// UpMS is a clock that never steps, and goes on while the machine sleeps; Boot is
	// since when it runs. Readings of two boots cannot be compared.
	UpMS int64  `json:"up_ms"`
	Boot string `json:"boot,omitempty"`
}

const (
	// MaxDrift is how far the wall clock may move against one that never steps within
	// an hour (rule R9).
	MaxDrift = 2 * time.Second
	// MinStep is the smallest move that is called a step.
	MinStep = time.Second
	// MaxSteps is how many steps a header tells. One that tells so many may have had
	// more, and its clock is not trusted.
	MaxSteps = 16
)

// Moved says whether the clock moved within the hour by limit or more.
func (c Clock) Moved(limit time.Duration) bool {
	return max(c.DriftMS, -c.DriftMS) >= limit.Milliseconds() || len(c.Steps) >= MaxSteps
}

// Fault says why the clock is not to be trusted (rule R9); empty if it is.
func (c Clock) Fault() string {
	switch {
	case c.Samples == 0:
		return "the monitor's clock was not looked at"
	case !c.Synchronised:
		return "the monitor's clock was not synchronised"
	case c.Moved(MaxDrift):
		return "the monitor's clock was moved"
	}
	return ""
}

// SumUpClock makes of an hour's samples what its header says of the clock.
func SumUpClock(samples []ClockSample) Clock {
	c := Clock{Samples: len(samples), Synchronised: len(samples) > 0}
	var last, low, high int64
	doubt := false // the last sample was not synchronised; one without a step after it may vouch for it
	for i, s := range samples {
		ahead, stepped := s.ahead(), false
		if i == 0 || s.Boot != samples[i-1].Boot {
			last, low, high = ahead, ahead, ahead
			c.Synchronised = c.Synchronised && !doubt
		}
		if by := ahead - last; max(by, -by) >= MinStep.Milliseconds() {
			stepped = true
			c.Synchronised = c.Synchronised && !doubt
			if len(c.Steps) < MaxSteps {
				c.Steps = append(c.Steps, ClockStep{s.At, by})
			}
		}
		last, low, high = ahead, min(low, ahead), max(high, ahead)
		c.DriftMS = max(c.DriftMS, high-low)
		doubt = !s.Synchronised && !stepped
	}
	c.Synchronised = c.Synchronised && !doubt
	return c
}

// ahead is how many milliseconds the wall clock is ahead of the one that never steps.
func (s ClockSample) ahead() int64 { return s.At.UnixMilli() - s.UpMS }

// Mark is a fact about the monitor itself. Exactly one field is set.
type Mark struct {
	Clock  *ClockSample `json:"clock,omitempty"`
	Missed int64        `json:"missed,omitempty"` // attempts not made for want of a place
}
