package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// The key types of C2SP signed-note that are used here.
const (
	LogKeyType     = 0x01 // Ed25519 over the note's text
	WitnessKeyType = 0x04 // Ed25519 over a timestamped cosignature/v1
)

// publicKey is a verifier key of C2SP signed-note, <name>+<hash>+<base64 key>.
type publicKey struct {
	name string
	alg  byte
	key  ed25519.PublicKey
}

func (k publicKey) hash() uint32 { return keyHash(k.name, k.material()) }

func (k publicKey) material() []byte { return append([]byte{k.alg}, k.key...) }

func (k publicKey) String() string { return spellKey(k.name, k.material()) }

// keyHash is the hash of a verifier key: material is its type and the key's bytes.
func keyHash(name string, material []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), material...))
	return binary.BigEndian.Uint32(sum[:])
}

// spellKey is the one spelling of a verifier key.
func spellKey(name string, material []byte) string {
	return fmt.Sprintf("%s+%08x+%s", name, keyHash(name, material), base64.StdEncoding.EncodeToString(material))
}

// parsePublicKey reads the one spelling of a verifier key.
func parsePublicKey(s string) (publicKey, error) {
	name, rest, _ := strings.Cut(s, "+")
	_, b64, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || !validKeyName(name) {
		return publicKey{}, fmt.Errorf("verifier key %q: want <name>+<hash>+<base64> of an Ed25519 key", s)
	}
	k := publicKey{name: name, alg: raw[0], key: raw[1:]}
	if k.alg != LogKeyType && k.alg != WitnessKeyType {
		return publicKey{}, fmt.Errorf("verifier key %q: key type %#02x is not known", s, k.alg)
	}
	if k.String() != s {
		return publicKey{}, fmt.Errorf("verifier key %q: its hash or spelling is wrong, want %q", s, k)
	}
	return k, nil
}

// SigningKey is a signer key of C2SP signed-note, PRIVATE+KEY+<name>+<hash>+<base64 seed>.
type SigningKey struct {
	name string
	alg  byte
	key  ed25519.PrivateKey
}

// NewSigningKey makes a key with the given name, of type [LogKeyType] or [WitnessKeyType].
func NewSigningKey(rand io.Reader, name string, alg byte) (SigningKey, error) {
	if !validKeyName(name) {
		return SigningKey{}, fmt.Errorf("make key: %q is no name of a key", name)
	}
	_, key, err := ed25519.GenerateKey(rand)
	if err != nil {
		return SigningKey{}, fmt.Errorf("make key %s: %w", name, err)
	}
	return SigningKey{name, alg, key}, nil
}

func (k SigningKey) public() publicKey {
	return publicKey{k.name, k.alg, k.key.Public().(ed25519.PublicKey)}
}

// Name is the key's name: the origin of its log, or that with "/witness" at the end.
func (k SigningKey) Name() string { return k.name }

// Type is [LogKeyType] or [WitnessKeyType].
func (k SigningKey) Type() byte { return k.alg }

// VerifierKey is the verifier key, as it stands in a roster.
func (k SigningKey) VerifierKey() string { return k.public().String() }

// Verifier checks what is signed with the key: notes, or cosignatures.
func (k SigningKey) Verifier() note.Verifier {
	if k.alg == WitnessKeyType {
		v, err := WitnessVerifier(k.VerifierKey())
		if err != nil {
			panic(err) // a signing key has the key and the name of a verifier key
		}
		return v
	}
	return noteVerifier{k.public()}
}

// String is the key as it is written to a file. It is secret.
func (k SigningKey) String() string {
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", k.name, k.public().hash(),
		base64.StdEncoding.EncodeToString(append([]byte{k.alg}, k.key.Seed()...)))
}

// errSecretKey says nothing of the key: error messages end up in logs.
var errSecretKey = errors.New("not a signer key (PRIVATE+KEY+<name>+<hash>+<base64>)")

