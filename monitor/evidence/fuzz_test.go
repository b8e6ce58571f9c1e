package evidence_test

import (
	"bytes"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// What Decode takes is what Encode writes.
func FuzzDecode(f *testing.F) {
	_, m, _, _ := workedExample(f)
	f.Add(m.Records[0])
	f.Add(m.Headers[0])
	f.Add(m.Proofs[0])
	f.Add([]byte(`{"hour":"2026-11-01T00:00:00Z","other":{"key":"p00jGU8/zvYxO4ozhaHrGuq3McaryWj1rcUXRzsctd0=","value":"p00jGU8/zvYxO4ozhaHrGuq3McaryWj1rcUXRzsctd0="},"path":[],"present":false}`))
	for _, s := range []string{
		`{}`, `null`, `[]`, ``, ` {}`, `{"hour":"2026-11-01T00:00:00Z"}`, `{"a":1e999}`, `{"records":9007199254740993}`,
		`{"PEER_ID":"x"}`, `{"peer_id":"x","peer_id":"y"}`, `{"peer_id":"\ud800"}`, "{\"peer_id\":\"\u2028<&>\"}", `{"attempts":null,"hour":"2026-11-01T00:00:00Z","peer_id":""}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(v any) {
			if evidence.Decode(b, v) != nil {
				return
			}
			again, err := evidence.Encode(v)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("took %q, writes %q (%v)", b, again, err)
			}
		}
		check(new(evidence.Record))
		check(new(evidence.Header))
		check(new(evidence.MonthIndex))
		check(new(evidence.BlockProof))
		check(new(any))
		if h, err := evidence.DecodeHeader(b); err == nil && h.Records < 0 {
			t.Fatalf("header %+v", h)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	l, m, k, _ := workedExample(f)
	author := evidencetest.SecretOf(f, l.dir).Verifier()
	witness, err := evidence.WitnessVerifier(k.Witnesses[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Checkpoints[0])
	f.Add(m.Note)
	f.Add(bytes.ReplaceAll(m.Checkpoints[0], []byte("\n1\n"), []byte("\n01\n")))
	f.Add([]byte("a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
	f.Add([]byte("a\n18446744073709551615\nAAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := evidence.ParseCheckpoint(string(b)); err == nil && c.Text() != string(b) {
			t.Fatalf("took %q for %q", b, c.Text())
		}
		// Nobody but the two keys can have signed, so only the example itself opens.
		if _, err := evidence.OpenCheckpoint(b, author, witness); err == nil && !bytes.Equal(b, m.Checkpoints[0]) && !bytes.Equal(b, withoutLastLine(m.Checkpoints[0])) {
			t.Fatalf("opened %q", b)
		}
		if notes, err := evidence.SplitNotes(b); err == nil && !bytes.Equal(bytes.Join(notes, []byte("\n")), b) {
			t.Fatalf("split %q into %q", b, notes)
		}
	})
}

func withoutLastLine(b []byte) []byte {
	return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1]
}

func FuzzVoucher(f *testing.F) {
	// The example's keys are the same in each of the fuzzer's processes.
	l, m, _, _ := workedExample(f)
	hour := m.Month.First()
	vouchers, err := evidence.NewVouchers(evidence.Keys{Log: l.Key()})
	if err != nil {
		f.Fatal(err)
	}
	rsa := evidencetest.NewRelay(f, crypto.RSA, 2048)
	record, err := evidence.DecodeRecord(m.Records[0], hour)
	if err != nil {
		f.Fatal(err)
	}
	a := record.Attempts[0]
	relay, err := peer.Decode(a.PeerID)
	if err != nil {
		f.Fatal(err)
	}
	good := a.Facts.Reservation.Voucher
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(rsa.Voucher(f, rsa.ID, evidencetest.FirstHour.Start()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		evidence.OpenVoucher(b, rsa.ID)
		a := a
		r := *a.Facts.Reservation
		r.Voucher = b
		a.Facts.Reservation = &r
		got := vouchers.Verify(a, hour)
		switch {
		case len(b) == 0 && got.State == evidence.VoucherNone, got.State == evidence.VoucherBad && got.Reason != "":
		case got.State == evidence.VoucherBound && sameVoucher(t, b, relay, good):
		default:
			t.Fatalf("%x: %+v", b, got)
		}
	})
}

// sameVoucher says whether an envelope carries what the good one does: protobuf
// has more than one spelling.
func sameVoucher(t *testing.T, b []byte, relay peer.ID, good []byte) bool {
	v, err := evidence.OpenVoucher(b, relay)
	if err != nil {
		t.Fatal(err)
	}
	w, err := evidence.OpenVoucher(good, relay)
	if err != nil {
		t.Fatal(err)
	}
	return v.Peer == w.Peer && v.Relay == w.Relay && v.Expiration.Equal(w.Expiration)
}

func FuzzStatement(f *testing.F) {
	l, _, _, _ := workedExample(f)
	env, err := l.SignStatement([]byte(`{"_type":"https://in-toto.io/Statement/v1"}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(env)
	f.Add([]byte(`{"payload":"","payloadType":"","signatures":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := evidence.VerifyStatement(b, l.Key()); err == nil && !bytes.Equal(b, env) {
			t.Fatalf("verified %q", b)
		}
	})
}

func FuzzKey(f *testing.F) {
	l, _, k, _ := workedExample(f)
	for _, s := range []string{l.Key(), k.Witnesses[0], evidencetest.SecretOf(f, l.dir).String(), "a+00000000+AQ==", "++", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := evidence.ParsePublicKey(s); err == nil && k.String() != s {
			t.Fatalf("took %q for %q", s, k)
		}
		if k, err := evidence.ParseSigningKey(s); err == nil && k.String() != s {
			t.Fatalf("took %q for another key", s)
		}
		if name, n, err := evidence.ParseOrigin(s); err == nil {
			if again, err := evidence.Origin(name, n); err != nil || again != s {
				t.Fatalf("took origin %q for %q", s, again)
			}
		}
		if h, err := evidence.ParseHour(s); err == nil && h.String() != s {
			t.Fatalf("took hour %q", s)
		}
		if m, err := evidence.ParseMonth(s); err == nil && m.String() != s {
			t.Fatalf("took month %q", s)
		}
		if h, ok := evidence.ParseHourFile(s); ok && evidence.HourFile(h) != s {
			t.Fatalf("took file %q", s)
		}
	})
}
