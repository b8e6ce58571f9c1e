package evidence_test

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
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// workedExample makes the example of the package comment: every key and salt is 32
// times the same byte.
func workedExample(t testing.TB) (l testLog, m evidence.MonitorMonth, k evidence.Keys, show string) {
	t.Helper()
	seed := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	hour := evidence.HourOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	dir := filepath.Join(t.TempDir(), "log")
	evidencetest.Must(t, os.Mkdir(dir, 0o755))
	name := "monitor.example.org/relaymon/lab"
	for file, key := range map[string]evidence.SigningKey{
		"log.key":     evidence.SigningKeyOf(name, evidence.LogKeyType, seed(1)),
		"witness.key": evidence.SigningKeyOf(name+"/witness", evidence.WitnessKeyType, seed(2)),
	} {
		evidencetest.Must(t, os.WriteFile(filepath.Join(dir, file), []byte(key.String()+"\n"), 0o600))
	}
	plan, err := bls.KeyGen(seed(6))
	evidencetest.Must(t, err)
	evidencetest.Must(t, os.WriteFile(filepath.Join(dir, "plan.key"), []byte(plan.Text()+"\n"), 0o600))
	created, err := store.Create(dir, store.Options{Name: "monitor.example.org", Network: evidence.Lab, First: hour})
	evidencetest.Must(t, err)
	l = testLog{created, dir}
	t.Cleanup(func() { l.Close() })

	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed(3)))
	evidencetest.Must(t, err)
	relay := evidencetest.Relay{Key: key}
	relay.ID, err = peer.IDFromPrivateKey(key)
	evidencetest.Must(t, err)
	c := evidence.Challenge{MonitorKey: l.Key(), Relay: relay.ID, Hour: hour, Salt: seed(4)}
	probeKey, err := c.Key()
	evidencetest.Must(t, err)
	probe, err := peer.IDFromPrivateKey(probeKey)
	evidencetest.Must(t, err)
	started := hour.Start().Add(90 * time.Second)
	a := evidence.Attempt{
		Started:  evidence.TimeOf(started),
		PeerID:   relay.ID.String(),
		TCP4Addr: "/ip4/127.0.0.2/tcp/4001/p2p/" + relay.ID.String(),
		Rungs:    []evidence.Rung{{Name: "tcp4", Component: evidence.TCP4, Outcome: evidence.OK, DurationUS: 1500}},
		Results:  map[evidence.Component]evidence.Result{evidence.TCP4: {Outcome: evidence.OK, DurationUS: 1500}, evidence.WSS: {Outcome: evidence.Skipped}, evidence.Relay: {Outcome: evidence.OK, DurationUS: 2500}},
		Level:    evidence.LevelReserved,
		Facts: evidence.Facts{HopReserve: 100, Reservation: &evidence.Reservation{
			Peer: probe.String(), Salt: c.Salt, Voucher: relay.Voucher(t, probe, started.Add(time.Hour)), Expires: evidence.TimeOf(started.Add(time.Hour)),
		}},
	}
	evidencetest.Must(t, l.Begin(hour, hour.Start(), "relaymon/0.1.0"))
	evidencetest.Must(t, l.Mark(hour, evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf(hour.Start()), Synchronised: true}}))
	evidencetest.Must(t, l.Append(hour, a))
	_, err = l.Seal(evidencetest.Closing(hour))
	evidencetest.Must(t, err)
	witness := evidencetest.Witness{SigningKey: evidence.SigningKeyOf("witness.example.net", evidence.WitnessKeyType, seed(5))}
	cp, err := l.Checkpoint()
	evidencetest.Must(t, err)
	evidencetest.Must(t, l.AddCosignatures(1, witness.Cosign(t, cp, evidencetest.Closing(hour).Add(time.Minute)), witness.VKey()))
	k = evidence.Keys{Log: l.Key(), Plan: l.PlanKey(), Witnesses: []string{witness.VKey()}}
	m, err = l.Month(hour.Month(), relay.ID.String(), evidencetest.Closing(hour).Add(time.Hour), witness.VKey())
	evidencetest.Must(t, err)

	var b strings.Builder
	fmt.Fprintf(&b, "Log's verifier key:\n\n%s\n\n", l.Key())
	fmt.Fprintf(&b, "Witness's verifier key:\n\n%s\n\n", witness.VKey())
	fmt.Fprintf(&b, "Plan key:\n\n%s\n\n", l.PlanKey())
	fmt.Fprintf(&b, "Relay, and the identity that reserved:\n\n%s\n%s\n\n", relay.ID, probe)
	record := evidence.PlaceOf(relay.ID.String(), m.Records[0])
	fmt.Fprintf(&b, "Record:\n\n%s\n\n", m.Records[0])
	fmt.Fprintf(&b, "Key and value of its place in the block, and their hash, which is the root:\n\n%s\n%s\n%s\n\n", record.Key, record.Value, record.Hash())
	fmt.Fprintf(&b, "Proof of it:\n\n%s\n\n", m.Proofs[0])
	absent, err := l.Month(hour.Month(), probe.String(), evidencetest.Closing(hour).Add(time.Hour))
	evidencetest.Must(t, err)
	fmt.Fprintf(&b, "Proof that the block has no record of the identity that reserved:\n\n%s\n\n", absent.Proofs[0])
	fmt.Fprintf(&b, "Header, and its leaf hash:\n\n%s\n%s\n\n", m.Headers[0], tlog.RecordHash(m.Headers[0]))
	fmt.Fprintf(&b, "Checkpoint with a cosignature:\n\n%s\n", m.Checkpoints[0])
	fmt.Fprintf(&b, "Note of the month:\n\n%s", m.Note)
	return l, m, k, b.String()
}

// The worked example in the package comment is what the code makes.
func TestWorkedExample(t *testing.T) {
	_, m, k, show := workedExample(t)
	v, err := evidence.VerifyMonth(m, k)
	evidencetest.Must(t, err)
	if len(v.Hours) != 1 || v.Hours[0].Vouchers[0].State != evidence.VoucherBound || v.Hours[0].ClockFault != "" || v.Hours[0].Due.IsZero() {
		t.Fatalf("%+v", v.Hours)
	}
	doc, err := os.ReadFile("doc.go")
	evidencetest.Must(t, err)
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
