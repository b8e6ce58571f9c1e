// Package evidencetest makes for tests what a log holds: relays that sign vouchers,
// attempts on them, certificates, other monitors' witnesses, and a month of all of it.
package evidencetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// FirstHour is in the middle of a day near a month's end, so that short tests cross it.
var FirstHour = evidence.HourOf(time.Date(2026, 10, 31, 20, 0, 0, 0, time.UTC))

// Relay is a relay that can sign vouchers.
type Relay struct {
	Key crypto.PrivKey
	ID  peer.ID
}

// NewRelay makes a relay with a key of a type and size.
func NewRelay(t testing.TB, typ, bits int) Relay {
	t.Helper()
	key, _, err := crypto.GenerateKeyPairWithReader(typ, bits, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Relay{key, id}
}

// Voucher is the envelope in which the relay says that a peer has a reservation.
func (r Relay) Voucher(t testing.TB, for_ peer.ID, expires time.Time) []byte {
	t.Helper()
	e, err := record.Seal(&relayv2.ReservationVoucher{Relay: r.ID, Peer: for_, Expiration: expires}, r.Key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Reservation is what a relay grants an identity made for hour h.
func (r Relay) Reservation(t testing.TB, monitorKey string, h evidence.Hour, at time.Time) *evidence.Reservation {
	t.Helper()
	c := evidence.Challenge{MonitorKey: monitorKey, Relay: r.ID, Hour: h, Salt: make([]byte, 32)}
	rand.Read(c.Salt)
	key, err := c.Key()
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	expires := at.Add(time.Hour)
	return &evidence.Reservation{Peer: id.String(), Salt: c.Salt, Voucher: r.Voucher(t, id, expires), Expires: evidence.TimeOf(expires)}
}

// Attempt is a full climb that began after so much of hour h.
func (r Relay) Attempt(t testing.TB, monitorKey string, h evidence.Hour, after time.Duration, cert *evidence.Certificate) evidence.Attempt {
	t.Helper()
	at := h.Start().Add(after)
	return evidence.Attempt{
		Started:  evidence.TimeOf(at),
		PeerID:   r.ID.String(),
		TCP4Addr: "/ip4/203.0.113.7/tcp/4001/p2p/" + r.ID.String(),
		WSSAddr:  "/dns4/relay.example.org/tcp/443/wss/p2p/" + r.ID.String(),
		Rungs: []evidence.Rung{
			{Name: "tcp4", Component: evidence.TCP4, Outcome: evidence.OK, DurationUS: 41_000},
			{Name: "wss", Component: evidence.WSS, Outcome: evidence.OK, OffsetUS: 50_000, DurationUS: 120_000},
			{Name: "reserve", Component: evidence.Relay, Outcome: evidence.OK, OffsetUS: 200_000, DurationUS: 40_000},
			{Name: "circuit", Component: evidence.Relay, Outcome: evidence.OK, OffsetUS: 300_000, DurationUS: 90_000},
		},
		Results: map[evidence.Component]evidence.Result{
			evidence.TCP4:  {Outcome: evidence.OK, DurationUS: 41_000},
			evidence.WSS:   {Outcome: evidence.OK, DurationUS: 120_000},
			evidence.Relay: {Outcome: evidence.OK, DurationUS: 130_000},
		},
		Level: evidence.LevelEchoed,
		Facts: evidence.Facts{
			AgentVersion: "relayd/1.2.3 <&> ünïcode",
			Protocols:    []string{"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/libp2p/circuit/relay/0.2.0/hop"},
			ResolvedIPv4: []string{"203.0.113.7"}, LookupRetries: 2,
			Certificate: cert,
			HTTPStatus:  101,
			PingUS:      []int64{40_100, 39_900, 40_000},
			HopReserve:  100,
			HopConnect:  100,
			Reservation: r.Reservation(t, monitorKey, h, at),
			CircuitAddr: "/ip4/203.0.113.7/tcp/4001/p2p/" + r.ID.String() + "/p2p-circuit",
		},
	}
}

// NewLeaf makes a certificate for a name, and what a record says of it.
func NewLeaf(t testing.TB, name string) (der []byte, c *evidence.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: FirstHour.Start().Add(-24 * time.Hour), NotAfter: FirstHour.Start().Add(90 * 24 * time.Hour),
	}
	if der, err = x509.CreateCertificate(rand.Reader, x, x, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	if c, err = evidence.NewCertificate(der); err != nil {
		t.Fatal(err)
	}
	return der, c
}

// Log is a log that is written to.
type Log interface {
	Key() string
	PlanKey() string
	First() evidence.Hour
	Size() int64
	Begin(h evidence.Hour, at time.Time, software string) error
	Mark(h evidence.Hour, m evidence.Mark) error
	Append(h evidence.Hour, a evidence.Attempt, certs ...[]byte) error
	Seal(now time.Time) ([]evidence.Header, error)
	Checkpoint() ([]byte, error)
	AddCosignatures(size int64, lines []byte, witnesses ...string) error
	Month(m evidence.Month, relay string, asOf time.Time, witnesses ...string) (evidence.MonitorMonth, error)
}

// Watch does what a monitor does at the start of an hour.
func Watch(t testing.TB, l Log, h evidence.Hour) {
	t.Helper()
	Must(t, l.Begin(h, h.Start().Add(time.Second), "relaymon/test"))
	Must(t, l.Mark(h, evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf(h.Start().Add(2 * time.Second)), Synchronised: true, UpMS: 5}}))
}

// Closing is the first moment at which hour h may be sealed.
func Closing(h evidence.Hour) time.Time { return h.End().Add(evidence.CloseAfter) }

// Must fails the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantError fails the test unless the error says the text.
func WantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want one with %q", err, text)
	}
}

