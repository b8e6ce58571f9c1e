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
	// Last is what it says, and Owed what is known of those who have not got it yet, by
	// their keys.
	Last *message        `json:"last,omitempty"`
	Owed map[string]owed `json:"due,omitempty"`
	// Over are the alerts that ended since, and Dropped how many more there were.
	Over    []Alert `json:"over,omitempty"`
	Dropped int     `json:"dropped,omitempty"`
}

// owed is how much of a digest somebody has got.
type owed struct {
	Lines    int `json:"lines"`
	Messages int `json:"messages"`
}

const (
	maxOver       = 100 // alerts that ended, in a digest
	maxExtra      = 100 // lines of the program's own
	maxDigest     = 600 // lines in all
	mostParts     = 5   // messages, where it has no room in one
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
	all := map[string]owed{}
	for _, c := range k.to {
		if c.people != nil {
			all[c.key] = owed{}
		}
	}
	k.digest = digests{At: due, Written: now.UTC().Truncate(time.Millisecond), Last: &m, Owed: all}
	k.save()
}

// compose writes the digest. The caller holds the lock.
func (k *Keeper) compose(more []string) message {
	hold := k.list(func(a *Alert) bool { return a.Ended.IsZero() })
	over := slices.DeleteFunc(slices.Clone(k.digest.Over), func(a Alert) bool {
		known := k.alerts[a.id()]
		return known != nil && known.Ended.IsZero() // it holds again
	})
	latest(over)
	n := len(over) + k.digest.Dropped
	var m message
	title := "all is well"
	if len(hold) > 0 {
		title = count(len(hold), "alert holds", "alerts hold")
		m.say(title + ":")
		m.add(k.words, hold)
	}
	if n > 0 {
		text := count(n, "alert is over", "alerts are over")
		title += ", " + text
		m.say("Since the last of these messages " + text + ":")
		m.add(k.words, over)
	}
	if k.digest.Dropped > 0 {
		m.say(fmt.Sprintf("and %d more", k.digest.Dropped))
	}
	if len(m.Lines) == 0 {
		m.say("All is well; nothing since yesterday.")
	}
	for _, l := range more[:min(len(more), maxExtra)] {
		m.say(cut(l, maxLine))
	}
	if left := len(m.Lines) - maxDigest; left > 0 {
		m.Lines, m.IDs = m.Lines[:maxDigest], m.IDs[:maxDigest]
		m.say(fmt.Sprintf("and %d more lines", left))
	}
	m.Title = k.words.title(title)
	return m
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// ended notes an alert for the next digest. Where there is no room, the oldest goes, those
// of strangers first. The caller holds the lock.
func (k *Keeper) ended(a Alert) {
	if !k.times.digests {
		return
	}
	over := append(k.digest.Over, a)
	if len(over) > maxOver {
		i := max(0, slices.IndexFunc(over, Alert.foreign))
		over = slices.Delete(over, i, i+1)
		k.digest.Dropped++
	}
	k.digest.Over = over
}

// sendDigest sends the digest to one who has not got it, in several messages if it must be,
// and notes what he knows by it.
func (k *Keeper) sendDigest(ctx context.Context, c *courier) error {
	for {
		k.mu.Lock()
		m := k.digest.Last
		got, owes := k.digest.Owed[c.key]
		quiet := k.times.quietAt(k.wall())
		k.mu.Unlock()
		if c.people == nil || m == nil || !owes || quiet {
			return nil
		}
		rest := m.from(got.Lines)
		sending, cancel := context.WithTimeout(ctx, patienceWith(c.Receiver))
		shown, err := c.people.tell(sending, rest)
		cancel()
		if err != nil {
			return err
		}
		k.gotDigest(c, m, rest.IDs[:shown])
	}
}

// gotDigest notes that somebody got lines of the digest m, about these alerts.
func (k *Keeper) gotDigest(c *courier, m *message, ids []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.failures, c.last = 0, k.wall()
	if k.digest.Last != m {
		return // there is another one already
	}
	at, got := k.digest.Written, k.digest.Owed[c.key]
	got = owed{got.Lines + len(ids), got.Messages + 1}
	k.digest.Owed[c.key] = got
	done := got.Lines >= len(m.IDs) || got.Messages >= mostParts
	for id, a := range k.alerts {
		shown := slices.Contains(ids, id)
		switch {
		case !a.Ended.IsZero() && !a.Ended.After(at):
			if shown || done && a.Labels["severity"] == "warning" { // its end is told by no other message
				delete(c.told, id)
			}
		case shown && !a.Since.After(at):
			c.told[id] = max(c.told[id], a.Count, 1)
		}
	}
	if done {
		delete(k.digest.Owed, c.key)
	}
	if len(k.digest.Owed) == 0 {
		k.digest.Last = nil
	}
	k.forget()
	k.save()
}
