package evidence

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxMonthBytes is how many bytes the files of one exported month have together, at most.
const MaxMonthBytes = 64 << 20

// Bounds that whoever writes a log keeps to, so that every reader takes what it wrote.
const (
	MaxAttemptBytes     = 48 << 10 // of canonical JSON
	MaxRecordBytes      = 128 << 10
	MaxHeaderBytes      = 32 << 10
	MaxCheckpointBytes  = 64 << 10
	MaxCertificateBytes = 16 << 10
	MaxCosignedBytes    = 1 << 10 // of the note in a challenge
	MaxTextBytes        = 256     // of most text, such as the name of the software

	MaxAttempts = 16        // on one relay in one hour
	MaxRecords  = 100_000   // in one block
	MaxMissed   = 3_200_000 // attempts in one hour
)

// Bounds of what is taken into a log and read from an export. A relay chooses some of
// what is recorded about it; the probe cuts it down long before.
const (
	maxBlockProof = 8 << 10
	maxIndex      = 8 << 10 // month.json
	maxNote       = 128 << 10
	maxHours      = 31 * 24 // in a month

	maxDepth   = 16  // of lists and objects in each other, in a line
	maxMembers = 256 // of one of them

	maxRungs     = 32
	maxTries     = 1000 // of one rung
	maxControls  = 128  // of one attempt
	maxPackets   = 1 << 30
	maxPings     = 16
	maxProtocols = 128
	maxAddrs     = 32
	maxIPv4      = 16
	maxLookups   = 9
	maxNames     = 100 // of a certificate
	maxBeacon    = 256
	maxHeld      = 128 // cosignatures in a header
	maxPath      = 128 // hashes of a proof: a longer one takes 2^128 peer IDs
	maxWord      = 64  // bytes of a name that the monitor chooses
	maxPeer      = 128
	maxControl   = 100 // bytes of a control's name
	maxDetail    = 300
	maxAddr      = 1024
	maxFaults    = 20 // told at once
	saltSize     = 32
	maxBoot      = 64 // bytes

	// maxTook is how long anything in an attempt may take, and when after its start it
	// may begin; also how far from it a control may be, before and after.
	maxTook = time.Hour
)

// FileLimit is how many bytes a file of an exported month may have, by its name; 0 if
// no file has that name. All together have [MaxMonthBytes] at most.
func FileLimit(name string) int {
	lines := func(each int) int { return min(maxHours*(each+1), MaxMonthBytes) }
	switch name {
	case fileMonth:
		return maxIndex + 1
	case fileStart, fileTip:
		return MaxCheckpointBytes
	case fileHeaders:
		return lines(MaxHeaderBytes)
	case fileCheckpoints:
		return lines(MaxCheckpointBytes)
	case fileProofs:
		return lines(maxBlockProof)
	case fileRecords:
		return lines(MaxRecordBytes)
	}
	if der, ok := strings.CutPrefix(name, folderCerts); ok {
		if sha, ok := strings.CutSuffix(der, certificateSufix); ok && IsSHA256Hex(sha) {
			return MaxCertificateBytes
		}
	}
	return 0
}

// DecodeLine is [DecodeGrown] of a line of no more than limit bytes that is shaped as a
// writer's lines are.
func DecodeLine(line []byte, limit int, v any) error {
	if len(line) > limit {
		return fmt.Errorf("a line of %d bytes is too long, want %d at most", len(line), limit)
	}
	if err := shaped(line); err != nil {
		return err
	}
	return DecodeGrown(line, v)
}

// shaped refuses JSON with lists so long or so deep as no writer makes them, before it
// is decoded: a list of the smallest values takes many times its bytes in memory.
func shaped(b []byte) error {
	var members [maxDepth]int
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth == maxDepth {
				return fmt.Errorf("more than %d lists and objects stand in each other", maxDepth)
			}
			members[depth] = 1
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return errors.New("a list or object ends that did not begin")
			}
			depth--
		case c == ',' && depth > 0:
			if members[depth-1]++; members[depth-1] > maxMembers {
				return fmt.Errorf("a list or object has more than %d members", maxMembers)
			}
		}
	}
	return nil
}
