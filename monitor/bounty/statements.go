package bounty

import (
	"errors"
	"fmt"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Statement is an envelope of package statement, in base64 in the roster.
type Statement []byte

// UnmarshalText reads the base64.
func (s *Statement) UnmarshalText(b []byte) (err error) {
	*s, err = statement.FromText(string(b))
	return err
}

// checkStatements compares what the relay's key signed with what the roster
// says. Entries without a statement pass: the report tells them apart.
func (r *Relay) checkStatements(network evidence.Network) error {
	var faults []error
	compare := func(where string, envelope Statement, kind statement.Kind, a Address, from fmt.Stringer) {
		if envelope == nil {
			return
		}
		s, err := statement.Open(envelope)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", where, err))
			return
		}
		same := func(name string, signed, listed any) {
			if signed != listed {
				faults = append(faults, fmt.Errorf("%s: the relay signed %s %v, the roster says %v", where, name, signed, listed))
			}
		}
		same("a statement of kind", s.Kind, kind)
		same("network", s.Network, string(network))
		same("peer ID", s.PeerID, r.PeerID)
		if s.Operator != r.Operator && kind == statement.Move {
			faults = append(faults, fmt.Errorf("%s: the relay signed operator %s, the roster says %s: let it be signed anew, by \"relayd move --operator %q\"", where, s.Operator, r.Operator, r.Operator))
		} else {
			same("operator", s.Operator, r.Operator)
		}
		same("IPv4", s.IPv4, a.IPv4)
		same("TCP port", s.TCPPort, a.TCPPort)
		same("domain", s.Domain, a.Domain)
		same("WSS port", s.WSSPort, a.wssPort())
		same("the hour", s.From.Format(hourLayout), from.String())
		if kind == statement.Enrol {
			same("payout", s.Payout, r.Payout)
			if s.Region != "" {
				same("region", s.Region, r.Region)
			}
		}
	}
	compare("statement", r.Statement, statement.Enrol, r.Address, r.Enrolled)
	for i, m := range r.Moves {
		compare(fmt.Sprintf("moves[%d]: statement", i), m.Statement, statement.Move, m.Address, m.From)
	}
	return errors.Join(faults...)
}

const hourLayout = "2006-01-02T15:04:05Z07:00"
