package evidence

import (
	"bytes"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
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
			if Decode(b, v) != nil {
				return
			}
			again, err := Encode(v)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("took %q, writes %q (%v)", b, again, err)
			}
		}
		check(new(Record))
		check(new(entry))
		check(new(Header))
		check(new(monthIndex))
		check(new(blockProof))
		check(new(any))
		if h, err := decodeHeader(b); err == nil && h.Records < 0 {
			t.Fatalf("header %+v", h)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	l, m, k, _ := workedExample(f)
	author := noteVerifier{l.key.public()}
	witness, err := witnessVerifier(k.Witnesses[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Checkpoints[0])
	f.Add(m.Note)
	f.Add(bytes.ReplaceAll(m.Checkpoints[0], []byte("\n1\n"), []byte("\n01\n")))
	f.Add([]byte("a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
	f.Add([]byte("a\n18446744073709551615\nAAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseCheckpointText(string(b)); err == nil && c.text() != string(b) {
			t.Fatalf("took %q for %q", b, c.text())
		}
		// Nobody but the two keys can have signed, so only the example itself opens.
		if _, err := openCheckpoint(b, author, witness); err == nil && !bytes.Equal(b, m.Checkpoints[0]) && !bytes.Equal(b, withoutLastLine(m.Checkpoints[0])) {
			t.Fatalf("opened %q", b)
		}
		if notes, err := splitNotes(b); err == nil && !bytes.Equal(bytes.Join(notes, []byte("\n")), b) {
			t.Fatalf("split %q into %q", b, notes)
		}
	})
}

func withoutLastLine(b []byte) []byte {
	return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1]
}

func FuzzWAL(f *testing.F) {
	_, m, _, _ := workedExample(f)
	hour := m.Month.First()
	record, err := decodeRecord(m.Records[0], hour)
	if err != nil {
		f.Fatal(err)
	}
	var lines []byte
	a := record.Attempts[0]
	for _, e := range []entry{
		{Begin: &begin{TimeOf(hour.Start()), "x"}},
		{Mark: &Mark{Clock: &ClockSample{At: TimeOf(hour.Start())}}},
		{Mark: &Mark{Missed: 2}},
		{Attempt: &a},
	} {
		line, err := Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		lines = append(append(lines, line...), '\n')
	}
	f.Add(lines)
	f.Add(lines[:len(lines)-1])
	f.Add(append(bytes.Clone(lines), make([]byte, 100)...))
	f.Add(append(bytes.Clone(lines), "x\n"...))
	f.Add(bytes.Replace(lines, []byte("\n"), []byte("\r\n"), 1))
	plan := make([]byte, PlanSize)
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := readWAL(b, hour)
		if err != nil {
			return
		}
		if w.good > int64(len(b)) || w.good > 0 && b[w.good-1] != '\n' {
			t.Fatalf("%d of %d bytes count", w.good, len(b))
		}
		// What counts, counts again, and makes records that may be sealed.
		again, err := readWAL(b[:w.good], hour)
		if err != nil || again.good != w.good {
			t.Fatalf("read again: %d of %d, %v", again.good, w.good, err)
		}
		lines := w.lines(func(string, Hour) []byte { return plan })
		for i, r := range w.records() {
			r.Plan = plan
			if err := checkRecord(r, hour); err != nil {
				t.Fatal(err)
			}
			if line, err := Encode(r); err != nil || !bytes.Equal(line, lines[i]) {
				t.Fatalf("record %s, want %s (%v)", lines[i], line, err)
			}
		}
	})
}

func FuzzVoucher(f *testing.F) {
	// The example's keys are the same in each of the fuzzer's processes.
	l, m, _, _ := workedExample(f)
	hour := m.Month.First()
	vouchers, err := NewVouchers(Keys{Log: l.Key()})
	if err != nil {
		f.Fatal(err)
	}
	rsa := newRelay(f, crypto.RSA, 2048)
	record, err := decodeRecord(m.Records[0], hour)
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
	f.Add(rsa.voucher(f, rsa.id, firstHour.Start()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		openVoucher(b, rsa.id)
		a := a
		r := *a.Facts.Reservation
		r.Voucher = b
		a.Facts.Reservation = &r
		got := vouchers.Verify(a, hour)
		switch {
		case len(b) == 0 && got.State == VoucherNone, got.State == VoucherBad && got.Reason != "":
		case got.State == VoucherBound && sameVoucher(t, b, relay, good):
		default:
			t.Fatalf("%x: %+v", b, got)
		}
	})
}

// sameVoucher says whether an envelope carries what the good one does: protobuf
// has more than one spelling.
func sameVoucher(t *testing.T, b []byte, relay peer.ID, good []byte) bool {
	v, err := openVoucher(b, relay)
	if err != nil {
		t.Fatal(err)
	}
	w, err := openVoucher(good, relay)
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
		if _, err := VerifyStatement(b, l.Key()); err == nil && !bytes.Equal(b, env) {
			t.Fatalf("verified %q", b)
		}
	})
}

func FuzzKey(f *testing.F) {
	l, _, k, _ := workedExample(f)
	for _, s := range []string{l.Key(), k.Witnesses[0], l.key.String(), "a+00000000+AQ==", "++", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := parsePublicKey(s); err == nil && k.String() != s {
			t.Fatalf("took %q for %q", s, k)
		}
		if k, err := parseSecretKey(s); err == nil && k.String() != s {
			t.Fatalf("took %q for another key", s)
		}
		if name, n, err := ParseOrigin(s); err == nil {
			if again, err := origin(name, n); err != nil || again != s {
				t.Fatalf("took origin %q for %q", s, again)
			}
		}
		if h, err := ParseHour(s); err == nil && h.String() != s {
			t.Fatalf("took hour %q", s)
		}
		if m, err := ParseMonth(s); err == nil && m.String() != s {
			t.Fatalf("took month %q", s)
		}
		if h, ok := parseHourFile(s); ok && hourFile(h) != s {
			t.Fatalf("took file %q", s)
		}
	})
}
