package statement

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
)

func newKey(t testing.TB, kind int) (crypto.PrivKey, string) {
	t.Helper()
	key, _, err := crypto.GenerateKeyPairWithReader(kind, 2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id.String()
}

func example(id string) Statement {
	return Statement{
		Kind: Enrol, Network: "psf", PeerID: id, Operator: "alice",
		IPv4: "198.41.0.4", TCPPort: 4001, Domain: "relay.example.org", WSSPort: 443,
		Region: "SG", Payout: "bitcoincash:qq", From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Made: time.Date(2026, 10, 30, 12, 34, 56, 0, time.UTC),
	}
}

// anAppeal has a text of all that may be in one.
func anAppeal(id string) Statement {
	return Statement{
		Kind: Appeal, Network: "psf", PeerID: id, Operator: "alice", Month: "2026-10",
		Text: "Hour 14 was up: <see> the \"log\" & ask.\n\tMerci à tous, 谢谢, \u2028.",
		Made: time.Date(2026, 10, 30, 12, 34, 56, 0, time.UTC),
	}
}

// What relays signed before there were appeals is what they sign today.
func TestEnrolmentKeepsItsBytes(t *testing.T) {
	got, err := (&payload{example("12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba")}).MarshalRecord()
	const want = `{"kind":"enrol","network":"psf","peer_id":"12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba","operator":"alice","ipv4":"198.41.0.4","tcp_port":4001,"domain":"relay.example.org","wss_port":443,"region":"SG","payout":"bitcoincash:qq","from":"2026-11-01T00:00:00Z","made":"2026-10-30T12:34:56Z"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}

func TestAppeal(t *testing.T) {
	for name, kind := range map[string]int{"ed25519": crypto.Ed25519, "rsa": crypto.RSA, "secp256k1": crypto.Secp256k1} {
		key, id := newKey(t, kind)
		most := anAppeal(id)
		most.Text = strings.Repeat("\"", MaxText) // takes most room
		for _, want := range []Statement{anAppeal(id), most} {
			envelope, err := Sign(want, key)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			raw, err := FromText(Text(envelope))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := Open(raw); err != nil || got != want {
				t.Errorf("%s: got %+v (%v), want %+v", name, got, err, want)
			}
		}
	}
	key, id := newKey(t, crypto.Ed25519)
	for name, tc := range map[string]struct {
		change func(*Statement)
		want   string
	}{
		"no month":          {func(s *Statement) { s.Month = "" }, "month: want YYYY-MM"},
		"short month":       {func(s *Statement) { s.Month = "2026-9" }, "month: want YYYY-MM"},
		"thirteenth month":  {func(s *Statement) { s.Month = "2026-13" }, "month: want YYYY-MM"},
		"before computers":  {func(s *Statement) { s.Month = "1969-12" }, "month: want YYYY-MM"},
		"next month":        {func(s *Statement) { s.Month = "2026-11" }, "month: 2026-11 has not begun at 2026-10-30T12:34:56Z"},
		"no text":           {func(s *Statement) { s.Text = "" }, "text: it is empty"},
		"long text":         {func(s *Statement) { s.Text = strings.Repeat("x", MaxText+1) }, "text: it has 4097 bytes, want 4096 at most"},
		"not UTF-8":         {func(s *Statement) { s.Text = "\xff" }, "not UTF-8"},
		"white space":       {func(s *Statement) { s.Text += "\n" }, "white space at its begin or end"},
		"escape sequence":   {func(s *Statement) { s.Text = "a\nb\x1b[2J" }, "line 2 has the control character U+001B"},
		"Windows":           {func(s *Statement) { s.Text = "a\r\nb" }, "U+000D: save it with the line ends of Unix"},
		"C1":                {func(s *Statement) { s.Text = "a\u0085b" }, "U+0085"},
		"turned round":      {func(s *Statement) { s.Text = "a\u202eb" }, "U+202E"},
		"two faults":        {func(s *Statement) { s.Text, s.Month = "", "" }, "text: it is empty"},
		"an address":        {func(s *Statement) { s.IPv4 = "198.41.0.4" }, "an appeal has no address"},
		"a payout":          {func(s *Statement) { s.Payout = "bitcoincash:qq" }, "an appeal has no address"},
		"from":              {func(s *Statement) { s.From = s.Made.Truncate(time.Hour) }, "an appeal has no address"},
		"a text in a move":  {func(s *Statement) { *s = example(id); s.Kind, s.Text = Move, "please" }, "a statement of kind move has none"},
		"a month in a move": {func(s *Statement) { *s = example(id); s.Kind, s.Month = Move, "2026-10" }, "a statement of kind move has none"},
	} {
		s := anAppeal(id)
		tc.change(&s)
		if _, err := Sign(s, key); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got error %v, want one that holds %q", name, err, tc.want)
		}
		// A relay can seal what it likes.
		e, err := record.Seal(&payload{s}, key)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(raw); err == nil {
			t.Errorf("%s: what is sealed all the same was opened", name)
		}
	}
	good, err := (&payload{anAppeal(id)}).MarshalRecord()
	if err != nil {
		t.Fatal(err)
	}
	// One spelling.
	escaped := bytes.Replace(good, []byte("<see>"), []byte(`\u003csee\u003e`), 1)
	if e, err := record.Seal(&other{Domain, Codec, escaped}, key); err != nil {
		t.Fatal(err)
	} else if raw, err := e.Marshal(); err != nil {
		t.Fatal(err)
	} else if _, err := Open(raw); err == nil || !strings.Contains(err.Error(), "canonical") {
		t.Errorf("another spelling: got %v", err)
	}
}

func TestSignOpen(t *testing.T) {
	for name, kind := range map[string]int{"ed25519": crypto.Ed25519, "rsa": crypto.RSA, "secp256k1": crypto.Secp256k1} {
		t.Run(name, func(t *testing.T) {
			key, id := newKey(t, kind)
			want := example(id)
			envelope, err := Sign(want, key)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := FromText(Text(envelope) + "\n")
			if err != nil {
				t.Fatal(err)
			}
			got, err := Open(raw)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestEveryByteCounts(t *testing.T) {
	key, id := newKey(t, crypto.Ed25519)
	for _, s := range []Statement{example(id), anAppeal(id)} {
		everyByteCounts(t, s, key)
	}
}

func everyByteCounts(t *testing.T, s Statement, key crypto.PrivKey) {
	t.Helper()
	envelope, err := Sign(s, key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range envelope {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(envelope)
			bad[i] ^= flip
			if _, err := Open(bad); err == nil {
				t.Errorf("byte %d changed by %#x: accepted", i, flip)
			}
		}
		if _, err := Open(envelope[:i]); err == nil {
			t.Errorf("cut after byte %d: accepted", i)
		}
	}
	if _, err := Open(append(bytes.Clone(envelope), 0)); err == nil {
		t.Error("a byte behind the end: accepted")
	}
}

// other is a record that libp2p could sign for another purpose.
type other struct {
	domain string
	codec  []byte
	body   []byte
}

func (o *other) Domain() string                 { return o.domain }
func (o *other) Codec() []byte                  { return o.codec }
func (o *other) MarshalRecord() ([]byte, error) { return o.body, nil }
func (o *other) UnmarshalRecord([]byte) error   { return nil }

func TestRefused(t *testing.T) {
	key, id := newKey(t, crypto.Ed25519)
	_, stranger := newKey(t, crypto.Ed25519)
	good, err := (&payload{example(id)}).MarshalRecord()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := (&payload{example(stranger)}).MarshalRecord()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		rec  other
		want string
	}{
		"another domain":       {other{"libp2p-relay-rsvp", Codec, good}, "invalid signature"},
		"another type":         {other{Domain, []byte{3, 2}, good}, "payload type"},
		"signed by a stranger": {other{Domain, Codec, foreign}, "but " + id + " signed it"},
		"white space":          {other{Domain, Codec, append([]byte(" "), good...)}, "canonical"},
		"unknown field":        {other{Domain, Codec, bytes.Replace(good, []byte(`{"kind"`), []byte(`{"x":1,"kind"`), 1)}, "unknown field"},
		"half an hour":         {other{Domain, Codec, bytes.Replace(good, []byte("T00:00:00Z"), []byte("T00:30:00Z"), 1)}, "full UTC hour"},
		"another zone":         {other{Domain, Codec, bytes.Replace(good, []byte("T00:00:00Z"), []byte("T00:00:00+01:00"), 1)}, "full UTC hour"},
		"no country":           {other{Domain, Codec, bytes.Replace(good, []byte(`"SG"`), []byte(`"sg"`), 1)}, "region"},
		"no address":           {other{Domain, Codec, bytes.Replace(good, []byte("198.41.0.4"), []byte("::1"), 1)}, "ipv4"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := record.Seal(&tc.rec, key)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := e.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(raw); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one that holds %q", err, tc.want)
			}
		})
	}
	if _, err := Sign(example(stranger), key); err == nil {
		t.Error("a statement about another relay was signed")
	}
	if _, err := Sign(Statement{}, key); err == nil {
		t.Error("an empty statement was signed")
	}
	if _, err := Open(make([]byte, maxAppeal+1)); err == nil {
		t.Error("a huge envelope was read")
	}
}

func FuzzOpen(f *testing.F) {
	key, id := newKey(f, crypto.Ed25519)
	envelope, err := Sign(example(id), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelope)
	if envelope, err = Sign(anAppeal(id), key); err != nil {
		f.Fatal(err)
	}
	f.Add(envelope)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Open(b)
		if err == nil && s.validate() != nil {
			t.Errorf("accepted %+v", s)
		}
	})
}

// The text is the relay's, and its signature under anything is to be had: the payload by
// itself accepts what it writes and nothing else.
func FuzzPayload(f *testing.F) {
	_, id := newKey(f, crypto.Ed25519)
	for _, s := range []Statement{example(id), anAppeal(id)} {
		b, err := (&payload{s}).MarshalRecord()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p payload
		if p.UnmarshalRecord(b) != nil {
			return
		}
		if again, err := p.MarshalRecord(); err != nil || !bytes.Equal(again, b) || p.validate() != nil {
			t.Errorf("accepted %q as %+v, which is written %q (%v)", b, p.Statement, again, err)
		}
	})
}
