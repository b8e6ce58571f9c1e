package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	sumnote "golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// rosterCmd is the committee's work: who measures, who is measured, under which rules.
type rosterCmd struct {
	Key   rosterKeyCmd   `cmd:"" help:"Make the committee's signing key, once, and print its verifier key."`
	Check rosterCheckCmd `cmd:"" help:"Check a roster, and what the relays in it have signed, or rules."`
	Add   rosterAddCmd   `cmd:"" help:"Enter a relay by the statement that \"relayd enrol\" printed."`
	Move  rosterMoveCmd  `cmd:"" help:"Enter a relay's new address by the statement that \"relayd move\" printed."`
	Sign  rosterSignCmd  `cmd:"" help:"Sign a roster, or rules, with the committee's key."`
}

type rosterKeyCmd struct {
	Name string `required:"" placeholder:"NAME" help:"The key's name, such as a domain of the committee's."`
	Out  string `required:"" type:"path" placeholder:"FILE" help:"Where to keep the secret key; a file that is there already is never written over."`
}

func (c *rosterKeyCmd) Run(out *cli.IO) error {
	secret, public, err := sumnote.GenerateKey(rand.Reader, c.Name)
	if err == nil {
		_, err = sumnote.NewVerifier(public) // refuses names that no note can carry
	}
	if err != nil {
		return cli.BadInput(fmt.Errorf("make a key named %q: want a name without spaces and plus signs: %w", c.Name, err))
	}
	switch err := durable.Create(c.Out, []byte(secret+"\n"), 0o600); {
	case errors.Is(err, fs.ErrExist):
		return cli.BadInput(fmt.Errorf("%s is there already: a key is made once", c.Out))
	case err != nil:
		return err
	}
	fmt.Fprintf(out.Stderr, "the secret key is in %s: keep it off the network, and a copy of it elsewhere; publish the line below\n", c.Out)
	_, err = fmt.Fprintln(out.Stdout, public)
	return err
}

type rosterFile struct {
	Roster string `arg:"" type:"path" help:"The roster (YAML, signed or not)."`
}

func (f rosterFile) read() ([]byte, error) {
	b, err := os.ReadFile(f.Roster)
	if err != nil {
		return nil, cli.BadInput(fmt.Errorf("read the roster: %w", err))
	}
	return b, nil
}

type rosterCheckCmd struct {
	File      string `arg:"" type:"path" help:"The roster, or with --rules the rules (YAML, signed or not)."`
	Rules     bool   `help:"The file holds rules."`
	Committee string `placeholder:"VKEY" help:"Also check that this key has signed it."`
}

func (c *rosterCheckCmd) Run(out *cli.IO) error {
	file, err := os.ReadFile(c.File)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read what to check: %w", err))
	}
	if c.Rules {
		r, signedBy, err := bounty.OpenRules(c.File, file, c.Committee)
		if err != nil {
			return cli.BadInput(err)
		}
		_, err = fmt.Fprintf(out.Stdout, "network %s; %s\nsha256 %s\n", r.Network, c.signature(signedBy), r.SHA256)
		return err
	}
	r, signedBy, err := bounty.OpenRoster(c.File, file, c.Committee)
	if err != nil {
		return cli.BadInput(err)
	}
	signed := 0
	for _, relay := range r.Relays {
		if relay.Statement != nil {
			signed++
		}
	}
	_, err = fmt.Fprintf(out.Stdout, "network %s, %d monitors, %d relays (%d by their own statement), %d controls; %s\nsha256 %s\n",
		r.Network, len(r.Monitors), len(r.Relays), signed, len(r.Controls), c.signature(signedBy), r.SHA256)
	return err
}

// signature says who signed, and whether that was checked.
func (c *rosterCheckCmd) signature(by []string) string {
	switch {
	case c.Committee != "":
		return "signed by the committee"
	case len(by) > 0:
		return "says it is signed by " + strings.Join(by, ", ")
	}
	return "unsigned"
}

