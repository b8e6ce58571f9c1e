// Package month is what `make month` starts and shows: a month of a lab in a minute. Four
// monitors watch five relays, and cosign each other's logs; a committee judges. All of
// that is the real code, by a clock that jumps. Only the network is made up, by a plot that
// is always the same: a committee trains on it what good and bad evidence looks like.
package month

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
)

// Options say what to show.
type Options struct {
	Programs string // folder of relayaudit
	Dir      string // what is handed over; made anew
	Once     bool   // end without serving pages
	Days     int    // only so many days at the month's end; 0: all of it
	Out      io.Writer
}

// Run shows the whole and, without Once, serves the pages until ctx ends. The error
// tells what did not work; ctx ending is none.
func Run(ctx context.Context, o Options) error {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	l := &lab{Options: o, dir: dir, plot: newPlot(o.Days), monitors: filepath.Join(dir, monitorsDir)}
	err = l.run(ctx)
	if ctx.Err() != nil {
		fmt.Fprintln(o.Out, "\nended")
		return nil
	}
	return err
}

type lab struct {
	Options
	dir      string
	monitors string // the folder of their data
	plot     plot
	papers   *papers
	judged   []judged
}

// judged is a relay with what came of its month.
type judged struct {
	relay
	bundle  string // file
	verdict *bounty.Verdict
	audited string // what relayaudit says
}

func (l *lab) run(ctx context.Context) error {
	for i, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"a committee: rules, roster and releases, signed with a key of the lab", l.found},
		{fmt.Sprintf("relaymon, four times: %d hours of %s, one after the other", l.plot.hours(), told), l.watch},
		{"bundles: each relay's month, with the logs of all four", l.bundle},
		{"relayaudit: a stranger checks each, offline", l.audit},
	} {
		start := time.Now()
		fmt.Fprintf(l.Out, "\n%d. LAB: %s\n", i+1, step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
		l.say("%.1f s", time.Since(start).Seconds())
	}
	l.table()
	l.furtherOn()
	if l.Once {
		return nil
	}
	return l.serve(ctx)
}

func (l *lab) say(format string, args ...any) { fmt.Fprintf(l.Out, "   "+format+"\n", args...) }

func (l *lab) path(elem ...string) string { return filepath.Join(append([]string{l.dir}, elem...)...) }

func (l *lab) data(o observer) string { return filepath.Join(l.monitors, o.name) }

// found makes the folder and what the committee publishes.
func (l *lab) found(context.Context) error {
	if err := begin(l.dir); err != nil {
		return err
	}
	var err error
	if l.papers, err = newPapers(l.plot); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		rulesFile: l.papers.rules, rosterFile: l.papers.roster, releasesFile: l.papers.releases, committeeFile: []byte(l.papers.key + "\n"), keyFile: []byte(l.papers.secret + "\n"),
	} {
		if err := os.WriteFile(l.path(name), data, 0o644); err != nil {
			return err
		}
	}
	for _, o := range observers {
		says := "monitor, run by " + o.operator
		switch {
		case o.committee:
			says += ": the committee's own"
		case o.name == brokenLine:
			says += ": its line will break"
		case o.name == liar:
			says += ": it lies"
		}
		l.say("%-10s %s", o.name, says)
	}
	for _, r := range relays {
		l.say("%-10s relay in %s, %s", r.name, r.place.region, r.id())
	}
	return nil
}

// config is that of a monitor.
func (l *lab) config(o observer) (monitor.Config, error) {
	return monitor.ParseConfig("the configuration of "+o.name, fmt.Appendf(nil, `name: %s
network: lab
data_dir: %q
roster: %q
rules: %q
releases: %q
committee: %q
listen: ""
drand: []
browser: none
`, o.name, l.data(o), l.path(rosterFile), l.path(rulesFile), l.path(releasesFile), l.papers.key))
}

// watch lets the monitors live through the month, in memory if there is room.
func (l *lab) watch(ctx context.Context) error {
	kept := l.monitors
	if dir := memory(); dir != "" {
		defer os.RemoveAll(dir)
		l.monitors = dir
	}
	err := l.simulate(ctx)
	l.progress(0)
	if err == nil && l.monitors != kept {
		err = os.CopyFS(kept, os.DirFS(l.monitors))
	}
	l.monitors = kept
	return err
}

// bundle writes each relay's month, as "relaymon bundle" of the committee's monitor does.
func (l *lab) bundle(ctx context.Context) error {
	cfg, err := l.config(observers[0])
	if err != nil {
		return err
	}
	var others []string
	for _, o := range observers[1:] {
		others = append(others, l.data(o))
	}
	l.judged = make([]judged, len(relays))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, r := range relays {
		g.Go(func() error {
			j := judged{relay: r, bundle: l.path(bundlesDir, bundle.Name(r.id(), told))}
			q := monitor.BundleRequest{Relay: r.id(), Month: told, AsOf: l.plot.ends(), From: others}
			var err error
			if j.verdict, err = monitor.WriteBundle(ctx, cfg, q, j.bundle); err != nil {
				return fmt.Errorf("the bundle of %s: %w", r.name, err)
			}
			l.judged[i] = j
			return unpack(j.bundle, "report.html", l.report(r))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, j := range l.judged {
		info, err := os.Stat(j.bundle)
		if err != nil {
			return err
		}
		l.say("%-10s %4.1f MB, %s", j.name, float64(info.Size())/1e6, relative(l.report(j.relay)))
	}
	return nil
}

// atOnce is how many bundles are made or checked at the same time: each takes up to half
// a gigabyte.
const atOnce = 2

func (l *lab) report(r relay) string { return l.path(reportsDir, r.name+".html") }

// unpack takes one file out of a bundle.
func unpack(bundle, name, to string) error {
	z, err := zip.OpenReader(bundle)
	if err != nil {
		return err
	}
	defer z.Close()
	f, err := z.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return errors.Join(err, out.Close())
}
