package evidence_test

import (
	"encoding/base64"
	"encoding/binary"
	"testing"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// An ML-DSA-44 cosignature counts as one of Ed25519 does: with a time, by a known key.
func TestMLDSACosignature(t *testing.T) {
	l, _ := newLog(t)
	log := evidencetest.SecretOf(t, l.dir).Verifier()
	skey, vkey, err := formats.GenerateMLDSAKey("witness.example/pq")
	evidencetest.Must(t, err)
	signer, err := formats.NewMLDSASigner(skey)
	evidencetest.Must(t, err)
	witness, err := evidence.WitnessVerifier(vkey)
	evidencetest.Must(t, err)
	c := evidence.Checkpoint{Origin: l.Origin(), Size: 7, Root: evidence.Hash{1}}
	// with is the checkpoint with the cosignature of a time, over that root.
	with := func(at uint64, root evidence.Hash) []byte {
		sig, err := signer.SignSubtree(at, c.Origin, 0, uint64(c.Size), root[:])
		evidencetest.Must(t, err)
		line := binary.BigEndian.AppendUint32(nil, signer.KeyHash())
		return append(evidencetest.SignedText(t, l.dir, c.Text()), "— "+signer.Name()+" "+base64.StdEncoding.EncodeToString(append(line, sig...))+"\n"...)
	}
	got, err := evidence.OpenCheckpoint(with(1_700_000_000, c.Root), log, witness)
	if err != nil || len(got.Cosignatures) != 1 {
		t.Fatalf("got %+v, %v, want one cosignature", got, err)
	}
	if at, err := evidence.CosignedAt(got.Cosignatures[0]); err != nil || at.Unix() != 1_700_000_000 {
		t.Errorf("cosigned at %s, %v", at, err)
	}
	for name, raw := range map[string][]byte{
		"without a time":    with(0, c.Root),
		"of the year 10000": with(253402300800, c.Root),
		"of another root":   with(1_700_000_000, evidence.Hash{2}),
	} {
		if _, err := evidence.OpenCheckpoint(raw, log, witness); err == nil {
			t.Errorf("a cosignature %s passed", name)
		}
	}
	// To who does not know the key it means nothing, also if it is wrong.
	if got, err := evidence.OpenCheckpoint(with(0, c.Root), log); err != nil || len(got.Cosignatures) != 0 {
		t.Errorf("without the key: got %+v, %v, want no cosignature", got, err)
	}
}

// Fifteen ML-DSA-44 cosignatures, which is what 16 signatures of signed-note come to, fit.
func TestRoomForCosignatures(t *testing.T) {
	l, _ := newLog(t)
	raw := evidencetest.SignedText(t, l.dir, evidence.Checkpoint{Origin: l.Origin(), Size: 7}.Text())
	for range 15 {
		skey, _, err := formats.GenerateMLDSAKey("witness.example.org/with-a-name-of-some-length")
		evidencetest.Must(t, err)
		s, err := formats.NewMLDSASigner(skey)
		evidencetest.Must(t, err)
		n, err := note.Open(raw, note.VerifierList(evidencetest.SecretOf(t, l.dir).Verifier()))
		evidencetest.Must(t, err)
		raw, err = note.Sign(n, s)
		evidencetest.Must(t, err)
	}
	if len(raw) > evidence.MaxCheckpointBytes {
		t.Errorf("15 cosignatures make %d bytes, want %d at most", len(raw), evidence.MaxCheckpointBytes)
	}
	t.Logf("%d bytes", len(raw))
}
