package evidence

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

const monitorKey = "monitor.example.org/relaymon/psf+00000000+AQ=="

// The derivation is part of the format: another implementation must come to the
// same peer ID.
func TestChallengeVector(t *testing.T) {
	relay, err := peer.Decode("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
	must(t, err)
	c := Challenge{MonitorKey: monitorKey, Relay: relay, Hour: firstHour, Salt: bytes.Repeat([]byte{7}, 32)}
	id := func(c Challenge) string {
		t.Helper()
		key, err := c.Key()
		must(t, err)
		id, err := peer.IDFromPrivateKey(key)
		must(t, err)
		return id.String()
	}
	const want = "12D3KooWS6KT2N3b62twyy9icXt7ZvEctchToWyEmXa8Y86r6uhk"
	if got := id(c); got != want {
		t.Errorf("peer ID %s, want %s", got, want)
	}
	// Every field goes in, and none can borrow a byte from its neighbour.
	seen := map[string]string{id(c): "itself"}
	for name, change := range map[string]func(*Challenge){
		"beacon":               func(c *Challenge) { c.Beacon = []byte{1} },
		"monitor":              func(c *Challenge) { c.MonitorKey += "x" },
		"relay":                func(c *Challenge) { c.Relay = newRelay(t, crypto.Ed25519, 0).id },
		"hour":                 func(c *Challenge) { c.Hour++ },
		"salt":                 func(c *Challenge) { c.Salt = bytes.Repeat([]byte{8}, 32) },
		"beacon takes a byte":  func(c *Challenge) { c.Beacon, c.MonitorKey = []byte(c.MonitorKey[:1]), c.MonitorKey[1:] },
		"monitor takes a byte": func(c *Challenge) { c.MonitorKey, c.Relay = c.MonitorKey+string(c.Relay[:1]), c.Relay[1:] },
	} {
		d := c
		change(&d)
		if other, ok := seen[id(d)]; ok {
			t.Errorf("%s: same identity as %s", name, other)
		}
		seen[id(d)] = name
	}
	for _, salt := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		c.Salt = salt
		if _, err := c.Key(); err == nil {
			t.Errorf("took a salt of %d bytes", len(salt))
		}
	}
}

