package evidence

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// NewCertificate says of a leaf what a monitor writes of it: the first 100 names only, and
// no text of more than 256 bytes. Whoever reads a record takes its word: see [CheckCertificate].
func NewCertificate(der []byte) (*Certificate, error) {
	if err := checkLeaf(der); err != nil {
		return nil, err
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

// CheckCertificate says whether der is the leaf that a record names, by its hash. What else
// the record says of it is the monitor's word: the relay chose the leaf, and two readers of
// X.509 may read it in two ways.
func CheckCertificate(c Certificate, der []byte) error {
	if got := SHA256Hex(der); got != c.SHA256 {
		return fmt.Errorf("certificate: the record names %.80s, the leaf has the hash %s", c.SHA256, got)
	}
	return checkLeaf(der)
}

func checkLeaf(der []byte) error {
	if len(der) > MaxCertificateBytes {
		return fmt.Errorf("certificate of %d bytes is too long, want %d at most", len(der), MaxCertificateBytes)
	}
	return nil
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
