package bounty

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Roster says who measures, who is measured, and from when to when. The
// committee signs it; nobody joins or leaves retroactively (rule R18).
type Roster struct {
	Version int `yaml:"version"`
	// Serial and Previous are the place in the chain of the committee's rosters.
	Serial   int              `yaml:"serial"`
	Previous string           `yaml:"previous"`
	Network  evidence.Network `yaml:"network"`
	Monitors []Monitor        `yaml:"monitors"`
	Relays   []Relay          `yaml:"relays"`
	// Controls are hosts known to be up, by which a monitor tells a dead relay
	// from a dead line of its own (rule R5): in each hour none, or 3 to 9.
	Controls []ControlHost `yaml:"controls"`
	// Witnesses cosign checkpoints besides those monitors that do.
	Witnesses []Witness `yaml:"witnesses"`
	// Notes are maintenance windows and incidents. They annotate (rule R17).
	Notes []Note `yaml:"notes"`
	// Releases is the SHA-256 of the release list that counts (rule R13).
	Releases string `yaml:"releases"`

	// SHA256 is the hash of the file that was read.
	SHA256 string `yaml:"-"`
	// Unknown are the places of members that this program does not know, such as
	// monitors[2].colour. They mean nothing to it. Only a signed file has any.
	Unknown []string `yaml:"-"`

	// places is where each relay of a roster that was read stands, by its peer ID.
	places map[string]int
}

// Term is the span of hours in which an entry is in force: From inclusive,
// Until exclusive, nil for ever.
type Term struct {
	From  evidence.Hour  `yaml:"from"`
	Until *evidence.Hour `yaml:"until"`
}

// Holds says whether the term holds at h.
func (t Term) Holds(h evidence.Hour) bool {
	return t.From <= h && (t.Until == nil || h < *t.Until)
}

func (t Term) overlaps(o Term) bool {
	return (t.Until == nil || o.From < *t.Until) && (o.Until == nil || t.From < *o.Until)
}

func (t Term) validate() error {
	if t.From == 0 {
		return errors.New("from: want the hour from which it is in force, such as 2026-11-01T00:00:00Z")
	}
	if t.Until != nil && *t.Until <= t.From {
		return fmt.Errorf("until: %s is not after from, %s", *t.Until, t.From)
	}
	return nil
}

// Monitor is one term of a monitor. A monitor that gets a new key is a second
// entry of the same name, in force from the hour at which the first one ends.
type Monitor struct {
	Name string `yaml:"name"`
	// Operator runs it. His own relays it does not judge (rule R7). Absent:
	// independent of everybody.
	Operator string `yaml:"operator"`
	// Committee marks the committee's own (rule R19).
	Committee bool `yaml:"committee"`
	// LogKey is the verifier key of its log, PlanKey the public key by which its plan is
	// checked (rule R2), WitnessKey that by which it cosigns others', at WitnessURL.
	LogKey     string `yaml:"log_key"`
	PlanKey    string `yaml:"plan_key"`
	WitnessKey string `yaml:"witness_key"`
	WitnessURL string `yaml:"witness_url"`
	Place      *Place `yaml:"place"`
	Term       `yaml:",inline"`
}

// Place is where a monitor stands, in degrees.
type Place struct {
	Lat float64 `yaml:"lat" json:"lat"`
	Lon float64 `yaml:"lon" json:"lon"`
}

// Relay is a relay under judgement. The peer ID is the relay: a new key is a
// new enrolment (rule R18).
type Relay struct {
	PeerID   string `yaml:"peer_id"`
	Operator string `yaml:"operator"`
	// Address is what was registered at the enrolment, Moves what changed since.
	Address `yaml:",inline"`
	// Region is the country the operator claims, as an ISO 3166-1 code.
	Region string `yaml:"region"`
	// Payout is the address to which a payment goes.
	Payout   string         `yaml:"payout"`
	Enrolled evidence.Hour  `yaml:"enrolled"`
	Until    *evidence.Hour `yaml:"until"`
	// Statement is the enrolment as the relay's host key signed it.
	Statement Statement `yaml:"statement"`
	Moves     []Move    `yaml:"moves"`
}

