package web

import (
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/chart"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Count is a month as this monitor alone counts it. The verdict counts the votes
// of all monitors.
type Count struct {
	Month evidence.Month `json:"month"`
	bounty.Hours
	Required int `json:"required"`
	// Needed are the hours that must still be up, Spare those that may still be
	// lost; below 0 the month can no longer be won.
	Needed int `json:"needed"`
	Spare  int `json:"spare"`
}

// NewCount sums up what the rules require of a month and what there is.
func NewCount(m evidence.Month, h bounty.Hours, required int) Count {
	return Count{
		Month: m, Hours: h, Required: required,
		Needed: max(0, required-h.Up), Spare: h.Up + h.Unknown + h.Remaining - required,
	}
}

// Late says that the relay was enrolled for too few of the month's hours: whatever it
// did, they could not be enough.
func (c Count) Late() bool { return c.Total-c.NotEnrolled < c.Required }

// Lost says that the month could have been won and cannot any more.
func (c Count) Lost() bool { return c.Spare < 0 && !c.Late() }

// outlook draws the hours for which the relay is enrolled.
func (c Count) outlook() chart.Outlook {
	return chart.NewOutlook(c.Total-c.NotEnrolled, c.Up, c.Unknown, c.Down, c.Required)
}

// Warning is something that costs a relay its month unless somebody does something.
type Warning struct {
	// Name is that of the alert; Severity is critical or warning.
	Name     string `json:"name"`
	Severity string `json:"severity"`
	// Words go on after the relay's name: "is down since ...".
	Words string `json:"words"`
}

// Month is one relay's month.
type Month struct {
	Monitor  string           `json:"monitor"`
	Network  evidence.Network `json:"network"`
	Now      evidence.Time    `json:"now"`
	PeerID   string           `json:"peer_id"`
	Operator string           `json:"operator"`
	TCP4     string           `json:"tcp4"`
	WSS      string           `json:"wss"`
	Enrolled evidence.Hour    `json:"enrolled"`
	// Recused: the relay is run by the monitor's operator, its votes count nowhere.
	Recused  bool            `json:"recused"`
	Count    Count           `json:"count"`
	Forecast bounty.Forecast `json:"forecast"`
	// Warnings say what threatens the running month, the most urgent first.
	Warnings []Warning   `json:"warnings"`
	Hours    []MonthHour `json:"hours"`
	Latency  []Latency   `json:"latency"`
	// Certificates and Agents are what the relay showed; More: and others.
	Certificates []bounty.CertificateSeen `json:"certificates"`
	Agents       []bounty.AgentSeen       `json:"agents"`
	More         bool                     `json:"more,omitempty"`
	// Release is what the release list tells of the last of the versions, in the
	// running month.
	Release *Release          `json:"release,omitempty"`
	Last    *evidence.Attempt `json:"last,omitempty"`
	// Vantages are the monitors of the roster, this one first.
	Vantages []Vantage `json:"vantages"`
	// Rules are those by which the month is judged; nil: they are not known.
	Rules *bounty.Rules `json:"-"`
	// Previous and Next are the months beside this one of which something may be known.
	Previous *evidence.Month `json:"previous,omitempty"`
	Next     *evidence.Month `json:"next,omitempty"`
}

// Vantage is a monitor, from where the relay is tried.
type Vantage struct {
	Monitor   string        `json:"monitor"`
	Operator  string        `json:"operator"`
	Committee bool          `json:"committee"`
	Place     *bounty.Place `json:"place,omitempty"` // nil: none is registered
	// PingUS is the shortest round trip of the month, in microseconds; 0: none is known. A
	// monitor knows its own only.
	PingUS int64 `json:"ping_us,omitempty"`
	Own    bool  `json:"own,omitempty"` // it is the monitor whose page this is
}

// MonthHour is an hour of a month, as it counts.
type MonthHour struct {
	Hour
	State bounty.State `json:"state"`
	Busy  bool         `json:"busy,omitempty"` // before rule R8 made it up or down
}

// Latency is one day's medians, in microseconds; 0: none.
type Latency struct {
	Day     string `json:"day"`
	PingUS  int64  `json:"ping_us"`
	TCP4US  int64  `json:"tcp4_us"`
	WSSUS   int64  `json:"wss_us"`
	RelayUS int64  `json:"relay_us"`
}
