package coord

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// Key is a peer's coordination key: others encrypt private messages to it. It is
// a secp256k1 key, since upstream uses its wallet's; no wallet is needed, and it
// holds no money.
type Key struct{ private *secp256k1.PrivateKey }

// NewKey makes a key.
func NewKey() (*Key, error) {
	private, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, fmt.Errorf("make a coordination key: %w", err)
	}
	return &Key{private}, nil
}

// ParseKey reads what Encode wrote, and nothing else: a damaged key must be
// noticed, for peers remember the public half for as long as they run.
func ParseKey(data []byte) (*Key, error) {
	line, ok := strings.CutSuffix(string(data), "\n")
	b, err := hex.DecodeString(line)
	if !ok || err != nil || len(b) != secp256k1.PrivKeyBytesLen {
		return nil, fmt.Errorf("read coordination key: want one line of %d hex digits", 2*secp256k1.PrivKeyBytesLen)
	}
	var n secp256k1.ModNScalar
	if n.SetByteSlice(b) || n.IsZero() {
		return nil, errors.New("read coordination key: not a secp256k1 key")
	}
	return &Key{secp256k1.NewPrivateKey(&n)}, nil
}

// Encode writes the secret key as a line of hex, for a file that nobody else reads.
func (k *Key) Encode() []byte {
	return []byte(hex.EncodeToString(k.private.Serialize()) + "\n")
}

// Public is the public half as it stands in announcements.
func (k *Key) Public() string {
	return hex.EncodeToString(k.private.PubKey().SerializeCompressed())
}

// parsePublic reads the encryptPubKey of an announcement.
func parsePublic(s string) (*secp256k1.PublicKey, error) {
	if len(s) != 2*secp256k1.PubKeyBytesLenCompressed {
		return nil, fmt.Errorf("public key of %d hex digits, want %d", len(s), 2*secp256k1.PubKeyBytesLenCompressed)
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return secp256k1.ParsePubKey(b)
}
