package evidence_test

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

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

const monitorKey = "monitor.example.org/relaymon/psf+00000000+AQ=="

// judge verifies one voucher of monitorKey's log.
func judge(t *testing.T, a evidence.Attempt, h evidence.Hour, beacons evidence.BeaconVerifier, witnesses ...string) evidence.VoucherCheck {
	t.Helper()
	v, err := evidence.NewVouchers(evidence.Keys{Log: monitorKey, Witnesses: witnesses, Beacon: beacons})
	evidencetest.Must(t, err)
	return v.Verify(a, h)
}

// The derivation is part of the format: another implementation must come to the
// same peer ID.
func TestChallengeVector(t *testing.T) {
	relay, err := peer.Decode("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
	evidencetest.Must(t, err)
	c := evidence.Challenge{MonitorKey: monitorKey, Relay: relay, Hour: evidencetest.FirstHour, Salt: bytes.Repeat([]byte{7}, 32)}
	id := func(c evidence.Challenge) string {
		t.Helper()
		key, err := c.Key()
		evidencetest.Must(t, err)
		id, err := peer.IDFromPrivateKey(key)
		evidencetest.Must(t, err)
		return id.String()
	}
	const want = "12D3KooWEyT77Q2MtAcDRDKFB4uUZtZkxkuS1df2JG71mXaXZ63y"
	if got := id(c); got != want {
		t.Errorf("peer ID %s, want %s", got, want)
	}
	// Every field goes in, and none can borrow a byte from its neighbour.
	seen := map[string]string{id(c): "itself"}
	for name, change := range map[string]func(*evidence.Challenge){
		"beacon":               func(c *evidence.Challenge) { c.Beacon = []byte{1} },
		"cosigned":             func(c *evidence.Challenge) { c.Cosigned = "\x01" },
		"monitor":              func(c *evidence.Challenge) { c.MonitorKey += "x" },
		"relay":                func(c *evidence.Challenge) { c.Relay = evidencetest.NewRelay(t, crypto.Ed25519, 0).ID },
		"hour":                 func(c *evidence.Challenge) { c.Hour++ },
		"salt":                 func(c *evidence.Challenge) { c.Salt = bytes.Repeat([]byte{8}, 32) },
		"beacon takes a byte":  func(c *evidence.Challenge) { c.Beacon, c.MonitorKey = []byte(c.MonitorKey[:1]), c.MonitorKey[1:] },
		"cosigned takes one":   func(c *evidence.Challenge) { c.Cosigned, c.MonitorKey = c.MonitorKey[:1], c.MonitorKey[1:] },
		"monitor takes a byte": func(c *evidence.Challenge) { c.MonitorKey, c.Relay = c.MonitorKey+string(c.Relay[:1]), c.Relay[1:] },
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
	h := evidencetest.FirstHour
	relays := map[string]evidencetest.Relay{
		"ed25519": evidencetest.NewRelay(t, crypto.Ed25519, 0),
		"rsa":     evidencetest.NewRelay(t, crypto.RSA, 2048),
	}
	other := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	reserve := func(r evidencetest.Relay, a *evidence.Attempt, c evidence.Challenge, expires time.Duration) {
		key, err := c.Key()
		evidencetest.Must(t, err)
		id, err := peer.IDFromPrivateKey(key)
		evidencetest.Must(t, err)
		res := a.Facts.Reservation
		res.Peer, res.Salt, res.Beacon = id.String(), c.Salt, c.Beacon
		res.Voucher = r.Voucher(t, id, a.Started.Add(expires))
	}
	for kind, r := range relays {
		challenge := func() evidence.Challenge {
			return evidence.Challenge{MonitorKey: monitorKey, Relay: r.ID, Hour: h, Salt: bytes.Repeat([]byte{9}, 32)}
		}
		for name, c := range map[string]struct {
			change func(*evidence.Attempt)
			want   evidence.VoucherState
			reason string
		}{
			"good":           {nil, evidence.VoucherBound, ""},
			"no reservation": {func(a *evidence.Attempt) { a.Facts.Reservation = nil }, evidence.VoucherNone, ""},
			"no voucher":     {func(a *evidence.Attempt) { a.Facts.Reservation.Voucher = nil }, evidence.VoucherNone, ""},
			"garbage":        {func(a *evidence.Attempt) { a.Facts.Reservation.Voucher = []byte("x") }, evidence.VoucherBad, "voucher:"},
			"too long":       {func(a *evidence.Attempt) { a.Facts.Reservation.Voucher = make([]byte, evidence.MaxVoucher+1) }, evidence.VoucherBad, "too long"},
			"no salt":        {func(a *evidence.Attempt) { a.Facts.Reservation.Salt = nil }, evidence.VoucherBad, "salt of 0 bytes"},
			"another salt":   {func(a *evidence.Attempt) { a.Facts.Reservation.Salt = make([]byte, 32) }, evidence.VoucherBad, "not bound"},
			"another peer":   {func(a *evidence.Attempt) { a.Facts.Reservation.Peer = other.ID.String() }, evidence.VoucherBad, "the reservation was by"},
			"another relay":  {func(a *evidence.Attempt) { a.PeerID = other.ID.String() }, evidence.VoucherBad, "not by the relay"},
			"replay, next hour": {func(a *evidence.Attempt) {
				reserve(r, a, evidence.Challenge{Beacon: nil, Cosigned: "", MonitorKey: monitorKey, Relay: r.ID, Hour: h - 1, Salt: make([]byte, 32)}, time.Hour)
			}, evidence.VoucherBad, "not bound"},
			"another monitor": {func(a *evidence.Attempt) {
				reserve(r, a, evidence.Challenge{Beacon: nil, Cosigned: "", MonitorKey: "x", Relay: r.ID, Hour: h, Salt: make([]byte, 32)}, time.Hour)
			}, evidence.VoucherBad, "not bound"},
			"for another relay": {func(a *evidence.Attempt) {
				reserve(r, a, evidence.Challenge{Beacon: nil, Cosigned: "", MonitorKey: monitorKey, Relay: other.ID, Hour: h, Salt: make([]byte, 32)}, time.Hour)
			}, evidence.VoucherBad, "not bound"},
			"signed by another": {func(a *evidence.Attempt) { reserve(other, a, challenge(), time.Hour) }, evidence.VoucherBad, "not by the relay"},
			"expired":           {func(a *evidence.Attempt) { reserve(r, a, challenge(), -time.Second) }, evidence.VoucherBad, "expires"},
			"expires at once":   {func(a *evidence.Attempt) { reserve(r, a, challenge(), 0) }, evidence.VoucherBound, ""},
			"24 hours":          {func(a *evidence.Attempt) { reserve(r, a, challenge(), 24*time.Hour) }, evidence.VoucherBound, ""},
			"more than 24":      {func(a *evidence.Attempt) { reserve(r, a, challenge(), 24*time.Hour+time.Second) }, evidence.VoucherBad, "expires"},
			"another codec": {func(a *evidence.Attempt) {
				a.Facts.Reservation.Voucher = otherCodec(t, r, a.Facts.Reservation.Peer, a.Started)
			}, evidence.VoucherBad, "payload type 0303"},
			"another domain": {func(a *evidence.Attempt) {
				a.Facts.Reservation.Voucher = otherDomain(t, r, a.Facts.Reservation.Peer, a.Started)
			}, evidence.VoucherBad, "failed to validate envelope"},
			"voucher of another relay": {func(a *evidence.Attempt) {
				id, err := peer.Decode(a.Facts.Reservation.Peer)
				evidencetest.Must(t, err)
				e, err := record.Seal(&relayv2.ReservationVoucher{Relay: other.ID, Peer: id, Expiration: a.Started.Add(time.Hour)}, r.Key)
				evidencetest.Must(t, err)
				a.Facts.Reservation.Voucher, err = e.Marshal()
				evidencetest.Must(t, err)
			}, evidence.VoucherBad, "voucher is of relay " + other.ID.String()},
		} {
			a := r.Attempt(t, monitorKey, h, 20*time.Minute, nil)
			if c.change != nil {
				c.change(&a)
			}
			got := judge(t, a, h, nil)
			if got.State != c.want || !strings.Contains(got.Reason, c.reason) || (got.Reason == "") != (c.want != evidence.VoucherBad) || got.Beacon {
				t.Errorf("%s, %s: %+v, want %s with %q", kind, name, got, c.want, c.reason)
			}
		}
		// Each byte of the envelope is part of what is signed, or of what names the signer.
		a := r.Attempt(t, monitorKey, h, 20*time.Minute, nil)
		good := a.Facts.Reservation.Voucher
		for i := range good {
			a.Facts.Reservation.Voucher = bytes.Clone(good)
			a.Facts.Reservation.Voucher[i] ^= 1
			if got := judge(t, a, h, nil); got.State != evidence.VoucherBad {
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

func seal(t *testing.T, r evidencetest.Relay, forPeer string, at evidence.Time, domain string, codec []byte) []byte {
	t.Helper()
	id, err := peer.Decode(forPeer)
	evidencetest.Must(t, err)
	e, err := record.Seal(&oddVoucher{relayv2.ReservationVoucher{Relay: r.ID, Peer: id, Expiration: at.Add(time.Hour)}, domain, codec}, r.Key)
	evidencetest.Must(t, err)
	b, err := e.Marshal()
	evidencetest.Must(t, err)
	return b
}

func otherCodec(t *testing.T, r evidencetest.Relay, forPeer string, at evidence.Time) []byte {
	return seal(t, r, forPeer, at, relayv2.RecordDomain, []byte{3, 3})
}

func otherDomain(t *testing.T, r evidencetest.Relay, forPeer string, at evidence.Time) []byte {
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
	r := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	h := evidencetest.FirstHour
	a := r.Attempt(t, monitorKey, h, time.Minute, nil)
	c := evidence.Challenge{Beacon: []byte("round 1"), MonitorKey: monitorKey, Relay: r.ID, Hour: h, Salt: make([]byte, 32)}
	key, err := c.Key()
	evidencetest.Must(t, err)
	id, err := peer.IDFromPrivateKey(key)
	evidencetest.Must(t, err)
	*a.Facts.Reservation = evidence.Reservation{Peer: id.String(), Salt: c.Salt, Beacon: c.Beacon, Voucher: r.Voucher(t, id, a.Started.Add(time.Hour))}
	for name, c := range map[string]struct {
		beacons evidence.BeaconVerifier
		want    evidence.VoucherCheck
	}{
		"no verifier": {nil, evidence.VoucherCheck{State: evidence.VoucherBound}},
		"good":        {oneBeacon{[]byte("round 1"), h.Start()}, evidence.VoucherCheck{State: evidence.VoucherBound, Beacon: true}},
		"forged":      {oneBeacon{[]byte("round 2"), h.Start()}, evidence.VoucherCheck{State: evidence.VoucherBad, Reason: "beacon: forged"}},
		"older round": {oneBeacon{[]byte("round 1"), (h - 1).Start()}, evidence.VoucherCheck{State: evidence.VoucherBad, Reason: "beacon: not the first round of the hour"}},
	} {
		if c.want.State == evidence.VoucherBound {
			c.want.Expires = evidence.TimeOf(a.Started.Add(time.Hour).Truncate(time.Second))
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
	_, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour + 3))
	evidencetest.Must(t, err)
	cp, err := l.Checkpoint()
	evidencetest.Must(t, err)
	other, err := store.Create(filepath.Join(t.TempDir(), "log"), store.Options{Name: "other.example.org", Network: evidence.PSF, First: evidencetest.FirstHour})
	evidencetest.Must(t, err)
	defer other.Close()
	_, err = other.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	foreign, err := other.Checkpoint()
	evidencetest.Must(t, err)

	w, w2, stranger := evidencetest.NewWitness(t, "w1"), evidencetest.NewWitness(t, "w2"), evidencetest.NewWitness(t, "w3")
	relay, h := evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.FirstHour+5
	started := h.Start().Add(20 * time.Minute)
	text := func(cp []byte) string { s, _, _ := strings.Cut(string(cp), "\n\n"); return s + "\n\n" }
	note := func(cp []byte, w evidencetest.Witness, at time.Time) string {
		return text(cp) + string(w.Cosign(t, cp, at))
	}
	good := note(cp, w, h.Start().Add(-40*time.Minute))
	// attempt is of a monitor that took the note into its challenge, whatever it is.
	attempt := func(cosigned string) evidence.Attempt {
		a := relay.Attempt(t, l.Key(), h, 20*time.Minute, nil)
		c := evidence.Challenge{Cosigned: cosigned, MonitorKey: l.Key(), Relay: relay.ID, Hour: h, Salt: make([]byte, 32)}
		key, err := c.Key()
		evidencetest.Must(t, err)
		id, err := peer.IDFromPrivateKey(key)
		evidencetest.Must(t, err)
		*a.Facts.Reservation = evidence.Reservation{Peer: id.String(), Salt: c.Salt, Cosigned: cosigned, Voucher: relay.Voucher(t, id, a.Started.Add(time.Hour))}
		return a
	}
	keys := evidence.Keys{Log: l.Key(), Witnesses: []string{w.VKey(), w2.VKey()}}
	vouchers, err := evidence.NewVouchers(keys)
	evidencetest.Must(t, err)
	check := func(name string, a evidence.Attempt, witness, reason string) {
		t.Helper()
		got := vouchers.Verify(a, h)
		if witness != "" && (got.State != evidence.VoucherBound || got.Witness != witness || got.Reason != "") ||
			witness == "" && (got.State != evidence.VoucherBad || got.Witness != "" || !strings.Contains(got.Reason, reason)) {
			t.Errorf("%s: %+v, want witness %q, reason %q", name, got, witness, reason)
		}
	}
	for name, c := range map[string]struct {
		cosigned, witness, reason string
	}{
		"the hour before":         {good, w.VKey(), ""},
		"another witness":         {note(cp, w2, h.Start().Add(-40*time.Minute)), w2.VKey(), ""},
		"this hour":               {note(cp, w, h.Start().Add(17*time.Minute)), w.VKey(), ""},
		"first second":            {note(cp, w, h.Start().Add(-time.Hour)), w.VKey(), ""},
		"clock 5 s ahead":         {note(cp, w, started.Add(5*time.Second)), w.VKey(), ""},
		"clock 6 s ahead":         {note(cp, w, started.Add(6*time.Second)), "", "want from"},
		"an hour too early":       {note(cp, w, h.Start().Add(-time.Hour-time.Second)), "", "the start of the hour before"},
		"of another log":          {note(foreign, w, h.Start().Add(-40*time.Minute)), "", "checkpoint is of log other.example.org"},
		"by nobody known":         {note(cp, stranger, h.Start().Add(-40*time.Minute)), "", "cosigned:"},
		"by the log":              {string(cp), "", "cosigned:"},
		"by two":                  {good + string(w2.Cosign(t, cp, h.Start())), "", "one signature line"},
		"by one and somebody":     {good + string(stranger.Cosign(t, cp, h.Start())), "", "one signature line"},
		"the same line twice":     {good + string(w.Cosign(t, cp, h.Start().Add(-40*time.Minute))), "", "one signature line"},
		"of another checkpoint":   {text(foreign) + string(w.Cosign(t, cp, h.Start())), "", "cosigned:"},
		"with an extension line":  {note([]byte(strings.Replace(string(cp), "\n\n", "\nmore\n\n", 1)), w, h.Start()), "", "extension lines"},
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
	a, b := evidencetest.NewWitness(t, "a"), evidencetest.NewWitness(t, "b")
	h := evidencetest.FirstHour + 3
	find := func(h evidence.Hour, now time.Time, by ...string) string {
		t.Helper()
		s, err := l.Cosigned(h, now, by...)
		evidencetest.Must(t, err)
		return s
	}
	both := []string{a.VKey(), b.VKey()}
	if got := find(h, h.Start(), both...); got != "" {
		t.Errorf("in an empty log: %q", got)
	}
	for i, at := range []time.Duration{-50 * time.Minute, 20 * time.Minute, 80 * time.Minute} {
		_, err := l.Seal(evidencetest.Closing(h + evidence.Hour(i) - 2))
		evidencetest.Must(t, err)
		cp, err := l.Checkpoint()
		evidencetest.Must(t, err)
		evidencetest.Must(t, l.AddCosignatures(l.Size(), a.Cosign(t, cp, h.Start().Add(at)), a.VKey()))
		if i == 1 {
			evidencetest.Must(t, l.AddCosignatures(l.Size(), b.Cosign(t, cp, h.Start().Add(at+time.Minute)), b.VKey()))
		}
	}
	for name, c := range map[string]struct {
		hour evidence.Hour
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
		vouchers, err := evidence.NewVouchers(evidence.Keys{Log: l.Key(), Witnesses: both})
		evidencetest.Must(t, err)
		if _, at, err := vouchers.OpenCosigned(got); err != nil || !at.Equal(h.Start().Add(c.at)) || len(got) > evidence.MaxCosignedBytes {
			t.Errorf("%s: of %s, %v; want %s", name, at, err, h.Start().Add(c.at))
		}
	}
}
