package evidence

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/bls"
)

// workedExample makes the example of the package comment: every key and salt is 32
// times the same byte.
func workedExample(t testing.TB) (l *Log, m MonitorMonth, k Keys, show string) {
	t.Helper()
	seed := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	hour := HourOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	dir := filepath.Join(t.TempDir(), "log")
	must(t, os.Mkdir(dir, 0o755))
	name := "monitor.example.org/relaymon/lab"
	for file, key := range map[string]secretKey{
		keyFile:     {name, algNote, ed25519.NewKeyFromSeed(seed(1))},
		witnessFile: {name + "/witness", algCosignature, ed25519.NewKeyFromSeed(seed(2))},
	} {
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(key.String()+"\n"), 0o600))
	}
	plan, err := bls.KeyGen(seed(6))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, planFile), []byte(plan.Text()+"\n"), 0o600))
	l, err = Create(dir, Options{Name: "monitor.example.org", Network: Lab, First: hour})
	must(t, err)
	t.Cleanup(func() { l.Close() })

	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed(3)))
	must(t, err)
	relay := testRelay{key: key}
	relay.id, err = peer.IDFromPrivateKey(key)
	must(t, err)
	c := Challenge{MonitorKey: l.Key(), Relay: relay.id, Hour: hour, Salt: seed(4)}
	probeKey, err := c.Key()
	must(t, err)
	probe, err := peer.IDFromPrivateKey(probeKey)
	must(t, err)
	started := hour.Start().Add(90 * time.Second)
	a := Attempt{
		Started:  TimeOf(started),
		PeerID:   relay.id.String(),
		TCP4Addr: "/ip4/127.0.0.2/tcp/4001/p2p/" + relay.id.String(),
		Rungs:    []Rung{{Name: "tcp4", Component: TCP4, Outcome: OK, DurationUS: 1500}},
		Results:  map[Component]Result{TCP4: {Outcome: OK, DurationUS: 1500}, WSS: {Outcome: Skipped}, Relay: {Outcome: OK, DurationUS: 2500}},
		Level:    LevelReserved,
		Facts: Facts{HopReserve: 100, Reservation: &Reservation{
			Peer: probe.String(), Salt: c.Salt, Voucher: relay.voucher(t, probe, started.Add(time.Hour)), Expires: TimeOf(started.Add(time.Hour)),
		}},
	}
	must(t, l.Begin(hour, hour.Start(), "relaymon/0.1.0"))
	must(t, l.Mark(hour, Mark{Clock: &ClockSample{At: TimeOf(hour.Start()), Synchronised: true}}))
	must(t, l.Append(hour, a))
	_, err = l.Seal(closing(hour))
	must(t, err)
	witness := testWitness{secretKey{"witness.example.net", algCosignature, ed25519.NewKeyFromSeed(seed(5))}}
	cp, err := l.Checkpoint()
	must(t, err)
	must(t, l.AddCosignatures(1, witness.cosign(t, cp, closing(hour).Add(time.Minute)), witness.vkey()))
	k = Keys{Log: l.Key(), Plan: l.PlanKey(), Witnesses: []string{witness.vkey()}}
	m, err = l.Month(hour.Month(), relay.id.String(), closing(hour).Add(time.Hour), witness.vkey())
	must(t, err)

	var b strings.Builder
	fmt.Fprintf(&b, "Log's verifier key:\n\n%s\n\n", l.Key())
	fmt.Fprintf(&b, "Witness's verifier key:\n\n%s\n\n", witness.vkey())
	fmt.Fprintf(&b, "Plan key:\n\n%s\n\n", l.PlanKey())
	fmt.Fprintf(&b, "Relay, and the identity that reserved:\n\n%s\n%s\n\n", relay.id, probe)
	record := placeOf(relay.id.String(), m.Records[0])
	fmt.Fprintf(&b, "Record:\n\n%s\n\n", m.Records[0])
	fmt.Fprintf(&b, "Key and value of its place in the block, and their hash, which is the root:\n\n%s\n%s\n%s\n\n", record.Key, record.Value, record.hash())
	fmt.Fprintf(&b, "Proof of it:\n\n%s\n\n", m.Proofs[0])
	absent, err := l.Month(hour.Month(), probe.String(), closing(hour).Add(time.Hour))
	must(t, err)
	fmt.Fprintf(&b, "Proof that the block has no record of the identity that reserved:\n\n%s\n\n", absent.Proofs[0])
	fmt.Fprintf(&b, "Header, and its leaf hash:\n\n%s\n%s\n\n", m.Headers[0], tlog.RecordHash(m.Headers[0]))
	fmt.Fprintf(&b, "Checkpoint with a cosignature:\n\n%s\n", m.Checkpoints[0])
	fmt.Fprintf(&b, "Note of the month:\n\n%s", m.Note)
	return l, m, k, b.String()
}

// The worked example in the package comment is what the code makes.
func TestWorkedExample(t *testing.T) {
	_, m, k, show := workedExample(t)
	v, err := VerifyMonth(m, k)
	must(t, err)
	if len(v.Hours) != 1 || v.Hours[0].Vouchers[0].State != VoucherBound || v.Hours[0].ClockFault != "" || v.Hours[0].Due.IsZero() {
		t.Fatalf("%+v", v.Hours)
	}
	doc, err := os.ReadFile("doc.go")
	must(t, err)
	var plain []string
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "//"), " ")
		plain = append(plain, strings.TrimPrefix(line, "\t"))
	}
	_, example, _ := strings.Cut(strings.Join(plain, "\n"), "# Worked example")
	for line := range strings.Lines(show) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && !strings.Contains(example, line+"\n") {
			t.Errorf("the package comment lacks\n\t%s", line)
		}
	}
	if t.Failed() {
		var c strings.Builder
		for line := range strings.Lines(show) {
			switch line = strings.TrimSuffix(line, "\n"); {
			case line == "":
				c.WriteString("//\n")
			case strings.HasSuffix(line, ":"):
				c.WriteString("// " + line + "\n")
			default:
				c.WriteString("//\t" + line + "\n")
			}
		}
		t.Logf("it should say:\n%s", c.String())
	}
}
