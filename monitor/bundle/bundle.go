package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Input is all that goes into a bundle. The same input gives the same bytes.
type Input struct {
	Rules    []byte // the file
	Roster   []byte // the file
	Releases []byte // the file whose SHA-256 stands in the roster, or nil
	Relay    string // peer ID
	Month    evidence.Month
	// Logs are the exports of the monitors' logs, in any order.
	Logs []evidence.MonitorMonth
	// Forks are pairs of checkpoints (evidence.NewFork), in any order: each voids the
	// month of a monitor in Logs. See [Convicting].
	Forks [][]byte
	// Beacon checks beacons; nil: they count as absent.
	Beacon evidence.BeaconVerifier
	// Geo is what is known of the world's countries; nil: what is built in.
	Geo bounty.Geo
	// Sign puts a statement into a DSSE envelope: the SignStatement of the log
	// of a monitor that is in the roster.
	Sign func(statement []byte) ([]byte, error)
}

// Name is what the file of a bundle is called.
func Name(relay string, m evidence.Month) string { return fmt.Sprintf("relay-%s-%s.zip", relay, m) }

// Write judges the month, writes its bundle and returns the verdict. Evidence that would
// not verify is refused here already.
func Write(w io.Writer, in Input) (*bounty.Verdict, error) {
	fail := func(err error) (*bounty.Verdict, error) { return nil, fmt.Errorf("write the bundle: %w", err) }
	files := map[string][]byte{rulesFile: in.Rules, rosterFile: in.Roster}
	if in.Releases != nil {
		files[releasesFile] = in.Releases
	}
	for i, f := range slices.SortedFunc(slices.Values(in.Forks), bytes.Compare) {
		files[forkFile(i)] = f
	}
	for _, m := range in.Logs {
		dir := logDir(m.Key)
		log, err := m.Files()
		if err != nil {
			return fail(fmt.Errorf("log of %s: %w", m.Origin, err))
		}
		for name, data := range log {
			if _, taken := files[dir+name]; taken {
				return fail(fmt.Errorf("the log of %s is there twice", m.Origin))
			}
			files[dir+name] = data
		}
	}
	f := folderOf(files)
	if err := checkNames(f); err != nil {
		return fail(err)
	}
	c, err := caseOf(f, Options{Rules: in.Rules, Roster: in.Roster, Beacon: in.Beacon, Geo: in.Geo}, in.Relay, in.Month)
	if err != nil {
		return fail(err)
	}
	if err := (&held{}).inForce(c.Rules, in.Month); err != nil {
		return fail(err)
	}
	v, err := bounty.Judge(c)
	if err != nil {
		return fail(err)
	}
	derived, err := derivedFiles(v)
	if err != nil {
		return fail(err)
	}
	maps.Copy(files, derived)
	statement, err := statementOver(folderOf(files), predicateOf(v, drawnBy()))
	if err != nil {
		return fail(err)
	}
	if files[dsseFile], err = in.Sign(statement); err != nil {
		return fail(fmt.Errorf("sign the report: %w", err))
	}
	if err := checkNames(folderOf(files)); err != nil {
		return fail(err)
	}
	return v, pack(w, files)
}

// drawnBy is the version of this program. Golden bundles are another one's, since the
// drawings in them stay as they were.
var drawnBy = buildinfo.Version

// derivedFiles are those that follow from the verdict: a verifier makes them himself.
func derivedFiles(v *bounty.Verdict) (map[string][]byte, error) {
	report, err := evidence.Encode(v)
	if err != nil {
		return nil, err
	}
	html, err := HTML(v)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{verifyFile: []byte(verifyText), jsonFile: report, htmlFile: html, mdFile: Markdown(v)}, nil
}

// logDir is where a log's files stand.
func logDir(key string) string {
	sum := sha256.Sum256([]byte(key))
	return logsDir + hex.EncodeToString(sum[:8]) + "/"
}

// Options are what a verifier brings along.
type Options struct {
	Rules  []byte // the file
	Roster []byte // the file
	// OlderRules and OlderRosters are those before Rules and Roster, without gaps, in any
	// order: for bundles that were judged by one of them. The one right before needs not
	// be among them, since its hash is known.
	OlderRules, OlderRosters [][]byte
	// Releases is the release list that the newest roster names, or nil: for bundles that
	// were judged by an older roster, with another list.
	Releases []byte
	// Forks convict monitors of the newest roster, as those in the bundle do. Whoever made
	// the bundle may have left them out.
	Forks []GivenFork
	// Committee is the verifier key that signs the newest of both. Without it they may be
	// unsigned if Unsigned says so or if the network is lab.
	Committee string
	Unsigned  bool
	// Relay and Month are what the bundle must be about; empty and nil: whatever it is.
	Relay  string
	Month  *evidence.Month
	Beacon evidence.BeaconVerifier // nil: beacons count as absent
	Geo    bounty.Geo              // nil: what is built in
}

