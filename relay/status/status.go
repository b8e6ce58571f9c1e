// Package status is the state of a relay as data: what /status.json and relayd doctor
// --json say, and what relay-appliance reads of it.
package status

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// Status is the relay's state as /status.json gives it. It names no peer and no
// peer's address.
type Status struct {
	Name         string       `json:"name"`
	PeerID       string       `json:"peer_id"`
	Version      string       `json:"version"`
	Addrs        []string     `json:"addrs"`
	Healthy      bool         `json:"healthy"` // reservations are served, and PSF peers were not all lost
	Ready        bool         `json:"ready"`   // and the certificate is there, or was waited for
	Started      time.Time    `json:"started,omitzero"`
	Connections  int          `json:"connections"`
	Reservations Reservations `json:"reservations"`
	Circuits     Circuits     `json:"circuits"`
	Traffic      Traffic      `json:"traffic"`
	Certificate  *Certificate `json:"certificate,omitempty"`
	PSF          *PSFStatus   `json:"psf,omitempty"`
	AbuseContact string       `json:"abuse_contact,omitempty"`
	Warnings     []string     `json:"warnings,omitempty"`
	// What the machine's keeper has to say: a planned restart, an update taken back.
	Maintenance *maintenance.Notice `json:"maintenance,omitempty"`
	// MaintenanceUnknown says that it cannot be read; a warning says why.
	MaintenanceUnknown bool `json:"-"`
	// What the relay found out about itself.
	VersionSince time.Time     `json:"version_since,omitzero"`
	Capacity     Capacity      `json:"capacity"`
	Observed     []Observed    `json:"observed,omitempty"`
	Incoming     []Incoming    `json:"incoming,omitempty"` // where strangers have come to
	Proxied      *Proxied      `json:"proxied,omitempty"`  // nil: nothing hides the peers' addresses
	Reach        []Reach       `json:"reach,omitempty"`
	Requirements []Requirement `json:"requirements,omitempty"`
	// What the monitors say of it that the operator named.
	Monitors []Monitor `json:"monitors,omitempty"`
}

// Public is what everybody may see. Only the operator is to know which hosts his network has:
// a monitor on this machine or in a private network has no address in it, nor an error in
// which the address may stand.
func (s Status) Public() Status {
	s.Monitors = slices.Clone(s.Monitors)
	for i := range s.Monitors {
		m := &s.Monitors[i]
		where := m.where()
		if where == "" {
			continue
		}
		m.Place, m.URL, m.Page = where, "", ""
		if m.Error != "" && !m.NotEnrolled {
			m.Error = "nothing new is known from it (the log says more)"
		}
	}
	return s
}

// Serving is the light on top of the status page: a relay that offers reservations
// may yet have none to give.
func (s Status) Serving() Outcome {
	if !s.Healthy {
		return NotMet
	}
	return s.Requirement("service").Outcome
}

// Requirement is the one of that name; unknown, if nothing was found out about it.
func (s Status) Requirement(name string) Requirement {
	for _, q := range s.Requirements {
		if q.Name == name {
			return q
		}
	}
	return Requirement{Name: name, Outcome: Unknown}
}

// Capacity is what the machine carries.
type Capacity struct {
	Connections int `json:"connections"`
	OpenFiles   int `json:"open_files"`
	// FilesUsed is how many are open; 0: not counted yet.
	FilesUsed int `json:"open_files_used,omitempty"`
}

// Reservations says who holds them, and how many there may be.
type Reservations struct {
	Members  int `json:"members"`
	Guests   int `json:"guests"`
	Max      int `json:"max"`
	GuestMax int `json:"guest_max"`
}

// Circuits says how many are open.
type Circuits struct {
	Members int `json:"members"`
	Guests  int `json:"guests"`
	Max     int `json:"max"`
}

// Traffic is what was carried in the calendar month (UTC).
type Traffic struct {
	Month  string `json:"month"`
	Bytes  int64  `json:"bytes"`
	Budget int64  `json:"budget"` // 0: none
	// Lost is when the count could not be read: what was carried before is not in Bytes.
	Lost time.Time `json:"lost,omitzero"`
	// Doubt says why the clock is not believed; until it is, traffic counts for Month.
	Doubt string `json:"doubt,omitempty"`
	// StoreError says why the count cannot be written.
	StoreError string `json:"store_error,omitempty"`
}

