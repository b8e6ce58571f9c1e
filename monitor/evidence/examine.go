package evidence

import (
	"fmt"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bls"
)

// Examined is what a record shows besides what it says; see [VerifiedHour].
type Examined struct {
	Due       time.Time      `json:"due,omitzero"`
	PlanFault string         `json:"plan_fault,omitempty"`
	Vouchers  []VoucherCheck `json:"vouchers,omitempty"`
}

// Examiner examines the records of one log. It may be used by several goroutines.
type Examiner struct {
	origin   string
	vouchers *Vouchers
	plan     *bls.PublicKey // nil: the verifier knows none
}

// NewExaminer parses the keys, once for all records.
func NewExaminer(k Keys) (*Examiner, error) {
	e := &Examiner{}
	var err error
	if e.vouchers, err = NewVouchers(k); err != nil {
		return nil, err
	}
	e.origin = e.vouchers.origin
	if k.Plan == "" {
		return e, nil
	}
	if e.plan, err = bls.ParsePublicKey(k.Plan); err != nil {
		return nil, fmt.Errorf("plan key: %w", err)
	}
	return e, nil
}

// Examine says what records show, in their order; they may be of several relays and hours.
// That they stand in the log is for others to check, and that they are well formed: see
// [BlockCheck]. Many at once take less time than one by one.
func (e *Examiner) Examine(records []*Record) []Examined {
	out := make([]Examined, len(records))
	_ = parallel(len(records), func(i int) error {
		for _, a := range records[i].Attempts {
			out[i].Vouchers = append(out[i].Vouchers, e.vouchers.Verify(a, records[i].Hour))
		}
		return nil
	})
	e.plans(records, out)
	return out
}

// plans finds out when the first attempts were due.
func (e *Examiner) plans(records []*Record, out []Examined) {
	if e.plan == nil {
		return
	}
	var with []int
	var plans []bls.Signed
	for i, r := range records {
		if len(r.Plan) == 0 {
			out[i].PlanFault = NoPlan
			continue
		}
		with = append(with, i)
		plans = append(plans, bls.Signed{Message: PlanText(e.origin, r.Hour, r.PeerID), Signature: r.Plan})
	}
	for _, i := range e.plan.VerifyBatch(plans) {
		out[with[i]].PlanFault = ForeignPlan
	}
	for _, i := range with {
		if out[i].PlanFault == "" {
			out[i].Due = records[i].Hour.Start().Add(Offset(records[i].Plan))
		}
	}
}
