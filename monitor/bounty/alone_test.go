package bounty

import (
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Each attempt is judged as if it were the only one; the last one started after its hour.
func TestAlone(t *testing.T) {
	rules, roster, relay, h := stage(t)
	at := func(minutes int) time.Time { return h.Start().Add(time.Duration(minutes) * time.Minute) }
	blind := climb(at(56), "ffs", 0)
	blind.Controls = nil
	stepped := climb(at(57), "ooo", 4)
	stepped.Stepped = true
	rec := &evidence.Record{PeerID: relayID, Hour: h, Attempts: []evidence.Attempt{
		climb(at(50), "ffs", 0), climb(at(55), "oob", 0), blind, stepped, climb(at(63), "ooo", 4), climb(at(70), "ofs", 0),
	}}
	for i, want := range []Vote{{Value: Down}, {Value: Busy}, {Why: BlindLine}, {Why: Clock}, {Value: Up}, {Value: Down}} {
		if got := Alone(rules, roster, nil, relay, rec, i, nil); got.Vote != want {
			t.Errorf("attempt %d: %s (%s), want %s (%s)", i, got.Value, got.Why, want.Value, want.Why)
		}
	}
	if got := Alone(rules, roster, nil, relay, rec, 4, nil).UpAttempt; got != 4 {
		t.Errorf("attempt %d makes it up, want 4", got)
	}
	// Its own voucher, and not that of the first attempt, counts.
	vouchers := make([]evidence.VoucherCheck, len(rec.Attempts))
	vouchers[0].State = evidence.VoucherBound
	if got := Alone(rules, roster, nil, relay, rec, 4, vouchers); got.Why != Unsigned {
		t.Errorf("without a voucher: %s (%s), want unknown (unsigned)", got.Value, got.Why)
	}
	if rules.DownAttempts != Defaults().DownAttempts {
		t.Error("the rules were changed, want them as they were")
	}
}
