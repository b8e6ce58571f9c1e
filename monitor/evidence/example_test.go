package evidence_test

import (
	"bytes"
	"crypto/ed25519"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

var update = flag.Bool("update", false, "write the worked example and the vectors anew")

// workedExample makes the example of docs/evidence-format.md: every key and salt is 32
// times the same byte. A second hour tells of the cosignature of the first. The record names
// the leaf, if one is given, and says something of it that does not stand in it.
func workedExample(t testing.TB, leaf ...[]byte) (l testLog, m evidence.MonitorMonth, k evidence.Keys, show string) {
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
	for _, der := range leaf {
		a.Facts.Certificate = &evidence.Certificate{SHA256: evidence.SHA256Hex(der), Issuer: "CN=as the monitor says",
			NotBefore: evidence.TimeOf(started), NotAfter: evidence.TimeOf(started.Add(time.Hour))}
	}
	evidencetest.Must(t, l.Append(hour, a, leaf...))
	_, err = l.Seal(evidencetest.Closing(hour))
	evidencetest.Must(t, err)
	witness := evidencetest.Witness{SigningKey: evidence.SigningKeyOf("witness.example.net", evidence.WitnessKeyType, seed(5))}
	cp, err := l.Checkpoint()
	evidencetest.Must(t, err)
	evidencetest.Must(t, l.AddCosignatures(1, witness.Cosign(t, cp, evidencetest.Closing(hour).Add(time.Minute)), witness.VKey()))
	_, err = l.Seal(evidencetest.Closing(hour + 1))
	evidencetest.Must(t, err)
	k = evidence.Keys{Log: l.Key(), Plan: l.PlanKey(), Witnesses: []string{witness.VKey()}}
	m, err = l.Month(hour.Month(), relay.ID.String(), evidencetest.Closing(hour).Add(2*time.Hour), witness.VKey())
	evidencetest.Must(t, err)

	var b strings.Builder
	say := func(title string, blocks ...any) {
		fmt.Fprintf(&b, "\n%s:\n\n", title)
		for _, x := range blocks {
			text := fmt.Sprintf("%s", x)
			for line := range strings.Lines(strings.TrimSuffix(text, "\n")) {
				fmt.Fprintf(&b, "%s\n", strings.TrimRight("    "+strings.TrimSuffix(line, "\n"), " "))
			}
		}
	}
	files, err := m.Files()
	evidencetest.Must(t, err)
	say("Verifier keys of log and witness, and the plan key", l.Key(), witness.VKey(), l.PlanKey())
	say("The relay, and the identity that reserved", relay.ID, probe)
	record := evidence.PlaceOf(relay.ID.String(), m.Records[0])
	say("`records.jsonl`", files[evidence.FileRecords])
	say("Key and value of its place in the block, and their hash, which is the root", record.Key, record.Value, record.Hash())
	say("`proofs.jsonl`", files[evidence.FileProofs])
	absent, err := l.Month(hour.Month(), probe.String(), m.AsOf.Time)
	evidencetest.Must(t, err)
	say("The proof that the block has no record of the identity that reserved", absent.Proofs[0])
	say("`blocks.jsonl`", files[evidence.FileHeaders])
	say("The leaf hashes of these headers", tlog.RecordHash(m.Headers[0]), tlog.RecordHash(m.Headers[1]))
	say("`checkpoints`; only the first is cosigned", files[evidence.FileCheckpoints])
	say("`month.json`", files[evidence.FileMonth])
	fork := evidencetest.SignedText(t, l.dir, evidence.Checkpoint{Origin: name, Size: 2, Root: tlog.RecordHash(m.Headers[1])}.Text())
	pair, err := evidence.NewFork(m.Checkpoints[1], fork, l.Key())
	evidencetest.Must(t, err)
	say("A fork", pair)
	return l, m, k, b.String()
}

// docMarks enclose the worked example in the specification.
const (
	docFile   = "../../docs/evidence-format.md"
	docBegins = "<!-- examples: go test ./monitor/evidence -run WorkedExample -update -->\n"
	docEnds   = "\n<!-- end of examples -->\n"
)

// The worked example in the specification is what the code makes.
func TestWorkedExample(t *testing.T) {
	_, m, k, show := workedExample(t)
	v, err := evidence.VerifyMonth(m, k)
	evidencetest.Must(t, err)
	if len(v.Hours) != 2 || v.Hours[0].Vouchers[0].State != evidence.VoucherBound || v.Hours[0].ClockFault != "" || v.Hours[0].Due.IsZero() {
		t.Fatalf("%+v", v.Hours)
	}
	doc, err := os.ReadFile(docFile)
	evidencetest.Must(t, err)
	before, rest, ok := strings.Cut(string(doc), docBegins)
	got, after, ended := strings.Cut(rest, docEnds)
	if !ok || !ended {
		t.Fatalf("%s lacks the marks of the worked example", docFile)
	}
	if *update {
		evidencetest.Must(t, os.WriteFile(docFile, []byte(before+docBegins+show+docEnds+after), 0o644))
		return
	}
	if d := cmp.Diff(show, got); d != "" {
		t.Errorf("%s is not what the code makes: run this test with -update: %s", docFile, d)
	}
}
