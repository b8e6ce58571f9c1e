package bounty

import "github.com/psf-relay/relay-appliance/monitor/evidence"

// Independent are the verifier keys of the witnesses in force in hour h that another
// operator runs than the monitor: what they sign, the monitor cannot have made
// beforehand. A witness of which the roster names no operator is not among them. A
// monitor that is not in the roster (nil) has no operator.
func (r *Roster) Independent(m *Monitor, h evidence.Hour) []string {
	own := ""
	if m != nil {
		own = m.Operator
	}
	var keys []string
	add := func(operator, key string, t Term) {
		if operator != "" && operator != own && key != "" && t.Holds(h) {
			keys = append(keys, key)
		}
	}
	for _, o := range r.Monitors {
		add(o.Operator, o.WitnessKey, o.Term)
	}
	for _, w := range r.Witnesses {
		add(w.Operator, w.Key, w.Term)
	}
	return keys
}
