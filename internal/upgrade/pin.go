package upgrade

import (
	"fmt"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// preferences is where apt is told which versions not to install. A pin of one
// version (apt_preferences(5)) lets the next one come, which "apt-mark hold" would
// not.
const preferences = "etc/apt/preferences.d/relay-appliance"

// pin tells apt of the held versions, and of no other.
func (m Machine) pin(held []maintenance.Held) error {
	path := m.path(preferences)
	if len(held) == 0 {
		return removed(path)
	}
	var b strings.Builder
	b.WriteString("# Written by relay-appliance: these versions did not do their work on this machine\n# and were taken back. \"relay-appliance updates release VERSION\" allows one again.\n")
	for _, h := range held {
		fmt.Fprintf(&b, "\nExplanation: taken back at %s: %s\nPackage: %s\nPin: version %s\nPin-Priority: -1\n",
			h.Since.UTC().Format("2006-01-02 15:04 MST"), strings.Join(strings.Fields(h.Why), " "), h.Package, h.Version)
	}
	if err := durable.Replace(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("tell apt which versions are held: %w", err)
	}
	return nil
}
