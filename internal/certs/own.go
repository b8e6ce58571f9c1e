package certs

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// ownCertificate is the operator's, read again when its files change.
type ownCertificate struct {
	certFile, keyFile, domain string

	cert   atomic.Pointer[tls.Certificate] // in use
	stamps [2]durable.Stamp                // of its files, reload's own
}

// reload returns the certificate in use: a new one if the files changed. While they do
// not fit each other, the old one stays: they are not replaced at one stroke. It stays, too,
// when the new one has expired and it has not.
func (o *ownCertificate) reload(now time.Time) (*tls.Certificate, error) {
	old := o.cert.Load()
	stamps := [2]durable.Stamp{durable.StampOf(o.certFile), durable.StampOf(o.keyFile)}
	if old != nil && stamps == o.stamps {
		return old, nil
	}
	cert, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
	if err != nil {
		return old, fmt.Errorf("read the certificate (tls.cert, tls.key): %w", err)
	}
	if err := cert.Leaf.VerifyHostname(o.domain); err != nil {
		return old, fmt.Errorf("tls.cert %s is not for the domain: %w", o.certFile, err)
	}
	if end := cert.Leaf.NotAfter; old != nil && now.After(end) && !now.After(old.Leaf.NotAfter) {
		return old, fmt.Errorf("the new tls.cert expired on %s", end.Format(time.DateOnly))
	}
	o.stamps = stamps
	o.cert.Store(&cert)
	return &cert, nil
}
