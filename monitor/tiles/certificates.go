package tiles

import (
	"bufio"
	"io"
	"regexp"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// aHash is how a record names a certificate; other members may look like it.
var aHash = regexp.MustCompile(`"sha256":"([0-9a-f]{64})"`)

// EachCertificate calls do for each certificate that the records of an hour name and that
// is not at hand. The records are read one after the other, and decoded only where need be.
func EachCertificate(records io.Reader, h evidence.Hour, atHand func(sha256 string) bool, do func(evidence.Certificate) error) error {
	lines := bufio.NewScanner(records)
	lines.Buffer(nil, evidence.MaxRecordBytes+1)
	for lines.Scan() {
		missing := false
		for _, m := range aHash.FindAllSubmatch(lines.Bytes(), -1) {
			missing = missing || !atHand(string(m[1]))
		}
		if !missing {
			continue
		}
		r, err := evidence.DecodeRecord(lines.Bytes(), h)
		if err != nil {
			return err
		}
		for _, a := range r.Attempts {
			if c := a.Facts.Certificate; c != nil && !atHand(c.SHA256) {
				if err := do(*c); err != nil {
					return err
				}
			}
		}
	}
	return lines.Err()
}
