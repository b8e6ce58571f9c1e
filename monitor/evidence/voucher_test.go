package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

const monitorKey = "monitor.example.org/relaymon/psf+00000000+AQ=="

// judge verifies one voucher of monitorKey's log.
func judge(t *testing.T, a Attempt, h Hour, beacons BeaconVerifier, witnesses ...string) VoucherCheck {
	t.Helper()
	v, err := NewVouchers(Keys{Log: monitorKey, Witnesses: witnesses, Beacon: beacons})
	must(t, err)
	return v.Verify(a, h)
}

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
	const want = "12D3KooWEyT77Q2MtAcDRDKFB4uUZtZkxkuS1df2JG71mXaXZ63y"
	if got := id(c); got != want {
		t.Errorf("peer ID %s, want %s", got, want)
	}
	// Every field goes in, and none can borrow a byte from its neighbour.
	seen := map[string]string{id(c): "itself"}
	for name, change := range map[string]func(*Challenge){
		"beacon":               func(c *Challenge) { c.Beacon = []byte{1} },
		"cosigned":             func(c *Challenge) { c.Cosigned = "\x01" },
		"monitor":              func(c *Challenge) { c.MonitorKey += "x" },
		"relay":                func(c *Challenge) { c.Relay = newRelay(t, crypto.Ed25519, 0).id },
		"hour":                 func(c *Challenge) { c.Hour++ },
		"salt":                 func(c *Challenge) { c.Salt = bytes.Repeat([]byte{8}, 32) },
		"beacon takes a byte":  func(c *Challenge) { c.Beacon, c.MonitorKey = []byte(c.MonitorKey[:1]), c.MonitorKey[1:] },
		"cosigned takes one":   func(c *Challenge) { c.Cosigned, c.MonitorKey = c.MonitorKey[:1], c.MonitorKey[1:] },
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
				reserve(r, a, Challenge{nil, "", monitorKey, r.id, h - 1, make([]byte, 32)}, time.Hour)
			}, VoucherBad, "not bound"},
			"another monitor": {func(a *Attempt) { reserve(r, a, Challenge{nil, "", "x", r.id, h, make([]byte, 32)}, time.Hour) }, VoucherBad, "not bound"},
			"for another relay": {func(a *Attempt) {
				reserve(r, a, Challenge{nil, "", monitorKey, other.id, h, make([]byte, 32)}, time.Hour)
			}, VoucherBad, "not bound"},
			"signed by another": {func(a *Attempt) { reserve(other, a, challenge(), time.Hour) }, VoucherBad, "not by the relay"},
			"expired":           {func(a *Attempt) { reserve(r, a, challenge(), -time.Second) }, VoucherBad, "expires"},
			"expires at once":   {func(a *Attempt) { reserve(r, a, challenge(), 0) }, VoucherBound, ""},
			"24 hours":          {func(a *Attempt) { reserve(r, a, challenge(), 24*time.Hour) }, VoucherBound, ""},
			"more than 24":      {func(a *Attempt) { reserve(r, a, challenge(), 24*time.Hour+time.Second) }, VoucherBad, "expires"},
			"another codec":     {func(a *Attempt) { a.Facts.Reservation.Voucher = otherCodec(t, r, a.Facts.Reservation.Peer, a.Started) }, VoucherBad, "payload type 0303"},
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
			got := judge(t, a, h, nil)
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
			if got := judge(t, a, h, nil); got.State != VoucherBad {
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
		if c.want.State == VoucherBound {
			c.want.Expires = TimeOf(a.Started.Add(time.Hour).Truncate(time.Second))
		}
		if got := judge(t, a, h, c.beacons); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// What a witness signed in the hour before, or since, shows that the identity was not
// made earlier; what does not show that is bad. A second verifier says the same.
func TestCosignedInVoucher(t *testing.T) {
	l, _ := newLog(t)
	_, err := l.Seal(closing(firstHour + 3))
	must(t, err)
	cp, err := l.Checkpoint()
	must(t, err)
	other, err := Create(filepath.Join(t.TempDir(), "log"), Options{Name: "other.example.org", Network: PSF, First: firstHour})
	must(t, err)
	defer other.Close()
	_, err = other.Seal(closing(firstHour))
	must(t, err)
	foreign, err := other.Checkpoint()
	must(t, err)

	w, w2, stranger := newWitness(t, "w1"), newWitness(t, "w2"), newWitness(t, "w3")
	relay, h := newRelay(t, crypto.Ed25519, 0), firstHour+5
	started := h.Start().Add(20 * time.Minute)
	text := func(cp []byte) string { s, _, _ := strings.Cut(string(cp), "\n\n"); return s + "\n\n" }
	note := func(cp []byte, w testWitness, at time.Time) string { return text(cp) + string(w.cosign(t, cp, at)) }
	good := note(cp, w, h.Start().Add(-40*time.Minute))
	// attempt is of a monitor that took the note into its challenge, whatever it is.
	attempt := func(cosigned string) Attempt {
		a := relay.attempt(t, l.Key(), h, 20*time.Minute, nil)
		c := Challenge{Cosigned: cosigned, MonitorKey: l.Key(), Relay: relay.id, Hour: h, Salt: make([]byte, 32)}
		key, err := c.Key()
		must(t, err)
		id, err := peer.IDFromPrivateKey(key)
		must(t, err)
		*a.Facts.Reservation = Reservation{Peer: id.String(), Salt: c.Salt, Cosigned: cosigned, Voucher: relay.voucher(t, id, a.Started.Add(time.Hour))}
		return a
	}
	keys := Keys{Log: l.Key(), Witnesses: []string{w.vkey(), w2.vkey()}}
	vouchers, err := NewVouchers(keys)
	must(t, err)
	check := func(name string, a Attempt, witness, reason string) {
		t.Helper()
		got := vouchers.Verify(a, h)
		if witness != "" && (got.State != VoucherBound || got.Witness != witness || got.Reason != "") ||
			witness == "" && (got.State != VoucherBad || got.Witness != "" || !strings.Contains(got.Reason, reason)) {
			t.Errorf("%s: %+v, want witness %q, reason %q", name, got, witness, reason)
		}
		b, err := Encode(a)
		must(t, err)
		s := second{logKey: keys.Log, witnesses: keys.Witnesses}
		want := string(got.State)
		if witness != "" {
			want += " by " + witness
		}
		if got := s.voucher(s.object(b), h.Start()); got != want {
			t.Errorf("%s: the second verifier says %q, the first %q", name, got, want)
		}
	}
	for name, c := range map[string]struct {
		cosigned, witness, reason string
	}{
		"the hour before":         {good, w.vkey(), ""},
		"another witness":         {note(cp, w2, h.Start().Add(-40*time.Minute)), w2.vkey(), ""},
		"this hour":               {note(cp, w, h.Start().Add(17*time.Minute)), w.vkey(), ""},
		"first second":            {note(cp, w, h.Start().Add(-time.Hour)), w.vkey(), ""},
		"clock 5 s ahead":         {note(cp, w, started.Add(5*time.Second)), w.vkey(), ""},
		"clock 6 s ahead":         {note(cp, w, started.Add(6*time.Second)), "", "want from"},
		"an hour too early":       {note(cp, w, h.Start().Add(-time.Hour-time.Second)), "", "the start of the hour before"},
		"of another log":          {note(foreign, w, h.Start().Add(-40*time.Minute)), "", "checkpoint is of log other.example.org"},
		"by nobody known":         {note(cp, stranger, h.Start().Add(-40*time.Minute)), "", "cosigned:"},
		"by the log":              {string(cp), "", "cosigned:"},
		"by two":                  {good + string(w2.cosign(t, cp, h.Start())), "", "one signature line"},
		"by one and somebody":     {good + string(stranger.cosign(t, cp, h.Start())), "", "one signature line"},
		"the same line twice":     {good + string(w.cosign(t, cp, h.Start().Add(-40*time.Minute))), "", "one signature line"},
		"of another checkpoint":   {text(foreign) + string(w.cosign(t, cp, h.Start())), "", "cosigned:"},
		"with an extension line":  {note([]byte(strings.Replace(string(cp), "\n\n", "\nmore\n\n", 1)), w, h.Start()), "", "one spelling"},
		"of no checkpoint":        {note([]byte("monitor.example.org/relaymon/psf\n\n"), w, h.Start()), "", "cosigned:"},
		"without a signature":     {text(cp), "", "cosigned:"},
		"too long":                {good + strings.Repeat("x", 1024), "", "too long"},
		"a line, without its end": {strings.TrimSuffix(good, "\n"), "", "cosigned:"},
	} {
		check(name, attempt(c.cosigned), c.witness, c.reason)
	}
	for i := 1; i < len(good); i++ {
		if utf8.ValidString(good[:i]) { // else it can stand in no record
			check(fmt.Sprintf("first %d bytes", i), attempt(good[:i]), "", "cosigned:")
		}
		changed := []byte(good)
		changed[i] ^= 1
		if utf8.Valid(changed) {
			check(fmt.Sprintf("byte %d changed", i), attempt(string(changed)), "", "cosigned:")
		}
	}
	// One that was collected beforehand does not follow from what came to be known later.
	before := attempt("")
	before.Facts.Reservation.Cosigned = good
	check("put in afterwards", before, "", "not bound")
	left := attempt(good)
	left.Facts.Reservation.Cosigned = ""
	check("left out", left, "", "not bound")
}

// The log finds what is newest of those who may be asked.
func TestLogCosigned(t *testing.T) {
	l, _ := newLog(t)
	a, b := newWitness(t, "a"), newWitness(t, "b")
	h := firstHour + 3
	find := func(h Hour, now time.Time, by ...string) string {
		t.Helper()
		s, err := l.Cosigned(h, now, by...)
		must(t, err)
		return s
	}
	both := []string{a.vkey(), b.vkey()}
	if got := find(h, h.Start(), both...); got != "" {
		t.Errorf("in an empty log: %q", got)
	}
	for i, at := range []time.Duration{-50 * time.Minute, 20 * time.Minute, 80 * time.Minute} {
		_, err := l.Seal(closing(h + Hour(i) - 2))
		must(t, err)
		cp, err := l.Checkpoint()
		must(t, err)
		must(t, l.AddCosignatures(l.Size(), a.cosign(t, cp, h.Start().Add(at)), a.vkey()))
		if i == 1 {
			must(t, l.AddCosignatures(l.Size(), b.cosign(t, cp, h.Start().Add(at+time.Minute)), b.vkey()))
		}
	}
	for name, c := range map[string]struct {
		hour Hour
		now  time.Time
		by   []string
		at   time.Duration // after the start of h; 0: none
	}{
		"the newest":            {h, h.Start().Add(2 * time.Hour), both, 80 * time.Minute},
		"not one to come":       {h, h.Start().Add(time.Hour), both, 21 * time.Minute},
		"of one":                {h, h.Start().Add(time.Hour), both[:1], 20 * time.Minute},
		"of the hour before":    {h, h.Start(), both, -50 * time.Minute},
		"of nobody":             {h, h.Start().Add(2 * time.Hour), nil, 0},
		"none that is so new":   {h + 3, h.Start().Add(3 * time.Hour), both, 0},
		"one that is of before": {h + 2, h.Start().Add(3 * time.Hour), both, 80 * time.Minute},
	} {
		got := find(c.hour, c.now, c.by...)
		if c.at == 0 {
			if got != "" {
				t.Errorf("%s: %q", name, got)
			}
			continue
		}
		vouchers, err := NewVouchers(Keys{Log: l.Key(), Witnesses: both})
		must(t, err)
		if _, at, err := vouchers.openCosigned(got); err != nil || !at.Equal(h.Start().Add(c.at)) || len(got) > maxCosigned {
			t.Errorf("%s: of %s, %v; want %s", name, at, err, h.Start().Add(c.at))
		}
	}
}