// ParseSigningKey reads what [SigningKey.String] writes and nothing else.
func ParseSigningKey(s string) (SigningKey, error) {
	rest, ok := strings.CutPrefix(s, "PRIVATE+KEY+")
	name, rest, _ := strings.Cut(rest, "+")
	_, b64, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(b64)
	if !ok || err != nil || len(raw) != 1+ed25519.SeedSize || !validKeyName(name) {
		return SigningKey{}, errSecretKey
	}
	k := SigningKey{name, raw[0], ed25519.NewKeyFromSeed(raw[1:])}
	if k.String() != s {
		return SigningKey{}, errSecretKey
	}
	return k, nil
}

// Named is the same key under another name, with which it signs another log.
func (k SigningKey) Named(name string) (SigningKey, error) {
	if !validKeyName(name) {
		return SigningKey{}, fmt.Errorf("%q is no name of a key", name)
	}
	return SigningKey{name, k.alg, k.key}, nil
}

// NameKey is the verifier key of what [SigningKey.Named] gives.
func NameKey(vkey, name string) (string, error) {
	k, err := parsePublicKey(vkey)
	if err == nil && !validKeyName(name) {
		err = fmt.Errorf("%q is no name of a key", name)
	}
	if err != nil {
		return "", err
	}
	k.name = name
	return k.String(), nil
}

// noteSigner signs the text of a note.
type noteSigner struct{ SigningKey }

func (s noteSigner) Name() string                    { return s.name }
func (s noteSigner) KeyHash() uint32                 { return s.public().hash() }
func (s noteSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

// noteVerifier checks signatures over the text of a note.
type noteVerifier struct{ publicKey }

func (v noteVerifier) Name() string                { return v.name }
func (v noteVerifier) KeyHash() uint32             { return v.hash() }
func (v noteVerifier) Verify(msg, sig []byte) bool { return ed25519.Verify(v.key, msg, sig) }

// LogVerifier is the verifier for a log's key as it stands in a roster.
func LogVerifier(vkey string) (note.Verifier, error) {
	k, err := parsePublicKey(vkey)
	if err != nil {
		return nil, err
	}
	if k.alg != LogKeyType {
		return nil, fmt.Errorf("verifier key %q: want the key of a log (type 1), this is a witness's", vkey)
	}
	return noteVerifier{k}, nil
}

// validKeyName says whether C2SP signed-note allows the name of a key.
func validKeyName(name string) bool {
	return name != "" && len(name) <= 200 && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '+'
	})
}

// Network says what a log may hold: lab logs admit private addresses and the
// monitor's own host and never count; psf logs are evidence.
type Network string

// The networks.
const (
	Lab Network = "lab"
	PSF Network = "psf"
)

var monitorName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$`)

// MonitorNames says what IsMonitorName takes.
const MonitorNames = "1 to 100 lower-case letters, digits, dots, dashes and underscores, the first and last a letter or digit, such as the monitor's domain"

// IsMonitorName says whether a monitor may have that name, which its log's origin begins with.
func IsMonitorName(s string) bool { return monitorName.MatchString(s) }

const originMark = "/relaymon/"

// Origin is the first line of the log's checkpoints and the name of its key.
func Origin(name string, n Network) (string, error) {
	if !IsMonitorName(name) {
		return "", fmt.Errorf("monitor name %q: want %s", name, MonitorNames)
	}
	if n != Lab && n != PSF {
		return "", fmt.Errorf("network %q: want %s or %s", n, Lab, PSF)
	}
	return name + originMark + string(n), nil
}

// ParseOrigin takes a log's origin apart into the monitor's name and the network.
func ParseOrigin(s string) (name string, n Network, err error) {
	name, network, _ := strings.Cut(s, originMark)
	again, err := Origin(name, Network(network))
	if err != nil || again != s {
		return "", "", fmt.Errorf("origin %s: want <name>%s<%s or %s>", strconv.Quote(s), originMark, Lab, PSF)
	}
	return name, Network(network), nil
}
