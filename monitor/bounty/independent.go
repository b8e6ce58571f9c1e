package bounty

import "github.com/psf-relay/relay-appliance/monitor/evidence"

// Independent are the verifier keys of the witnesses in force in hour h of other
// operators than the monitor's: what they sign shows that something was not made
// beforehand. Nil is a monitor that is not in the roster.
func (r *Roster) Independent(m *Monitor, h evidence.Hour) []string {
	if m == nil {
		m = &Monitor{}
	}
	var keys []string
	for _, w := range r.witnessesFor(m, h) {
		keys = append(keys, w.key)
	}
	return keys
}

// Unproven says why an attempt that finds its relay up makes no vote of up, by what its
// voucher shows; [None]: it does.
func (r *Rules) Unproven(roster *Roster, monitor *Monitor, a *evidence.Attempt, v evidence.VoucherCheck) Why {
	return r.unproven(roster, monitor, a, []evidence.VoucherCheck{v}, 0)
}
