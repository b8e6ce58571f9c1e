package probe

import (
	"errors"
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/publicip"
)

// Check refuses what may not be dialled, before anything is: a target without
// any address, and literal addresses that are not public unless AllowPrivate.
func (o Options) Check(t Target) error {
	var faults []error
	if t.TCP4 == nil && t.WSS == nil {
		faults = append(faults, errors.New("target has no address"))
	}
	if t.TCP4 != nil && !o.AllowPrivate && !publicip.Is4(t.tcp4().Addr()) {
		faults = append(faults, fmt.Errorf("address %s: %s is not a public IPv4 address: nobody else could reach it (--allow-private admits it for a test)",
			t.with(t.TCP4), t.tcp4().Addr()))
	}
	return errors.Join(append(faults, o.CheckPins())...)
}

// CheckPins is the part of [Options.Check] that needs no target.
func (o Options) CheckPins() error {
	var faults []error
	for name, ip := range o.Resolve {
		if !o.AllowPrivate && !publicip.Is4(ip) {
			faults = append(faults, fmt.Errorf("%s is pinned to %s, which is not a public IPv4 address (--allow-private admits it for a test)", name, ip))
		}
	}
	return errors.Join(faults...)
}
