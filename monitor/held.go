package monitor

import (
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// heldAlerts are those about updates of this machine that were taken back; unread says
// that it cannot be told whether there are any.
func (m *Monitor) heldAlerts(now time.Time) (list []alert.Alert, unread bool) {
	n, err := maintenance.Read(m.cfg.Maintenance, now)
	if err != nil {
		m.log.Error("look for alerts", "err", err)
		return nil, true
	}
	for _, h := range n.Held {
		a := m.newAlert("UpdateTakenBack", "warning", "the update to %s %s on the machine of monitor %s was taken back at %s: %s", h.Package, h.Version, m.cfg.Name, h.Since.UTC().Format("2006-01-02 15:04 MST"), h.Why)
		a.Of, a.Many = map[string]string{"package": h.Package, "version": h.Version}, "updates were taken back"
		list = append(list, a)
	}
	return list, false
}
