package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
)

// PlanSize is the length of a plan in bytes.
const PlanSize = bls.SignatureSize

// PlanText is what a monitor's plan key signs for a relay and an hour. The signature is
// the plan.
func PlanText(origin string, h Hour, relay string) []byte {
	return fmt.Appendf(nil, "relaymon-plan/v1\n%s\n%s\n%s\n", origin, h, relay)
}

// Offset is how far into its hour the first attempt is due by a plan (rule R2): a second
// that nobody can tell who does not hold the plan key, and that its holder cannot choose.
func Offset(plan []byte) time.Duration {
	sum := sha256.Sum256(plan)
	return time.Duration(binary.BigEndian.Uint64(sum[:])%hourSeconds) * time.Second
}

// Why a record does not show when its first attempt was due, see [VerifiedHour.PlanFault].
const (
	NoPlan      = "no plan"
	ForeignPlan = "plan is not by the monitor's plan key"
)
