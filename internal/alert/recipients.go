package alert

import (
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
)

// maxRecipients are in one address.
const maxRecipients = 20

// recipients are the addresses of each single recipient, where an address names several.
// Each is told by itself: one that is refused has the others not told again and again.
func recipients(u URL) []URL {
	kind, p := u.kind()
	if p == nil {
		return []URL{u}
	}
	query := p.Query()
	for key, values := range query {
		if !slices.Contains(services[kind].each, strings.ToLower(key)) {
			continue
		}
		var all []URL
		for _, one := range strings.Split(values[0], ",") {
			query.Set(key, one)
			p.RawQuery = query.Encode()
			if single := URL(p.String()); one != "" && !slices.Contains(all, single) {
				all = append(all, single)
			}
		}
		if len(all) > 1 {
			return all
		}
		break
	}
	return []URL{u}
}

var errNoTLS = errors.New("the token of OAuth2 would go without TLS: leave usestarttls and encryption out")

// secure has mail go through TLS, unless the operator wrote otherwise or the server is this
// machine: who stands between must not be able to turn TLS off by hiding the server's offer.
func secure(s *smtp.Service) error {
	c := s.Config
	plain := !c.UseStartTLS || c.Encryption == smtp.EncNone
	implicit := c.Encryption == smtp.EncImplicitTLS || c.Encryption == smtp.EncAuto && c.Port == smtp.ImplicitTLSPort
	ip := net.ParseIP(c.Host)
	if c.Host == "localhost" || ip != nil && ip.IsLoopback() {
		// A server of this machine signs its certificate itself (Debian's exim4 does), and
		// nobody stands between.
		c.SkipTLSVerify = true
		return nil
	}
	if implicit {
		return nil
	}
	if plain && c.Auth == smtp.AuthTypes.OAuth2 {
		return errNoTLS
	}
	c.RequireStartTLS = c.RequireStartTLS || !plain
	return nil
}
