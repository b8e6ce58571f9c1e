package status

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/publicip"
)

// Monitor is what the status page of one monitor says of this relay. A monitor is a
// stranger to the relay: what it says is its claim, shown and passed on as such.
type Monitor struct {
	URL      string    `json:"url,omitempty"`     // its status page, as the operator configured it; empty: not for others to see
	Place    string    `json:"place,omitempty"`   // where it is then
	Page     string    `json:"page,omitempty"`    // what it shows of this relay; empty: not for others to see
	Asked    time.Time `json:"asked,omitzero"`    // last; zero: not yet
	Answered time.Time `json:"answered,omitzero"` // last, also if it does not know the relay
	Error    string    `json:"error,omitempty"`   // why nothing is known from it; empty: all is well
	// NotEnrolled says that it answers, and does not know the relay.
	NotEnrolled bool `json:"not_enrolled,omitempty"`
	*Claim           // nil: nothing is known that is not too old
}

// Claim is what a monitor counts of the running month, in hours, and what it warns of.
type Claim struct {
	Name     string `json:"monitor"`
	Network  string `json:"network"`
	Month    string `json:"month"`
	Up       int    `json:"up"`
	Down     int    `json:"down"`
	Unknown  int    `json:"unknown"`
	Required int    `json:"required"`
	Needed   int    `json:"needed"`   // must still be up
	Possible int    `json:"possible"` // are up if all that are unknown or to come will be
	// Slack is how many hours the relay could lose in the month and reach Required all
	// the same, below 0: it was enrolled too late. Used of them are lost, and Left may
	// still be, below 0: too many are lost.
	Slack       int              `json:"slack"`
	Used        int              `json:"used"`
	Left        int              `json:"left"`
	UsedPercent int              `json:"used_percent"`
	RunsOut     time.Time        `json:"runs_out,omitzero"` // if it goes on like this; zero: not in this month
	Costly      []Costly         `json:"costly,omitempty"`  // the times that cost most hours
	Warnings    []MonitorWarning `json:"warnings,omitempty"`
}

// Costly is a time in which hours were lost.
type Costly struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	Hours int       `json:"hours"`
	Why   string    `json:"why"`
}

// MonitorWarning is something that a monitor warns of.
type MonitorWarning struct {
	Name     string `json:"name"`     // of a form that can name an alert
	Severity string `json:"severity"` // critical or warning
	Words    string `json:"words"`
}

// privateHost says where the host of an address is that the internet does not lead to; empty:
// elsewhere.
func privateHost(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip, err := netip.ParseAddr(host)
	switch ip = ip.Unmap().WithZone(""); {
	case err == nil && ip.IsLoopback(), host == "localhost", strings.HasSuffix(host, ".localhost"):
		return "on this machine"
	case ip.Is4() && !publicip.Is4(ip), ip.IsPrivate(), ip.IsLinkLocalUnicast():
		return "in a private network"
	case err != nil && (!strings.Contains(host, ".") || slices.ContainsFunc(privateNames, func(end string) bool { return strings.HasSuffix(host, end) })):
		return "in a private network"
	}
	return ""
}

// privateNames are the ends of names that lead nowhere outside: RFC 6762, RFC 8375, what ICANN
// reserved for private use, and what routers give.
var privateNames = []string{".local", ".home.arpa", ".internal", ".lan"}

// Host is where the monitor's page is, for people.
func (m Monitor) Host() string {
	if m.Place != "" {
		return m.Place
	}
	_, rest, _ := strings.Cut(m.URL, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// Words say in a line how the month stands by this monitor.
func (m Monitor) Words() string {
	c := m.Claim
	switch {
	case c == nil && m.Asked.IsZero():
		return "not asked yet"
	case c == nil && m.Error == "":
		return "nothing is known from it"
	case c == nil:
		return m.Error
	}
	up := fmt.Sprintf("%d of %d hours up in %s", c.Up, c.Required, c.Month)
	switch {
	case c.Needed == 0:
		return up + ": reached"
	case c.Slack < 0:
		return fmt.Sprintf("%s; the relay was enrolled too late to reach them, %d are still possible", up, c.Possible)
	case c.Left < 0:
		return fmt.Sprintf("%s; they cannot be reached any more, %d too many are lost", up, -c.Left)
	}
	return fmt.Sprintf("%s, %d are still possible; %d more are needed, %d may still be lost", up, c.Possible, c.Needed, c.Left)
}
