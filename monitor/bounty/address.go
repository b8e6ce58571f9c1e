package bounty

import (
	"net/netip"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// judgeAddress applies rule R11: what moved in the month, and whether the
// domain pointed at the registered address.
func judgeAddress(rules *Rules, relay *Relay, month evidence.Month, s *survey) Finding {
	f := Finding{Rule: "R11", Subject: "address"}
	if ip, err := netip.ParseAddr(relay.IPv4); err != nil || !public(ip) {
		f.note(Review, "%s is no public address", relay.IPv4)
	}
	changes := 0
	for _, m := range relay.Moves {
		if !month.Contains(m.From) {
			continue
		}
		changes++
		f.Hours = append(f.Hours, Span{m.From, m.From + 1})
		how := "announced before it took effect and signed by the relay's key"
		switch {
		case m.Statement == nil:
			how = "registered anew, not signed by the relay's key"
		case m.Announced >= m.From:
			how = "signed by the relay's key, but not announced before it took effect"
		}
		f.note(Review, "moved to %s at %s: %s", m.IPv4, Span{m.From, m.From + 1}, how)
	}
	if changes > rules.AddressChanges {
		f.note(Fail, "%d changes of the address in the month, at most %d can be reviewed", changes, rules.AddressChanges)
	}
	if len(s.otherRecord) > 0 {
		f.note(Warn, "the domain's A record was not the registered address in %d h: %s", count(s.otherRecord), words(s.otherRecord, 6))
		f.Hours = append(f.Hours, s.otherRecord...)
	}
	if f.Outcome == "" {
		f.note(Pass, "%s all month, the public address that was registered", relay.At(month.End()-1).IPv4)
	}
	return f
}

// differs says whether the domain resolved to anything but the registered address.
func differs(resolved []string, ipv4 string) bool {
	return len(resolved) > 0 && slices.ContainsFunc(resolved, func(s string) bool { return s != ipv4 })
}
