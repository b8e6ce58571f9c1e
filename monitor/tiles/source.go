package tiles

import (
	"os"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Source is a log that is shown: a monitor's own, or a mirror of one.
type Source = evidence.Source

// RecordFiles is a source that has records as files, which need not be in memory as a whole.
type RecordFiles interface {
	OpenRecords(block int64) (*os.File, error)
}