// Result is a bundle that verified.
type Result struct {
	// Verdict is what the evidence shows. Where the caller accepted unsigned rules and
	// it would be ELIGIBLE, it is REVIEW.
	Verdict *bounty.Verdict `json:"verdict"`
	// Result is that of [Result.Counts].
	Result bounty.Result `json:"result"`
	// Newest is the verdict that counts in place of Verdict, if the verifier holds what the
	// bundle does not: a newer roster, or forks of logs in it.
	Newest *bounty.Verdict `json:"newest,omitempty"`
	// Forks are those that the verifier brought along.
	Forks []BroughtFork `json:"forks,omitempty"`
	// SignedBy is the monitor whose log key signed the bundle.
	SignedBy string   `json:"signed_by"`
	Files    int      `json:"files"`
	Warnings []string `json:"warnings"`
	// NotChecked are drawings of the verdict in the bundle about which nothing is known.
	NotChecked *NotChecked `json:"not_checked,omitempty"`
	// Case is what the verdict that counts was recomputed from: the logs, the rules and
	// the roster. Its logs are read and verified anew each time they are gone through.
	Case bounty.Case `json:"-"`

	caps []string // why it is REVIEW at most, by whatever rules
}

// NotChecked are files of a bundle that another version of the program drew, by what the
// bundle says, and that differ from what this one draws. That a monitor of the roster
// signed for them is all that is known: they may show any verdict.
type NotChecked struct {
	Files   []string `json:"files"`
	DrawnBy string   `json:"drawn_by"`
}

// Judge judges the same evidence by other rules.
func (r *Result) Judge(rules *bounty.Rules) (*bounty.Verdict, error) {
	c := r.Case
	c.Rules = rules
	v, err := bounty.Judge(c)
	if err != nil {
		return nil, err
	}
	for _, why := range r.caps {
		atMostReview(v, why)
	}
	return v, nil
}

const unsignedWhy = "unsigned: rules and roster are taken on your own word, so no committee vouches for them"

// atMostReview keeps a verdict from being ELIGIBLE.
func atMostReview(v *bounty.Verdict, why string) {
	if v.Result != bounty.Eligible {
		return
	}
	v.Headline = strings.Replace(v.Headline, string(v.Result), string(bounty.ForReview), 1)
	v.Result = bounty.ForReview
	v.Reasons = append([]string{why}, v.Reasons...)
}

// InputError says that the verifier's own files or options are at fault, and
// not the bundle.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }

func (e *InputError) Unwrap() error { return e.Err }

// Verify checks the bundle in r, of which it holds no more than one log at a time. An
// *[InputError] is the fault of the options, any other error that of the bundle. The
// result's logs are read from r again.
func Verify(r io.ReaderAt, size int64, o Options) (Result, error) {
	if _, err := o.check(); err != nil {
		return Result{}, &InputError{err}
	}
	files, err := open(r, size)
	if err != nil {
		return Result{}, err
	}
	res, err := verifyFiles(files, o)
	var input *InputError
	if err != nil && !errors.As(err, &input) {
		// A newer report may differ in everything: that is the one thing to say then.
		report, fault := files.read(jsonFile)
		if newer := newerReport(report); fault == nil && newer != nil {
			err = newer
		}
	}
	return res, err
}

// newerReport is the error of a report of a higher version than this program's; nil: it
// is none.
func newerReport(report []byte) error {
	return evidence.NewerVersion(jsonFile, evidence.VersionIn(report), bounty.ReportVersion)
}

