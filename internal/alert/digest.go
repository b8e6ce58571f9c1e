package alert

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// digests is what is kept about the daily message.
type digests struct {
	// At is when the last one was due, so that a restart neither repeats nor skips one.
	At time.Time `json:"at"`
	// Written is when it was written: late, if the program was not running.
	Written time.Time `json:"written,omitzero"`
	// Last is what it says, and Owed who has not got it yet.
	Last *message `json:"last,omitempty"`
	Owed []string `json:"owed,omitempty"`
	// Over are the alerts that ended since, and Dropped how many more there were.
	Over    []Alert `json:"over,omitempty"`
	Dropped int     `json:"dropped,omitempty"`
}

const (
	maxOver       = 100 // alerts that ended, in a digest
	maxExtra      = 100 // lines of the program's own
	maxDigest     = 600 // lines in all
	lookEvery     = time.Minute
	betweenDigest = 6 * time.Hour // at least, by the steady clock: the other one may jump to and fro
)

// Digest sets what the program adds to the daily message, such as how the month goes. It
// is asked each time one is written.
func (k *Keeper) Digest(lines func(now time.Time) []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.extra = lines
}

// keepTime writes the digest when it is due and wakes those who wait for the end of the
// quiet hours. The clock is looked at each minute: it may have been set.
func (k *Keeper) keepTime(ctx context.Context) {
	for {
		k.writeDigest()
		for _, c := range k.to {
			if c.people != nil {
				c.rouse()
			}
		}
		if !rest(ctx, lookEvery, false, nil) {
			return
		}
	}
}

// writeDigest writes the digest, if it is due. One that somebody did not get takes with it
// what only he had to know of: the next one says what holds.
func (k *Keeper) writeDigest() {
	k.mu.Lock()
	now := k.wall()
	due := k.times.lastDigest(now)
	extra := k.extra
	switch steady := time.Now(); {
	case !k.times.digests:
		k.mu.Unlock()
		return
	case due.Before(k.digest.At): // the clock was set back
		k.digest.At = due
		k.mu.Unlock()
		return
	case due.Equal(k.digest.At), !k.wrote.IsZero() && steady.Sub(k.wrote) < betweenDigest:
		k.mu.Unlock()
		return
	default:
		k.wrote = steady
		k.mu.Unlock()
	}
	var more []string
	if extra != nil {
		more = extra(now) // without the lock: it may ask this keeper
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.compose(more)
	var owed []string
	for _, c := range k.to {
		if c.people != nil {
			owed = append(owed, c.Name())
		}
	}
	k.digest = digests{At: due, Written: now.UTC().Truncate(time.Millisecond), Last: &m, Owed: owed}
	k.save()
}

// compose writes the digest. The caller holds the lock.
func (k *Keeper) compose(more []string) message {
	hold := k.list(func(a *Alert) bool { return a.Ended.IsZero() })
	over := slices.DeleteFunc(slices.Clone(k.digest.Over), func(a Alert) bool {
		known := k.alerts[a.id()]
		return known != nil && known.Ended.IsZero() // it holds again
	})
	n := len(over) + k.digest.Dropped
	var lines []string
	title := "all is well"
	if len(hold) > 0 {
		title = count(len(hold), "alert holds", "alerts hold")
		lines = append(append(lines, title+":"), k.words.lines(hold)...)
	}
	if n > 0 {
		text := count(n, "alert is over", "alerts are over")
		title += ", " + text
		lines = append(append(lines, "Since the last of these messages "+text+":"), k.words.lines(over)...)
	}
	if k.digest.Dropped > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", k.digest.Dropped))
	}
	if len(lines) == 0 {
		lines = []string{"All is well; nothing since yesterday."}
	}
	for _, l := range more[:min(len(more), maxExtra)] {
		lines = append(lines, cut(l, maxLine))
	}
	if left := len(lines) - maxDigest; left > 0 {
		lines = append(lines[:maxDigest:maxDigest], fmt.Sprintf("and %d more lines", left))
	}
	return message{k.words.title(title), lines}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// ended notes an alert for the next digest. The caller holds the lock.
func (k *Keeper) ended(a Alert) {
	if !k.times.digests {
		return
	}
	if len(k.digest.Over) >= maxOver {
		k.digest.Dropped++
		return
	}
	k.digest.Over = append(k.digest.Over, a)
}

// sendDigest sends the digest to one who has not got it, and notes what he knows by it.
func (k *Keeper) sendDigest(ctx context.Context, c *courier) error {
	k.mu.Lock()
	m, at := k.digest.Last, k.digest.Written
	owed := c.people != nil && m != nil && slices.Contains(k.digest.Owed, c.Name()) && !k.times.quietAt(k.wall())
	k.mu.Unlock()
	if !owed {
		return nil
	}
	sending, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := c.people.tell(sending, *m); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	c.failures, c.last = 0, k.wall()
	if k.digest.Last != m {
		return nil // there is another one already
	}
	k.digest.Owed = slices.DeleteFunc(k.digest.Owed, func(name string) bool { return name == c.Name() })
	if len(k.digest.Owed) == 0 {
		k.digest.Last = nil
	}
	for id, a := range k.alerts {
		switch {
		case !a.Ended.IsZero() && !a.Ended.After(at):
			delete(c.told, id)
		case !a.Since.After(at):
			c.told[id] = max(c.told[id], a.Count, 1)
		}
	}
	k.forget()
	k.save()
	return nil
}
