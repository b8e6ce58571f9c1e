package bundle_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The second verifier follows every consistency proof, and no other.
func TestSecondTip(t *testing.T) {
	skey, vkeyText, err := note.GenerateKey(rand.Reader, "m/relaymon/lab")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseVKey(vkeyText)
	if err != nil {
		t.Fatal(err)
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (list []tlog.Hash, err error) {
		for _, i := range indexes {
			list = append(list, stored[i])
		}
		return list, nil
	})
	for n := range int64(20) {
		hashes, err := tlog.StoredHashes(n, fmt.Append(nil, n), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		root, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		tip, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", key.name, n+1, root)}, signer)
		if err != nil {
			t.Fatal(err)
		}
		for size := int64(1); size <= n; size++ {
			old, err := tlog.TreeHash(size, reader)
			if err != nil {
				t.Fatal(err)
			}
			hashes, err := tlog.ProveTree(n+1, size, reader)
			if err != nil {
				t.Fatal(err)
			}
			var proof [][]byte
			for _, h := range hashes {
				proof = append(proof, h[:])
			}
			if more, err := tipOf(tip, key, proof, int(size), old[:]); err != nil || more != int(n+1-size) {
				t.Errorf("%d to %d: %d more, %v", size, n+1, more, err)
			}
			if _, err := tipOf(tip, key, proof, int(size), root[:]); err == nil {
				t.Errorf("%d to %d: another history", size, n+1)
			}
			if _, err := tipOf(tip, key, append(proof, root[:]), int(size), old[:]); err == nil {
				t.Errorf("%d to %d: a longer proof", size, n+1)
			}
			if len(proof) > 0 {
				if _, err := tipOf(tip, key, proof[1:], int(size), old[:]); err == nil {
					t.Errorf("%d to %d: a shorter proof", size, n+1)
				}
			}
		}
	}
}
