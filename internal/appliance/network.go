package appliance

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/psf-relay/relay-appliance/relay/status"
)

// Interface is a network interface, as far as it says whether the machine has a network.
type Interface struct {
	Name, MAC string
	Loopback  bool
	Up        bool // somebody has switched it on
	Link      bool // and there is something at the other end
	Addrs     []netip.Addr
}

// interfaces are those that the kernel has.
func (m *Machine) interfaces() ([]Interface, error) {
	if m.Interfaces != nil {
		return m.Interfaces()
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("look at the network: %w", err)
	}
	var out []Interface
	for _, n := range all {
		i := Interface{
			Name: n.Name, MAC: n.HardwareAddr.String(),
			Loopback: n.Flags&net.FlagLoopback != 0, Up: n.Flags&net.FlagUp != 0, Link: n.Flags&net.FlagRunning != 0,
		}
		addrs, err := n.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				i.Addrs = append(i.Addrs, p.Addr().Unmap())
			}
		}
		out = append(out, i)
	}
	return out, nil
}

// named is a card as its owner finds it in the hypervisor's settings, too.
func (i Interface) named() string {
	if i.MAC == "" {
		return i.Name
	}
	return i.Name + " (" + i.MAC + ")"
}

// network is the requirement that comes before all others: the machine has one. What
// names its faults begins with what is nearest to the machine.
func network(all []Interface, err error) status.Requirement {
	q := func(o status.Outcome, cure, found string, args ...any) status.Requirement {
		return status.Requirement{Name: "network", Title: "An address in the network", Outcome: o, Found: fmt.Sprintf(found, args...), Cure: cure}
	}
	if err != nil {
		return q(status.Unknown, "", "%v", err)
	}
	var cards, off, idle, linked, local, ip4, ip6 []string
	for _, i := range all {
		if i.Loopback {
			continue
		}
		cards = append(cards, i.named())
		switch {
		case !i.Up:
			off = append(off, i.named())
		case !i.Link:
			idle = append(idle, i.named())
		default:
			linked = append(linked, i.named())
		}
		for _, a := range i.Addrs {
			switch {
			case !i.Up || !i.Link:
				// It is of no use, as that of an empty bridge.
			case !a.IsGlobalUnicast():
				local = append(local, a.String())
			case a.Is4():
				ip4 = append(ip4, a.String()+" ("+i.Name+")")
			default:
				ip6 = append(ip6, a.String()+" ("+i.Name+")")
			}
		}
	}
	list := func(s []string) string { return strings.Join(s, ", ") }
	switch {
	case len(ip4) > 0:
		return q(status.Met, "", "%s", list(append(ip4, ip6...)))
	case len(ip6) > 0:
		return q(status.NotMet, "Order a public IPv4 address for this machine at its provider: the bounty needs one.",
			"there is an IPv6 address, %s, but no IPv4 address", list(ip6))
	case len(cards) == 0:
		return q(status.NotMet, "In the settings of the hypervisor or the provider, give the machine a network card (virtio, e1000, e1000e or vmxnet3), and start it again.",
			"no network card was found")
	case len(linked) == 0 && len(idle) > 0:
		return q(status.NotMet, "Connect the network card in the settings of the hypervisor (on a real machine: plug the cable in).",
			"%s: no link", list(idle))
	case len(linked) == 0:
		return q(status.NotMet, "The network settings in cloud-init's data (network-config) may name another card: mend them there. networkctl status says more.",
			"%s: switched off", list(off))
	}
	found := fmt.Sprintf("%s: no address came by DHCP", list(linked))
	if len(local) > 0 {
		found += ", there are only link-local ones, " + list(local)
	}
	return q(status.NotMet, "Switch DHCP on in that network. If the provider gives a fixed address, put it into cloud-init's data for this machine (network-config).", "%s", found)
}
