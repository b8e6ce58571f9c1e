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
	"time"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The names of the files.
const (
	verifyFile   = "VERIFY.md"
	rulesFile    = "inputs/rules.yaml"
	rosterFile   = "inputs/roster.yaml"
	releasesFile = "inputs/releases.yaml"
	rootsFile    = "inputs/roots.pem"
	forksDir     = "forks/"
	logsDir      = "logs/"
	jsonFile     = "report.json"
	htmlFile     = "report.html"
	mdFile       = "report.md"
	dsseFile     = "report.dsse.json"
)

// Input is all that goes into a bundle. The same input gives the same bytes.
type Input struct {
	Rules    []byte // the file
	Roster   []byte // the file
	Releases []byte // the file whose SHA-256 stands in the roster, or nil
	Roots    []byte // PEM, or nil
	Relay    string // peer ID
	Month    evidence.Month
	AsOf     time.Time
	// Logs are the exports of the monitors' logs, in any order.
	Logs []evidence.MonitorMonth
	// Forks are checkpoints that contradict one in Logs: each voids its monitor's month.
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

// Write judges the month and writes its bundle. Evidence that would not verify
// is refused here already.
func Write(w io.Writer, in Input) error {
	files := map[string][]byte{rulesFile: in.Rules, rosterFile: in.Roster, verifyFile: []byte(verifyText)}
	if in.Releases != nil {
		files[releasesFile] = in.Releases
	}
	if in.Roots != nil {
		files[rootsFile] = in.Roots
	}
	for i, f := range in.Forks {
		files[fmt.Sprintf("%s%d.txt", forksDir, i+1)] = f
	}
	for _, m := range in.Logs {
		dir := logDir(m.Key)
		log, err := m.Files()
		if err != nil {
			return fmt.Errorf("write the bundle: log of %s: %w", m.Origin, err)
		}
		for name, data := range log {
			if _, taken := files[dir+name]; taken {
				return fmt.Errorf("write the bundle: the log of %s is there twice", m.Origin)
			}
			files[dir+name] = data
		}
	}
	c, err := caseOf(files, Options{Rules: in.Rules, Roster: in.Roster, Beacon: in.Beacon, Geo: in.Geo}, in.Relay, in.Month, in.AsOf)
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := (&held{}).inForce(c.Rules, in.Month); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	v, err := bounty.Judge(c)
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := addReports(files, v); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	statement, err := statementOver(files, v)
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if files[dsseFile], err = in.Sign(statement); err != nil {
		return fmt.Errorf("write the bundle: sign the report: %w", err)
	}
	return pack(w, files)
}

func addReports(files map[string][]byte, v *bounty.Verdict) (err error) {
	if files[jsonFile], err = evidence.Encode(v); err != nil {
		return err
	}
	if files[htmlFile], err = HTML(v); err != nil {
		return err
	}
	files[mdFile] = Markdown(v)
	return nil
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
	// Committee is the verifier key that signs the newest of both. Without it they may be
	// unsigned if Unsigned says so or if the network is lab.
	Committee string
	Unsigned  bool
	Beacon    evidence.BeaconVerifier // nil: beacons count as absent
	Geo       bounty.Geo              // nil: what is built in
}

// Result is a bundle that verified.
type Result struct {
	Verdict *bounty.Verdict `json:"verdict"`
	// Result is the verdict's, or that of Newest, or REVIEW where the caller accepted
	// unsigned rules and the report says ELIGIBLE.
	Result bounty.Result `json:"result"`
	// Newest is the verdict by the newest roster that the verifier holds, if the bundle's
	// is older.
	Newest *bounty.Verdict `json:"newest,omitempty"`
	// SignedBy is the monitor whose log key signed the bundle.
	SignedBy string   `json:"signed_by"`
	Files    int      `json:"files"`
	Warnings []string `json:"warnings"`
	// Case is what the verdict was recomputed from: the verified logs, the rules
	// and the roster.
	Case bounty.Case `json:"-"`
}

// InputError says that the verifier's own files or options are at fault, and
// not the bundle.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }

func (e *InputError) Unwrap() error { return e.Err }

// Verify checks the bundle in r. An *[InputError] is the fault of the options,
// any other error that of the bundle.
func Verify(r io.ReaderAt, size int64, o Options) (Result, error) {
	if _, err := o.check(); err != nil {
		return Result{}, &InputError{err}
	}
	files, err := unpack(r, size)
	if err != nil {
		return Result{}, err
	}
	return verifyFiles(files, o)
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
	return h, nil
}

func verifyFiles(files map[string][]byte, o Options) (Result, error) {
	res := Result{Files: len(files), Warnings: []string{}}
	h, err := o.check()
	if err != nil {
		return res, &InputError{err}
	}
	rules, roster, older, err := h.judgedBy(files)
	if err != nil {
		return res, err
	}
	if res.SignedBy, err = verifyStatement(files, roster); err != nil {
		return res, err
	}
	var theirs bounty.Verdict
	if err := evidence.Decode(files[jsonFile], &theirs); err != nil {
		return res, fmt.Errorf("%s: %w", jsonFile, err)
	}
	if err := h.inForce(rules, theirs.Month); err != nil {
		return res, fmt.Errorf("%s: %w", rulesFile, err)
	}
	// Whose these are is known: the verifier's own files vouch for them.
	by := Options{Rules: files[rulesFile], Roster: files[rosterFile], Beacon: o.Beacon, Geo: o.Geo}
	if res.Case, err = caseOf(files, by, theirs.Relay.PeerID, theirs.Month, theirs.AsOf.Time); err != nil {
		return res, err
	}
	v, err := bounty.Judge(res.Case)
	if err != nil {
		return res, err
	}
	mine := maps.Clone(files)
	if err := addReports(mine, v); err != nil {
		return res, err
	}
	if !bytes.Equal(mine[jsonFile], files[jsonFile]) {
		return res, fmt.Errorf("%s is not what the evidence shows: it says %q, the evidence %q", jsonFile, theirs.Headline, v.Headline)
	}
	for _, name := range []string{htmlFile, mdFile} {
		if !bytes.Equal(mine[name], files[name]) {
			res.Warnings = append(res.Warnings, name+" is not what this version draws: go by the verdict printed here")
		}
	}
	res.Verdict, res.Result = v, v.Result
	if older > 0 {
		res.byNewest(files, h, o.Beacon)
	}
	switch {
	case o.Committee != "":
	case v.Network == evidence.Lab:
		res.Warnings = append(res.Warnings, "lab: nobody's signature of rules and roster was asked for")
	default:
		res.Warnings = append(res.Warnings, "unsigned: rules and roster are taken on your own word, so the result is REVIEW at most")
		if res.Result == bounty.Eligible {
			res.Result = bounty.ForReview
		}
	}
	return res, nil
}

// caseOf verifies the logs among the files and puts together all that is judged.
func caseOf(files map[string][]byte, o Options, relay string, month evidence.Month, asOf time.Time) (bounty.Case, error) {
	c := bounty.Case{Geo: o.Geo, Relay: relay, Month: month, AsOf: evidence.TimeOf(asOf).Time}
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
	if data, ok := files[releasesFile]; ok {
		// Whoever makes the bundle must not choose what the relay should have run.
		if hashOf(data) != c.Roster.Releases {
			return c, fmt.Errorf("%s is not the release list whose SHA-256 stands in the roster", releasesFile)
		}
		if c.Releases, err = release.Parse(releasesFile, data); err != nil {
			return c, err
		}
	}
	logs, err := verifyLogs(files, c.Roster, month, o.Beacon)
	if err != nil {
		return c, err
	}
	c.Logs = bounty.LogsOf(logs...)
	return c, nil
}

// logFiles groups the files of logs by their folders.
func logFiles(files map[string][]byte) (map[string]map[string][]byte, error) {
	dirs := map[string]map[string][]byte{}
	for name, data := range files {
		rest, ok := strings.CutPrefix(name, logsDir)
		if !ok {
			continue
		}
		dir, file, ok := strings.Cut(rest, "/")
		if !ok {
			return nil, fmt.Errorf("%s: a file of a log stands in the log's folder", name)
		}
		if dirs[dir] == nil {
			dirs[dir] = map[string][]byte{}
		}
		dirs[dir][file] = data
	}
	return dirs, nil
}

// Logs are what the monitors' logs show in the bundle in r, to be put into
// another one. Nothing is verified: [Write] does.
func Logs(r io.ReaderAt, size int64) ([]evidence.MonitorMonth, error) {
	files, err := unpack(r, size)
	if err != nil {
		return nil, err
	}
	dirs, err := logFiles(files)
	if err != nil {
		return nil, err
	}
	var out []evidence.MonitorMonth
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		m, err := evidence.MonthFromFiles(dirs[dir])
		if err != nil {
			return nil, fmt.Errorf("%s%s: %w", logsDir, dir, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// verifyLogs verifies the logs among the files, in the order of their folders.
func verifyLogs(files map[string][]byte, roster *bounty.Roster, month evidence.Month, beacon evidence.BeaconVerifier) ([]bounty.Log, error) {
	dirs, err := logFiles(files)
	if err != nil {
		return nil, err
	}
	var out []bounty.Log
	witnesses := roster.WitnessKeys(month)
	convicts := map[string]bool{}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		m, err := evidence.MonthFromFiles(dirs[dir])
		if err != nil {
			return nil, fmt.Errorf("%s%s: %w", logsDir, dir, err)
		}
		if logDir(m.Key) != logsDir+dir+"/" {
			return nil, fmt.Errorf("%s%s: the log of key %s stands in another folder", logsDir, dir, m.Key)
		}
		monitor := roster.LogMonitor(m.Key, month)
		if monitor == nil {
			return nil, fmt.Errorf("%s%s: no monitor of the roster has the key %s in %s", logsDir, dir, m.Key, month)
		}
		v, err := evidence.VerifyMonth(m, evidence.Keys{Log: monitor.LogKey, Witnesses: witnesses, Beacon: beacon})
		if err != nil {
			return nil, fmt.Errorf("log of monitor %s: %w", monitor.Name, err)
		}
		log := bounty.Log{Monitor: monitor.Name, Key: monitor.LogKey, Month: v}
		names, void, err := forksOf(files, &log, m)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			convicts[name] = true
		}
		log.Void = void
		out = append(out, log)
	}
	for name := range files {
		if strings.HasPrefix(name, forksDir) && !convicts[name] {
			return nil, fmt.Errorf("%s contradicts no log of the bundle", name)
		}
	}
	return out, nil
}
