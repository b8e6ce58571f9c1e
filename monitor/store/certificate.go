package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// keepCertificate stores a leaf once under its hash. An attempt that refers to a
// leaf which nobody has would be a claim that nobody can check.
func (l *Log) keepCertificate(c *evidence.Certificate, ders [][]byte) error {
	if c == nil {
		if len(ders) > 0 {
			return unfit(errors.New("a certificate was given, the attempt refers to none"))
		}
		return nil
	}
	if len(ders) == 0 {
		_, err := l.certificate(c.SHA256)
		if errors.Is(err, fs.ErrNotExist) || !evidence.IsSHA256Hex(c.SHA256) {
			return unfit(err) // nobody has it
		}
		return err
	}
	for _, der := range ders {
		if err := evidence.CheckCertificate(*c, der); err != nil {
			return unfit(err)
		}
	}
	if err := l.disk.Create(l.certPath(c.SHA256), ders[0], 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		l.refused = true
		return fmt.Errorf("keep certificate: %w", err)
	}
	return nil
}

// certificate reads a leaf that was kept.
func (l *Log) certificate(sha string) ([]byte, error) {
	if !evidence.IsSHA256Hex(sha) {
		return nil, fmt.Errorf("certificate %q: its name is not a SHA-256 in hex", sha)
	}
	der, err := os.ReadFile(l.certPath(sha))
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if evidence.SHA256Hex(der) != sha {
		return nil, l.errDamaged("certificate %s has another hash", sha)
	}
	return der, nil
}
