package month

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The committee's key, and the hosts that it names as controls.
const committeeName = "committee.month.test"

var controls = []string{"c1", "c2", "c3"}

// papers are what a committee publishes.
type papers struct {
	rules, roster, releases []byte
	key, secret             string // the verifier key for the first two, and the signer's
}

func newPapers(p plot) (*papers, error) {
	secret, key := noteSigner(committeeName, noteKey)
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	out := &papers{key: key, secret: secret, releases: p.releaseList()}
	rules, err := p.rules()
	if err != nil {
		return nil, err
	}
	if out.rules, err = bounty.Sign(rules, signer); err != nil {
		return nil, err
	}
	roster, err := p.roster(out.releases)
	if err != nil {
		return nil, err
	}
	if out.roster, err = bounty.Sign(roster, signer); err != nil {
		return nil, err
	}
	_, _, err = bounty.OpenRoster("the lab's roster", out.roster, key)
	return out, err
}

// rules are the default ones, for a lab. For a part of a month their numbers of hours are
// as much less.
func (p plot) rules() ([]byte, error) {
	share := func(n int) int { return n * p.hours() / told.Hours() }
	out := string(bounty.DefaultRules)
	for _, r := range []struct{ from, to string }{
		{"\nnetwork: psf\n", "\nnetwork: lab\n"},
		{"\nhours_required: 600\n", fmt.Sprintf("\nhours_required: %d\n", share(600))},
		{"\nbusy_cap: 72\n", fmt.Sprintf("\nbusy_cap: %d\n", share(72))},
		{"\nfinal_after: 72h\n", fmt.Sprintf("\nfinal_after: %dh\n", int(p.after.Hours()))},
	} {
		if strings.Count(out, r.from) != 1 {
			return nil, fmt.Errorf("the default rules have no line %q any more", strings.TrimSpace(r.from))
		}
		out = strings.Replace(out, r.from, r.to, 1)
	}
	return []byte("# LAB: rules of a simulated month (make month). They decide about nothing.\n" + out), nil
}

func (p plot) releaseList() []byte {
	return fmt.Appendf(nil, `# LAB: releases of a simulated month (make month).
version: 1
products:
  - name: relayd
    agent: "relayd/*"
    releases:
      - version: "v1.2.0"
        published: %s
      - version: "v1.3.0"
        published: %s
`, p.first.Start().AddDate(0, 0, -30).Format(time.RFC3339), p.releases().Start().Format(time.RFC3339))
}

func (p plot) roster(releases []byte) ([]byte, error) {
	var b bytes.Buffer
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("# LAB: roster of a simulated month (make month). All keys in it are known to everybody.")
	say("version: 1\nserial: 1\nnetwork: %s\nmonitors:", evidence.Lab)
	for _, o := range observers {
		say("  - name: %s\n    operator: %s\n    committee: %v", o.name, o.operator, o.committee)
		say("    log_key: %q\n    plan_key: %q", o.logKey(), o.planKey().Public())
		say("    witness_key: %q\n    witness_url: http://%s/witness", o.witnessKey(), o.witnessHost())
		say("    place: {lat: %v, lon: %v}\n    from: %s", o.place.Lat, o.place.Lon, p.first)
	}
	say("relays:")
	for _, r := range relays {
		enrolled, err := p.says(r, statement.Enrol, r.place, p.from, p.from-24)
		if err != nil {
			return nil, err
		}
		say("  - peer_id: %s\n    operator: %s\n    ipv4: %s\n    tcp_port: 4001\n    domain: %s\n    region: %s", r.id(), r.name, r.place.ipv4, r.domain(), r.place.region)
		say("    payout: \"bitcoincash:qlab%s\"\n    enrolled: %s\n    statement: %q", r.name, p.from, enrolled)
		if r.name == moved {
			at := p.moves()
			move, err := p.says(r, statement.Move, melbourne, at, at-48)
			if err != nil {
				return nil, err
			}
			say("    moves:\n      - from: %s\n        announced: %s\n        ipv4: %s\n        tcp_port: 4001\n        domain: %s\n        statement: %q", at, at-48, melbourne.ipv4, r.domain(), move)
		}
	}
	say("controls:")
	for i, name := range controls {
		say("  - {name: %s, operator: %s, tcp4: /ip4/127.0.0.%d/tcp/4001, wss: /dns4/%s.month.test/tcp/443/wss}", name, name, i+10, name)
	}
	from, until := p.maintained()
	say("notes:\n  - {relay: %s, kind: maintenance, from: %s, until: %s, text: %q}", relays[0].id(), from, until, "LAB: a new disk, announced a week before")
	say("releases: %x", sha256.Sum256(releases))
	return b.Bytes(), nil
}

// says is a statement by the relay's own key, made in an hour.
func (p plot) says(r relay, kind statement.Kind, at place, from, made evidence.Hour) (string, error) {
	s := statement.Statement{
		Kind: kind, Network: string(evidence.Lab), PeerID: r.id(), Operator: r.name, IPv4: at.ipv4, TCPPort: 4001,
		Domain: r.domain(), WSSPort: 443, From: from.Start(), Made: made.Start(),
	}
	if kind == statement.Enrol {
		s.Region, s.Payout = at.region, "bitcoincash:qlab"+r.name
	}
	envelope, err := statement.Sign(s, r.key())
	if err != nil {
		return "", err
	}
	return statement.Text(envelope), nil
}
