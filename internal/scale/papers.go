package scale

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// controls are how many hosts the roster names as known to be up.
const controls = 3

func controlName(i int) string { return fmt.Sprintf("c%d", i+1) }

// publish writes what a committee publishes: rules, roster and its key.
func (f *Fleet) publish(relays []*relay) error {
	secret, err := evidence.NewSigningKey(f.chance("committee"), "committee.fleet.test", evidence.LogKeyType)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(secret.String())
	if err != nil {
		return err
	}
	signed := func(name string, text []byte) (file []byte, err error) {
		if file, err = bounty.Sign(text, signer); err == nil {
			err = os.WriteFile(f.path(name), file, 0o644)
		}
		return file, err
	}
	text, err := f.rulesText()
	if err != nil {
		return err
	}
	rules, err := signed(rulesFile, text)
	if err != nil {
		return err
	}
	text, f.Made.Listed, err = f.rosterText(relays)
	if err != nil {
		return err
	}
	roster, err := signed(rosterFile, text)
	if err != nil {
		return err
	}
	if f.rules, _, err = bounty.OpenRules(rulesFile, rules, secret.VerifierKey()); err != nil {
		return err
	}
	if f.roster, _, err = bounty.OpenRoster(rosterFile, roster, secret.VerifierKey()); err != nil {
		return err
	}
	return os.WriteFile(f.path(committeeFile), []byte(secret.VerifierKey()+"\n"), 0o644)
}

// rulesText are the default rules, for a lab. Fewer witnesses than they ask for do.
func (f *Fleet) rulesText() ([]byte, error) {
	out := string(bounty.DefaultRules)
	replace := [][2]string{{"\nnetwork: psf\n", "\nnetwork: lab\n"}}
	if f.Witnesses < bounty.Half.Of(f.Monitors) {
		replace = append(replace, [2]string{"\nwitnesses_required: half\n", fmt.Sprintf("\nwitnesses_required: %d\n", f.Witnesses)})
	}
	for _, r := range replace {
		if strings.Count(out, r[0]) != 1 {
			return nil, fmt.Errorf("the default rules have no line %q any more", strings.TrimSpace(r[0]))
		}
		out = strings.Replace(out, r[0], r[1], 1)
	}
	return []byte("# LAB: rules of a fleet that was made up. They decide about nothing.\n" + out), nil
}

// rosterText is the roster, and how many relays it lists: as many as the file has room for.
func (f *Fleet) rosterText(relays []*relay) (text []byte, listed int, err error) {
	var b bytes.Buffer
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("# LAB: roster of a fleet that was made up.")
	say("version: 1\nserial: 1\nnetwork: %s\ncontrols:", evidence.Lab)
	for i := range controls {
		say("- {name: %s, operator: control-%d, tcp4: /ip4/127.0.0.%d/tcp/4001, wss: /dns4/c%d.fleet.test/tcp/443/wss}", controlName(i), i, i+10, i)
	}
	say("monitors:")
	for _, m := range f.monitors {
		say("- {name: %s, operator: %s, committee: %v, log_key: %q, plan_key: %q, witness_key: %q, place: {lat: %v, lon: %v}, from: %s}",
			m.name, m.operator, m.committee, m.key.VerifierKey(), m.plan.Public(), m.witness.VKey(), m.lat, m.lon, Month.First())
	}
	say("relays:")
	const signature = 1 << 10 // the committee's has room in it
	for _, r := range relays {
		enrolled, err := statement.Sign(statement.Statement{
			Kind: statement.Enrol, Network: string(evidence.Lab), PeerID: r.id, Operator: r.operator, IPv4: r.ipv4, TCPPort: 4001, Domain: r.domain,
			WSSPort: 443, Region: "SG", Payout: "bitcoincash:qfleet", From: Month.First().Start(), Made: Month.First().Start(),
		}, r.Key)
		if err != nil {
			return nil, 0, err
		}
		before := b.Len()
		say("- {peer_id: %s, operator: %s, ipv4: %s, tcp_port: 4001, domain: %s, region: SG, payout: \"bitcoincash:qfleet\", enrolled: %s, statement: %q}",
			r.id, r.operator, r.ipv4, r.domain, Month.First(), statement.Text(enrolled))
		if b.Len() > bounty.MaxBytes-signature {
			b.Truncate(before)
			break
		}
		listed++
	}
	return b.Bytes(), listed, nil
}

// entry is the relay as the roster lists it, or would.
func (f *Fleet) entry(r *relay) *bounty.Relay {
	if e := f.roster.Relay(r.id); e != nil {
		return e
	}
	return &bounty.Relay{
		PeerID: r.id, Operator: r.operator, Enrolled: Month.First(),
		Address: bounty.Address{IPv4: r.ipv4, TCPPort: 4001, Domain: r.domain},
	}
}
