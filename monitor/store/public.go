package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"sync"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// What a log tells those who show it to the public, see monitor/tiles.

// OpenRecords opens the file of a sealed block's records, which need not be in memory as a
// whole; fs.ErrNotExist if the block has none.
func (l *Log) OpenRecords(block int64) (*os.File, error) {
	if err := l.sealedBlock(block); err != nil {
		return nil, err
	}
	return os.Open(l.recordsPath(l.meta.First + evidence.Hour(block)))
}

func (l *Log) sealedBlock(block int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if block < 0 || block >= l.tree.Size {
		return fmt.Errorf("block %d: %w: the log has %d", block, fs.ErrNotExist, l.tree.Size)
	}
	return nil
}

// CertificateSealed says whether a certificate that the log keeps may be shown: it stands
// in no hour that is open, or in a sealed one as well, of those of the last two days.
func (l *Log) CertificateSealed(sha256 string) (bool, error) {
	l.mu.Lock()
	open := l.inOpenHours(sha256)
	size := l.signed
	l.mu.Unlock()
	if !open {
		return true, nil
	}
	return l.lately.holds(l, sha256, size)
}

func (l *Log) inOpenHours(sha256 string) bool {
	for _, w := range l.wals {
		for _, list := range w.attempts {
			for _, a := range list {
				if c := a.Facts.Certificate; c != nil && c.SHA256 == sha256 {
					return true
				}
			}
		}
	}
	return false
}

// sealedLookBack is how many blocks are looked through for a certificate.
const sealedLookBack = 48

var certificateInRecord = regexp.MustCompile(`"sha256":"([0-9a-f]{64})"`)

// sealedCertificates are those that the records of lately sealed blocks name.
type sealedCertificates struct {
	mu    sync.Mutex
	known map[string]bool
	size  int64 // of the log when the last block was looked through
}

// holds says whether a record of the last two days before size names a certificate. Each
// block is read once.
func (s *sealedCertificates) holds(l *Log, sha256 string, size int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[sha256] {
		return true, nil
	}
	for block := max(s.size, size-sealedLookBack, 0); block < size; block++ {
		f, err := l.OpenRecords(block)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		err = s.add(f)
		f.Close()
		if err != nil {
			return false, err
		}
	}
	s.size = size
	return s.known[sha256], nil
}

func (s *sealedCertificates) add(records io.Reader) error {
	if s.known == nil || len(s.known) > evidence.MaxRecords {
		s.known = make(map[string]bool)
	}
	lines := bufio.NewScanner(records)
	lines.Buffer(nil, evidence.MaxRecordBytes+1)
	for lines.Scan() {
		for _, m := range certificateInRecord.FindAllSubmatch(bytes.TrimSpace(lines.Bytes()), -1) {
			s.known[string(m[1])] = true
		}
	}
	return lines.Err()
}
