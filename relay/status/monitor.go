package status

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/publicip"
)

// Monitor is what the status page of one monitor says of this relay. A monitor is a
// stranger to the relay: what it says is its claim, shown and passed on as such.
type Monitor struct {
	URL      string    `json:"url,omitempty"`     // its status page, as the operator configured it; hidden from others if it is private
	Place    string    `json:"place,omitempty"`   // in place of a hidden URL: on this machine, or in a private network
	Page     string    `json:"page,omitempty"`    // what it shows of this relay; hidden with the URL, and if it is not https
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

// where says where a monitor is that the internet does not lead to; empty: elsewhere.
func (m Monitor) where() string {
	u, err := url.Parse(m.URL)
	if err != nil {
		return ""
	}
	return publicip.Where(u.Host)
}

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
