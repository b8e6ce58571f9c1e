package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
)

// URL is the address of a receiver. It often holds a password or a token, so it shows
// itself without: where it is printed, logged or encoded stands its scheme and, where that
// is a machine's name, its host. Only string(u) is the address itself.
type URL string

// hidden stands for what is not shown.
const hidden = "…"

// String is the address without what may be a secret.
func (u URL) String() string {
	p, err := url.Parse(string(u))
	if err != nil || p.Scheme == "" {
		return hidden
	}
	return p.Scheme + "://" + u.place() + "/" + hidden
}

// GoString is what %#v shows.
func (u URL) GoString() string { return `"` + u.String() + `"` }

// MarshalText is what JSON, YAML and logs show.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText takes any text: no fault of the reader is to repeat it.
func (u *URL) UnmarshalText(text []byte) error {
	*u = URL(text)
	return nil
}

// place is the host that the address leads to; in some addresses a token stands there.
func (u URL) place() string {
	p, err := url.Parse(string(u))
	if err != nil || p.Host == "" {
		return hidden
	}
	switch scheme, _, _ := strings.Cut(strings.ToLower(p.Scheme), "+"); {
	case scheme == "http" || scheme == "https", services[scheme].host:
		return strings.Map(printable, p.Host)
	}
	return hidden
}

// sum tells addresses apart that show themselves as the same.
func (u URL) sum() string {
	sum := sha256.Sum256([]byte(u))
	return hex.EncodeToString(sum[:4])
}
