package bounty

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A roster is a file that people keep: what is added to it leaves their order and
// their comments as they are. Signatures go, since they are over what was before.

// AddRelay enters the relay of a signed statement (one line of base64) into a
// roster. Region is the country that the committee notes; empty: what the relay signed.
func AddRelay(name string, file []byte, line, region string) ([]byte, error) {
	s, envelope, err := openStatement(line, statement.Enrol)
	if err != nil {
		return nil, err
	}
	text, before, err := forEditing(name, file, s)
	if err != nil {
		return nil, err
	}
	if before.Relay(s.PeerID) != nil {
		return nil, fmt.Errorf("%s: relay %s is in it already: a relay that moves sends another statement", name, s.PeerID)
	}
	region = cmp.Or(region, s.Region)
	type entry struct {
		PeerID    string `yaml:"peer_id"`
		Operator  string `yaml:"operator"`
		IPv4      string `yaml:"ipv4"`
		TCPPort   int    `yaml:"tcp_port"`
		Domain    string `yaml:"domain"`
		WSSPort   int    `yaml:"wss_port"`
		Region    string `yaml:"region,omitempty"`
		Payout    string `yaml:"payout,omitempty"`
		Enrolled  string `yaml:"enrolled"`
		Statement string `yaml:"statement"`
	}
	e := entry{s.PeerID, s.Operator, s.IPv4, s.TCPPort, s.Domain, s.WSSPort, region, s.Payout, s.From.Format(hourLayout), envelope}
	out, err := appendTo(text, "$.relays", "relays", []entry{e}, len(before.Relays) > 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return checked(name, out, func(after *Roster) bool {
		return len(after.Relays) == len(before.Relays)+1 && after.Relay(s.PeerID) != nil
	})
}

// MoveRelay enters a move of a relay that is in the roster. Announced is the hour
// in which the committee received the statement.
func MoveRelay(name string, file []byte, line string, announced evidence.Hour) ([]byte, error) {
	s, envelope, err := openStatement(line, statement.Move)
	if err != nil {
		return nil, err
	}
	text, before, err := forEditing(name, file, s)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(before.Relays, func(r Relay) bool { return r.PeerID == s.PeerID })
	if i < 0 {
		return nil, fmt.Errorf("%s: relay %s is not in it: it has to enrol first", name, s.PeerID)
	}
	type entry struct {
		From      string `yaml:"from"`
		Announced string `yaml:"announced"`
		IPv4      string `yaml:"ipv4"`
		TCPPort   int    `yaml:"tcp_port"`
		Domain    string `yaml:"domain"`
		WSSPort   int    `yaml:"wss_port"`
		Statement string `yaml:"statement"`
	}
	e := entry{s.From.Format(hourLayout), announced.String(), s.IPv4, s.TCPPort, s.Domain, s.WSSPort, envelope}
	moves := len(before.Relays[i].Moves)
	out, err := appendTo(text, fmt.Sprintf("$.relays[%d].moves", i), "moves", []entry{e}, moves > 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return checked(name, out, func(after *Roster) bool {
		return len(after.Relays) == len(before.Relays) && len(after.Relays[i].Moves) == moves+1
	})
}

func openStatement(line string, kind statement.Kind) (s statement.Statement, envelope string, err error) {
	raw, err := statement.FromText(line)
	if err != nil {
		return s, "", err
	}
	if s, err = statement.Open(raw); err != nil {
		return s, "", err
	}
	if s.Kind != kind {
		return s, "", fmt.Errorf("this is a statement of kind %s, want one of kind %s: see \"relaymon roster add\" and \"relaymon roster move\"", s.Kind, kind)
	}
	return s, statement.Text(raw), nil
}

func forEditing(name string, file []byte, s statement.Statement) (text []byte, before *Roster, err error) {
	text, _ = Text(file)
	if before, err = ParseRoster(name, text); err != nil {
		return nil, nil, err
	}
	if s.Network != string(before.Network) {
		return nil, nil, fmt.Errorf("%s: the statement is for network %s, the roster for %s", name, s.Network, before.Network)
	}
	return text, before, nil
}

// appendTo appends entries to the list at path. Where there is none yet, the key
// is added to what stands around it.
func appendTo(text []byte, path, key string, entries any, exists bool) ([]byte, error) {
	tree, err := config.Parse(key, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	if !exists {
		path = strings.TrimSuffix(path, "."+key)
		entries = map[string]any{key: entries}
	}
	p, err := yaml.PathString(path)
	if err != nil {
		return nil, err
	}
	b, err := yaml.Marshal(entries)
	if err != nil {
		return nil, err
	}
	if err := p.MergeFromReader(tree, bytes.NewReader(b)); err != nil {
		return nil, fmt.Errorf("it cannot be added to: write the entry by hand: %w", err)
	}
	out := []byte(tree.String())
	if !bytes.HasSuffix(out, []byte("\n")) {
		out = append(out, '\n')
	}
	return out, nil
}

// checked reads the new file back: it must be whole, and say what it should.
func checked(name string, out []byte, want func(*Roster) bool) ([]byte, error) {
	after, err := ParseRoster(name, out)
	if err != nil {
		return nil, err
	}
	if !want(after) {
		return nil, fmt.Errorf("%s: the entry does not fit in: write it by hand", name)
	}
	return out, nil
}

// Follows says whether a roster may replace another that was in force: what holds
// in hours before now must stay as it was (rule R18). The error names all that
// does not.
func (r *Roster) Follows(old *Roster, now evidence.Hour) error {
	f := following{now: now}
	f.want(r.Network == old.Network, "network: it was %s", old.Network)
	f.want(r.Releases != "" || old.Releases == "", "releases: a release list is replaced by a newer one, not taken back: without one the months past have none (rule R13)")
	follow(&f, "monitor", old.Monitors, r.Monitors, func(m Monitor) (string, Term) { return m.Name, m.Term }, func(o, m Monitor) {
		f.want(m.Operator == o.Operator && m.Committee == o.Committee && m.LogKey == o.LogKey && m.PlanKey == o.PlanKey && m.WitnessKey == o.WitnessKey,
			"monitor %s: operator and keys never change within a term: let it end and begin another", o.Name)
		f.want(o.Place == m.Place || o.Place != nil && m.Place != nil && *o.Place == *m.Place,
			"monitor %s: its place never changes within a term, since the round trips of months past are judged by it (rule R14): let the term end and begin another", o.Name)
	})
	follow(&f, "witness", old.Witnesses, r.Witnesses, func(w Witness) (string, Term) { return w.Name, w.Term }, func(o, w Witness) {
		f.want(w.Operator == o.Operator && w.Key == o.Key, "witness %s: operator and key never change within a term: let it end and begin another", o.Name)
	})
	follow(&f, "control", old.Controls, r.Controls, func(c ControlHost) (string, Term) { return c.Name, c.Term }, func(o, c ControlHost) {
		f.want(c.Operator == o.Operator && c.TCP4 == o.TCP4 && c.WSS == o.WSS, "control %s: operator and addresses never change within a term: let it end and begin another", o.Name)
	})
	follow(&f, "relay", old.Relays, r.Relays, func(e Relay) (string, Term) { return e.PeerID, Term{e.Enrolled, e.Until} }, func(o, e Relay) {
		f.want(e.Operator == o.Operator && e.Address == o.Address, "relay %s: operator and first address never change: a relay that is another's, or elsewhere from the first, enrols anew with a new key", o.PeerID)
		// What a relay lacked it may add. To whom a month is paid was said before the month.
		const anew = "it may be added where there is none, but never changes: let the relay's term end, and enrol it anew with a new key"
		f.want(o.Statement == nil || bytes.Equal(e.Statement, o.Statement), "relay %s: statement: %s", o.PeerID, anew)
		f.want(o.Payout == "" || e.Payout == o.Payout, "relay %s: payout: it was %q: %s", o.PeerID, o.Payout, anew)
		f.want(o.Region == "" || e.Region == o.Region, "relay %s: region: it was %q: %s", o.PeerID, o.Region, anew)
		n := min(len(e.Moves), len(o.Moves))
		f.want(len(e.Moves) >= len(o.Moves) && slices.EqualFunc(e.Moves[:n], o.Moves, Move.equal), "relay %s: moves are added, never changed", o.PeerID)
		for _, m := range e.Moves[n:] {
			f.want(m.From > now, "relay %s: a move from %s on is not ahead of %s", o.PeerID, m.From, now)
		}
	})
	return errors.Join(f.faults...)
}

// following is what a roster changes of one that was in force at now.
type following struct {
	faults
	now evidence.Hour
}

// follow compares the terms of one kind of entry, by name and beginning. A term that has
// begun stays, and none begins in the past; same compares what else it says. A term that
// has not begun may change in any way, and go.
func follow[T any](f *following, kind string, old, now []T, of func(T) (name string, t Term), same func(o, n T)) {
	type id struct {
		name string
		from evidence.Hour
	}
	// An end may be set, moved or lifted, as long as both lie ahead.
	ahead := func(h *evidence.Hour) bool { return h == nil || *h > f.now }
	entries, known := map[id]T{}, map[id]bool{}
	for _, n := range now {
		name, t := of(n)
		entries[id{name, t.From}] = n
	}
	for _, o := range old {
		name, was := of(o)
		known[id{name, was.From}] = true
		n, stays := entries[id{name, was.From}]
		if was.From > f.now {
			continue
		}
		if f.want(stays, "%s %s, in force from %s, is gone: let its term end instead", kind, name, beginning(was.From)); !stays {
			continue
		}
		_, is := of(n)
		f.want(is.Until == was.Until || is.Until != nil && was.Until != nil && *is.Until == *was.Until || ahead(is.Until) && ahead(was.Until), "%s %s: its end lies in the past", kind, name)
		same(o, n)
	}
	for _, n := range now {
		name, t := of(n)
		f.want(known[id{name, t.From}] || t.From > f.now, "%s %s: from: %s is not ahead of %s", kind, name, beginning(t.From), f.now)
	}
}

// beginning is the hour of a term's beginning in words; a control may have none.
func beginning(h evidence.Hour) string {
	if h == 0 {
		return "ever"
	}
	return h.String()
}

func (m Move) equal(o Move) bool {
	return m.From == o.From && m.Announced == o.Announced && m.Address == o.Address && bytes.Equal(m.Statement, o.Statement)
}
