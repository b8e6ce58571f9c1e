package monitor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/mirror"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// BundleRequest says which bundle is to be written.
type BundleRequest struct {
	Relay string // peer ID
	Month evidence.Month
	AsOf  time.Time
	// From are sources of other monitors' logs: the folder of a log, of a monitor's data,
	// or of a mirror; a bundle of the same month, or the URL of one; or the URL of a bucket
	// that a log is in.
	From []string
	// Fetched is a folder for what is read of logs in buckets, to be read once for several
	// bundles; empty: a temporary one.
	Fetched string
	// Beacon checks the rounds; nil: drand's quicknet.
	Beacon evidence.BeaconVerifier
	// Tell is called with a sentence for each copy of a log that is left aside, and for each
	// log that ends early; nil: nobody is told.
	Tell func(string)
}

// WriteBundle writes the bundle of one relay's month into a file, and returns the
// verdict. It reads this monitor's log beside a monitor that may be running. A
// [bundle.InputError] is the fault of the request.
func WriteBundle(ctx context.Context, cfg Config, q BundleRequest, file string) (v *bounty.Verdict, err error) {
	m := &Monitor{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	if err := m.follow(); err != nil {
		return nil, err
	}
	by, err := judgedBy(cfg, q.Month)
	if err != nil {
		return nil, err
	}
	roster := by.roster
	releases, err := m.readReleases(roster)
	if err != nil {
		return nil, err
	}
	if roster.Relay(q.Relay) == nil {
		return nil, &bundle.InputError{Err: fmt.Errorf("relay %q is not in the roster %s: name one of its relays by its peer ID, as it stands there", q.Relay, cfg.Roster)}
	}
	l, err := openForReading(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if first := l.First().Month(); q.Month < first {
		return nil, &bundle.InputError{Err: fmt.Errorf("this log begins in %s: it holds nothing of %s", first, q.Month)}
	}
	own, err := export(l, roster, q)
	if err != nil {
		return nil, err
	}
	var all []copied
	// What this monitor's witness was shown of monitors that wrote two histories, and
	// what others hold of them.
	forks, err := l.Forks()
	if err != nil {
		return nil, err
	}
	for _, source := range q.From {
		others, theirs, err := otherLogs(ctx, roster, q, source)
		if err != nil {
			return nil, fmt.Errorf("logs from %s: %w", source, err)
		}
		forks = append(forks, theirs...)
		for _, log := range others {
			if log.Key != own.Key { // another monitor's bundle may hold ours: this one reaches further
				all = append(all, copied{log, source})
			}
		}
	}
	logs, theirs, err := onceEach(all, roster, q)
	if err != nil {
		return nil, err
	}
	logs, forks = append([]evidence.MonitorMonth{own}, logs...), append(forks, theirs...)
	for _, log := range logs {
		if log.Cut != "" && q.Tell != nil {
			q.Tell(fmt.Sprintf("the log of %q ends early: %s", log.Origin, log.Cut))
		}
	}
	geo, err := bundle.DefaultGeo()
	if err != nil {
		return nil, err
	}
	if q.Beacon == nil {
		q.Beacon = beacon.Quicknet()
	}
	var b bytes.Buffer
	v, err = bundle.Write(&b, bundle.Input{
		Rules:    by.files.rules,
		Roster:   by.files.roster,
		Releases: releases,
		Relay:    q.Relay,
		Month:    q.Month,
		Logs:     logs,
		Forks:    bundle.Convicting(forks, logs),
		Beacon:   q.Beacon,
		Geo:      geo,
		Sign:     l.SignStatement,
	})
	if err != nil {
		return nil, err
	}
	return v, durable.Replace(file, b.Bytes(), 0o644)
}

func export(l evidence.Source, roster *bounty.Roster, q BundleRequest) (evidence.MonitorMonth, error) {
	return evidence.Export(l, q.Month, q.Relay, q.AsOf, roster.WitnessKeys(q.Month)...)
}

// otherLogs reads what a source holds of the month, and what convicts monitors. Its own
// report, if it has one, is nothing to us: evidence is taken over, verdicts are recomputed.
func otherLogs(ctx context.Context, roster *bounty.Roster, q BundleRequest, source string) (logs []evidence.MonitorMonth, forks [][]byte, err error) {
	if dir, ok := bucket.Folder(source); ok {
		source = dir
	} else if bucket.Is(source) {
		return logInBucket(ctx, roster, q, source)
	}
	if isWeb(source) {
		ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
		defer cancel()
		b, err := download.Get(ctx, http.DefaultClient, source, buildinfo.Agent("relaymon"), maxDownload)
		if err != nil {
			return nil, nil, err
		}
		return bundle.Logs(bytes.NewReader(b), int64(len(b)))
	}
	info, err := os.Stat(source)
	if errors.Is(err, fs.ErrNotExist) {
		err = &bundle.InputError{Err: errors.New("there is no such file or folder: want a monitor's data folder, a mirror, a bundle of the same month, its URL (https://), or that of a bucket (s3://, gs://, azblob://)")}
	}
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		if err := bounded.Regular(source); err != nil {
			return nil, nil, &bundle.InputError{Err: err}
		}
		f, err := os.Open(source)
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		return bundle.Logs(f, info.Size())
	}
	if mirror.IsMirror(source) {
		return mirroredLog(roster, q, source)
	}
	if inner := filepath.Join(source, "log"); isDir(inner) {
		source = inner // a monitor's data folder
	}
	l, err := store.OpenRead(source)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	month, err := export(l, roster, q)
	if err != nil {
		return nil, nil, err
	}
	forks, err = l.Forks()
	return []evidence.MonitorMonth{month}, forks, err
}

// mirroredLog reads what a mirror holds of another's log. Whose it is the roster says.
func mirroredLog(roster *bounty.Roster, q BundleRequest, dir string) (logs []evidence.MonitorMonth, forks [][]byte, err error) {
	origin, err := mirror.OriginIn(dir)
	if err != nil {
		return nil, nil, err
	}
	return foreignLog(roster, q, origin, func(key string) (*mirror.Source, error) { return mirror.Open(dir, key) })
}

// logInBucket reads of a log in a bucket what the bundle needs.
func logInBucket(ctx context.Context, roster *bounty.Roster, q BundleRequest, source string) (logs []evidence.MonitorMonth, forks [][]byte, err error) {
	if err := bucket.Check(source); err != nil {
		return nil, nil, &bundle.InputError{Err: err}
	}
	dir := q.Fetched
	if dir == "" {
		if dir, err = os.MkdirTemp("", "relaymon-"); err != nil {
			return nil, nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	sum := sha256.Sum256([]byte(source))
	r, err := mirror.OpenRemote(ctx, mirror.Options{From: source, Dir: filepath.Join(dir, hex.EncodeToString(sum[:8])), Agent: buildinfo.Agent("relaymon")})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	origin, err := r.Origin()
	if err != nil {
		return nil, nil, err
	}
	return foreignLog(roster, q, origin, r.Open)
}

// foreignLog reads the month of the log with that origin, whose key the roster has.
func foreignLog(roster *bounty.Roster, q BundleRequest, origin string, open func(key string) (*mirror.Source, error)) (logs []evidence.MonitorMonth, forks [][]byte, err error) {
	fault := fmt.Errorf("it is the log of %q, whose key the roster does not have for %s", origin, q.Month)
	for _, m := range roster.Monitors { // a monitor may have had several keys
		if name, _, _ := strings.Cut(m.LogKey, "+"); name != origin || roster.LogMonitor(m.LogKey, q.Month) == nil {
			continue
		}
		l, err := open(m.LogKey)
		if err != nil {
			fault = err
			continue
		}
		month, err := export(l, roster, q)
		if err != nil {
			return nil, nil, err
		}
		forks, err = l.Forks()
		return []evidence.MonitorMonth{month}, forks, err
	}
	return nil, nil, fault
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Bounds of a bundle that is downloaded.
const (
	maxDownload     = 64 << 20
	downloadTimeout = 2 * time.Minute
	// readTimeout bounds what is read of a log in a bucket for one bundle.
	readTimeout = time.Hour
)
