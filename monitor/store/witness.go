package store

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// witnessDir is where the monitor's own witness keeps what it cosigned. The log only
// hands it out, copies it into backups, and reads the forks in it.
const witnessDir = "witness"

// Witness is what the monitor's own witness needs: its folder, which may not be there
// yet, and the log's second key. Only who has opened the log for writing gets them, so
// that there is one witness at a time.
func (l *Log) Witness() (dir string, key evidence.SigningKey, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return "", evidence.SigningKey{}, ErrReadOnly
	}
	return l.path(witnessDir), l.witness, nil
}

// Forks convict other logs that have signed two roots of one size, as far as this
// monitor's witness was shown them: see [evidence.OpenFork].
func (l *Log) Forks() ([][]byte, error) {
	files, err := filepath.Glob(l.path(witnessDir, "*.fork"))
	if err != nil {
		return nil, fmt.Errorf("read forks: %w", err)
	}
	var list [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read forks: %w", err)
		}
		list = append(list, b)
	}
	return list, nil
}

// Extension is what a witness wants to see that cosigned this log up to oldSize: the
// last checkpoint, signed by the log alone, and the proof that it extends that size.
func (l *Log) Extension(oldSize int64) (checkpoint []byte, proof []evidence.Hash, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if oldSize < 0 || oldSize > l.signed || l.signed == 0 {
		return nil, nil, fmt.Errorf("ask witness: it has cosigned size %d, the last checkpoint is of size %d", oldSize, l.signed)
	}
	raw, err := os.ReadFile(l.checkpointPath(l.signed))
	if err != nil {
		return nil, nil, err
	}
	// Cosignatures by others are not the witness's business.
	if checkpoint, err = evidence.Respell(raw, l.key.Verifier()); err != nil {
		return nil, nil, err
	}
	if oldSize > 0 && oldSize < l.signed {
		if proof, err = tlog.ProveTree(l.signed, oldSize, l.tree); err != nil {
			return nil, nil, err
		}
	}
	return checkpoint, proof, nil
}
