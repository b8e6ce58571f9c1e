package evidence

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// NewCertificate says of a leaf what a record says of it, so that whoever holds
// the leaf can compare: the first 100 names only, and no text of more than 256 bytes.
func NewCertificate(der []byte) (*Certificate, error) {
	if len(der) > MaxCertificateBytes {
		return nil, fmt.Errorf("certificate of %d bytes is too long", len(der))
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c := &Certificate{
		SHA256:    SHA256Hex(der),
		Issuer:    Clean(x.Issuer.String(), MaxTextBytes),
		NotBefore: TimeOf(x.NotBefore),
		NotAfter:  TimeOf(x.NotAfter),
	}
	for _, n := range x.DNSNames[:min(len(x.DNSNames), maxNames)] {
		c.DNSNames = append(c.DNSNames, Clean(n, MaxTextBytes))
	}
	return c, nil
}

// SHA256Hex is a SHA-256 in lower-case hex.
func SHA256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// CheckCertificate says whether c is what a record says of the leaf.
func CheckCertificate(c Certificate, der []byte) error {
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
