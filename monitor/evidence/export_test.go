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
	FileNote        = fileNote
	FileProofs      = fileProofs
	FileRecords     = fileRecords
	FolderCerts     = folderCerts
	FolderOpen      = folderOpen
	MaxBlockProof   = maxBlockProof
	MaxCosigned     = maxCosigned
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
	OpenNote       = openNote
	OpenVoucher    = openVoucher
	ParsePublicKey = parsePublicKey
	PlaceOf        = placeOf
	RelayKey       = relayKey
	SplitNotes     = splitNotes
)

func (p place) Hash() Hash { return p.hash() }

func (v *Vouchers) OpenCosigned(raw string) (string, time.Time, error) { return v.openCosigned(raw) }

func CheckClock(c Clock) error { return c.check() }

func NoteText(m MonitorMonth) (string, error) { return m.noteText() }

// StatementVerifier is the verifier of envelopes for a library.
func StatementVerifier(logKey string) (dsse.Verifier, error) {
	k, err := parsePublicKey(logKey)
	return dsseKey{publicKey: k}, err
}
