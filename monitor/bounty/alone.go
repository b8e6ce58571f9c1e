package bounty

import "github.com/psf-relay/relay-appliance/monitor/evidence"

// Alone is what attempt i of a record shows by itself, judged as [VoteOf] judges the
// record: one counted failure is down, as if rule R6 asked for no second one. It tells
// what each attempt brought to the vote.
func Alone(rules *Rules, roster *Roster, monitor *Monitor, relay *Relay, rec *evidence.Record, i int, vouchers []evidence.VoucherCheck) Ballot {
	one := *rules
	one.DownAttempts, one.DownSpacing = 1, 0
	part := *rec
	part.Attempts = rec.Attempts[:1]
	if i > 0 {
		// Only a retry may start after its hour: a blank that counts for nothing stands
		// where the first attempt was.
		part.Attempts = []evidence.Attempt{{}, rec.Attempts[i]}
		if vouchers != nil {
			vouchers = []evidence.VoucherCheck{{}, voucher(vouchers, i)}
		}
	}
	b := VoteOf(&one, roster, monitor, relay, &part, vouchers)
	if b.UpAttempt >= 0 {
		b.UpAttempt = i
	}
	return b
}