type rosterAddCmd struct {
	rosterFile
	Statement string `arg:"" help:"The line that \"relayd enrol\" printed, or - to read it from stdin."`
	Region    string `placeholder:"CC" help:"The country the relay stands in, as an ISO 3166-1 code."`
}

func (c *rosterAddCmd) Run(out *cli.IO) error {
	return c.edit(out, c.Statement, func(file []byte, line string) ([]byte, error) {
		return bounty.AddRelay(c.Roster, file, line, c.Region)
	})
}

type rosterMoveCmd struct {
	rosterFile
	Statement string `arg:"" help:"The line that \"relayd move\" printed, or - to read it from stdin."`
	Announced string `placeholder:"TIME" help:"The hour in which the committee was told, such as 2026-11-03T14:00:00Z; without it, this one."`
}

func (c *rosterMoveCmd) Run(out *cli.IO) error {
	announced := evidence.HourOf(time.Now())
	if c.Announced != "" {
		var err error
		if announced, err = evidence.ParseHour(c.Announced); err != nil {
			return cli.BadInput(fmt.Errorf("--announced: %w", err))
		}
	}
	return c.edit(out, c.Statement, func(file []byte, line string) ([]byte, error) {
		return bounty.MoveRelay(c.Roster, file, line, announced)
	})
}

// edit puts what change makes of the roster in its place.
func (f rosterFile) edit(out *cli.IO, line string, change func(file []byte, line string) ([]byte, error)) error {
	file, err := f.read()
	if err != nil {
		return err
	}
	if line == "-" {
		b, err := io.ReadAll(io.LimitReader(os.Stdin, 64<<10))
		if err != nil {
			return fmt.Errorf("read the statement: %w", err)
		}
		line = string(b)
	}
	edited, err := change(file, line)
	if err != nil {
		return cli.BadInput(err)
	}
	if err := durable.Replace(f.Roster, edited, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: entered; sign it before you publish it\n", f.Roster)
	return err
}

type rosterSignCmd struct {
	File     string `arg:"" type:"path" help:"The roster, or with --rules the rules."`
	Rules    bool   `help:"The file holds rules."`
	Key      string `required:"" type:"path" placeholder:"FILE" help:"The committee's secret key."`
	Previous string `type:"path" placeholder:"FILE" help:"The roster in force: what it says of hours past must still stand."`
	Out      string `type:"path" placeholder:"FILE" help:"Where to write; without it the file itself."`
}

func (c *rosterSignCmd) Run(out *cli.IO) error {
	file, err := os.ReadFile(c.File)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read what to sign: %w", err))
	}
	if err := c.check(file); err != nil {
		return cli.BadInput(err)
	}
	secret, err := os.ReadFile(c.Key)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read the committee's key: %w", err))
	}
	signer, err := sumnote.NewSigner(strings.TrimSpace(string(secret)))
	if err != nil {
		// The library's error says nothing of the key; neither does this one.
		return cli.BadInput(fmt.Errorf("the committee's key in %s: %w: want what \"relaymon roster key\" wrote", c.Key, err))
	}
	signed, err := bounty.Sign(file, signer)
	if err != nil {
		return fmt.Errorf("sign %s: %w", c.File, err)
	}
	to := c.Out
	if to == "" {
		to = c.File
	}
	if err := durable.Replace(to, signed, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: signed by %s\n", to, signer.Name())
	return err
}

// check refuses to sign what nobody could use, or what changes the past.
func (c *rosterSignCmd) check(file []byte) error {
	if c.Rules {
		_, _, err := bounty.OpenRules(c.File, file, "")
		return err
	}
	roster, _, err := bounty.OpenRoster(c.File, file, "")
	if err != nil || c.Previous == "" {
		return err
	}
	before, err := os.ReadFile(c.Previous)
	if err != nil {
		return fmt.Errorf("read the roster in force: %w", err)
	}
	old, _, err := bounty.OpenRoster(c.Previous, before, "")
	if err != nil {
		return err
	}
	if err := roster.Follows(old, evidence.HourOf(time.Now())); err != nil {
		return fmt.Errorf("%s changes what was in force: %w", c.File, err)
	}
	return nil
}
