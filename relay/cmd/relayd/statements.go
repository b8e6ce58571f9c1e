package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/relay"
)

const hourHelp = `HOUR is a full hour in UTC, as 2026-12-01T00:00:00Z or 2026-12-01T00.`

// claimFlags are what both statements take.
type claimFlags struct {
	configFlag
	Operator string `placeholder:"NAME" help:"The name under which the committee lists you, the same for all your relays; default: the relay's name, else its domain."`
	TCPPort  int    `name:"tcp-port" placeholder:"PORT" help:"The TCP port that others dial; default: that of listen.tcp."`
	WSSPort  int    `name:"wss-port" placeholder:"PORT" help:"The port for browsers; default: that of listen.wss."`
	JSON     bool   `name:"json" help:"Print JSON: the signed line, and what it says."`
}

func (f claimFlags) claim(from string) (relay.Claim, error) {
	c := relay.Claim{Operator: f.Operator, TCPPort: f.TCPPort, WSSPort: f.WSSPort}
	if from == "" {
		return c, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15"} {
		if t, err := time.Parse(layout, from); err == nil {
			c.From = t
			return c, nil
		}
	}
	return c, cli.BadInput(fmt.Errorf("--from: want an hour such as 2026-12-01T00:00:00Z, not %q", from))
}

func (f claimFlags) print(out *cli.IO, s relay.Signed, err error) error {
	if err != nil {
		return cli.BadInput(err)
	}
	if f.JSON {
		return out.JSON(s)
	}
	says := s.Says
	fmt.Fprintf(out.Stderr, "%s: %s (network %s)\n  operator %s\n  /ip4/%s/tcp/%d and /dns4/%s/tcp/%d/wss\n",
		says.Kind, says.PeerID, says.Network, says.Operator, says.IPv4, says.TCPPort, says.Domain, says.WSSPort)
	if says.Payout != "" {
		fmt.Fprintf(out.Stderr, "  country %s, paid to %s\n", says.Region, says.Payout)
	}
	fmt.Fprintf(out.Stderr, "  from %s on; send the line to the committee before\n", says.From.Format(time.RFC3339))
	_, err = fmt.Fprintln(out.Stdout, s.Text)
	return err
}

type enrolCmd struct {
	claimFlags
	Payout string `required:"" placeholder:"ADDR" help:"Where payments go, an address of PSF's token (simpleledger:... or bitcoincash:...). Its checksum is checked."`
	Region string `required:"" placeholder:"CC" help:"The country in which the relay stands, as two capital letters (ISO 3166-1)."`
	IP     string `name:"ip" placeholder:"IPV4" help:"The relay's public IPv4 address; default: announce.ip4, else that of the interface."`
	From   string `placeholder:"HOUR" help:"When the relay enters; default: the next hour."`
}

// Help is what --help says besides.
func (enrolCmd) Help() string {
	return `Prints one line, signed by the relay's key, by which the relay enters the bounty: where it is reached, in which country it stands, where payments go, from which hour on. What it says stands on stderr. The committee copies the line into its roster.

` + hourHelp + `

Example:

  relayd enrol --config relayd.yaml --payout simpleledger:qpm2qsznhks23z7629mms6s4cwef74vcwvg3pncxyr --region SG --operator alice`
}

func (c *enrolCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	claim, err := c.claim(c.From)
	if err != nil {
		return err
	}
	claim.Payout, claim.Region = c.Payout, c.Region
	if claim.IP4, err = ipFlag("--ip", c.IP); err != nil {
		return err
	}
	s, err := relay.Enrol(cfg, claim, time.Now())
	return c.print(out, s, err)
}

type moveCmd struct {
	claimFlags
	To   string `required:"" placeholder:"IPV4" help:"The new public IPv4 address."`
	From string `required:"" placeholder:"HOUR" help:"The hour at which it takes effect; it must lie ahead."`
}

// Help is what --help says besides.
func (moveCmd) Help() string {
	return `Prints one line, signed by the relay's key, that announces another address. One announced change in a month is reviewed; a change that was not announced before counts as an outage until the relay is registered anew, two fail the month (rule R11).

` + hourHelp + `

Example:

  relayd move --config relayd.yaml --to 203.0.113.7 --from 2026-12-01T00`
}

func (c *moveCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	claim, err := c.claim(c.From)
	if err != nil {
		return err
	}
	if claim.IP4, err = ipFlag("--to", c.To); err != nil {
		return err
	}
	s, err := relay.Move(cfg, claim, time.Now())
	return c.print(out, s, err)
}

type appealCmd struct {
	configFlag
	Month    string `required:"" placeholder:"YYYY-MM" help:"The month (UTC); it must have begun."`
	Text     string `required:"" type:"existingfile" placeholder:"FILE" help:"What you object to and why, in your own words: a text file (UTF-8) of at most 4 KiB. It is published with the committee's decisions."`
	Operator string `placeholder:"NAME" help:"The name under which the committee lists you; default: the relay's name, else its domain."`
	JSON     bool   `name:"json" help:"Print JSON: the signed line, and what it says."`
}

// Help is what --help says besides.
func (appealCmd) Help() string {
	return `Prints one line, signed by the relay's key, by which its operator objects to how a month was counted or decided. What it says stands on stderr. Send the line to the committee, which enters it in its public log of decisions. There the appeal stands open, for everybody to see, until a decision answers it.

Name the hours, and what is wrong with them: "relayaudit explain" shows who saw what in an hour. There is room for eight appeals of a relay and month.

Example:

  relayd appeal --config relayd.yaml --month 2026-11 --text appeal.txt`
}

func (c *appealCmd) Run(out *cli.IO) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	text, err := bounded.ReadFile(c.Text, 64<<10)
	if err != nil {
		return cli.BadInput(fmt.Errorf("--text: %w", err))
	}
	s, err := relay.Appeal(cfg, c.Operator, c.Month, strings.TrimSpace(string(text)), time.Now())
	if err != nil {
		return cli.BadInput(err)
	}
	if c.JSON {
		return out.JSON(s)
	}
	says := s.Says
	fmt.Fprintf(out.Stderr, "%s: %s (network %s)\n  operator %s\n  month %s\n", says.Kind, says.PeerID, says.Network, says.Operator, says.Month)
	for line := range strings.Lines(says.Text) {
		fmt.Fprintf(out.Stderr, "  | %s\n", strings.TrimSuffix(line, "\n"))
	}
	fmt.Fprintln(out.Stderr, "  send the line to the committee; everybody can read what it says")
	_, err = fmt.Fprintln(out.Stdout, s.Text)
	return err
}

func ipFlag(name, v string) (netip.Addr, error) {
	if v == "" {
		return netip.Addr{}, nil
	}
	ip, err := netip.ParseAddr(v)
	if err != nil || !ip.Is4() {
		return ip, cli.BadInput(fmt.Errorf("%s: want an IPv4 address such as 203.0.113.7, not %q", name, v))
	}
	return ip, nil
}
