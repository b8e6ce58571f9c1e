package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	crypto_pb "github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/doctor"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// identityFile holds the host's private key in libp2p's protobuf form, as other
// libp2p programs export it.
const identityFile = "identity.key"

// CreateIdentity makes the relay's key, once; it fails if there is one. A data
// folder that holds other state but no key is refused: a new identity would
// silently take the place of the one whose state this is.
func CreateIdentity(dataDir string) (crypto.PrivKey, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	return key, storeIdentity(dataDir, key)
}

// ImportIdentity makes an exported key the relay's own, under the same rules as
// [CreateIdentity]: a relay that moves house, or a former kubo or js-libp2p one.
func ImportIdentity(dataDir string, exported []byte) (crypto.PrivKey, error) {
	key, err := parseKey(exported)
	if err != nil {
		return nil, err
	}
	if why := config.Dropped(peerText(key)); why != "" {
		return nil, fmt.Errorf("import the identity: PSF peers silently ignore it, since its peer ID contains %q: make a new one", why)
	}
	return key, storeIdentity(dataDir, key)
}

// ExportIdentity is the relay's key in the form that [ImportIdentity] reads, one
// line of base64.
func ExportIdentity(dataDir string) ([]byte, error) {
	key, err := LoadIdentity(dataDir)
	if err != nil {
		return nil, err
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("export the identity: %w", err)
	}
	return []byte(base64.StdEncoding.EncodeToString(raw) + "\n"), nil
}

// LoadIdentity reads the relay's key. A key that others may read is refused as
// one that is damaged: whoever read it can stand in for the relay.
func LoadIdentity(dataDir string) (_ crypto.PrivKey, err error) {
	defer func() { err = durable.Denied(dataDir, err) }()
	path := filepath.Join(dataDir, identityFile)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if used, _ := inUse(dataDir); used != "" {
			return nil, fmt.Errorf("identity %s is missing, though %s shows that this relay had one: restore it from a backup, or choose an empty data_dir for a new relay", path, used)
		}
		return nil, fmt.Errorf("there is no identity yet in %s: make one with \"relayd init\": %w", dataDir, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("identity %s is not a regular file: put the key itself there", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("identity %s can be read or written by others (mode %04o): run \"chmod 600 %s\", and if somebody may have copied it, make a new one", path, perm, path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	key, err := parseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("identity %s is damaged: restore it from a backup: %w", path, err)
	}
	return key, nil
}

// loadOrCreateIdentity is for a start: an empty folder gets a key.
func loadOrCreateIdentity(dataDir string) (key crypto.PrivKey, created bool, err error) {
	key, err = LoadIdentity(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = CreateIdentity(dataDir)
		return key, err == nil, err
	}
	return key, false, err
}

func storeIdentity(dataDir string, key crypto.PrivKey) (err error) {
	defer func() { err = durable.Denied(dataDir, err) }()
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	path := filepath.Join(dataDir, identityFile)
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("there is an identity already, it is left as it is: %s: %w", path, fs.ErrExist)
	}
	used, err := inUse(dataDir)
	if err != nil {
		return fmt.Errorf("look into the data folder: %w", err)
	}
	if used != "" {
		return fmt.Errorf("data folder %s holds %s but no identity: restore the identity from a backup, or choose an empty folder for a new relay", dataDir, used)
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return fmt.Errorf("store the identity: %w", err)
	}
	if err := durable.Create(path, raw, 0o600); err != nil {
		return fmt.Errorf("store the identity: %w", err)
	}
	return nil
}

// inUse names something in the folder that a relay left there, or a restore that
// was interrupted. What a crash while the key was made can leave (a hidden file)
// and what a new file system has is not.
func inUse(dataDir string) (string, error) {
	entries, err := os.ReadDir(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if n := e.Name(); (keeps(n) || strings.HasPrefix(n, restoreDir)) && n != identityFile {
			return n, nil
		}
	}
	return "", nil
}

// newKey makes keys until one has a peer ID that PSF peers do not drop; about
// one in 10,000 does.
func newKey() (crypto.PrivKey, error) {
	for {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make an identity: %w", err)
		}
		if config.Dropped(peerText(key)) == "" {
			return key, nil
		}
	}
}

func peerText(key crypto.PrivKey) string {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return ""
	}
	return id.String()
}

// parseKey reads a private key: libp2p's protobuf, bare or as one line of base64.
func parseKey(data []byte) (crypto.PrivKey, error) {
	if len(data) > 4096 {
		return nil, errors.New("too long for a private key")
	}
	raw := data
	if text := bytes.TrimSpace(data); len(text) > 0 {
		if decoded, err := base64.StdEncoding.DecodeString(string(text)); err == nil {
			raw = decoded
		}
	}
	key, err := crypto.UnmarshalPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("not a libp2p private key: %w", err)
	}
	if key.Type() != crypto_pb.KeyType_Ed25519 {
		return nil, fmt.Errorf("a %s key: the relay's identity is an Ed25519 key", key.Type())
	}
	// The file holds the seed and the public key that follows from it. A key whose
	// halves do not fit would start, and be somebody else or nobody.
	private, err := key.Raw()
	if err != nil || len(private) != ed25519.PrivateKeySize || !bytes.Equal(private, ed25519.NewKeyFromSeed(private[:ed25519.SeedSize])) {
		return nil, errors.New("not an Ed25519 key: its two halves do not fit")
	}
	// The library reads on past a key and takes unknown fields; a file that was
	// damaged at its end must not pass for a good one.
	again, err := crypto.MarshalPrivateKey(key)
	if err != nil || !bytes.Equal(raw, again) {
		return nil, errors.New("not a libp2p private key: it does not read back as it was written")
	}
	return key, nil
}

// Examine goes through what the bounty wants of a relay, on its own machine: see
// [doctor.Examine].
func Examine(ctx context.Context, cfg config.Config, e doctor.Examination) (status.Diagnosis, error) {
	if err := errors.Join(cfg.Validate(), cfg.Abs()); err != nil {
		return status.Diagnosis{}, err
	}
	key, err := LoadIdentity(cfg.DataDir)
	if err != nil {
		return status.Diagnosis{}, fmt.Errorf("examine: %w", err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return status.Diagnosis{}, fmt.Errorf("examine: %w", err)
	}
	return doctor.Examine(ctx, cfg, id, e)
}