func TestVerifyVoucher(t *testing.T) {
	h := firstHour
	relays := map[string]testRelay{
		"ed25519": newRelay(t, crypto.Ed25519, 0),
		"rsa":     newRelay(t, crypto.RSA, 2048),
	}
	other := newRelay(t, crypto.Ed25519, 0)
	reserve := func(r testRelay, a *Attempt, c Challenge, expires time.Duration) {
		key, err := c.Key()
		must(t, err)
		id, err := peer.IDFromPrivateKey(key)
		must(t, err)
		res := a.Facts.Reservation
		res.Peer, res.Salt, res.Beacon = id.String(), c.Salt, c.Beacon
		res.Voucher = r.voucher(t, id, a.Started.Add(expires))
	}
	for kind, r := range relays {
		challenge := func() Challenge {
			return Challenge{MonitorKey: monitorKey, Relay: r.id, Hour: h, Salt: bytes.Repeat([]byte{9}, 32)}
		}
		for name, c := range map[string]struct {
			change func(*Attempt)
			want   VoucherState
			reason string
		}{
			"good":           {nil, VoucherBound, ""},
			"no reservation": {func(a *Attempt) { a.Facts.Reservation = nil }, VoucherNone, ""},
			"no voucher":     {func(a *Attempt) { a.Facts.Reservation.Voucher = nil }, VoucherNone, ""},
			"garbage":        {func(a *Attempt) { a.Facts.Reservation.Voucher = []byte("x") }, VoucherBad, "voucher:"},
			"too long":       {func(a *Attempt) { a.Facts.Reservation.Voucher = make([]byte, maxVoucher+1) }, VoucherBad, "too long"},
			"no salt":        {func(a *Attempt) { a.Facts.Reservation.Salt = nil }, VoucherBad, "salt of 0 bytes"},
			"another salt":   {func(a *Attempt) { a.Facts.Reservation.Salt = make([]byte, 32) }, VoucherBad, "not bound"},
			"another peer":   {func(a *Attempt) { a.Facts.Reservation.Peer = other.id.String() }, VoucherBad, "the reservation was by"},
			"another relay":  {func(a *Attempt) { a.PeerID = other.id.String() }, VoucherBad, "not by the relay"},
			"replay, next hour": {func(a *Attempt) {
				a.Facts.Reservation.Since = 0
				reserve(r, a, Challenge{nil, monitorKey, r.id, h - 1, make([]byte, 32)}, time.Hour)
			}, VoucherBad, "not bound"},
			"another monitor":   {func(a *Attempt) { reserve(r, a, Challenge{nil, "x", r.id, h, make([]byte, 32)}, time.Hour) }, VoucherBad, "not bound"},
			"for another relay": {func(a *Attempt) { reserve(r, a, Challenge{nil, monitorKey, other.id, h, make([]byte, 32)}, time.Hour) }, VoucherBad, "not bound"},
			"signed by another": {func(a *Attempt) { reserve(other, a, challenge(), time.Hour) }, VoucherBad, "not by the relay"},
			"expired":           {func(a *Attempt) { reserve(r, a, challenge(), -time.Second) }, VoucherBad, "expires"},
			"expires at once":   {func(a *Attempt) { reserve(r, a, challenge(), 0) }, VoucherBound, ""},
			"24 hours":          {func(a *Attempt) { reserve(r, a, challenge(), 24*time.Hour) }, VoucherBound, ""},
			"more than 24":      {func(a *Attempt) { reserve(r, a, challenge(), 24*time.Hour+time.Second) }, VoucherBad, "expires"},
			"an hour older": {func(a *Attempt) {
				c := challenge()
				c.Hour = h - 1
				reserve(r, a, c, time.Hour)
				a.Facts.Reservation.Since = h - 1
			}, VoucherOlder, ""},
			"a day older": {func(a *Attempt) {
				c := challenge()
				c.Hour = h - 24
				reserve(r, a, c, time.Hour)
				a.Facts.Reservation.Since = h - 24
			}, VoucherOlder, ""},
			"older still": {func(a *Attempt) {
				c := challenge()
				c.Hour = h - 25
				reserve(r, a, c, time.Hour)
				a.Facts.Reservation.Since = h - 25
			}, VoucherBad, "want one of the 24 before"},
			"older, yet this hour": {func(a *Attempt) { a.Facts.Reservation.Since = h }, VoucherBad, "want one of the 24 before"},
			"from the future": {func(a *Attempt) {
				c := challenge()
				c.Hour = h + 1
				reserve(r, a, c, time.Hour)
				a.Facts.Reservation.Since = h + 1
			}, VoucherBad, "want one of the 24 before"},
			"another codec": {func(a *Attempt) { a.Facts.Reservation.Voucher = otherCodec(t, r, a.Facts.Reservation.Peer, a.Started) }, VoucherBad, "payload type 0303"},
			"another domain": {func(a *Attempt) {
				a.Facts.Reservation.Voucher = otherDomain(t, r, a.Facts.Reservation.Peer, a.Started)
			}, VoucherBad, "failed to validate envelope"},
			"voucher of another relay": {func(a *Attempt) {
				id, err := peer.Decode(a.Facts.Reservation.Peer)
				must(t, err)
				e, err := record.Seal(&relayv2.ReservationVoucher{Relay: other.id, Peer: id, Expiration: a.Started.Add(time.Hour)}, r.key)
				must(t, err)
				a.Facts.Reservation.Voucher, err = e.Marshal()
				must(t, err)
			}, VoucherBad, "voucher is of relay " + other.id.String()},
		} {
			a := r.attempt(t, monitorKey, h, 20*time.Minute, nil)
			if c.change != nil {
				c.change(&a)
			}
			got := VerifyVoucher(a, monitorKey, h, nil)
			if got.State != c.want || !strings.Contains(got.Reason, c.reason) || (got.Reason == "") != (c.want != VoucherBad) || got.Beacon {
				t.Errorf("%s, %s: %+v, want %s with %q", kind, name, got, c.want, c.reason)
			}
		}
		// Each byte of the envelope is part of what is signed, or of what names the signer.
		a := r.attempt(t, monitorKey, h, 20*time.Minute, nil)
		good := a.Facts.Reservation.Voucher
		for i := range good {
			a.Facts.Reservation.Voucher = bytes.Clone(good)
			a.Facts.Reservation.Voucher[i] ^= 1
			if got := VerifyVoucher(a, monitorKey, h, nil); got.State != VoucherBad {
				t.Errorf("%s: byte %d of the envelope changed: %+v", kind, i, got)
			}
		}
	}
}

