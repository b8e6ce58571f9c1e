package scale

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/committee"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/mirror"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// Sample is what one step of a measurement came to. Each is a process of its own, so that
// the peak of its memory is that of the step.
type Sample struct {
	Step    string  `json:"step"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"` // user and system
	Peak    int64   `json:"peak_bytes"`  // VmHWM of the process
	// Values are what else was measured, by name.
	Values map[string]float64 `json:"values"`
}

// Ingest takes the fleet's logs into a committee's database, and returns how many records
// it took and what reads the month's table. It is where package monitor/committee is
// measured on the same logs: nil, it is not.
var Ingest func(ctx context.Context, f *Fleet) (records int64, table committee.Reader, err error)

// steps are measured in this order: later ones use what earlier ones leave in the folder.
var steps = []struct {
	name string
	do   func(*Fleet, context.Context) (map[string]float64, error)
}{
	{"size", (*Fleet).size},
	{"roster", (*Fleet).readRoster},
	{"export", (*Fleet).export},
	{"publish", (*Fleet).publishLog},
	{"mirror", (*Fleet).mirror},
	{"bundle", (*Fleet).bundle},
	{"verify", (*Fleet).verify},
	{"ingest", (*Fleet).ingest},
}

// Steps are the names of what is measured.
func Steps() (names []string) {
	for _, s := range steps {
		if s.name != "ingest" || Ingest != nil {
			names = append(names, s.name)
		}
	}
	return names
}

// Measure does one step in this process.
func (f *Fleet) Measure(ctx context.Context, step string) (Sample, error) {
	for _, s := range steps {
		if s.name != step {
			continue
		}
		began, cpu := time.Now(), cpuTime()
		values, err := s.do(f, ctx)
		if err != nil {
			return Sample{}, fmt.Errorf("measure %s: %w", step, err)
		}
		out := Sample{Step: step, Seconds: time.Since(began).Seconds(), CPU: cpuTime() - cpu, Values: values}
		out.Peak, err = peak()
		return out, err
	}
	return Sample{}, fmt.Errorf("measure %q: want one of %s", step, strings.Join(Steps(), ", "))
}

// peak is the most memory that this process has had.
func peak() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("VmHWM of /proc/self/status: %w", err)
	}
	return kib << 10, nil
}

// The kinds of a log's bytes. Certificates are written once, the rest each hour.
const (
	ofRecords      = "records"
	ofHeaders      = "headers"
	ofCheckpoints  = "checkpoints"
	ofCertificates = "certificates"
)