// Address is where a relay is reached.
type Address struct {
	IPv4    string `yaml:"ipv4"`
	TCPPort int    `yaml:"tcp_port"`
	Domain  string `yaml:"domain"`
	// WSSPort is 443 where absent.
	WSSPort int `yaml:"wss_port"`
}

// Move is a change of the registered address (rule R11).
type Move struct {
	From evidence.Hour `yaml:"from"`
	// Announced is the hour in which the committee received the statement.
	Announced evidence.Hour `yaml:"announced"`
	Address   `yaml:",inline"`
	Statement Statement `yaml:"statement"`
}

// ControlHost is one term of a host that is known to be up. Without a beginning it is a
// control since ever.
type ControlHost struct {
	Name     string `yaml:"name"`
	Operator string `yaml:"operator"`
	TCP4     string `yaml:"tcp4"`
	WSS      string `yaml:"wss"`
	Term     `yaml:",inline"`
}

// Witness is a cosigner that is no monitor.
type Witness struct {
	Name     string `yaml:"name"`
	Operator string `yaml:"operator"`
	Key      string `yaml:"key"`
	URL      string `yaml:"url"`
	Term     `yaml:",inline"`
}

// Note annotates hours: a maintenance window or an incident (rule R17).
type Note struct {
	// Relay is the peer ID it is about; absent: everybody.
	Relay string        `yaml:"relay" json:"-"`
	Kind  string        `yaml:"kind" json:"kind"`
	From  evidence.Hour `yaml:"from" json:"from"`
	Until evidence.Hour `yaml:"until" json:"until"`
	Text  string        `yaml:"text" json:"text"`
}

// Multiaddrs are the two addresses that the bounty's text asks for.
func (a Address) Multiaddrs(peerID string) (tcp4, wss string) {
	return fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", a.IPv4, a.TCPPort, peerID),
		fmt.Sprintf("/dns4/%s/tcp/%d/wss/p2p/%s", a.Domain, a.wssPort(), peerID)
}

func (a Address) wssPort() int {
	if a.WSSPort == 0 {
		return 443
	}
	return a.WSSPort
}

// At is the address that is registered for hour h.
func (r *Relay) At(h evidence.Hour) Address {
	a := r.Address
	for _, m := range r.Moves {
		if m.From <= h {
			a = m.Address
		}
	}
	return a
}

// EnrolledAt says whether the relay is under judgement in hour h.
func (r *Relay) EnrolledAt(h evidence.Hour) bool {
	return Term{r.Enrolled, r.Until}.Holds(h)
}

// Relay finds a relay by its peer ID; nil: it is not in the roster. Every record of a
// month is looked up here, so that a search from relay to relay would be too slow.
func (r *Roster) Relay(peerID string) *Relay {
	i, ok := r.places[peerID]
	if !ok || i >= len(r.Relays) || r.Relays[i].PeerID != peerID { // none, or not where it was read
		if i = slices.IndexFunc(r.Relays, func(e Relay) bool { return e.PeerID == peerID }); i < 0 {
			return nil
		}
	}
	return &r.Relays[i]
}

// Monitor finds the monitor of that name that is in force at h; nil: there is none.
func (r *Roster) Monitor(name string, h evidence.Hour) *Monitor {
	for i := range r.Monitors {
		if m := &r.Monitors[i]; m.Name == name && m.Holds(h) {
			return m
		}
	}
	return nil
}

// Recused says whether the monitor may not judge the relay: one operator runs both.
func (m *Monitor) Recused(r *Relay) bool {
	return m.Operator != "" && m.Operator == r.Operator
}

// Bench lists the monitors that judge the relay in hour h (rule R7), answering or not.
func (r *Roster) Bench(relay *Relay, h evidence.Hour) []*Monitor {
	var out []*Monitor
	for i := range r.Monitors {
		if m := &r.Monitors[i]; m.Holds(h) && !m.Recused(relay) {
			out = append(out, m)
		}
	}
	return out
}

