package bounty

import "github.com/psf-relay/relay-appliance/monitor/evidence"

// CertificateSeen is a leaf that a relay showed and the hours in which it did.
// Each leaf stands once, by its SHA-256.
type CertificateSeen struct {
	SHA256    string        `json:"sha256"`
	Issuer    string        `json:"issuer"`
	NotBefore evidence.Time `json:"not_before"`
	NotAfter  evidence.Time `json:"not_after"`
	First     evidence.Hour `json:"first"`
	Last      evidence.Hour `json:"last"`
	Accepted  bool          `json:"accepted"` // by some monitor, in an attempt that reached the relay
}

// judgeCertificate applies rule R12. Whether a certificate was good is judged in
// each attempt, as part of wss; here only what comes next.
func judgeCertificate(rules *Rules, month evidence.Month, seen []CertificateSeen) Finding {
	f := Finding{Rule: "R12", Subject: "certificate"}
	var last *CertificateSeen
	for i := range seen {
		if c := &seen[i]; c.Accepted && (last == nil || c.Last > last.Last || c.Last == last.Last && c.NotAfter.After(last.NotAfter.Time)) {
			last = c
		}
	}
	if last == nil {
		return f.is(Review, "no monitor accepted a certificate of the relay in this month")
	}
	f.Hours = []Span{{last.First, last.Last + 1}}
	if last.NotAfter.Before(month.End().Start().Add(rules.CertificateWarn)) {
		f.note(Warn, "the certificate in use expires at %s, within %s of the month's end: see that it is renewed", last.NotAfter, hoursWords(rules.CertificateWarn))
		return f
	}
	f.note(Pass, "the certificate in use is valid until %s", last.NotAfter)
	return f
}