type oddVoucher struct {
	relayv2.ReservationVoucher
	domain string
	codec  []byte
}

func (v *oddVoucher) Domain() string { return v.domain }
func (v *oddVoucher) Codec() []byte  { return v.codec }

func seal(t *testing.T, r testRelay, forPeer string, at Time, domain string, codec []byte) []byte {
	t.Helper()
	id, err := peer.Decode(forPeer)
	must(t, err)
	e, err := record.Seal(&oddVoucher{relayv2.ReservationVoucher{Relay: r.id, Peer: id, Expiration: at.Add(time.Hour)}, domain, codec}, r.key)
	must(t, err)
	b, err := e.Marshal()
	must(t, err)
	return b
}

func otherCodec(t *testing.T, r testRelay, forPeer string, at Time) []byte {
	return seal(t, r, forPeer, at, relayv2.RecordDomain, []byte{3, 3})
}

func otherDomain(t *testing.T, r testRelay, forPeer string, at Time) []byte {
	return seal(t, r, forPeer, at, "libp2p-routing-state", relayv2.RecordCodec)
}

// oneBeacon knows a single round.
type oneBeacon struct {
	round []byte
	from  time.Time
}

func (b oneBeacon) VerifyBeacon(beacon []byte, from time.Time) error {
	if !bytes.Equal(beacon, b.round) {
		return errors.New("forged")
	}
	if !from.Equal(b.from) {
		return errors.New("not the first round of the hour")
	}
	return nil
}

func TestBeaconInVoucher(t *testing.T) {
	r := newRelay(t, crypto.Ed25519, 0)
	h := firstHour
	a := r.attempt(t, monitorKey, h, time.Minute, nil)
	c := Challenge{Beacon: []byte("round 1"), MonitorKey: monitorKey, Relay: r.id, Hour: h, Salt: make([]byte, 32)}
	key, err := c.Key()
	must(t, err)
	id, err := peer.IDFromPrivateKey(key)
	must(t, err)
	*a.Facts.Reservation = Reservation{Peer: id.String(), Salt: c.Salt, Beacon: c.Beacon, Voucher: r.voucher(t, id, a.Started.Add(time.Hour))}
	for name, c := range map[string]struct {
		beacons BeaconVerifier
		want    VoucherCheck
	}{
		"no verifier": {nil, VoucherCheck{State: VoucherBound}},
		"good":        {oneBeacon{[]byte("round 1"), h.Start()}, VoucherCheck{State: VoucherBound, Beacon: true}},
		"forged":      {oneBeacon{[]byte("round 2"), h.Start()}, VoucherCheck{State: VoucherBad, Reason: "beacon: forged"}},
		"older round": {oneBeacon{[]byte("round 1"), (h - 1).Start()}, VoucherCheck{State: VoucherBad, Reason: "beacon: not the first round of the hour"}},
	} {
		if got := VerifyVoucher(a, monitorKey, h, c.beacons); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
