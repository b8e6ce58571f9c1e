package bounty

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A roster is a file that people keep: what is added to it leaves their order and
// their comments as they are. Signatures go, since they are over what was before.

// AddRelay enters the relay of a signed statement (one line of base64) into a
// roster. Region is the country that the committee notes, or empty.
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
		return s, "", fmt.Errorf("this is a statement of kind %s, want one of kind %s", s.Kind, kind)
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
	tree, err := parser.ParseBytes(text, parser.ParseComments)
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
	var f faults
	f.want(r.Network == old.Network, "network: it was %s", old.Network)
	sameUntil := func(a, b *evidence.Hour) bool {
		// An end may be set, moved or lifted, as long as both lie ahead.
		ahead := func(h *evidence.Hour) bool { return h == nil || *h > now }
		return a == b || a != nil && b != nil && *a == *b || ahead(a) && ahead(b)
	}
	for _, o := range old.Monitors {
		i := slices.IndexFunc(r.Monitors, func(m Monitor) bool { return m.Name == o.Name && m.From == o.From })
		if i < 0 {
			f.want(o.From > now, "monitor %s, in force from %s, is gone: let its term end instead", o.Name, o.From)
			continue
		}
		m := r.Monitors[i]
		f.want(m.Operator == o.Operator && m.Committee == o.Committee && m.LogKey == o.LogKey && m.WitnessKey == o.WitnessKey,
			"monitor %s: operator and keys never change within a term: let it end and begin another", o.Name)
		f.want(sameUntil(m.Until, o.Until), "monitor %s: its end lies in the past", o.Name)
	}
	for _, m := range r.Monitors {
		known := slices.ContainsFunc(old.Monitors, func(o Monitor) bool { return m.Name == o.Name && m.From == o.From })
		f.want(known || m.From > now, "monitor %s: from: %s is not ahead of %s", m.Name, m.From, now)
	}
	for i := range old.Relays {
		o := &old.Relays[i]
		e := r.Relay(o.PeerID)
		if e == nil {
			f.want(o.Enrolled > now, "relay %s is gone: let its term end instead", o.PeerID)
			continue
		}
		f.want(e.Enrolled == o.Enrolled && e.Operator == o.Operator && e.Address == o.Address, "relay %s: enrolment, operator and first address never change", o.PeerID)
		f.want(sameUntil(e.Until, o.Until), "relay %s: its end lies in the past", o.PeerID)
		f.want(len(e.Moves) >= len(o.Moves) && slices.EqualFunc(e.Moves[:min(len(e.Moves), len(o.Moves))], o.Moves, Move.equal), "relay %s: moves are added, never changed", o.PeerID)
		for _, m := range e.Moves[min(len(e.Moves), len(o.Moves)):] {
			f.want(m.From > now, "relay %s: a move from %s on is not ahead of %s", o.PeerID, m.From, now)
		}
	}
	for i := range r.Relays {
		e := &r.Relays[i]
		f.want(old.Relay(e.PeerID) != nil || e.Enrolled > now, "relay %s: enrolled: %s is not ahead of %s", e.PeerID, e.Enrolled, now)
	}
	return errors.Join(f...)
}

func (m Move) equal(o Move) bool {
	return m.From == o.From && m.Announced == o.Announced && m.Address == o.Address && bytes.Equal(m.Statement, o.Statement)
}
