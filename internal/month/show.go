package month

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/monitor"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// progress says how far the month has come: on a terminal in one line, elsewhere by
// what happens. Hour 0 is its end.
func (l *lab) progress(h evidence.Hour) {
	clear := ""
	if terminal(l.Out) {
		clear = "\r\x1b[K"
	}
	switch event := l.plot.events(h); {
	case h == 0:
		fmt.Fprint(l.Out, clear)
	case event != "":
		fmt.Fprintf(l.Out, "%s   %s  %s\n", clear, h.Start().Format("2006-01-02 15:00"), event)
	case clear != "" && h.Start().Hour()%6 == 0:
		all := evidence.HourOf(l.plot.ends()) - l.plot.first
		fmt.Fprintf(l.Out, "%s   %s  %d %%", clear, h.Start().Format(time.DateOnly), 100*(h-l.plot.first)/all)
	}
}

func terminal(out any) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// audit runs relayaudit over each bundle, as anybody would, and compares.
func (l *lab) audit(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range l.judged {
		g.Go(func() error { return l.check(ctx, &l.judged[i]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, j := range l.judged {
		l.say("%-10s %s", j.name, j.audited)
	}
	return nil
}

// check has one bundle verified by the program.
func (l *lab) check(ctx context.Context, j *judged) error {
	cmd := exec.CommandContext(ctx, filepath.Join(l.Programs, "relayaudit"), "verify", j.bundle, "--json",
		"--rules", l.path(rulesFile), "--roster", l.path(rosterFile), "--committee", l.papers.key)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("relayaudit verify %s: %w\n%s%s", j.bundle, err, out, stderr.String())
	}
	var says struct {
		Verified bool   `json:"verified"`
		Headline string `json:"headline"`
	}
	if err := json.Unmarshal(out, &says); err != nil {
		return fmt.Errorf("relayaudit verify --json: %w", err)
	}
	if !says.Verified || says.Headline != j.verdict.Headline {
		return fmt.Errorf("relayaudit says %q of %s, which was written as %q", says.Headline, j.bundle, j.verdict.Headline)
	}
	j.audited = "verified: " + says.Headline
	return nil
}

// outcome is the worst that the rules find, with the rules that find it: what a lab's
// verdict does not say.
func outcome(v *bounty.Verdict) string {
	worst := map[bounty.Outcome][]string{}
	for _, f := range v.Findings {
		worst[f.Outcome] = append(worst[f.Outcome], f.Rule)
	}
	for _, o := range []bounty.Outcome{bounty.Fail, bounty.Review, bounty.Inconclusive} {
		if rules := worst[o]; len(rules) > 0 {
			return fmt.Sprintf("%s (%s)", o, strings.Join(rules, ", "))
		}
	}
	return string(bounty.Pass)
}

// stories say in a line what happened to each relay, and what came of it.
var stories = map[string]string{
	steady: "always there; " + liar + " calls it down now and then, which costs an hour only where " + brokenLine + " is blind",
	flaky:  "down each night, and a certificate that expired; " + liar + " says up without the relay's signature, which counts as unknown",
	busy:   "full each evening: up to the cap such hours count as up, the rest as down",
	moved:  "moved to another address, announced and signed: a person looks at it",
	dead:   "gone, but its key signs at home for " + liar + ": three others saw it down, so it is down, and each such hour is listed as disputed",
}

func (l *lab) table() {
	fmt.Fprintf(l.Out, "\nLAB: %s, as of %s\n\n", told, l.plot.ends().Format("2006-01-02 15:04 UTC"))
	t := tabwriter.NewWriter(l.Out, 3, 0, 2, ' ', 0)
	fmt.Fprintln(t, "   relay\tup\tdown\tunknown\tdisputed\tof the rules\trelayaudit")
	for _, j := range l.judged {
		h := j.verdict.Hours
		fmt.Fprintf(t, "   %s\t%d\t%d\t%d\t%d\t%s\t%s\n", j.name, h.Up, h.Down, h.Unknown, len(disputed(j.verdict)), outcome(j.verdict), j.audited)
	}
	_ = t.Flush()
	fmt.Fprintln(l.Out)
	for _, j := range l.judged {
		l.say("%-8s %s", j.name, stories[j.name])
	}
}

// disputed are the hours that count down although the relay signed in them.
func disputed(v *bounty.Verdict) (list []evidence.Hour) {
	for _, h := range v.EveryHour() {
		if h.Disputed {
			list = append(list, h.Hour)
		}
	}
	return list
}

// furtherOn are the commands with which the reader goes on by himself.
func (l *lab) furtherOn() {
	trust := fmt.Sprintf("--rules %s --roster %s --committee \"$(cat %s)\"", relative(l.path(rulesFile)), relative(l.path(rosterFile)), relative(l.path(committeeFile)))
	audit := relative(filepath.Join(l.Programs, "relayaudit"))
	fmt.Fprintf(l.Out, "\nGo on by yourself:\n\n   # what a committee does with what it is handed\n   %s verify %s \\\n     %s\n",
		audit, relative(l.judged[0].bundle), trust)
	for _, j := range l.judged {
		if hours := disputed(j.verdict); j.name == dead && len(hours) > 0 {
			fmt.Fprintf(l.Out, "\n   # a disputed hour: the relay signed, and three monitors found nobody there\n   %s explain %s \\\n     %s \\\n     --hour %s\n", audit, relative(j.bundle), trust, hours[len(hours)/2])
		}
	}
	from, _ := l.plot.lineBreaks()
	fmt.Fprintf(l.Out, "\n   # an hour in which %s was blind: its controls failed, too\n   %s explain %s \\\n     %s \\\n     --hour %s\n", brokenLine, audit, relative(l.judged[0].bundle), trust, from)
	fmt.Fprintf(l.Out, "\nThe reports, for a browser: %s\n", relative(l.path(reportsDir)))
}

// pages opens the committee's monitor at the end of the story, where its clock stands
// still: it probes nothing.
func (l *lab) pages() (*monitor.Monitor, error) {
	cfg, err := l.config(observers[0])
	if err != nil {
		return nil, err
	}
	end := l.plot.ends()
	return monitor.OpenIn(monitor.World{Now: func() time.Time { return end }, HTTP: post{}}, cfg, quiet)
}

// serve shows the pages of the committee's monitor, as of the end of the story.
func (l *lab) serve(ctx context.Context) error {
	m, err := l.pages()
	if err != nil {
		return err
	}
	tcp, err := listen.TCP("the pages", "127.0.0.1:0", listen.Bounds{All: 64, PerAddress: 64}, quiet)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	fmt.Fprintf(l.Out, "\nThe status page of the committee's monitor, as it was then (LAB):\n\n   http://%s/\n", tcp.Addr())
	for _, r := range relays {
		fmt.Fprintf(l.Out, "   http://%s/relay/%s/%s   %s\n", tcp.Addr(), r.id(), told, r.name)
	}
	fmt.Fprintf(l.Out, "\nAll of it is in %s. Ctrl-C ends the page; the next run begins anew.\n", relative(l.dir))
	s := listen.Server(m.Pages(), quiet)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(tcp) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = nil
	}
	if closed := s.Close(); !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, closed)
	}
	return errors.Join(err, m.Close())
}

// relative shortens a path for people, where it lies below the working folder.
func relative(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return path
}
