package store

import (
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A log is an [evidence.Source] of what is under its last checkpoint.
var _ evidence.Source = (*Log)(nil)

// Month exports what shows the month of one relay: see [evidence.Export].
func (l *Log) Month(m evidence.Month, relay string, asOf time.Time, witnesses ...string) (evidence.MonitorMonth, error) {
	return evidence.Export(l, m, relay, asOf, witnesses...)
}

// HeaderLines are the canonical headers of the blocks from up to, without, to.
func (l *Log) HeaderLines(from, to int64) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < 0 || to < from || to > l.tree.Size {
		return nil, fmt.Errorf("headers of blocks %d to %d: the log has %d: %w", from, to, l.tree.Size, fs.ErrNotExist)
	}
	var lines [][]byte
	for at := from; at < to; {
		month := (l.meta.First + evidence.Hour(at)).Month()
		list, err := l.monthHeaders(month)
		if err != nil {
			return nil, err
		}
		begin := max(int64(month.First()-l.meta.First), 0)
		end := min(begin+int64(len(list)), to)
		if end <= at {
			return nil, l.errDamaged("block %d is missing", at)
		}
		lines = append(lines, list[at-begin:end-begin]...)
		at = end
	}
	return lines, nil
}

// RecordLines are the canonical records of a sealed block, in the order of their peer IDs.
func (l *Log) RecordLines(block int64) ([][]byte, error) {
	l.mu.Lock()
	size := l.tree.Size
	l.mu.Unlock() // what is sealed does not change
	if block < 0 || block >= size {
		return nil, fmt.Errorf("records of block %d: the log has %d: %w", block, size, fs.ErrNotExist)
	}
	return l.recordLines(l.meta.First + evidence.Hour(block))
}

// CheckpointOf is the checkpoint of a size, with all cosignatures that the log holds.
func (l *Log) CheckpointOf(size int64) ([]byte, error) { return os.ReadFile(l.checkpointPath(size)) }

// CertificateOf is the certificate (DER) with a SHA-256 in hex.
func (l *Log) CertificateOf(sha256 string) ([]byte, error) { return l.certificate(sha256) }

// ReadHashes reads hashes of the log's tree.
func (l *Log) ReadHashes(indexes []int64) ([]evidence.Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tree.ReadHashes(indexes)
}
