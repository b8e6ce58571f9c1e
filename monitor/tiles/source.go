package tiles

import (
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Source is a log that is shown: a monitor's own, or a mirror of one.
type Source interface {
	Origin() string
	Key() string
	First() evidence.Hour // of block 0
	Size() int64          // of the last checkpoint
	// HeaderLines are the canonical headers of blocks from..to-1.
	HeaderLines(from, to int64) ([][]byte, error)
	// RecordLines are the canonical records of a block, sorted by peer ID.
	RecordLines(block int64) ([][]byte, error)
	// CheckpointOf is a checkpoint with all cosignatures held; fs.ErrNotExist if there is none.
	CheckpointOf(size int64) ([]byte, error)
	// CertificateOf is a certificate (DER); fs.ErrNotExist if there is none.
	CertificateOf(sha256 string) ([]byte, error)
	tlog.HashReader // of the log's tree
}

// recordFiles is a source that has records as files, which need not be in memory as a whole.
type recordFiles interface {
	OpenRecords(block int64) (*os.File, error)
}

// sealedCertificates is a source that holds certificates of hours that are not sealed, too.
type sealedCertificates interface {
	CertificateSealed(sha256 string) (bool, error)
}
