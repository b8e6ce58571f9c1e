package alert

import (
	"net/url"
	"strconv"
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
	case scheme == "http" || scheme == "https", services[scheme].host && likeHost(p):
		return strings.Map(printable, p.Host)
	}
	return hidden
}

// likeHost says whether a machine's name stands in the place of the host. A token that was
// written there by mistake, as in gotify://TOKEN, has neither a dot nor a port.
func likeHost(p *url.URL) bool {
	return strings.ContainsAny(p.Host, ".:") || p.Host == "localhost"
}

// quoted is a value as an error may quote it: of an address that was written in the
// wrong place it shows the scheme only.
func quoted(value string) string {
	if strings.Contains(value, "://") {
		scheme, _, _ := strings.Cut(value, "://")
		value = scheme + "://" + hidden
	}
	return strconv.Quote(value)
}
