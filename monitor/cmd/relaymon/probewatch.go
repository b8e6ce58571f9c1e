package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// How often --watch tries. A try makes two connections, and relays count those of one
// address.
const (
	usualEvery = time.Minute
	leastEvery = 10 * time.Second
)

// readTimes checks --every.
func (p *probeCmd) readTimes() error {
	switch {
	case p.Every == nil:
		p.Every = new(time.Duration)
		*p.Every = usualEvery
	case !p.Watch:
		return errors.New("--every is for --watch: add it")
	case *p.Every < leastEvery:
		return fmt.Errorf("--every %s: want %s at least, so that the tries are no burden to the relay", *p.Every, leastEvery)
	}
	return nil
}

// watch tries again and again until ctx ends.
func (p *probeCmd) watch(ctx context.Context, out *cli.IO, l *look) error {
	// A js-libp2p relay has 15 places and keeps each for two hours: one identity takes one.
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	l.opts.ProbeKey = key
	w := &watch{out: out.Stdout, json: p.JSON, signs: signsFor(out.Stdout)}
	fmt.Fprintf(out.Stderr, "a try every %s; Ctrl-C ends it\n", *p.Every)
	last, err := repeat(ctx, *p.Every, l.try, w.tell)
	switch {
	case err != nil:
		return fmt.Errorf("write the result: %w", err)
	case last == "":
		return errors.New("stopped before the first try was done")
	case last != evidence.OK:
		return cli.Exit(cli.Failed, nil)
	}
	return nil
}

// repeat tries and tells until ctx ends, and returns the outcome of the last try that
// was not cut off.
func repeat(ctx context.Context, every time.Duration, once func(context.Context) try, tell func(try) error) (last evidence.Outcome, err error) {
	for {
		began := time.Now()
		t := once(ctx)
		if ctx.Err() != nil {
			return last, nil
		}
		last = t.outcome()
		if err := tell(t); err != nil {
			return last, err
		}
		select {
		case <-time.After(time.Until(began.Add(every))):
		case <-ctx.Done():
			return last, nil
		}
	}
}

// watch writes a line for each try.
type watch struct {
	out   io.Writer
	json  bool
	signs signs

	recent         []rune // of the latest tries
	all, ok, blind int
	head, cures    string // as last written
}

// keepRecent is how many tries a line shows.
const keepRecent = 30

// signs are the characters that stand for tries.
type signs struct{ ok, failed, unknown rune }

// signsFor are triangles where they can be seen.
func signsFor(w io.Writer) signs {
	var locale string
	for _, name := range []string{"LANG", "LC_CTYPE", "LC_ALL"} { // the later one counts
		if s := os.Getenv(name); s != "" {
			locale = strings.ToLower(s)
		}
	}
	if isTerminal(w) && (strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")) {
		return signs{'▲', '▼', '?'}
	}
	return signs{'+', '-', '?'}
}

// tell writes what came of a try.
func (w *watch) tell(t try) error {
	if w.json {
		enc := json.NewEncoder(w.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(t.inJSON())
	}
	w.count(t.outcome())
	var b strings.Builder
	if head := t.head() + addresses(t.attempt); t.err == nil && head != w.head {
		w.head = head
		b.WriteString(head)
	}
	unknown := ""
	if w.blind > 0 {
		unknown = fmt.Sprintf(", %d unknown", w.blind)
	}
	fmt.Fprintf(&b, "%s  %s  %s  %d of %d ok%s\n", t.started.UTC().Format(time.RFC3339), t.words(), string(w.recent), w.ok, w.all, unknown)
	if cures := t.cures(); cures != w.cures {
		w.cures = cures
		b.WriteString(cures)
	}
	_, err := io.WriteString(w.out, b.String())
	return err
}

func (w *watch) count(o evidence.Outcome) {
	sign := w.signs.failed
	w.all++
	switch o {
	case evidence.OK:
		sign = w.signs.ok
		w.ok++
	case evidence.Blind:
		sign = w.signs.unknown
		w.blind++
	}
	w.recent = append(w.recent, sign)
	w.recent = w.recent[max(0, len(w.recent)-keepRecent):]
}

// words are a try in one line: each component with its time.
func (t try) words() string {
	if t.err != nil {
		return "not tried"
	}
	var list []string
	for _, c := range evidence.Components {
		r := t.attempt.Results[c]
		s := fmt.Sprintf("%s %s", c, word(evidence.Rung{Outcome: r.Outcome, Class: r.Class}))
		if r.Outcome != evidence.Skipped {
			s += fmt.Sprintf(" %.0f ms", millis(r.DurationUS))
		}
		list = append(list, s)
	}
	for _, r := range t.attempt.Rungs {
		if r.Component == "" {
			list = append(list, r.Name+" "+word(r))
		}
	}
	return strings.Join(list, ", ")
}

// cures are what to do, without what is different each time.
func (t try) cures() string {
	if t.err != nil {
		return "  " + strings.ReplaceAll(t.err.Error(), "\n", "\n  ") + "\n"
	}
	var b strings.Builder
	for _, r := range t.attempt.Rungs {
		if r.Outcome != evidence.OK && r.Outcome != evidence.Skipped {
			fmt.Fprintf(&b, "  %s %s: %s\n    to do: %s\n", r.Name, word(r), r.Class.Meaning(), r.Class.Advice())
		}
	}
	return b.String()
}
