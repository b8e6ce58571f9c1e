package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/decision"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// logFlags say where the committee's log is, and who signs.
type logFlags struct {
	Key   string `required:"" type:"existingfile" placeholder:"FILE" help:"The committee's secret key, the one that signs roster and rules. Beside it, in FILE.decisions-psf or FILE.decisions-lab, is kept what was signed last."`
	Log   string `required:"" type:"path" placeholder:"FOLDER" help:"The folder of the log, for everybody to read."`
	First bool   `help:"There is no log yet: begin it."`
	JSON  bool   `help:"Print JSON."`
}

// key reads the committee's key.
func (f logFlags) key() (evidence.SigningKey, error) {
	secret, err := bounded.ReadFile(f.Key, 4096)
	if err != nil {
		return evidence.SigningKey{}, cli.BadInput(fmt.Errorf("read the committee's key: %w", err))
	}
	key, err := evidence.ParseSigningKey(strings.TrimSpace(string(secret)))
	if err == nil && key.Type() != evidence.LogKeyType {
		err = errors.New("it is the key of a witness")
	}
	if err != nil {
		return key, cli.BadInput(fmt.Errorf("the committee's key in %s: %w: want what \"relaymon roster key\" wrote", f.Key, err))
	}
	return key, nil
}

// entered is what became of an entry.
type entered struct {
	// Entered is false if the log holds it already.
	Entered bool           `json:"entered"`
	Log     string         `json:"log"` // its origin
	Index   int64          `json:"index"`
	Hash    string         `json:"hash"`
	Entry   decision.Entry `json:"entry"`
	Notes   []string       `json:"notes"`
}

// enter puts an entry into the log, if it is not in force there already.
func (f logFlags) enter(key evidence.SigningKey, e decision.Entry) (out entered, err error) {
	if f.First { // before there is a folder
		if _, err := decision.Encode(e); err != nil {
			return out, cli.BadInput(fmt.Errorf("nothing is entered: %w", err))
		}
	}
	w, err := decision.Open(decision.Where{
		Dir: f.Log, Network: e.Network, Key: key, Memory: fmt.Sprintf("%s.decisions-%s", f.Key, e.Network), First: f.First,
	})
	var place *decision.PlaceError
	switch {
	case errors.As(err, &place):
		return out, cli.BadInput(err)
	case err != nil:
		return out, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	out = entered{Log: w.Origin, Entry: e, Notes: []string{}}
	index, hash, ok := w.Find(e)
	if ok {
		out.Index, out.Hash = index, hash
		return out, nil
	}
	if err := w.Check(e); err != nil {
		return out, cli.BadInput(fmt.Errorf("nothing is entered: %w", err))
	}
	out.Notes = append(out.Notes, paidToo(w.Log, e)...)
	out.Index, out.Hash, err = w.Enter(e)
	out.Entered = err == nil
	return out, err
}

// paidToo says which other months the transaction of a decision pays. One may pay many.
func paidToo(l *decision.Log, e decision.Entry) (notes []string) {
	if e.Decision == nil || e.Decision.Pay == nil {
		return nil
	}
	for _, m := range l.Months() {
		for _, d := range m.Decisions {
			if d.Pay != nil && d.Pay.TxID == e.Decision.Pay.TxID && (m.Relay != e.Decision.Relay || m.Month != e.Decision.Month) {
				notes = append(notes, fmt.Sprintf("the transaction is named for %s in %s, too: see that it pays both", m.Relay, m.Month))
				break
			}
		}
	}
	return notes
}

func (e entered) print(out *cli.IO, says string) {
	for _, note := range e.Notes {
		fmt.Fprintf(out.Stderr, "note: %s\n", note)
	}
	if !e.Entered {
		fmt.Fprintln(out.Stdout, "this is in the log already; nothing was written")
	}
	fmt.Fprintf(out.Stdout, "%s\nentry   %d of %s\nhash    %s\n", says, e.Index, e.Log, e.Hash)
}

type decideCmd struct {
	Bundle   string `arg:"" type:"existingfile" help:"The bundle, relay-ID-YYYY-MM.zip."`
	trust    `embed:""`
	waiver   `embed:""`
	logFlags `embed:""`
	Pay      string   `required:"" xor:"decision" placeholder:"TXID" help:"The month is paid, by this transaction (64 hex digits). The address is the one in the relay's enrolment."`
	Refuse   string   `required:"" xor:"decision" placeholder:"REASON" help:"The month is not paid, and why: at most 2000 bytes, for everybody to read."`
	Answer   []string `sep:"none" placeholder:"SHA256" help:"An appeal that this answers, as \"relayaudit appeal\" and \"relayaudit decisions\" name it. All that stand open must be answered. Repeatable."`
	Replace  string   `placeholder:"HASH" help:"The hash of the decision that this one replaces; it takes --why."`
	Why      string   `placeholder:"TEXT" help:"Why another decision is replaced, or why a month is paid that is not plainly ELIGIBLE; for everybody to read."`
}

// Help is what --help says besides.
func (decideCmd) Help() string {
	return `Checks the bundle as "relayaudit verify" does, by the committee's rules and roster, and enters in the committee's public log what was decided: the month was paid, or it was not, and why. The log is signed with the committee's key. A month is decided once; --replace changes a decision and leaves the old one to be seen.

Nothing is entered if the evidence is bad. Nothing is paid on a verdict that is NOT_ELIGIBLE or PROVISIONAL. What is paid all the same on a REVIEW, although a log is missing, or to an address that the relay's key did not sign, says --why. Bundles of a lab are decided in a lab's log.

The same command again, after a crash or by mistake, enters nothing twice. Publish the folder of the log, as it is, on any web server; keep the key, and the file beside it, elsewhere.

Example:

  relayaudit decide relay-ID-2026-11.zip --rules rules.yaml --roster roster.yaml --key committee.key --log decisions --pay TXID`
}

func (c *decideCmd) Run(out *cli.IO) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	switch vkey := key.VerifierKey(); {
	case c.Unsigned:
		return cli.BadInput(errors.New("--unsigned: a decision rests on rules and a roster that the committee has signed"))
	case c.Committee != "" && c.Committee != vkey:
		return cli.BadInput(fmt.Errorf("--committee is %s, and the key in %s is %s: the log is signed with the key that signs the newest roster", c.Committee, c.Key, vkey))
	default:
		c.Committee = vkey
	}
	res, done, err := c.open(c.Bundle)
	if err != nil {
		return err
	}
	defer done()
	missing, err := c.missing(res)
	if err != nil {
		return cli.BadInput(err)
	}
	if c.Pay != "" && len(missing) > 0 {
		return cli.BadInput(fmt.Errorf("--pay: not all that the monitors know is here: %s; ask for it, or say --without NAME for each that you do without, and --why", strings.Join(missing, "; ")))
	}
	d, err := c.decision(res)
	if err != nil {
		return err
	}
	e, err := c.enter(key, decision.Entry{Version: decision.Version, Network: res.Verdict.Network, At: evidence.TimeOf(time.Now()), Decision: d})
	if err != nil {
		return err
	}
	if c.JSON {
		return out.JSON(e)
	}
	v := res.Counts()
	e.print(out, fmt.Sprintf("%s in %s: %s\nverdict %s as of %s\nbundle  %s", v.Relay.PeerID, v.Month, plain(e.Entry.Decision.Words()), v.Headline, v.AsOf, d.Bundle))
	return nil
}

