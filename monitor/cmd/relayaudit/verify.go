package main

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// notMet is the exit code of a bundle that verified and is not what --require asks for.
const notMet = 3

// trust is what a verifier brings along.
type trust struct {
	Rules     []string `required:"" sep:"none" type:"existingfile" placeholder:"FILE" help:"The committee's newest rules, from the committee; give it again for older ones, by which a bundle was judged."`
	Roster    []string `required:"" sep:"none" type:"existingfile" placeholder:"FILE" help:"The committee's newest roster, from the committee; give it again for older ones."`
	Releases  string   `type:"existingfile" placeholder:"FILE" help:"The release list that the newest roster names, for a bundle that was judged by an older roster with another list."`
	Fork      []string `sep:"none" type:"existingfile" placeholder:"FILE" help:"A proof that a monitor signed two histories, which the bundle may have left out: a file forks/*.txt of a bundle, forks/*.fork of a mirror, or log/witness/*.fork of a monitor. Nothing of that monitor counts then. Repeatable."`
	Committee string   `xor:"trust" placeholder:"VKEY" help:"The committee's verifier key: the newest rules and roster must be signed by it, and vouch for the older ones."`
	Unsigned  bool     `xor:"trust" help:"Take rules and roster as they are; the result is REVIEW at most."`
	Relay     *string  `placeholder:"ID" help:"The relay that the bundle must be about."`
	Month     *string  `placeholder:"YYYY-MM" help:"The month that the bundle must be about."`
	Geo       string   `type:"existingdir" placeholder:"FOLDER" help:"Data sets of the committee's for the region: any of countries.json (TopoJSON), a.mmdb and b.mmdb; without it the built-in ones."`

	sums map[string]string // of rules and rosters: whence, by SHA-256
	file *io.SectionReader // the bundle that was opened
}

func (t *trust) options() (bundle.Options, error) {
	rules, err := readAll("rules", t.Rules)
	if err != nil {
		return bundle.Options{}, cli.BadInput(err)
	}
	rosters, err := readAll("roster", t.Roster)
	if err != nil {
		return bundle.Options{}, cli.BadInput(err)
	}
	t.sums = map[string]string{}
	for i, b := range append(slices.Clone(rules), rosters...) {
		t.sums[fmt.Sprintf("%x", sha256.Sum256(b))] = append(slices.Clone(t.Rules), t.Roster...)[i]
	}
	// Which is the newest their serials tell, not their order here.
	o := bundle.Options{
		Rules: rules[0], OlderRules: rules[1:], Roster: rosters[0], OlderRosters: rosters[1:],
		Committee: t.Committee, Unsigned: t.Unsigned, Beacon: beacon.Quicknet(),
	}
	if t.Releases != "" {
		if o.Releases, err = bounded.ReadFile(t.Releases, bounty.MaxBytes); err != nil {
			return bundle.Options{}, cli.BadInput(fmt.Errorf("read the release list: %w", err))
		}
	}
	if o.Forks, err = readForks(t.Fork); err != nil {
		return bundle.Options{}, cli.BadInput(err)
	}
	if t.Relay != nil {
		if o.Relay = *t.Relay; o.Relay == "" {
			return bundle.Options{}, cli.BadInput(errors.New("--relay: it is empty"))
		}
	}
	if t.Month != nil {
		month, err := evidence.ParseMonth(*t.Month)
		if err != nil {
			return bundle.Options{}, cli.BadInput(fmt.Errorf("--month: %w", err))
		}
		o.Month = &month
	}
	if t.Geo != "" {
		if o.Geo, err = readGeo(t.Geo); err != nil {
			return bundle.Options{}, cli.BadInput(err)
		}
	}
	return o, nil
}

// maxChain is how many files of the committee's are read of one kind.
const maxChain = 100

