package evidence

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// NewCertificate says of a leaf what a record says of it, so that whoever holds
// the leaf can compare: the first 100 names only, and no text of more than 256 bytes.
func NewCertificate(der []byte) (*Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("certificate of %d bytes is too long", len(der))
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c := &Certificate{
		SHA256:    hashHex(der),
		Issuer:    Clean(x.Issuer.String(), maxText),
		NotBefore: TimeOf(x.NotBefore),
		NotAfter:  TimeOf(x.NotAfter),
	}
	for _, n := range x.DNSNames[:min(len(x.DNSNames), maxNames)] {
		c.DNSNames = append(c.DNSNames, Clean(n, maxText))
	}
	return c, nil
}

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// checkCertificate says whether c is what a record says of the leaf.
func checkCertificate(c Certificate, der []byte) error {
	want, err := NewCertificate(der)
	if err != nil {
		return err
	}
	return c.equal(want)
}

// equal says whether a record says of a leaf what the leaf does.
func (c *Certificate) equal(leaf *Certificate) error {
	if c.SHA256 == leaf.SHA256 && c.Issuer == leaf.Issuer && slices.Equal(c.DNSNames, leaf.DNSNames) &&
		c.NotBefore.Equal(leaf.NotBefore.Time) && c.NotAfter.Equal(leaf.NotAfter.Time) {
		return nil
	}
	return fmt.Errorf("certificate: the record says %+v, the leaf %+v", *c, *leaf)
}

// keepCertificate stores a leaf once under its hash. An attempt that refers to a
// leaf which nobody has would be a claim that nobody can check.
func (l *Log) keepCertificate(c *Certificate, ders [][]byte) error {
	if c == nil {
		if len(ders) > 0 {
			return unfit(errors.New("a certificate was given, the attempt refers to none"))
		}
		return nil
	}
	if len(ders) == 0 {
		der, err := l.certificate(c.SHA256)
		if errors.Is(err, fs.ErrNotExist) || !isHexSHA256(c.SHA256) {
			return unfit(err) // nobody has it
		}
		if err != nil {
			return err
		}
		if err := checkCertificate(*c, der); err != nil {
			return unfit(err)
		}
		return nil
	}
	for _, der := range ders {
		if err := checkCertificate(*c, der); err != nil {
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
	if !isHexSHA256(sha) {
		return nil, fmt.Errorf("certificate %q: its name is not a SHA-256 in hex", sha)
	}
	der, err := os.ReadFile(l.certPath(sha))
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if hashHex(der) != sha {
		return nil, l.errDamaged("certificate %s has another hash", sha)
	}
	return der, nil
}

// Clean makes text fit for one line of evidence: valid UTF-8, printable, and of
// no more than limit bytes.
func Clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, !unicode.IsPrint(r) && !unicode.IsSpace(r):
			return '?'
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") // the cut may have gone through a rune
	}
	return s
}