// decision is what the caller decides about a bundle that was verified.
func (c *decideCmd) decision(res bundle.Result) (*decision.Decision, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(c.file, 0, c.file.Size())); err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	v := res.Counts()
	d := &decision.Decision{
		Relay: v.Relay.PeerID, Month: v.Month, Bundle: fmt.Sprintf("%x", sum.Sum(nil)), Rules: v.Inputs.Rules.SHA256, Roster: v.Inputs.Roster.SHA256,
		Verdict: verdicts[res.Result], Provisional: !res.Final(), AsOf: v.AsOf, Without: c.Without,
		Refuse: c.Refuse, Answers: slices.Compact(slices.Sorted(slices.Values(c.Answer))), Replaces: c.Replace, Why: c.Why,
	}
	if c.Pay != "" {
		d.Pay = &decision.Payment{TxID: c.Pay, Payout: v.Relay.Payout, Signed: v.Relay.PayoutSigned}
	}
	return d, nil
}

// verdicts are the words of the log for what a bundle comes to.
var verdicts = map[bounty.Result]decision.Verdict{
	bounty.Eligible: decision.Eligible, bounty.NotEligible: decision.NotEligible, bounty.ForReview: decision.Review, bounty.LabResult: decision.LabVerdict,
}

type appealCmd struct {
	File     string `arg:"" type:"existingfile" help:"A file with the line that \"relayd appeal\" printed."`
	logFlags `embed:""`
}

// Help is what --help says besides.
func (appealCmd) Help() string {
	return `Enters what an operator objects to a month, in a line that "relayd appeal" printed and the relay's own key signed. It stands open in the committee's public log until a decision answers it. Of one relay and month eight are taken.`
}

func (c *appealCmd) Run(out *cli.IO) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	line, err := bounded.ReadFile(c.File, 64<<10)
	if err != nil {
		return cli.BadInput(fmt.Errorf("read the appeal: %w", err))
	}
	appeal, err := decision.ParseAppeal(string(line))
	if err != nil {
		return cli.BadInput(fmt.Errorf("%s: %w", c.File, err))
	}
	says, err := appeal.Open()
	if err != nil {
		return cli.BadInput(fmt.Errorf("%s: %w", c.File, err))
	}
	e, err := c.enter(key, decision.Entry{Version: decision.Version, Network: evidence.Network(says.Network), At: evidence.TimeOf(time.Now()), Appeal: &appeal})
	if err != nil {
		return err
	}
	if c.JSON {
		return out.JSON(e)
	}
	e.print(out, fmt.Sprintf("appeal of %s in %s, by operator %s\nanswer  --answer %s", says.PeerID, says.Month, plain(says.Operator), appeal.SHA256()))
	return nil
}