func readAll(what string, names []string) ([][]byte, error) {
	if len(names) > maxChain {
		return nil, fmt.Errorf("read the %s: %d files, at most %d are read", what, len(names), maxChain)
	}
	var out [][]byte
	for _, name := range names {
		b, err := bounded.ReadFile(name, bounty.MaxBytes)
		if err != nil {
			return nil, fmt.Errorf("read the %s: %w", what, err)
		}
		if err := bounty.Mistaken(name, b, what == "rules"); err != nil {
			return nil, fmt.Errorf("read the %s: %w", what, err)
		}
		out = append(out, b)
	}
	return out, nil
}

func readForks(names []string) ([]bundle.GivenFork, error) {
	if len(names) > maxChain {
		return nil, fmt.Errorf("--fork: %d files, at most %d are read", len(names), maxChain)
	}
	var out []bundle.GivenFork
	for _, name := range names {
		data, err := bounded.ReadFile(name, 2*evidence.MaxCheckpointBytes+1)
		if err != nil {
			return nil, fmt.Errorf("--fork: %w", err)
		}
		out = append(out, bundle.GivenFork{File: name, Data: data})
	}
	return out, nil
}

// maxGeo bounds a data set: those of all countries have 10 MB.
const maxGeo = 32 << 20

// readGeo reads what there is of the committee's data sets.
func readGeo(folder string) (bounty.Geo, error) {
	var f bundle.GeoFiles
	found := false
	for name, into := range map[string]*[]byte{"countries.json": &f.Land, "a.mmdb": &f.CountriesA, "b.mmdb": &f.CountriesB} {
		data, err := bounded.ReadFile(filepath.Join(folder, name), maxGeo)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the data sets: %w", err)
		}
		*into, found = data, true
	}
	if !found {
		return nil, fmt.Errorf("read the data sets: none of countries.json, a.mmdb and b.mmdb is in %s", folder)
	}
	geo, err := bundle.OpenGeo(f)
	if err != nil {
		return nil, fmt.Errorf("read the data sets in %s: %w", folder, err)
	}
	return geo, nil
}

// memory is what the program keeps to, as far as it can: below what a verification
// may take, 512 MiB.
const memory = 320 << 20

// open verifies the bundle in the file. The result's logs can be gone through until
// done is called.
func (t *trust) open(name string) (res bundle.Result, done func(), err error) {
	debug.SetMemoryLimit(memory)
	o, err := t.options()
	if err != nil {
		return res, nil, err
	}
	if err := bounded.Regular(name); err != nil {
		return res, nil, cli.BadInput(fmt.Errorf("open the bundle: %w", err))
	}
	f, err := os.Open(name)
	if err != nil {
		return res, nil, cli.BadInput(fmt.Errorf("open the bundle: %w", err))
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return res, nil, cli.BadInput(fmt.Errorf("open the bundle: %w", err))
	}
	t.file = io.NewSectionReader(f, 0, info.Size())
	res, err = bundle.Verify(f, info.Size(), o)
	var input *bundle.InputError
	switch {
	case errors.As(err, &input):
		return res, nil, cli.BadInput(fmt.Errorf("%w: see --committee and --unsigned, --rules, --roster and --fork", err))
	case err != nil:
		return res, nil, badBundle(name, err)
	}
	// A name proves nothing, but a month handed in once more under another one
	// would be taken for that.
	if v, base := res.Verdict, filepath.Base(name); strings.HasPrefix(base, "relay-") && base != bundle.Name(v.Relay.PeerID, v.Month) {
		res.Warnings = append(res.Warnings, fmt.Sprintf("the file's name is not that of what is in it, %s: look twice for which relay and month this is, or name them with --relay and --month", bundle.Name(v.Relay.PeerID, v.Month)))
	}
	return res, func() { f.Close() }, nil
}

func badBundle(name string, err error) error {
	return cli.Exit(cli.Failed, fmt.Errorf("%s is not good evidence: %s", name, oneLine(err)))
}

// oneLine says what is wrong with a bundle: what stands in it may stand in the
// error, too, and must not look like a line of ours.
func oneLine(err error) string { return plain(strings.ReplaceAll(err.Error(), "\n", "; ")) }

