package evidence

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
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

const hourFileLayout = "2006-01-02T15"

// hourFile names a file after an hour; a colon is no character for a file name.
func hourFile(h Hour) string { return h.Start().Format(hourFileLayout) + ".jsonl" }

func parseHourFile(name string) (Hour, bool) {
	t, err := time.Parse(hourFileLayout, strings.TrimSuffix(name, ".jsonl"))
	return HourOf(t), err == nil && hourFile(HourOf(t)) == name
}

func (l *Log) walPath(h Hour) string { return l.path(walDir, hourFile(h)) }

func (l *Log) headersPath(m Month) string { return l.path(blocksDir, m.String()+".jsonl") }

func (l *Log) recordsPath(h Hour) string {
	return l.path(blocksDir, h.Month().String(), hourFile(h))
}

func (l *Log) checkpointPath(size int64) string {
	return l.path(signedDir, fmt.Sprintf("%08d", size))
}

func (l *Log) certPath(sha string) string { return l.path(certsDir, sha+".der") }