// controlsFor a relay are the hosts of hour h that its own operator does not run (rule R5).
func (r *Roster) controlsFor(relay *Relay, c evidence.Component, h evidence.Hour) []string {
	var out []string
	for _, host := range r.Controls {
		if host.Holds(h) && host.serves(relay) && (c == evidence.TCP4 && host.TCP4 != "" || c == evidence.WSS && host.WSS != "") {
			out = append(out, host.Name)
		}
	}
	return out
}

// hasControls says whether the roster names controls for the relay, for whatever hour.
func (r *Roster) hasControls(relay *Relay) bool {
	return slices.ContainsFunc(r.Controls, func(c ControlHost) bool { return c.serves(relay) })
}

func (c *ControlHost) serves(relay *Relay) bool {
	return c.Operator == "" || c.Operator != relay.Operator
}

// witness is somebody of the roster who cosigns in hour h.
type witness struct{ name, key, operator string }

// foreign says whether a witness key is that of somebody in force at one of these hours
// whose operator is not the monitor's. Nobody vouches for himself. Without a monitor any
// witness of the roster is.
func (r *Roster) foreign(key string, monitor *Monitor, hours ...evidence.Hour) bool {
	return slices.ContainsFunc(hours, func(h evidence.Hour) bool {
		return slices.ContainsFunc(r.witnessesAt(h), func(w witness) bool {
			return w.key == key && (monitor == nil || w.operator != operatorOf(monitor))
		})
	})
}

// checkWitnessKey reads a witness's verifier key, as "relaymon keys" prints it or as the
// witnesses of the world publish theirs.
func checkWitnessKey(key string) error {
	_, err := evidence.WitnessVerifier(key)
	return err
}

// signerOf is what stands in a cosignature of who made it, a name and a hash: one for two
// spellings of a key (type 1 and type 4), and for two keys that were made for it. Empty: it
// is no witness's key.
func signerOf(key string) string {
	v, err := evidence.WitnessVerifier(key)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
}

func (r *Roster) witnessesAt(h evidence.Hour) []witness {
	var out []witness
	for _, m := range r.Monitors {
		if m.WitnessKey != "" && m.Holds(h) {
			out = append(out, witness{m.Name, m.WitnessKey, operatorOf(&m)})
		}
	}
	for _, w := range r.Witnesses {
		if w.Holds(h) {
			out = append(out, witness{w.Name, w.Key, w.Operator})
		}
	}
	return out
}

// witnessesFor are those in hour h of other operators than the monitor's: nobody
// vouches for himself.
func (r *Roster) witnessesFor(m *Monitor, h evidence.Hour) []witness {
	return slices.DeleteFunc(r.witnessesAt(h), func(w witness) bool { return w.name == m.Name || w.operator == operatorOf(m) })
}

// Independent are the verifier keys of those witnesses: what they sign shows that
// something was not made beforehand. Nil is a monitor that is not in the roster.
func (r *Roster) Independent(m *Monitor, h evidence.Hour) []string {
	if m == nil {
		m = &Monitor{}
	}
	var keys []string
	for _, w := range r.witnessesFor(m, h) {
		keys = append(keys, w.key)
	}
	return keys
}

// ParseTerms reads the part of a roster, signed or not, that bare votes need: names,
// operators and terms. Addresses and keys may be missing, and no signature is verified.
func ParseTerms(name string, file []byte) (*Roster, error) {
	text, signedBy := Text(file)
	return parseRoster(name, file, text, len(signedBy) > 0, (*Roster).validateTerms)
}

// ParseRoster reads an unsigned roster. All its faults are joined in the error.
func ParseRoster(name string, file []byte) (*Roster, error) {
	return parseRoster(name, file, file, false, (*Roster).Validate)
}

