package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
)

// notMet is the exit code of a bundle that verified and is not what --require asks for.
const notMet = 3

// trust is what a verifier brings along.
type trust struct {
	Rules     []string `required:"" sep:"none" type:"existingfile" placeholder:"FILE" help:"The committee's newest rules, from the committee; give it again for older ones, by which a bundle was judged."`
	Roster    []string `required:"" sep:"none" type:"existingfile" placeholder:"FILE" help:"The committee's newest roster, from the committee; give it again for older ones."`
	Committee string   `xor:"trust" placeholder:"VKEY" help:"The committee's verifier key: the newest rules and roster must be signed by it, and vouch for the older ones."`
	Unsigned  bool     `xor:"trust" help:"Take rules and roster as they are; the result is REVIEW at most."`
	Geo       string   `type:"existingdir" placeholder:"FOLDER" help:"Data sets of the committee's for the region: any of countries.json (TopoJSON), a.mmdb and b.mmdb; without it the built-in ones."`
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
	// Which is the newest their serials tell, not their order here.
	o := bundle.Options{
		Rules: rules[0], OlderRules: rules[1:], Roster: rosters[0], OlderRosters: rosters[1:],
		Committee: t.Committee, Unsigned: t.Unsigned, Beacon: beacon.Quicknet(),
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
		out = append(out, b)
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

// open verifies the bundle in the file.
func (t *trust) open(name string) (bundle.Result, error) {
	o, err := t.options()
	if err != nil {
		return bundle.Result{}, err
	}
	f, err := os.Open(name)
	if err != nil {
		return bundle.Result{}, cli.BadInput(fmt.Errorf("open the bundle: %w", err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return bundle.Result{}, cli.BadInput(fmt.Errorf("open the bundle: %w", err))
	}
	if !info.Mode().IsRegular() {
		return bundle.Result{}, cli.BadInput(fmt.Errorf("open the bundle: %s is no file", name))
	}
	res, err := bundle.Verify(f, info.Size(), o)
	var input *bundle.InputError
	switch {
	case errors.As(err, &input):
		return res, cli.BadInput(fmt.Errorf("%w: see --committee and --unsigned, --rules and --roster", err))
	case err != nil:
		return res, cli.Exit(cli.Failed, fmt.Errorf("%s is not good evidence: %s", name, oneLine(err)))
	}
	// A name proves nothing, but a month handed in once more under another one
	// would be taken for that.
	if v, base := res.Verdict, filepath.Base(name); strings.HasPrefix(base, "relay-") && base != bundle.Name(v.Relay.PeerID, v.Month) {
		res.Warnings = append(res.Warnings, fmt.Sprintf("the file's name is not that of what is in it, %s: look twice for which relay and month this is", bundle.Name(v.Relay.PeerID, v.Month)))
	}
	return res, nil
}

// oneLine says what is wrong with a bundle: what stands in it may stand in the
// error, too, and must not look like a line of ours.
func oneLine(err error) string { return plain(strings.ReplaceAll(err.Error(), "\n", "; ")) }

type verifyCmd struct {
	Bundle  string `arg:"" type:"existingfile" help:"The bundle, relay-ID-YYYY-MM.zip."`
	trust   `embed:""`
	Require string `enum:"eligible," default:"" placeholder:"eligible" help:"With \"eligible\": exit code 3 unless the verdict is ELIGIBLE and final."`
	JSON    bool   `help:"Print JSON."`
}

// verifyReport is what --json prints.
type verifyReport struct {
	Verified bool   `json:"verified"`
	Error    string `json:"error,omitempty"`
	Bundle   string `json:"bundle"`
	Headline string `json:"headline,omitempty"`
	Final    bool   `json:"final"`
	*bundle.Result
}

func (c *verifyCmd) Run(out *cli.IO) error {
	res, err := c.open(c.Bundle)
	if err != nil {
		if c.JSON {
			return errors.Join(err, out.JSON(verifyReport{Bundle: c.Bundle, Error: err.Error()}))
		}
		return err
	}
	headline := headlineOf(res)
	if c.JSON {
		err = out.JSON(verifyReport{Verified: true, Bundle: c.Bundle, Headline: headline, Final: res.Final(), Result: &res})
	} else {
		err = c.print(out.Stdout, headline, res)
	}
	if err != nil {
		return err
	}
	if c.Require == "eligible" && (res.Result != bounty.Eligible || !res.Final()) {
		return cli.Exit(notMet, fmt.Errorf("verified, but the verdict is %s, not ELIGIBLE", headline))
	}
	return nil
}

// headlineOf is that of the verdict by the newest roster, unless the way it was verified caps it.
func headlineOf(res bundle.Result) string {
	if res.Newest != nil {
		return strings.Replace(res.Newest.Headline, string(res.Newest.Result), string(res.Result), 1)
	}
	return strings.Replace(res.Verdict.Headline, string(res.Verdict.Result), string(res.Result), 1)
}

func (c *verifyCmd) print(w io.Writer, headline string, res bundle.Result) error {
	v := res.Verdict
	fmt.Fprintf(w, "verified   %s (%d files, put together by monitor %s)\n", c.Bundle, res.Files, res.SignedBy)
	fmt.Fprintf(w, "relay      %s, operator %s\n", v.Relay.PeerID, v.Relay.Operator)
	fmt.Fprintf(w, "month      %s (UTC), as of %s\n", v.Month, v.AsOf)
	fmt.Fprintf(w, "hours      %d up, %d down, %d unknown, %d not enrolled, %d to come, of %d; %d busy\n",
		v.Hours.Up, v.Hours.Down, v.Hours.Unknown, v.Hours.NotEnrolled, v.Hours.Remaining, v.Hours.Total, v.Hours.Busy)
	if n := len(v.Open); n > 0 {
		fmt.Fprintf(w, "open       %d attempts of hours not sealed yet: verified, counted nowhere\n", n)
	}
	payout := "no address is registered"
	if v.Relay.Payout != "" {
		payout = v.Relay.Payout + ", NOT signed by the relay's key"
		if v.Relay.PayoutSigned {
			payout = v.Relay.Payout + ", signed by the relay's key"
		}
	}
	fmt.Fprintf(w, "payout     %s\n\n", payout)
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
	t.Flush()
	for _, warning := range res.Warnings {
		fmt.Fprintf(w, "\nwarning: %s\n", warning)
	}
	fmt.Fprintf(w, "\nverdict: %s\n", headline)
	for _, reason := range v.Reasons {
		if _, err := fmt.Fprintf(w, "  - %s\n", reason); err != nil {
			return err
		}
	}
	return nil
}

type rulesCmd struct{}

func (*rulesCmd) Run(out *cli.IO) error {
	_, err := out.Stdout.Write(bounty.DefaultRules)
	return err
}
