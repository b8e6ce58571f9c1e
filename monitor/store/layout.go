package store

import (
	"fmt"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The names within a log's folder.
const (
	metaFile    = "log.json"
	keyFile     = "log.key"
	witnessFile = "witness.key"
	planFile    = "plan.key"
	lockFile    = "lock"
	walDir      = "wal"
	blocksDir   = "blocks"
	signedDir   = "checkpoints"
	certsDir    = "certs"
)

// path is the name of something in the log's folder.
func (l *Log) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

func (l *Log) walPath(h evidence.Hour) string { return l.path(walDir, evidence.HourFile(h)) }

func (l *Log) headersPath(m evidence.Month) string { return l.path(blocksDir, m.String()+".jsonl") }

func (l *Log) recordsPath(h evidence.Hour) string {
	return l.path(blocksDir, h.Month().String(), evidence.HourFile(h))
}

func (l *Log) checkpointPath(size int64) string {
	return l.path(signedDir, fmt.Sprintf("%08d", size))
}

func (l *Log) certPath(sha string) string { return l.path(certsDir, sha+".der") }
