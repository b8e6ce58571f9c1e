package evidence

import (
	"crypto/ed25519"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// SigningKeyOf is the key with a seed.
func SigningKeyOf(name string, alg byte, seed []byte) SigningKey {
	return SigningKey{name, alg, ed25519.NewKeyFromSeed(seed)}
}

// What the tests from outside look at within.
const (
	FileCheckpoints = fileCheckpoints
	FileHeaders     = fileHeaders
	FileMonth       = fileMonth
	FileProofs      = fileProofs
	FileRecords     = fileRecords
	FolderCerts     = folderCerts
	MaxBlockProof   = maxBlockProof
	MaxNote         = maxNote
	MaxPath         = maxPath
	MaxVoucher      = maxVoucher
	MonthFormat     = monthFormat
)

type (
	BlockProof = blockProof
	MonthIndex = monthIndex
	Place      = place
)

var (
	EmptyRoot      = emptyRoot
	FrontierTree   = frontierTree
	OpenNote       = ParseNote
	OpenVoucher    = openVoucher
	ParsePublicKey = parsePublicKey
	PlaceOf        = placeOf
	RelayKey       = relayKey
	SplitNotes     = splitNotes
)

func (p place) Hash() Hash { return p.hash() }

func (v *Vouchers) OpenCosigned(raw string) (string, time.Time, error) { return v.openCosigned(raw) }

func CheckClock(c Clock) error { return c.check() }

// StatementVerifier is the verifier of envelopes for a library.
func StatementVerifier(logKey string) (dsse.Verifier, error) {
	k, err := parsePublicKey(logKey)
	return dsseKey{publicKey: k}, err
}

// SetMonthRoom sets how many bytes the blocks of an exported month may take.
func SetMonthRoom(n int) (was int) {
	was, monthRoom = monthRoom, n
	return was
}
