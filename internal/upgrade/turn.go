package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// Two appliances of one operator must not be down at the same time. Each day is the
// turn of one of them, which all of them know without asking one another: the
// domains in order, and the number of the day. Before it begins it also asks whether
// the others serve, so that it does not go while one of them is out of order.
//
// What this cannot do: it knows only the siblings that stand in its own settings, so
// all of them must name all others; it trusts their clocks to be right by some
// hours; and a sibling that goes down right after it was asked is not waited for.

// maxWaiting is how long a machine waits at most: the bounty wants an update every
// month.
const maxWaiting = 10 * day

// askTime bounds the question to one sibling.
const askTime = 15 * time.Second

// turnOn says whether the window that begins at from is this machine's turn.
func (s Settings) turnOn(from time.Time) bool {
	all := append([]string{s.Own}, s.Siblings...)
	slices.Sort(all)
	return from.Unix()/int64(day/time.Second)%int64(len(all)) == int64(slices.Index(all, s.Own))
}

// next is the window, open or to come, in which this machine may be updated.
func (s Settings) next(now time.Time) (from, to time.Time) {
	for t := now; ; t = to {
		if from, to = s.Window.at(t); s.turnOn(from) {
			return from, to
		}
	}
}

var (
	errNotNow = errors.New("not now")
	errOff    = errors.New("updates.automatic is off")
)

// mayBegin says whether the machine may be updated or restarted now; the error says
// why not.
func (s Settings) mayBegin(now time.Time) error {
	if !s.Automatic {
		return errOff
	}
	if from, to := s.next(now); now.Before(from) {
		return fmt.Errorf("%w: the next window of this machine is %s to %s", errNotNow, from.Format("2006-01-02 15:04"), to.Format("15:04 MST"))
	}
	return nil
}

// askSiblings says which of the others do not serve.
func (s Settings) askSiblings(ctx context.Context, client *http.Client) error {
	var errs []error
	for _, domain := range s.Siblings {
		if err := serves(ctx, client, domain); err != nil {
			errs = append(errs, fmt.Errorf("sibling %s does not serve: %w", domain, err))
		}
	}
	return errors.Join(errs...)
}

func serves(ctx context.Context, client *http.Client, domain string) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+domain+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// Turn says whether the machine may be updated now. While siblings are down it may
// not, nor while the way back is missing, but not for ever.
func (g *Gate) Turn(ctx context.Context, client *http.Client, now time.Time) error {
	if err := g.Settings.mayBegin(now); err != nil {
		return err
	}
	s, err := g.Machine.Load()
	if err != nil {
		return err
	}
	why := errors.Join(g.Settings.askSiblings(ctx, client), g.collect(ctx, s))
	if s, err = g.Machine.Load(); err != nil {
		return err
	}
	waiting := s.Waiting
	switch {
	case why == nil:
		s.Waiting = time.Time{}
	case s.Waiting.IsZero(), s.Waiting.After(now): // after: noted by a clock that was wrong
		s.Waiting = now.UTC().Truncate(time.Second)
	}
	if !s.Waiting.Equal(waiting) {
		if err := g.Machine.save(s, g.Settings.planned(g.Machine, s, now)); err != nil {
			return err
		}
	}
	if why != nil && now.Sub(s.Waiting) < maxWaiting {
		return fmt.Errorf("%w: %w", errNotNow, why)
	}
	if why != nil {
		g.Machine.Log.Warn("updating all the same: it has waited for too long", "since", s.Waiting, "why", why)
	}
	return nil
}

// planned is the restart that is to come, as far as it is known.
func (s Settings) planned(m Machine, st State, now time.Time) *maintenance.Planned {
	if !s.Automatic || !s.Reboot || !m.rebootRequired() {
		return nil
	}
	after := now
	if rest := s.RebootEvery - age(st.Rebooted, now); rest > 0 {
		after = now.Add(rest)
	}
	from, to := s.next(after)
	if from.Before(now) {
		from = now
	}
	return &maintenance.Planned{From: from.UTC().Truncate(time.Minute), To: to, Why: "the machine restarts to put updates of the system into effect"}
}
