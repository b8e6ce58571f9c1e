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

// planKey reads the monitor's plan key, if the verifier has one.
func (v *monthVerifier) planKey() (err error) {
	if v.keys.Plan == "" {
		return nil
	}
	if v.plan, err = bls.ParsePublicKey(v.keys.Plan); err != nil {
		return fmt.Errorf("plan key: %w", err)
	}
	return nil
}

// plans finds out when the first attempts of some hours were due.
func (v *monthVerifier) plans(hours []VerifiedHour) {
	if v.plan == nil {
		return
	}
	var with []*VerifiedHour
	var plans []bls.Signed
	for i := range hours {
		switch h := &hours[i]; {
		case h.Record == nil:
		case len(h.Record.Plan) == 0:
			h.PlanFault = NoPlan
		default:
			with = append(with, h)
			plans = append(plans, bls.Signed{Message: PlanText(v.m.Origin, h.Header.Hour, v.m.Relay), Signature: h.Record.Plan})
		}
	}
	for _, i := range v.plan.VerifyBatch(plans) {
		with[i].PlanFault = ForeignPlan
	}
	for _, h := range with {
		if h.PlanFault == "" {
			h.Due = h.Header.Hour.Start().Add(Offset(h.Record.Plan))
		}
	}
}