// size adds up the files of all logs, by their kind.
func (f *Fleet) size(context.Context) (map[string]float64, error) {
	v := map[string]float64{}
	for _, m := range f.monitors {
		dir := f.logOf(m)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			kind := ""
			switch rel := strings.TrimPrefix(path, dir+"/"); {
			case strings.HasPrefix(rel, "blocks/") && strings.Count(rel, "/") == 2:
				kind = ofRecords
			case strings.HasPrefix(rel, "blocks/"):
				kind = ofHeaders
			case strings.HasPrefix(rel, "checkpoints/"):
				kind = ofCheckpoints
			case strings.HasPrefix(rel, "certs/"):
				kind = ofCertificates
			default:
				return nil // keys, and what the log is called
			}
			v[kind] += float64(info.Size())
			v[kind+" files"]++
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

// readRoster reads the roster once, as every program does that needs it.
func (f *Fleet) readRoster(context.Context) (map[string]float64, error) {
	file, err := os.ReadFile(f.path(rosterFile))
	if err != nil {
		return nil, err
	}
	roster, _, err := bounty.OpenRoster(rosterFile, file, "")
	if err != nil {
		return nil, err
	}
	return map[string]float64{"relays": float64(len(roster.Relays)), "bytes": float64(len(file))}, nil
}

// Relay is the one whose month is measured: it is down for some hours, if there are enough.
func (f *Fleet) Relay() (string, error) {
	r, err := f.newRelay(min(3, f.Relays-1))
	if err != nil {
		return "", err
	}
	return r.id, nil
}

func (f *Fleet) witnessKeys() (keys []string) {
	for _, m := range f.monitors {
		keys = append(keys, m.witness.VKey())
	}
	return keys
}

// export exports the relay's month from the first monitor's log.
func (f *Fleet) export(context.Context) (map[string]float64, error) {
	relay, err := f.Relay()
	if err != nil {
		return nil, err
	}
	l, err := store.OpenRead(f.logOf(f.monitors[0]))
	if err != nil {
		return nil, err
	}
	defer l.Close()
	m, err := evidence.Export(l, Month, relay, f.asOf(), f.witnessKeys()...)
	if err != nil {
		return nil, err
	}
	files, err := m.Files()
	if err != nil {
		return nil, err
	}
	size := 0
	for _, b := range files {
		size += len(b)
	}
	return map[string]float64{"bytes": float64(size), "records": float64(len(m.Records))}, nil
}

// publishLog writes the public form of the first monitor's log.
func (f *Fleet) publishLog(ctx context.Context) (_ map[string]float64, err error) {
	dir := f.path("public")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	l, err := store.OpenRead(f.logOf(f.monitors[0]))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if _, err = tiles.Export(ctx, l, dir, nil); err != nil {
		return nil, err
	}
	n, err := recordsIn(l)
	return map[string]float64{"records": n}, err
}

// recordsIn are how many records a log has.
func recordsIn(l *store.Log) (n float64, err error) {
	headers, err := l.Headers(Month)
	for _, h := range headers {
		n += float64(h.Records)
	}
	return n, err
}

// mirror brings in the log whose public form was written, checking all of it.
func (f *Fleet) mirror(ctx context.Context) (_ map[string]float64, err error) {
	dir := f.path("mirror")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	m, err := mirror.New(mirror.Options{From: f.path("public"), Dir: dir, Key: f.monitors[0].key.VerifierKey(), Witnesses: f.witnessKeys()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if _, err := m.Sync(ctx); err != nil {
		return nil, err
	}
	l, err := store.OpenRead(f.logOf(f.monitors[0]))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	n, err := recordsIn(l)
	return map[string]float64{"records": n}, err
}

// Bundle writes the relay's bundle, from all logs, as "relaymon bundle --from" does.
func (f *Fleet) Bundle(ctx context.Context, relay, file string) (*bounty.Verdict, error) {
	first := f.monitors[0]
	key, err := os.ReadFile(f.path(committeeFile))
	if err != nil {
		return nil, err
	}
	cfg, err := monitor.ParseConfig("the configuration of "+first.name, fmt.Appendf(nil, `name: %s
network: lab
data_dir: %q
roster: %q
rules: %q
committee: %q
listen: ""
drand: []
browser: none
`, first.name, f.data(first), f.path(rosterFile), f.path(rulesFile), strings.TrimSpace(string(key))))
	if err != nil {
		return nil, err
	}
	var others []string
	for _, m := range f.monitors[1:] {
		others = append(others, f.data(m))
	}
	return monitor.WriteBundle(ctx, cfg, monitor.BundleRequest{Relay: relay, Month: Month, AsOf: f.asOf(), From: others, Beacon: f.drand}, file)
}

func (f *Fleet) bundleFile() string { return f.path("bundle.zip") }

func (f *Fleet) bundle(ctx context.Context) (map[string]float64, error) {
	relay, err := f.Relay()
	if err != nil {
		return nil, err
	}
	if _, err := f.Bundle(ctx, relay, f.bundleFile()); err != nil {
		return nil, err
	}
	return parts(f.bundleFile())
}

// The other kinds of a bundle's bytes.
const (
	ofProofs = "proofs"
	ofRoster = "roster"
	ofReport = "report"
)

// parts adds up the files of a bundle by their kind.
func parts(file string) (map[string]float64, error) {
	z, err := zip.OpenReader(file)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	v := map[string]float64{}
	for _, f := range z.File {
		kind := ofReport
		switch {
		case f.Name == "inputs/roster.yaml":
			kind = ofRoster
		case strings.HasSuffix(f.Name, "/blocks.jsonl"):
			kind = ofHeaders
		case strings.HasSuffix(f.Name, "/checkpoints"):
			kind = ofCheckpoints
		case strings.HasSuffix(f.Name, "/proofs.jsonl"):
			kind = ofProofs
		case strings.HasSuffix(f.Name, "/records.jsonl"):
			kind = ofRecords
		case strings.Contains(f.Name, "/certificates/"):
			kind = ofCertificates
		}
		v[kind] += float64(f.UncompressedSize64)
		v["bytes"] += float64(f.UncompressedSize64)
	}
	return v, nil
}

// Verify verifies a bundle with the committee's files, as relayaudit does.
func (f *Fleet) Verify(file string) (out bundle.Result, err error) {
	b, err := os.Open(file)
	if err != nil {
		return out, err
	}
	defer b.Close()
	info, err := b.Stat()
	if err != nil {
		return out, err
	}
	o := bundle.Options{Beacon: f.drand}
	var key []byte
	for name, to := range map[string]*[]byte{rulesFile: &o.Rules, rosterFile: &o.Roster, committeeFile: &key} {
		if *to, err = os.ReadFile(f.path(name)); err != nil {
			return out, err
		}
	}
	o.Committee = strings.TrimSpace(string(key))
	if o.Geo, err = bundle.DefaultGeo(); err != nil {
		return out, err
	}
	return bundle.Verify(b, info.Size(), o)
}

func (f *Fleet) verify(context.Context) (map[string]float64, error) {
	res, err := f.Verify(f.bundleFile())
	if err != nil {
		return nil, err
	}
	return map[string]float64{"hours up": float64(res.Counts().Hours.Up), "hours down": float64(res.Counts().Hours.Down)}, nil
}

// ingest takes all logs into the committee's database, and reads the month's table.
func (f *Fleet) ingest(ctx context.Context) (map[string]float64, error) {
	began := time.Now()
	n, table, err := Ingest(ctx, f)
	if err != nil {
		return nil, err
	}
	taken := time.Since(began)
	rows, err := table.Table(ctx, Month)
	if err != nil {
		return nil, err
	}
	return map[string]float64{
		"records": float64(n), "rows": float64(len(rows)),
		"ingest seconds": taken.Seconds(), "table seconds": (time.Since(began) - taken).Seconds(),
	}, nil
}

// Logs are the data folders of all monitors, each with its log.
func (f *Fleet) Logs() (dirs []string) {
	for _, m := range f.monitors {
		dirs = append(dirs, f.data(m))
	}
	return dirs
}

// Result is all that was measured of a fleet.
type Result struct {
	Options
	Made    Made     `json:"made"`
	Samples []Sample `json:"samples"` // of each step the one with the median of CPU
}

// NewResult takes of each step's samples the one in the middle by CPU: what other programs
// do at the same time changes that less than the time.
func NewResult(f *Fleet, samples []Sample) Result {
	r := Result{Options: f.Options, Made: f.Made}
	for _, step := range Steps() {
		list := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return s.Step != step })
		if len(list) == 0 {
			continue
		}
		slices.SortFunc(list, func(a, b Sample) int { return cmp.Compare(a.CPU, b.CPU) })
		r.Samples = append(r.Samples, list[len(list)/2])
	}
	return r
}

// Read reads results, one a line.
func Read(b []byte) (list []Result, err error) {
	for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
		var r Result
		if err := dec.Decode(&r); err != nil {
			return nil, fmt.Errorf("read result %d: %w", len(list)+1, err)
		}
		list = append(list, r)
	}
	return list, nil
}
