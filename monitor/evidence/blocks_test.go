package evidence_test

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// A month of relays that are there in some hours only: every block has its answer.
func TestPresentAndAbsent(t *testing.T) {
	l, _ := newLog(t)
	relays := []evidencetest.Relay{evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.NewRelay(t, crypto.Ed25519, 0)}
	for n := range 4 {
		h := evidencetest.FirstHour + evidence.Hour(n)
		evidencetest.Watch(t, l, h)
		for i, r := range relays {
			if n>>i&1 == 1 {
				evidencetest.Must(t, l.Append(h, r.Attempt(t, l.Key(), h, time.Minute, nil)))
			}
		}
	}
	_, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour + 3))
	evidencetest.Must(t, err)
	for i, r := range relays {
		m, err := l.Month(evidencetest.FirstHour.Month(), r.ID.String(), evidencetest.Closing(evidencetest.FirstHour+3))
		evidencetest.Must(t, err)
		v, err := evidence.VerifyMonth(m, evidence.Keys{Log: l.Key()})
		evidencetest.Must(t, err)
		if len(m.Proofs) != 3 {
			t.Errorf("relay %d: %d proofs for three blocks with records", i, len(m.Proofs))
		}
		for n, h := range v.Hours {
			if (h.Record != nil) != (n>>i&1 == 1) {
				t.Errorf("relay %d, hour %d: record %v", i, n, h.Record)
			}
		}
	}
}

// A monitor that signs a block over two records of the relay, sorted as before the tree
// was one of prefixes, can show one of them only, and cannot deny it.
func TestTwoRecordsInOneBlock(t *testing.T) {
	s := newSmallMonth(t)
	relay := s.Relay.ID.String()
	record := s.Month.Records[0]
	r, err := evidence.DecodeRecord(record, evidencetest.FirstHour+4)
	evidencetest.Must(t, err)
	r.Attempts[0].Level = evidence.LevelNone
	worse, err := evidence.Encode(r)
	evidencetest.Must(t, err)
	h, err := evidence.DecodeHeader(s.Month.Headers[0])
	evidencetest.Must(t, err)
	a, b := evidence.PlaceOf(relay, record), evidence.PlaceOf(relay, worse)
	h.Root = tlog.NodeHash(a.Hash(), b.Hash())
	line, err := evidence.Encode(h)
	evidencetest.Must(t, err)
	var shown []string
	for _, c := range []struct {
		record []byte
		proof  evidence.BlockProof
	}{
		{record, evidence.BlockProof{Present: true, Path: []evidence.Hash{b.Hash()}}},
		{worse, evidence.BlockProof{Present: true, Path: []evidence.Hash{a.Hash()}}},
		{nil, evidence.BlockProof{Other: &a, Path: []evidence.Hash{b.Hash()}}},
		{nil, evidence.BlockProof{Path: []evidence.Hash{a.Hash()}}},
		{nil, evidence.BlockProof{Path: []evidence.Hash{b.Hash()}}},
	} {
		m := clone(s.Month)
		m.Headers, m.Checkpoints, m.Open, m.Certificates = [][]byte{line}, nil, nil, s.Month.Certificates
		tree, err := evidence.FrontierTree(m.StartSize, m.Frontier)
		evidencetest.Must(t, err)
		evidencetest.Must(t, tree.Add(tlog.RecordHash(line)))
		root, err := tree.Root(tree.Size)
		evidencetest.Must(t, err)
		m.Checkpoints = [][]byte{evidencetest.SignedText(t, s.log.dir, evidence.Checkpoint{Origin: s.log.Origin(), Size: tree.Size, Root: root, Cosignatures: nil}.Text())}
		c.proof.Hour = h.Hour
		proof, err := evidence.Encode(c.proof)
		evidencetest.Must(t, err)
		m.Proofs, m.Records = [][]byte{proof}, nil
		if c.record != nil {
			m.Records = [][]byte{c.record}
		} else {
			m.Certificates = nil
		}
		if _, err := evidence.VerifyMonth(s.resign(t, m), s.Keys); err == nil {
			shown = append(shown, string(proof))
		}
	}
	if len(shown) != 1 {
		t.Errorf("%d answers can be shown of one block: %q", len(shown), shown)
	}
}
