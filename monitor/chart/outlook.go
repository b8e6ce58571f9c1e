package chart

import "fmt"

// Outlook is a month as one bar: from the left the hours that are up and unknown, from the
// right those that are down, and a mark where the hours required are. The month is lost
// when what is down reaches the mark.
type Outlook struct {
	Hours    int // the width
	Up       int
	Unknown  int
	Down     int
	DownX    int
	Required int
	Words    string
}

// NewOutlook draws so many hours of a month, of which required must be up.
func NewOutlook(hours, up, unknown, down, required int) Outlook {
	return Outlook{
		Hours: hours, Up: up, Unknown: unknown, Down: down, DownX: hours - down, Required: required,
		Words: fmt.Sprintf("of %d hours %d are up, %d unknown, %d down and %d to come; %d must be up", hours, up, unknown, down, hours-up-unknown-down, required),
	}
}

// Reachable says whether there are as many hours as are required, so that the mark can be drawn.
func (o Outlook) Reachable() bool { return o.Required <= o.Hours }