// parseRoster reads text, which is the file or what a signed file vouches for. A grown
// one may have members that nobody knows yet.
func parseRoster(name string, file, text []byte, grown bool, validate func(*Roster) error) (*Roster, error) {
	o := options(nil)
	if grown {
		o.Unknown = &config.Unknown{}
	}
	r := &Roster{Version: FileVersion}
	if err := config.DecodeWith(name, text, r, o); err != nil {
		return nil, err
	}
	if grown {
		r.Unknown = o.Unknown.Places()
	}
	r.places = make(map[string]int, len(r.Relays))
	for i, e := range r.Relays {
		r.places[e.PeerID] = i
	}
	if err := validate(r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r.SHA256 = hashOf(file)
	return r, nil
}

// faults collects what is wrong, each with the entry it is wrong in, up to maxFaults: a
// long file may be wrong everywhere.
type faults []error

const maxFaults = 100

func (f *faults) want(ok bool, format string, args ...any) {
	switch {
	case ok || len(*f) > maxFaults:
	case len(*f) == maxFaults:
		*f = append(*f, fmt.Errorf("and more faults than these %d", maxFaults))
	default:
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

func (f *faults) check(where string, err error) {
	f.want(err == nil, "%s: %w", where, err)
}

func (r *Roster) validateTerms() error {
	var f faults
	f.want(r.Version == FileVersion, "version: this program reads version %d, not %d", FileVersion, r.Version)
	f.want(len(r.Monitors) <= maxTerms, "monitors: %d terms, at most %d are read", len(r.Monitors), maxTerms)
	f.want(len(r.Witnesses) <= maxTerms, "witnesses: %d terms, at most %d are read", len(r.Witnesses), maxTerms)
	if len(r.Monitors) > maxTerms || len(r.Witnesses) > maxTerms {
		return errors.Join(f...) // each is compared with all others
	}
	r.validateOperators(&f)
	for i, m := range r.Monitors {
		where := fmt.Sprintf("monitors[%d] %q", i, m.Name)
		f.want(isName(m.Name), "%s: name: want letters, digits, dots, dashes and underscores, at most 100", where)
		f.check(where, m.Term.validate())
		for j, o := range r.Monitors[:i] {
			f.want(o.Name != m.Name || !o.overlaps(m.Term), "%s: the same name as monitors[%d] in the same hours", where, j)
		}
	}
	for i, e := range r.Relays {
		where := fmt.Sprintf("relays[%d] %q", i, e.PeerID)
		f.want(e.PeerID != "", "%s: peer_id: want the relay's peer ID", where)
		f.want(e.Enrolled != 0, "%s: enrolled: want the hour of the enrolment, such as 2026-11-01T00:00:00Z", where)
		f.want(e.Until == nil || *e.Until > e.Enrolled, "%s: until: not after enrolled", where)
	}
	// One pass with a map: a roster may hold thousands of relays.
	seen := map[string]int{}
	for i, e := range r.Relays {
		j, twice := seen[e.PeerID]
		f.want(!twice, "relays[%d] %q: the same peer ID as relays[%d]", i, e.PeerID, j)
		seen[e.PeerID] = i
	}
	return errors.Join(f...)
}

// validatePlanKey checks a monitor's plan key. A lab's may have none: in a lab any moment
// is good.
func (r *Roster) validatePlanKey(f *faults, where string, m Monitor) {
	const want = "want the key that \"relaymon keys\" prints"
	if m.PlanKey == "" {
		f.want(r.Network != evidence.PSF, "%s: plan_key: %s", where, want)
		return
	}
	_, err := bls.ParsePublicKey(m.PlanKey)
	f.want(err == nil, "%s: plan_key: %s: %v", where, want, err)
}

// Validate names every fault of a whole roster.
func (r *Roster) Validate() error {
	var f faults
	if err := r.validateTerms(); err != nil {
		f = append(f, err)
	}
	if len(r.Monitors) > maxTerms || len(r.Witnesses) > maxTerms {
		return errors.Join(f...)
	}
	validateLink(&f, r.Link(), false)
	f.want(r.Network == evidence.PSF || r.Network == evidence.Lab, "network: want psf or lab, not %q", r.Network)
	keys := map[string]string{} // verifier key -> who has it
	own := func(where, key string) {
		if key == "" {
			return
		}
		if who, taken := keys[key]; taken && who != where {
			f.want(false, "%s: its key is also that of %s", where, who)
		}
		keys[key] = where
	}
	for i, m := range r.Monitors {
		where := fmt.Sprintf("monitors[%d] %q", i, m.Name)
		f.want(m.Operator != "", "%s: operator: want who runs it", where)
		v, err := note.NewVerifier(m.LogKey)
		f.want(err == nil, "%s: log_key: want the verifier key that \"relaymon keys\" prints", where)
		if err == nil {
			_, network, err := evidence.ParseOrigin(v.Name())
			f.check(where+": log_key", err)
			f.want(err != nil || network == r.Network, "%s: log_key: %s is a log of network %s, and this is a roster of %s", where, v.Name(), network, r.Network)
		}
		own(where, m.LogKey)
		r.validatePlanKey(&f, where, m)
		own(where, m.PlanKey)
		if m.WitnessKey != "" {
			f.check(where+": witness_key", checkWitnessKey(m.WitnessKey))
			own(where, m.WitnessKey)
			own(where, signerOf(m.WitnessKey))
		}
		if p := m.Place; p != nil {
			f.want(p.Lat >= -90 && p.Lat <= 90 && p.Lon >= -180 && p.Lon <= 180, "%s: place: want lat within 90 and lon within 180 degrees", where)
		}
	}
	for i, w := range r.Witnesses {
		where := fmt.Sprintf("witnesses[%d] %q", i, w.Name)
		f.want(isName(w.Name), "%s: name: want letters, digits, dots, dashes and underscores, at most 100", where)
		f.want(!slices.ContainsFunc(r.Monitors, func(m Monitor) bool { return m.Name == w.Name }), "%s: a monitor has that name", where)
		f.check(where, w.Term.validate())
		f.check(where+": key", checkWitnessKey(w.Key))
		own(where, w.Key)
		own(where, signerOf(w.Key))
		for j, o := range r.Witnesses[:i] {
			f.want(o.Name != w.Name || !o.overlaps(w.Term), "%s: the same name as witnesses[%d] in the same hours", where, j)
		}
	}
	for i := range r.Relays {
		r.validateRelay(&f, i)
	}
	r.validateAddresses(&f)
	r.validateControlHours(&f)
	for i, c := range r.Controls {
		where := fmt.Sprintf("controls[%d] %q", i, c.Name)
		f.want(isName(c.Name), "%s: name: want letters, digits, dots, dashes and underscores, at most 100", where)
		f.want(c.Until == nil || *c.Until > c.From, "%s: until: not after from", where)
		f.want(!slices.ContainsFunc(r.Controls[:min(i, maxControls)], func(o ControlHost) bool { return o.Name == c.Name && o.overlaps(c.Term) }), "%s: another control has that name in the same hours", where)
		f.want(c.TCP4 != "" && c.WSS != "", "%s: want both a tcp4 and a wss address", where)
		for _, s := range []string{c.TCP4, c.WSS} {
			if s != "" {
				_, err := ma.NewMultiaddr(s)
				f.check(where, err)
			}
		}
	}
	for i, n := range r.Notes {
		where := fmt.Sprintf("notes[%d]", i)
		f.want(n.Kind == "maintenance" || n.Kind == "incident", "%s: kind: want maintenance or incident, not %q", where, n.Kind)
		f.want(n.From != 0 && n.Until > n.From, "%s: want hours from and until, the second after the first", where)
		f.want(n.Text != "" && len(n.Text) <= 300, "%s: text: want 1 to 300 bytes", where)
		f.want(n.Relay == "" || r.Relay(n.Relay) != nil, "%s: relay: %q is not in the roster", where, n.Relay)
	}
	f.want(r.Releases == "" || isHash(r.Releases), "releases: want the SHA-256 of the release list in hex, not %q", r.Releases)
	return errors.Join(f...)
}

// maxControls is how many terms of controls a roster holds, and maxTerms how many of
// monitors and of witnesses.
const (
	maxControls = 200
	maxTerms    = 500
)

// validateControlHours wants none or 3 to 9 controls in each hour. Their number changes
// only where a term begins or ends.
func (r *Roster) validateControlHours(f *faults) {
	f.want(len(r.Controls) <= maxControls, "controls: %d terms, at most %d are read", len(r.Controls), maxControls)
	var hours []evidence.Hour
	for _, c := range r.Controls[:min(len(r.Controls), maxControls)] {
		hours = append(hours, c.From)
		if c.Until != nil {
			hours = append(hours, *c.Until)
		}
	}
	slices.Sort(hours)
	for _, h := range slices.Compact(hours) {
		n := 0
		for _, c := range r.Controls[:min(len(r.Controls), maxControls)] {
			if c.Holds(h) {
				n++
			}
		}
		since := ""
		if h > 0 {
			since = fmt.Sprintf(" from %s on", h)
		}
		f.want(n == 0 || n >= 3 && n <= 9, "controls: want none or 3 to 9 in each hour, not %d%s", n, since)
	}
}

// validateOperators wants each operator to be written in one way everywhere: by the name
// it is told who may not judge whom (rule R7), and which monitors are independent (R19).
func (r *Roster) validateOperators(f *faults) {
	type spelling struct{ name, where string }
	seen := map[string]spelling{}
	check := func(where, name string) {
		if name == "" {
			return // whether one is wanted, others ask
		}
		if strings.TrimSpace(name) != name || len(name) > 100 || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
			f.want(false, "%s: operator: want a name of at most 100 bytes without blanks around it and of letters that can be seen, not %q", where, name)
			return
		}
		key := folded(name)
		if first, known := seen[key]; !known {
			seen[key] = spelling{name, where}
		} else if first.name != name {
			f.want(false, "%s: operator: %q is almost %q of %s: write one operator in one way, and two by names that nobody takes for each other", where, name, first.name, first.where)
		}
	}
	for i, m := range r.Monitors {
		check(fmt.Sprintf("monitors[%d] %q", i, m.Name), m.Operator)
	}
	for i, w := range r.Witnesses {
		check(fmt.Sprintf("witnesses[%d] %q", i, w.Name), w.Operator)
	}
	for i, c := range r.Controls {
		check(fmt.Sprintf("controls[%d] %q", i, c.Name), c.Operator)
	}
	for i, e := range r.Relays {
		check(fmt.Sprintf("relays[%d] %q", i, e.PeerID), e.Operator)
	}
}

// folded is a name without what a reader does not see: blanks, case and the spellings
// that Unicode has for the same letter.
func folded(name string) string {
	return strings.Join(strings.Fields(cases.Fold().String(norm.NFKC.String(name))), "")
}

// validateAddresses refuses two relays at one address in the same hours: one machine is
// paid once. On the real network no two share an IPv4 address or a domain; a lab's relays
// may stand on one host, with ports of their own.
func (r *Roster) validateAddresses(f *faults) {
	type stay struct {
		Term
		relay int
	}
	places := map[string][]stay{}
	for i := range r.Relays {
		e := &r.Relays[i]
		at, from := e.Address, e.Enrolled
		enter := func(until *evidence.Hour) {
			if until != nil && *until <= from {
				return // never in force
			}
			keys := []string{at.IPv4, at.Domain}
			if r.Network == evidence.Lab {
				keys = []string{fmt.Sprintf("%s, TCP port %d", at.IPv4, at.TCPPort)}
			}
			for _, k := range keys {
				if at.IPv4 == "" || k == "" {
					continue // another fault says so
				}
				places[k] = append(places[k], stay{Term{from, until}, i})
			}
		}
		for _, m := range e.Moves {
			until := m.From
			if e.Until != nil {
				until = min(until, *e.Until)
			}
			enter(&until)
			at, from = m.Address, m.From
		}
		enter(e.Until)
	}
	for _, k := range slices.Sorted(maps.Keys(places)) {
		stays := places[k]
		slices.SortStableFunc(stays, func(a, b stay) int { return cmp.Compare(a.From, b.From) })
		longest := stays[0]
		for _, s := range stays[1:] {
			f.want(s.relay == longest.relay || !s.overlaps(longest.Term), "relays[%d] %q: from %s on at the same address as relays[%d] %q: %s: an address is one relay's at a time",
				s.relay, r.Relays[s.relay].PeerID, s.From, longest.relay, r.Relays[longest.relay].PeerID, k)
			if longest.Until != nil && (s.Until == nil || *s.Until > *longest.Until) {
				longest = s
			}
		}
	}
}

func (r *Roster) validateRelay(f *faults, i int) {
	e := &r.Relays[i]
	where := fmt.Sprintf("relays[%d] %q", i, e.PeerID)
	_, err := peer.Decode(e.PeerID)
	f.want(err == nil, "%s: peer_id: want a peer ID such as 12D3KooW... or Qm...", where)
	f.want(e.Operator != "", "%s: operator: want who runs it", where)
	f.want(e.Region == "" || countryPattern.MatchString(e.Region), "%s: region: want an ISO 3166-1 code such as SG, not %q", where, e.Region)
	f.want(len(e.Payout) <= 200, "%s: payout: longer than 200 bytes", where)
	f.want(e.Payout == "" || e.Statement != nil, "%s: payout: nobody but the relay's own key says whom to pay: enter the relay by the statement that \"relayd enrol\" prints, or leave the payout out", where)
	f.check(where, e.Address.Validate(r.Network))
	last := e.Enrolled
	for j, m := range e.Moves {
		at := fmt.Sprintf("%s: moves[%d]", where, j)
		f.want(m.From > last, "%s: from: want an hour after the one before, %s", at, last)
		f.want(m.Announced != 0 && m.Announced <= m.From, "%s: announced: want the hour in which the committee was told, not after from: nothing is changed retroactively", at)
		last = m.From
		f.check(at, m.Address.Validate(r.Network))
	}
	f.check(where, e.checkStatements(r.Network))
}

// Validate refuses what is no public address (rule R11). A lab may use any.
func (a Address) Validate(n evidence.Network) error {
	var f faults
	ip, err := netip.ParseAddr(a.IPv4)
	switch {
	case err != nil || !ip.Is4() || ip.String() != a.IPv4:
		f.want(false, "ipv4: want an IPv4 address such as 203.0.113.7, not %q", a.IPv4)
	case n != evidence.Lab && !public(ip):
		f.want(false, "ipv4: %s is no public unicast address: a relay must be reachable from everywhere", ip)
	}
	f.want(a.TCPPort > 0 && a.TCPPort < 1<<16, "tcp_port: want 1 to 65535, not %d", a.TCPPort)
	f.want(a.WSSPort >= 0 && a.WSSPort < 1<<16, "wss_port: want 1 to 65535, not %d", a.WSSPort)
	f.want(isDomain(a.Domain), "domain: want a DNS name in lower case, such as relay.example.org, not %q", a.Domain)
	return errors.Join(f...)
}

// notPublic are the blocks of the IANA special-purpose registry that netip's own
// predicates do not cover (RFC 6890 and its updates).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays, deprecated
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, broadcast
}

func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	return !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(ip) })
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$`)

func isName(s string) bool { return namePattern.MatchString(s) }

func isHash(s string) bool {
	return len(s) == 64 && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
	})
}

func isDomain(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
		}) {
			return false
		}
	}
	return true
}

// WitnessKeys are the verifier keys of all who may cosign in the month, sorted.
func (r *Roster) WitnessKeys(month evidence.Month) []string {
	whole := Term{From: month.First(), Until: ptr(month.End())}
	var out []string
	for _, m := range r.Monitors {
		if m.WitnessKey != "" && m.overlaps(whole) {
			out = append(out, m.WitnessKey)
		}
	}
	for _, w := range r.Witnesses {
		if w.overlaps(whole) {
			out = append(out, w.Key)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// LogMonitor finds the monitor of the month whose log has the key; nil: there is none.
func (r *Roster) LogMonitor(logKey string, month evidence.Month) *Monitor {
	whole := Term{From: month.First(), Until: ptr(month.End())}
	for i := range r.Monitors {
		if m := &r.Monitors[i]; m.LogKey == logKey && m.overlaps(whole) {
			return m
		}
	}
	return nil
}
