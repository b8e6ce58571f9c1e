package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Options fixes at creation what a log can never change.
type Options struct {
	// Name is the monitor's, such as a domain its operator holds: the log's
	// origin is <name>/relaymon/<network>.
	Name    string
	Network evidence.Network
	// First is the hour of the log's first block, usually the current one.
	First evidence.Hour
}

// meta is the file log.json, written last when a log is created.
type meta struct {
	Format     string        `json:"format"`
	Origin     string        `json:"origin"`
	First      evidence.Hour `json:"first"`
	Key        string        `json:"key"`
	WitnessKey string        `json:"witness_key"`
	PlanKey    string        `json:"plan_key,omitempty"` // absent in a log made before there were any
}

const metaFormat = "relaymon-log/v1"

// Create makes a new log with new keys in dir, and opens it. A folder that holds
// a log already is refused (fs.ErrExist).
func Create(dir string, o Options) (*Log, error) { return create(durable.Machine{}, dir, o) }

func create(d durable.Disk, dir string, o Options) (*Log, error) {
	name, err := evidence.Origin(o.Name, o.Network)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	if o.First <= 0 {
		return nil, fmt.Errorf("create log: first hour %s", o.First)
	}
	if err := d.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	// The lock is let go before open takes it again; what open reads is complete by then.
	defer lock.Close()
	if _, err := os.Lstat(filepath.Join(dir, metaFile)); err == nil {
		return nil, fmt.Errorf("create log in %s: there is one already: %w", dir, fs.ErrExist)
	}
	for _, sub := range []string{walDir, blocksDir, signedDir, certsDir} {
		if err := d.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("create log: %w", err)
		}
	}
	key, err := createKey(d, filepath.Join(dir, keyFile), name, evidence.LogKeyType)
	if err != nil {
		return nil, err
	}
	witness, err := createKey(d, filepath.Join(dir, witnessFile), name+"/witness", evidence.WitnessKeyType)
	if err != nil {
		return nil, err
	}
	plan, err := createPlanKey(d, filepath.Join(dir, planFile))
	if err != nil {
		return nil, err
	}
	m, err := evidence.Encode(meta{metaFormat, name, o.First, key.VerifierKey(), witness.VerifierKey(), plan.Public().String()})
	if err != nil {
		return nil, err
	}
	if err := d.Create(filepath.Join(dir, metaFile), append(m, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	if err := lock.Close(); err != nil {
		return nil, err
	}
	return open(d, dir)
}

// createKey makes a key once. One that a creation which never came to its end
// has left behind has signed nothing, and is taken.
func createKey(d durable.Disk, path, name string, alg byte) (evidence.SigningKey, error) {
	k, err := evidence.NewSigningKey(rand.Reader, name, alg)
	if err != nil {
		return evidence.SigningKey{}, err
	}
	err = d.Create(path, []byte(k.String()+"\n"), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readKey(path, name, alg)
	}
	if err != nil {
		return evidence.SigningKey{}, fmt.Errorf("create key: %w", err)
	}
	return k, nil
}

func readKey(path, name string, alg byte) (evidence.SigningKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return evidence.SigningKey{}, fmt.Errorf("read key: %w; restore the file from the backup", err)
	}
	k, err := evidence.ParseSigningKey(strings.TrimSuffix(string(b), "\n"))
	if err != nil {
		return evidence.SigningKey{}, fmt.Errorf("read key %s: %w; restore the file from the backup", path, err)
	}
	if k.Name() != name || k.Type() != alg {
		return evidence.SigningKey{}, fmt.Errorf("read key %s: it is the key of %s, not of %s; restore the file from the backup", path, k.Name(), name)
	}
	return k, nil
}