type verifyCmd struct {
	Bundle  string `arg:"" type:"existingfile" help:"The bundle, relay-ID-YYYY-MM.zip."`
	trust   `embed:""`
	Require *string `placeholder:"eligible" help:"With \"eligible\": exit code 3 unless the verdict is ELIGIBLE and final, and no monitor's log is missing or ends early."`
	waiver  `embed:""`
	HTML    string `type:"path" placeholder:"FILE" help:"Draw the verdict into this file, which must not be there yet: a page of your own in place of the bundle's report.html."`
	JSON    bool   `help:"Print JSON."`
}

// waiver are the logs that the caller does without.
type waiver struct {
	Without []string `sep:"none" placeholder:"NAME" help:"Do without the log of this monitor, which is missing or ends early. May be given several times."`
}

// verifyReport is what --json prints.
type verifyReport struct {
	Verified bool   `json:"verified"`
	Error    string `json:"error,omitempty"`
	Bundle   string `json:"bundle"`
	Headline string `json:"headline,omitempty"`
	Final    bool   `json:"final"`
	// Waived are the monitors whose logs the caller does without.
	Waived []string `json:"waived"`
	*bundle.Result
}

func (c *verifyCmd) Run(out *cli.IO) error {
	if c.Require != nil && *c.Require != "eligible" {
		return cli.BadInput(fmt.Errorf("--require: want eligible, not %q", *c.Require))
	}
	res, done, err := c.open(c.Bundle)
	if err != nil {
		if c.JSON {
			return errors.Join(err, out.JSON(verifyReport{Bundle: c.Bundle, Error: err.Error(), Waived: []string{}}))
		}
		return err
	}
	defer done()
	missing, err := c.missing(res)
	if err != nil {
		return cli.BadInput(err)
	}
	if err := c.draw(res); err != nil {
		return err
	}
	if c.JSON {
		err = out.JSON(verifyReport{Verified: true, Bundle: c.Bundle, Headline: res.Counts().Headline, Final: res.Final(), Waived: append([]string{}, c.Without...), Result: &res})
	} else {
		err = c.print(out.Stdout, res)
	}
	if err != nil || c.Require == nil {
		return err
	}
	if res.Result != bounty.Eligible || !res.Final() {
		return cli.Exit(notMet, fmt.Errorf("verified, but the verdict is %s, not ELIGIBLE", res.Counts().Headline))
	}
	if len(missing) > 0 {
		return cli.Exit(notMet, fmt.Errorf("verified, but not all that the monitors know: %s; ask for it, or say --without NAME for each that you do without", strings.Join(missing, "; ")))
	}
	return nil
}

// draw writes the page that --html asks for. Nothing is written over: it might be evidence.
func (c *verifyCmd) draw(res bundle.Result) error {
	if c.HTML == "" {
		return nil
	}
	page, err := bundle.HTML(res.Counts())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.HTML, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return cli.BadInput(fmt.Errorf("--html %s: there is such a file already, and nothing is written over: name a new one", c.HTML))
	case err != nil:
		return cli.BadInput(fmt.Errorf("--html: %w", err))
	}
	_, err = f.Write(page)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// missing says of each log that is missing or ends early, and was not waived, what is
// the matter. To waive anything else is an error.
func (c *waiver) missing(res bundle.Result) ([]string, error) {
	slices.Sort(c.Without)
	c.Without = slices.Compact(c.Without)
	var out, absent []string
	for _, a := range res.Counts().Absent {
		absent = append(absent, a.Monitor)
		switch {
		case slices.Contains(c.Without, a.Monitor):
		case a.Ends == nil:
			out = append(out, fmt.Sprintf("the log of %s is missing", a.Monitor))
		default:
			out = append(out, fmt.Sprintf("the log of %s ends at %s", a.Monitor, a.Ends))
		}
	}
	var faults []error
	for _, name := range c.Without {
		switch {
		case slices.Contains(absent, name):
		case slices.ContainsFunc(res.Case.Roster.Monitors, func(m bounty.Monitor) bool { return m.Name == name }):
			faults = append(faults, fmt.Errorf("--without %q: its log is there and whole, so it cannot be done without", name))
		default:
			faults = append(faults, fmt.Errorf("--without %q: no monitor of the roster has that name; missing, or ending early: %s", name, cmp.Or(strings.Join(absent, ", "), "none")))
		}
	}
	return out, errors.Join(faults...)
}

