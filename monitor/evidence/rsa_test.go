package evidence

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	recordpb "github.com/libp2p/go-libp2p/core/record/pb"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"google.golang.org/protobuf/proto"
)

// A relay's key whose signatures take long to verify is refused before one is: its month
// has tens of thousands of them.
func TestCostlyKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		bits uint
		e    int
	}{
		"too many bits":         {8192, 65537},
		"an exponent too large": {2048, 1<<31 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), tc.bits-1))
			if err != nil {
				t.Fatal(err)
			}
			n.SetBit(n.SetBit(n, int(tc.bits-1), 1), 0, 1)
			der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: tc.e})
			if err != nil {
				t.Fatal(err)
			}
			key, err := crypto.UnmarshalRsaPublicKey(der)
			if err != nil {
				t.Fatal(err)
			}
			relay, err := peer.IDFromPublicKey(key)
			if err != nil {
				t.Fatal(err)
			}
			pub, err := crypto.PublicKeyToProto(key)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := proto.Marshal(&recordpb.Envelope{PublicKey: pub, PayloadType: relayv2.RecordCodec, Signature: make([]byte, tc.bits/8)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openVoucher(raw, relay); err == nil || !strings.Contains(err.Error(), "RSA key") {
				t.Errorf("got %v", err)
			}
		})
	}
}