// check refuses options that cannot lead to a verdict.
func (o *Options) check() (*held, error) {
	h, err := o.hold()
	if err != nil {
		return nil, err
	}
	rules, roster := h.rules[len(h.rules)-1], h.newestRoster()
	if rules.Network != roster.Network {
		return nil, fmt.Errorf("the rules are for network %s, the roster for %s: lab and real are never mixed", rules.Network, roster.Network)
	}
	if rules.Network != evidence.Lab && o.Committee == "" && !o.Unsigned {
		return nil, errors.New("whose rules and roster are these? name the committee's verifier key, or accept unsigned ones")
	}
	if o.Releases != nil && hashOf(o.Releases) != roster.Releases {
		return nil, errors.New("the release list is not the list whose SHA-256 stands in the newest roster")
	}
	for _, f := range o.Forks {
		if _, _, err := f.convicts(roster); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func verifyFiles(files folder, o Options) (Result, error) {
	res := Result{Files: len(files), Warnings: []string{}}
	if err := checkNames(files); err != nil {
		return res, err
	}
	h, err := o.check()
	if err != nil {
		return res, &InputError{err}
	}
	rules, roster, older, err := h.judgedBy(files)
	if err != nil {
		return res, err
	}
	var says predicate
	if res.SignedBy, says, err = verifyStatement(files, roster); err != nil {
		return res, err
	}
	if o.Relay != "" && o.Relay != says.Relay || o.Month != nil && *o.Month != says.Month {
		return res, fmt.Errorf("the bundle is about relay %.100q in %s: that is not what was asked for", says.Relay, says.Month)
	}
	if err := h.inForce(rules, says.Month); err != nil {
		return res, fmt.Errorf("%s: %w", rulesFile, err)
	}
	// Whose these are is known: the verifier's own files vouch for them.
	by := Options{Beacon: o.Beacon, Geo: o.Geo}
	if by.Rules, err = files.read(rulesFile); err != nil {
		return res, err
	}
	if by.Roster, err = files.read(rosterFile); err != nil {
		return res, err
	}
	if res.Case, err = caseOf(files, by, says.Relay, says.Month); err != nil {
		return res, err
	}
	v, err := bounty.Judge(res.Case)
	if err != nil {
		return res, err
	}
	if res.NotChecked, err = compare(files, v, says); err != nil {
		return res, err
	}
	res.Verdict = v
	if n := res.NotChecked; n != nil {
		res.Warnings = append(res.Warnings, fmt.Sprintf("NOT CHECKED: %s in the bundle, drawn by version %s, while this is version %s: whoever made the bundle may have written anything into them; this verdict and report.json are recomputed, and a drawing of them that is yours is made by relayaudit verify --html FILE",
			strings.Join(n.Files, ", "), n.DrawnBy, buildinfo.Version()))
	}
	if older > 0 {
		res.byNewest(files, h, o)
	}
	if err := res.byForks(h.newestRoster(), o.Forks); err != nil {
		return res, err
	}
	res.tellUnknown(rules, res.Case.Roster)
	switch {
	case o.Committee != "":
	case v.Network == evidence.Lab:
		res.Warnings = append(res.Warnings, "lab: nobody's signature of rules and roster was asked for")
	default:
		res.Warnings = append(res.Warnings, "unsigned: rules and roster are taken on your own word, so the result is REVIEW at most")
		res.caps = append(res.caps, unsignedWhy)
		atMostReview(res.Verdict, unsignedWhy)
		atMostReview(res.Counts(), unsignedWhy)
	}
	res.Result = res.Counts().Result
	return res, nil
}

// tellUnknown says which members of the committee's files are unknown here.
func (r *Result) tellUnknown(rules *bounty.Rules, roster *bounty.Roster) {
	for _, f := range []struct {
		what    string
		unknown []string
	}{{"the rules have", rules.Unknown}, {"the roster has", roster.Unknown}} {
		if len(f.unknown) > 0 {
			r.Warnings = append(r.Warnings, fmt.Sprintf("%s members that this relayaudit does not know: %s; they mean nothing to it", f.what, strings.Join(f.unknown, ", ")))
		}
	}
}

// compare makes all that follows from the verdict, and compares it with what is there.
// Drawings that another version made may differ, and are then not checked.
func compare(files folder, v *bounty.Verdict, says predicate) (*NotChecked, error) {
	derived, err := derivedFiles(v)
	if err != nil {
		return nil, err
	}
	mine := buildinfo.Version()
	other := &NotChecked{DrawnBy: says.DrawnBy}
	for _, name := range []string{jsonFile, htmlFile, mdFile, verifyFile} { // the first tells most
		switch f := files.file(name); {
		case f == nil:
			return nil, fmt.Errorf("%s is missing", name)
		case f.sum == hashOf(derived[name]):
		case name == jsonFile:
			hint := ""
			if says.DrawnBy != mine {
				hint = fmt.Sprintf("; it was made by version %s, this is version %s: use that version, or let any monitor make the bundle anew (relaymon bundle --from FILE)", says.DrawnBy, mine)
			}
			return nil, fmt.Errorf("%s is not what the evidence shows: the bundle says %.100q, the evidence %q%s", name, says.Headline, v.Headline, hint)
		case says.DrawnBy != mine:
			other.Files = append(other.Files, name)
		default:
			return nil, fmt.Errorf("%s is not what this program draws from the evidence", name)
		}
	}
	if want := predicateOf(v, says.DrawnBy); says != want {
		return nil, fmt.Errorf("%s: its predicate is not what the evidence shows: it says %.100q of relay %.100q in %s as of %s, the evidence %q of %s in %s as of %s, network %s",
			dsseFile, says.Headline, says.Relay, says.Month, says.AsOf, want.Headline, want.Relay, want.Month, want.AsOf, want.Network)
	}
	if other.Files == nil {
		return nil, nil
	}
	return other, nil
}

// caseOf puts together all that is judged. The logs are verified as they are gone through.
func caseOf(files folder, o Options, relay string, month evidence.Month) (bounty.Case, error) {
	c := bounty.Case{Geo: o.Geo, Relay: relay, Month: month}
	var err error
	if c.Geo == nil {
		if c.Geo, err = DefaultGeo(); err != nil {
			return c, err
		}
	}
	if c.Rules, c.RulesSignedBy, err = bounty.OpenRules("rules", o.Rules, o.Committee); err != nil {
		return c, err
	}
	if c.Roster, c.RosterSignedBy, err = bounty.OpenRoster("roster", o.Roster, o.Committee); err != nil {
		return c, err
	}
	if f := files.file(releasesFile); f != nil {
		// Whoever makes the bundle must not choose what the relay should have run.
		if f.sum != c.Roster.Releases {
			return c, fmt.Errorf("%s is not the release list whose SHA-256 stands in the roster", releasesFile)
		}
		data, err := f.read()
		if err != nil {
			return c, err
		}
		if c.Releases, err = release.Parse(releasesFile, data); err != nil {
			return c, err
		}
	}
	c.Logs, err = verifiedLogs(files, c.Roster, month, o.Beacon)
	return c, err
}

// logFolders are the folders of the logs, in the order of their names.
func logFolders(files folder) []folder {
	var out []folder
	for rest := files.under(logsDir); len(rest) > 0; rest = rest[len(out[len(out)-1]):] {
		out = append(out, rest.under(rest.log()))
	}
	return out
}

// log is the name of the folder of the log to which the first file belongs.
func (f folder) log() string {
	dir, _, _ := strings.Cut(strings.TrimPrefix(f[0].name, logsDir), "/")
	return logsDir + dir + "/"
}

// readLog reads the log in a folder. Nothing is verified.
func readLog(files folder) (evidence.MonitorMonth, error) {
	dir := files.log()
	contents := make(map[string][]byte, len(files))
	for _, f := range files {
		data, err := f.read()
		if err != nil {
			return evidence.MonitorMonth{}, err
		}
		contents[strings.TrimPrefix(f.name, dir)] = data
	}
	m, err := evidence.MonthFromFiles(contents)
	if err != nil {
		return m, fmt.Errorf("%s: %w", dir, err)
	}
	return m, nil
}

// Logs are what the monitors' logs show in the bundle in r, and the forks beside them,
// to be put into another one. Nothing is verified: [Write] does.
func Logs(r io.ReaderAt, size int64) (logs []evidence.MonitorMonth, forks [][]byte, err error) {
	files, err := open(r, size)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range logFolders(files) {
		m, err := readLog(f)
		if err != nil {
			return nil, nil, err
		}
		logs = append(logs, m)
	}
	for _, f := range files.under(forksDir) {
		fork, err := f.read()
		if err != nil {
			return nil, nil, err
		}
		forks = append(forks, fork)
	}
	return logs, forks, nil
}

// verifiedLogs are the logs among the files, in the order of their folders. Each is
// read and verified when its turn has come, and let go of before the next.
func verifiedLogs(files folder, roster *bounty.Roster, month evidence.Month, beacon evidence.BeaconVerifier) ([]bounty.Log, error) {
	known := map[string]string{} // keys by folder
	for _, m := range roster.Monitors {
		known[logDir(m.LogKey)] = m.LogKey
	}
	folders := logFolders(files)
	monitors := make([]*bounty.Monitor, len(folders))
	keys := make([]string, len(folders))
	for i, f := range folders {
		dir := f.log()
		if monitors[i] = roster.LogMonitor(known[dir], month); monitors[i] == nil {
			return nil, fmt.Errorf("%s: no monitor of the roster has a log of that name in %s", dir, month)
		}
		keys[i] = monitors[i].LogKey
	}
	void, err := voids(files, keys)
	if err != nil {
		return nil, err
	}
	witnesses := roster.WitnessKeys(month)
	var out []bounty.Log
	for i, m := range monitors {
		keys := evidence.Keys{Log: m.LogKey, Plan: m.PlanKey, Witnesses: witnesses, Beacon: beacon}
		out = append(out, bounty.Log{Monitor: m.Name, Key: m.LogKey, Void: void[m.LogKey], Read: func(visit func(evidence.VerifiedHour) error) (evidence.VerifiedMonth, error) {
			month, err := readLog(folders[i])
			if err == nil {
				var v evidence.VerifiedMonth
				if v, err = evidence.VerifyHours(month, keys, visit); err == nil {
					return v, nil
				}
			}
			return evidence.VerifiedMonth{}, fmt.Errorf("log of monitor %s: %w", m.Name, err)
		}})
	}
	return out, nil
}
