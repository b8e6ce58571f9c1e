package evidence

import (
	"errors"
	"fmt"
	"time"
)

// A spine is what a log's month shows whatever the relay: its blocks, checkpoints,
// cosignatures, and how far it reaches. It is a [MonitorMonth] of no relay, and so without
// proofs, records and certificates. Whoever judges many relays verifies it once.

// ExportSpine is [Export] of no relay.
func ExportSpine(src Source, m Month, asOf time.Time, witnesses ...string) (MonitorMonth, error) {
	e := newExporter(src, m, "", asOf)
	if err := e.spine(witnesses); err != nil {
		return MonitorMonth{}, fmt.Errorf("export %s: %w", m, err)
	}
	return e.out, nil
}

// VerifySpine is [VerifyMonth] of a month of no relay: its hours have no records.
func VerifySpine(m MonitorMonth, k Keys) (VerifiedMonth, error) {
	v := monthVerifier{m: m, keys: k}
	if err := v.verify(v.identity, v.noRelay, v.start, v.blocks, v.checkpoints, v.tip); err != nil {
		return VerifiedMonth{}, fmt.Errorf("verify %s by %s: %w", m.Month, m.Origin, err)
	}
	v.rounds(v.hours)
	v.out.Hours = v.hours
	return v.out, nil
}

func (v *monthVerifier) noRelay() error {
	if v.m.Relay != "" || len(v.m.Proofs)+len(v.m.Records)+len(v.m.Certificates) > 0 {
		return errors.New("want a month of no relay")
	}
	return nil
}

// Spine is the month without what is of its relay.
func (m MonitorMonth) Spine() MonitorMonth {
	m.Relay, m.Proofs, m.Records, m.Certificates, m.grownIndex = "", nil, nil, nil, nil
	return m
}
