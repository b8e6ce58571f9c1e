package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// look tries one relay, once or again and again.
type look struct {
	opts     probe.Options
	announce bool
	domain   *probe.Domain // nil: the addresses were given
	found    probe.Found   // its Target is what is tried
	failed   bool          // the latest try was not ok
}

// read takes the arguments: one domain, or the multiaddrs of one relay.
func (l *look) read(args []string) error {
	isDomain := func(s string) bool { return !strings.HasPrefix(s, "/") }
	var err error
	switch {
	case !slices.ContainsFunc(args, isDomain):
		if l.found.Target, err = probe.ParseTarget(args); err != nil {
			return err
		}
		return l.opts.Check(l.found.Target)
	case len(args) > 1:
		return errors.New("give one domain, or the multiaddrs of one relay, and not both")
	}
	domain, err := probe.ParseDomain(args[0])
	l.domain = &domain
	return errors.Join(err, l.opts.CheckPins())
}

// try is what one try came to.
type try struct {
	started time.Time
	found   probe.Found
	err     error // why there are no addresses to try
	attempt evidence.Attempt
}

// try finds the addresses, if they are not known, and climbs the ladder.
func (l *look) try(ctx context.Context) try {
	t := try{started: time.Now()}
	t.err = l.find(ctx)
	if t.err == nil {
		t.found = l.found
		t.attempt, t.err = l.climb(ctx)
	}
	l.failed = t.outcome() != evidence.OK
	return t
}

// find asks the domain for the addresses, again after a failure: they may have changed.
func (l *look) find(ctx context.Context) error {
	known := l.found.Target.PeerID != ""
	if l.domain == nil || known && !l.failed {
		return nil
	}
	found, err := probe.Find(ctx, *l.domain, l.opts)
	switch {
	case known && (err != nil || found.Unverified != ""):
		return nil // the relay may be down: what is known is better
	case ctx.Err() != nil:
		return errors.New("stopped before the relay's addresses were found")
	case err != nil:
		return fmt.Errorf("%w\nA relay with another page, or none, is probed by its addresses:\n  relaymon probe /ip4/A.B.C.D/tcp/PORT/p2p/ID /dns4/%s/tcp/%d/wss/p2p/ID", err, l.domain.Name, l.domain.Port)
	}
	l.found = found
	return nil
}

func (l *look) climb(ctx context.Context) (evidence.Attempt, error) {
	opts, target := l.opts, l.found.Target
	if l.announce {
		listener, err := probe.NewListener(nil, opts)
		if err != nil {
			return evidence.Attempt{}, fmt.Errorf("%w: %w", probe.ErrBlind, err)
		}
		defer listener.Close()
		listener.Watch([]probe.Target{target})
		opts.Listener, opts.AnnounceWait = listener, announceWait
	}
	return probe.Run(ctx, target, opts), nil
}

// outcome is that of the worst rung. One that was skipped since another had failed
// says nothing by itself.
func (t try) outcome() evidence.Outcome {
	switch {
	case errors.Is(t.err, probe.ErrBlind):
		return evidence.Blind
	case t.err != nil || len(t.found.Missing) > 0:
		return evidence.Fail
	}
	order := []evidence.Outcome{evidence.OK, evidence.Blind, evidence.Busy, evidence.Fail}
	worst := 0
	for _, r := range t.attempt.Rungs {
		if r.Class == evidence.Stopped {
			r.Outcome = evidence.Blind
		}
		worst = max(worst, slices.Index(order, r.Outcome))
	}
	return order[worst]
}

// head says where the addresses are from, if nobody gave them.
func (t try) head() string {
	if t.found.Page == "" {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "addresses as the relay itself gives them: %s\n", t.found.Page)
	if c := t.found.Unverified; c != "" {
		fmt.Fprintf(&b, "  NOT VERIFIED: %s (%s), so that somebody else may have written that page\n", c.Meaning(), c)
	}
	for _, m := range t.found.Missing {
		fmt.Fprintf(&b, "  missing: %s\n", m)
	}
	return b.String()
}

func (t try) print(w io.Writer, explain bool) error {
	if _, err := io.WriteString(w, t.head()); err != nil {
		return err
	}
	if explain {
		return writeAttempt(w, t.attempt, teach)
	}
	return printAttempt(w, t.attempt)
}

func (t try) inJSON() resultJSON {
	r := inJSON(t.attempt)
	if t.err != nil {
		r.Started, r.Error = evidence.TimeOf(t.started), t.err.Error()
	}
	if t.found.Page != "" {
		r.From = &pageJSON{t.found.Page, t.found.Unverified, t.found.Missing}
	}
	return r
}