// NearlySpent is the part of the budget in percent at which the operator is warned.
const NearlySpent = 80

// Percent is how much of the budget is used.
func (t Traffic) Percent() int {
	if t.Budget == 0 {
		return 0
	}
	return int(float64(t.Bytes) / float64(t.Budget) * 100)
}

// Certificate is the state of the certificate, for people and programs.
type Certificate struct {
	Domain    string    `json:"domain"`
	Issuer    string    `json:"issuer,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	DaysLeft  int       `json:"days_left"` // below 0: expired; 0 without a certificate
	Error     string    `json:"error,omitempty"`
	NextTry   time.Time `json:"next_try,omitzero"`
	// StoreError says why the folder for certificates cannot be written.
	StoreError string `json:"store_error,omitempty"`
}

// Loaded says whether there is a certificate at all.
func (c Certificate) Loaded() bool { return !c.NotAfter.IsZero() }

// Valid says whether there is one that has not expired.
func (c Certificate) Valid(now time.Time) bool { return now.Before(c.NotAfter) }

// PSFStatus is the relay's part in the PSF network.
type PSFStatus struct {
	Neighbours    int       `json:"neighbours"`
	Members       int       `json:"members"`
	LastAnnounced time.Time `json:"last_announced,omitzero"` // to neighbours
	Unheard       time.Time `json:"unheard,omitzero"`        // the last announcement, if nobody was there to hear it
	LastMeasured  time.Time `json:"last_measured,omitzero"`  // by a PSF peer, which had heard the relay
	// Connected peers that speak gossipsub, and since when none of them is a neighbour,
	// if for minutes.
	Speakers int       `json:"speakers"`
	Silent   time.Time `json:"silent_since,omitzero"`
	// All neighbours were lost, though peers are connected: the relay is not healthy.
	Lost    bool               `json:"lost,omitempty"`
	Dropped map[string]Dropped `json:"dropped"` // messages not passed on since the start, by reason
}

// Dropped is what was not passed on.
type Dropped struct {
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

// Observed is an address of this relay as peers say they see it.
type Observed struct {
	IP    netip.Addr `json:"ip"`
	Peers int        `json:"peers"` // in how many networks
}

// Incoming says that a stranger has come to an announced address within the last
// 24 hours.
type Incoming struct {
	// Addr is the address as announced, without /p2p/ID. Where that is a domain and
	// the stranger dialled an IP address, the IP address stands in the domain's place.
	Addr string `json:"addr"`
	// Family is that of the connection as it arrived: ip4 or ip6.
	Family string    `json:"family"`
	Last   time.Time `json:"last"`
}

// Proxied says that nearly all peers come from one private address. Something in
// front of the relay, such as Docker's proxy for published ports, then hides their
// own, and every limit per address is one for all of them together.
type Proxied struct {
	IP      netip.Addr `json:"ip"`                // the proxy's, not a peer's
	Gateway bool       `json:"gateway,omitempty"` // it is where this machine, or container, sends its own traffic to
	Peers   int        `json:"peers"`
	Of      int        `json:"of"`           // all that came by themselves
	Held    int        `json:"reservations"` // reservations that count for this address
}

func (p *Proxied) String() string {
	many := fmt.Sprintf("%d of %d", p.Peers, p.Of)
	if p.Peers == p.Of {
		many = fmt.Sprintf("all %d", p.Peers)
	}
	who := "a proxy"
	if p.Gateway {
		who = "this network's gateway, as the port forwarding of a container's network has it,"
	}
	return fmt.Sprintf("%s peers come from %s: %s hides their addresses, so that limits and bans by address hit all of them together", many, p.IP, who)
}

// Reach is what peers found that dialled an announced address back.
type Reach struct {
	Addr    string    `json:"addr"` // without /p2p/ID
	Outcome Outcome   `json:"outcome"`
	At      time.Time `json:"at,omitzero"`
}
