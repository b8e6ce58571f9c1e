package tiles

import (
	"os"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Source is a log that is shown: a monitor's own, or a mirror of one.
type Source = evidence.Source

// recordFiles is a source that has records as files, which need not be in memory as a whole.
type recordFiles interface {
	OpenRecords(block int64) (*os.File, error)
}

// sealedCertificates is a source that holds certificates of hours that are not sealed, too.
type sealedCertificates interface {
	CertificateSealed(sha256 string) (bool, error)
}
