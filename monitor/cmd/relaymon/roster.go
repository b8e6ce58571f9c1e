package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	sumnote "golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/bounded"
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
	b, err := bounded.ReadFile(f.Roster, bounty.MaxBytes)
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
	file, err := bounded.ReadFile(c.File, bounty.MaxBytes)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read what to check: %w", err))
	}
	if err := notMistaken(c.File, file, c.Rules); err != nil {
		return cli.BadInput(err)
	}
	if err := strict(c.File, file, c.Rules); err != nil {
		return cli.BadInput(err)
	}
	if c.Rules {
		r, signedBy, err := bounty.OpenRules(c.File, file, c.Committee)
		if err != nil {
			return cli.BadInput(err)
		}
		_, err = fmt.Fprintf(out.Stdout, "network %s, %sin force from %s; %s\nsha256 %s\n", r.Network, serialWords(r.Serial), r.From, c.signature(signedBy), r.SHA256)
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
	_, err = fmt.Fprintf(out.Stdout, "network %s, %s%d monitors, %d relays (%d by their own statement), %d controls; %s\nsha256 %s\n",
		r.Network, serialWords(r.Serial), len(r.Monitors), len(r.Relays), signed, len(r.Controls), c.signature(signedBy), r.SHA256)
	return err
}

// notMistaken says if rules are given for a roster, or the other way round.
func notMistaken(name string, file []byte, rules bool) error {
	err := bounty.Mistaken(name, file, rules)
	switch {
	case err != nil && rules:
		return fmt.Errorf("%w: leave out --rules", err)
	case err != nil:
		return fmt.Errorf("%w: say --rules", err)
	}
	return nil
}

// strict reads a file, signed or not, as one that the committee is about to sign: a
// member that this program does not know is a typing mistake, or needs a newer program.
func strict(name string, file []byte, rules bool) error {
	text, _ := bounty.Text(file)
	var err error
	if rules {
		_, err = bounty.ParseRules(name, text)
	} else {
		_, err = bounty.ParseRoster(name, text)
	}
	return err
}

func serialWords(serial int) string {
	if serial == 0 {
		return ""
	}
	return fmt.Sprintf("serial %d, ", serial)
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
	Region    string `placeholder:"CC" help:"The country the relay stands in, as an ISO 3166-1 code; without it, the one that the relay signed."`
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
		if announced, err = evidence.HourGiven(c.Announced); err != nil {
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
	File      string `arg:"" type:"path" help:"The roster, or with --rules the rules."`
	Rules     bool   `help:"The file holds rules."`
	Key       string `required:"" type:"path" placeholder:"FILE" help:"The committee's secret key."`
	Previous  string `required:"" xor:"before" type:"path" placeholder:"FILE" help:"The signed file in force, or else --first: what it says of hours past must still stand, and the new one carries its hash."`
	First     bool   `required:"" xor:"before" help:"This is the first: none is in force."`
	Committee string `placeholder:"VKEY" help:"The verifier key that signed the previous file, if it is not that of --key."`
	Out       string `type:"path" placeholder:"FILE" help:"Where to write; without it the file itself."`
}

func (c *rosterSignCmd) Run(out *cli.IO) error {
	file, err := bounded.ReadFile(c.File, bounty.MaxBytes)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read what to sign: %w", err))
	}
	if err := notMistaken(c.File, file, c.Rules); err != nil {
		return cli.BadInput(err)
	}
	secret, err := bounded.ReadFile(c.Key, 4096)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read the committee's key: %w", err))
	}
	signer, err := sumnote.NewSigner(strings.TrimSpace(string(secret)))
	if err != nil {
		// The library's error says nothing of the key; neither does this one.
		return cli.BadInput(fmt.Errorf("the committee's key in %s: %w: want what \"relaymon roster key\" wrote", c.Key, err))
	}
	before, err := c.before(strings.TrimSpace(string(secret)))
	if err != nil {
		return cli.BadInput(err)
	}
	text, serial, err := c.next(out, file, before)
	if err != nil {
		return cli.BadInput(err)
	}
	signed, err := bounty.Sign(text, signer)
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
	_, err = fmt.Fprintf(out.Stdout, "%s: serial %d, signed by %s\n", to, serial, signer.Name())
	return err
}

// before is the signed file in force; nil: none is.
func (c *rosterSignCmd) before(secret string) (*bounty.Previous, error) {
	if c.First {
		return nil, nil
	}
	file, err := bounded.ReadFile(c.Previous, bounty.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read the file in force: %w", err)
	}
	if err := bounty.Mistaken(c.Previous, file, c.Rules); err != nil {
		return nil, fmt.Errorf("--previous: %w", err)
	}
	key := c.Committee
	if key == "" {
		if key, err = verifierKey(secret); err != nil {
			return nil, fmt.Errorf("the committee's key in %s: %w", c.Key, err)
		}
	}
	return &bounty.Previous{Name: c.Previous, File: file, Key: key}, nil
}

// verifierKey is the public half of a secret key that [sumnote.NewSigner] has read:
// PRIVATE+KEY+name+hash+base64, of which the last is the kind and an Ed25519 seed.
func verifierKey(secret string) (string, error) {
	parts := strings.SplitN(secret, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(parts) != 5 || len(raw) != 1+ed25519.SeedSize {
		return "", errors.New("want an Ed25519 key, as \"relaymon roster key\" makes it")
	}
	return sumnote.NewEd25519VerifierKey(parts[2], ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey))
}

// next is the text to be signed. It is refused if nobody could use it, or if it changes
// the past.
func (c *rosterSignCmd) next(out *cli.IO, file []byte, before *bounty.Previous) (text []byte, serial int, err error) {
	now := evidence.HourOf(time.Now())
	if c.Rules {
		text, r, err := bounty.NextRules(c.File, file, before, now)
		if err != nil {
			return nil, 0, err
		}
		return text, r.Serial, nil
	}
	text, r, err := bounty.NextRoster(c.File, file, before, now)
	if err != nil {
		return nil, 0, err
	}
	begun := 0
	for _, relay := range r.Relays {
		if relay.Enrolled <= now {
			begun++
		}
	}
	if before == nil && begun > 0 {
		fmt.Fprintf(out.Stderr, "%s: it enrols relays from hours past on (%d of them), and as it is the first, no earlier roster shows that they were: see that each is right\n", c.File, begun)
	}
	return text, r.Serial, nil
}