// Witness is another monitor's.
type Witness struct{ evidence.SigningKey }

// NewWitness makes a witness with a new key.
func NewWitness(t testing.TB, name string) Witness {
	t.Helper()
	k, err := evidence.NewSigningKey(rand.Reader, name, evidence.WitnessKeyType)
	Must(t, err)
	return Witness{k}
}

// VKey is its verifier key.
func (w Witness) VKey() string { return w.VerifierKey() }

// Cosign is the witness's signature line under a checkpoint.
func (w Witness) Cosign(t testing.TB, checkpoint []byte, at time.Time) []byte {
	t.Helper()
	text, _, ok := strings.Cut(string(checkpoint), "\n\n")
	if !ok {
		t.Fatalf("not a checkpoint: %q", checkpoint)
	}
	b, err := note.Sign(&note.Note{Text: text + "\n"}, w.SigningKey.Cosigner(at))
	Must(t, err)
	_, line, _ := strings.Cut(string(b), "\n\n")
	return []byte(line)
}

// Grow seals so many hours more, without anything in them, and returns the checkpoint.
func Grow(t testing.TB, l Log, hours int) []byte {
	t.Helper()
	for range hours {
		h := l.First() + evidence.Hour(l.Size())
		Watch(t, l, h)
		_, err := l.Seal(Closing(h))
		Must(t, err)
	}
	cp, err := l.Checkpoint()
	Must(t, err)
	return cp
}

// TextOf is the text of a signed note.
func TextOf(raw []byte) string {
	text, _, _ := strings.Cut(string(raw), "\n\n")
	return text + "\n"
}

// SmallMonth is an export with everything in it: a month before, several
// checkpoints, two witnesses, a gap, two relays in each block, a certificate.
type SmallMonth struct {
	Month     evidence.MonitorMonth
	Keys      evidence.Keys
	Relay     Relay
	Witnesses []Witness
}

// NewSmallMonth writes it into a new log that begins at [FirstHour].
func NewSmallMonth(t testing.TB, l Log) SmallMonth {
	t.Helper()
	relay, other := NewRelay(t, crypto.Ed25519, 0), NewRelay(t, crypto.Ed25519, 0)
	der, cert := NewLeaf(t, "relay.example.org")
	ws := []Witness{NewWitness(t, "w1"), NewWitness(t, "w2")}
	keys := evidence.Keys{Log: l.Key(), Plan: l.PlanKey(), Witnesses: []string{ws[0].VKey(), ws[1].VKey()}}
	last := FirstHour + 7
	for h := FirstHour + 2; h <= last; h++ {
		if h == FirstHour+5 {
			continue // a gap
		}
		Watch(t, l, h)
		Must(t, l.Append(h, relay.Attempt(t, l.Key(), h, 10*time.Minute, cert), der))
		Must(t, l.Append(h, other.Attempt(t, l.Key(), h, 20*time.Minute, nil)))
		if h == FirstHour+6 {
			Must(t, l.Mark(h, evidence.Mark{Missed: 2}))
		}
		_, err := l.Seal(Closing(h))
		Must(t, err)
		cp, err := l.Checkpoint()
		Must(t, err)
		if cp == nil {
			continue
		}
		for i, w := range ws {
			Must(t, l.AddCosignatures(l.Size(), w.Cosign(t, cp, Closing(h).Add(time.Duration(i)*time.Minute)), w.VKey()))
		}
	}
	m, err := l.Month(FirstHour.Month()+1, relay.ID.String(), Closing(last).Add(10*time.Minute), keys.Witnesses...)
	Must(t, err)
	if len(m.Headers) != 4 || len(m.Checkpoints) != 3 || len(m.Records) != 3 || len(m.Certificates) != 1 || m.StartSize != 4 {
		t.Fatalf("small month: %d headers, %d checkpoints, %d records, %d certificates after %d",
			len(m.Headers), len(m.Checkpoints), len(m.Records), len(m.Certificates), m.StartSize)
	}
	if _, err := evidence.VerifyMonth(m, keys); err != nil {
		t.Fatal(err)
	}
	return SmallMonth{m, keys, relay, ws}
}

// SignedText is a note of the text, signed by the key of the log in dir.
func SignedText(t testing.TB, dir, text string) []byte {
	t.Helper()
	raw, err := evidence.SignNote(text, SecretOf(t, dir))
	Must(t, err)
	return raw
}

// SecretOf is the key of the log in dir.
func SecretOf(t testing.TB, dir string) evidence.SigningKey {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "log.key"))
	Must(t, err)
	key, err := evidence.ParseSigningKey(strings.TrimSuffix(string(b), "\n"))
	Must(t, err)
	return key
}