func (c *verifyCmd) print(w io.Writer, res bundle.Result) error {
	v := res.Counts()
	fmt.Fprintf(w, "verdict: %s\n", v.Headline)
	fmt.Fprintf(w, "relay %s, operator %s, %s (UTC), as of %s\n", v.Relay.PeerID, v.Relay.Operator, v.Month, v.AsOf)
	for _, reason := range v.Reasons {
		fmt.Fprintf(w, "  - %s\n", reason)
	}
	for _, warning := range res.Warnings {
		fmt.Fprintf(w, "  - warning: %s\n", warning)
	}
	if c.HTML != "" {
		fmt.Fprintf(w, "  - the page in %s is drawn by this program from this verdict\n", c.HTML)
	}
	answers := c.summary(res)
	if caution := bundle.Caution(answers); caution != "" {
		fmt.Fprintf(w, "  ! %s\n", caution)
	}
	fmt.Fprintln(w)
	for _, a := range answers {
		mark := " "
		if a.Mark {
			mark = "!"
		}
		for i, says := range a.Says {
			word := a.Word
			if i > 0 {
				word, mark = "", " "
			}
			fmt.Fprintf(w, "%s %-9s %s\n", mark, word, says)
		}
	}
	besides := ""
	if res.NotChecked != nil {
		besides = fmt.Sprintf(", %d of them not checked (see above)", len(res.NotChecked.Files))
	}
	fmt.Fprintf(w, "\nbundle     %s, verified: %d files%s, put together by monitor %s\n", c.Bundle, res.Files, besides, res.SignedBy)
	fmt.Fprintf(w, "hours      %d up, %d down, %d unknown, %d not enrolled, %d to come, of %d; %d busy\n",
		v.Hours.Up, v.Hours.Down, v.Hours.Unknown, v.Hours.NotEnrolled, v.Hours.Remaining, v.Hours.Total, v.Hours.Busy)
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range v.Findings {
		for i, reason := range f.Reasons {
			if i == 0 {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Rule, f.Subject, f.Outcome, reason)
			} else {
				fmt.Fprintf(t, "\t\t\t%s\n", reason)
			}
		}
	}
	return t.Flush()
}

// summary is the report's, with what the verifier himself brought along: where rules
// and roster are from, and whether the committee's signature was asked for.
func (c *verifyCmd) summary(res bundle.Result) []bundle.Answer {
	out := bundle.Summary(res.Counts())
	for i := range out {
		a := &out[i]
		if a.Word == "missing" {
			for _, name := range c.Without {
				a.Says = append(a.Says, fmt.Sprintf("The verdict is without %s, by your word.", name))
			}
		}
		inputs := res.Counts().Inputs
		in := map[string]bounty.Input{"rules": inputs.Rules, "roster": inputs.Roster}[a.Word]
		all := map[string][]string{"rules": c.Rules, "roster": c.Roster}[a.Word]
		if all == nil {
			continue
		}
		whence := "Yours, from " + c.sums[in.SHA256]
		switch {
		case c.sums[in.SHA256] == "":
			whence = "The bundle's: newer ones vouch for it by its hash. They are yours, from " + strings.Join(all, ", ")
		case len(all) > 1:
			whence += ". You gave " + strings.Join(all, ", ") + ": each newer one vouches by its hash for the one before. The newest is yours"
		}
		if c.Committee != "" {
			name, _, _ := strings.Cut(c.Committee, "+")
			a.Says, a.Mark = append(a.Says, fmt.Sprintf("%s, and signed by the committee's key %s that you named.", whence, name)), false
		} else {
			a.Says, a.Mark = append(a.Says, fmt.Sprintf("%s; you named no committee's key, so nobody's signature was checked.", whence)), true
		}
	}
	return out
}

type rulesCmd struct{}

func (*rulesCmd) Run(out *cli.IO) error {
	_, err := out.Stdout.Write(bounty.DefaultRules)
	return err
}
