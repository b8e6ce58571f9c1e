package secondverifier

import (
	"fmt"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/beacon"
)

// Both know the rounds of drand's chain quicknet, and no others.
func TestRounds(t *testing.T) {
	p, chain := startProgram(t), beacon.Quicknet()
	rounds := []string{ // as drand's API gave them out
		`{"round":1000,"signature":"b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"}`,
		`{"round":32281667,"signature":"b0f5ae301358ff87a9d3dd539ed4a07c0148b1ab4f7b61a8ca43c7e9ca7ca9553e4faae9188deb30b2cd1a7f447e3e5b"}`,
		`{"round":32285085,"signature":"81dbce51d584d90d618547f4b50391d53ace6f6b9aeb8fb67e1879427af9d0310ac0ec6f519271d9a313ee84b378d416"}`,
	}
	var signature [48]byte
	for _, raw := range rounds {
		r, err := beacon.Decode([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1692803367, 0).Add(time.Duration(r.Number-1) * 3 * time.Second)
		check := func(what string, r beacon.Round, at time.Time, want bool) {
			t.Helper()
			err := chain.VerifyBeacon(r.Bytes(), at)
			a := p.ask(request{Round: &round{r.Bytes(), at.UnixMilli()}})
			if got := fmt.Sprintf("%v, %v", err == nil, a.Verified); got != fmt.Sprintf("%v, %v", want, want) {
				t.Errorf("round %d, %s: relayaudit and the second verifier say %s, want %v (%v, %s)", r.Number, what, got, want, err, a.Error)
			}
		}
		check("as published", r, at, true)
		check("asked for a little earlier", r, at.Add(-2999*time.Millisecond), true)
		check("asked for later", r, at.Add(time.Millisecond), false)
		check("asked for too early", r, at.Add(-3*time.Second), false)
		if signature != [48]byte{} {
			check("with another round's signature", beacon.Round{Number: r.Number, Signature: signature}, at, false)
		}
		signature = r.Signature
		infinity := beacon.Round{Number: r.Number, Signature: [48]byte{0: 0xc0}}
		check("the point at infinity", infinity, at, false)
		for _, bit := range []int{0, 1, 2, 100, 383} { // the first three are flags of the spelling
			bad := r
			bad.Signature[bit/8] ^= 0x80 >> (bit % 8)
			check(fmt.Sprintf("bit %d changed", bit), bad, at, false)
		}
	}
}
