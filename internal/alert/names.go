package alert

// The names of what a monitor warns of about a relay: in its status.json, as its alerts, and
// as those of a relay that passes on what its monitors say.
const (
	RelayDown             = "RelayDown"
	MonthOutOfReach       = "MonthOutOfReach"
	SlackNearlyUsed       = "SlackNearlyUsed"
	SlackPace             = "SlackPace"
	SlackHalfUsed         = "SlackHalfUsed"
	BusyHoursNearlyUsed   = "BusyHoursNearlyUsed"
	UpdateDue             = "UpdateDue"
	RelayOutdated         = "RelayOutdated"
	CertificateNearExpiry = "CertificateNearExpiry"
	DomainLeadsElsewhere  = "DomainLeadsElsewhere"
	BrowserCheckFailed    = "BrowserCheckFailed"
)

// ByMonitors is the label "source" of an alert that a relay passes on from its monitors: it
// cannot pass for the relay's own, and comes behind those in messages.
const ByMonitors = "monitors"

// AboutRelays are all names that monitors give. A relay takes no others from a monitor, which is a stranger.
var AboutRelays = []string{
	RelayDown, MonthOutOfReach, SlackNearlyUsed, SlackPace, SlackHalfUsed, BusyHoursNearlyUsed,
	UpdateDue, RelayOutdated, CertificateNearExpiry, DomainLeadsElsewhere, BrowserCheckFailed,
}
