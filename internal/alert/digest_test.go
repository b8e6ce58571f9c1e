package alert

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// desk is a receiver that people read.
type desk struct {
	inbox
	mail []message
	mu2  sync.Mutex
	down error
	most int // bytes in a message; 0: all
}

func (d *desk) Send(ctx context.Context, alerts []Alert) error {
	_, err := d.tell(ctx, words{"relayd", "r", time.UTC}.message(alerts))
	return err
}

func (d *desk) tell(_ context.Context, m message) (int, error) {
	d.mu2.Lock()
	defer d.mu2.Unlock()
	if d.down != nil {
		return 0, d.down
	}
	shown := len(m.Lines)
	if d.most > 0 {
		_, shown = m.fit(d.most)
	}
	m.Lines = m.Lines[:shown]
	d.mail = append(d.mail, m)
	return shown, nil
}

func (d *desk) setDown(err error) {
	d.mu2.Lock()
	defer d.mu2.Unlock()
	d.down = err
}

// want holds the titles of all mails against those that are wanted, and forgets them.
func (d *desk) want(t *testing.T, titles ...string) (texts []string) {
	t.Helper()
	synctest.Wait()
	d.mu2.Lock()
	defer d.mu2.Unlock()
	var got []string
	for _, m := range d.mail {
		got = append(got, strings.TrimPrefix(m.Title, "relayd on r: "))
		texts = append(texts, strings.Join(m.Lines, "\n"))
	}
	if strings.Join(got, "; ") != strings.Join(titles, "; ") {
		t.Errorf("%s: got %q, want %q", time.Now().UTC().Format(time.DateTime), got, titles)
	}
	d.mail = nil
	return texts
}

// keep starts a keeper with the configuration's times; the clock is synctest's, which
// begins at midnight (UTC) of the first day of 2000.
func (c Config) keep(t *testing.T, file string, to ...Receiver) (*Keeper, func()) {
	t.Helper()
	times, err := c.times()
	if err != nil {
		t.Fatal(err)
	}
	k, err := New(file, quiet, to...)
	if err != nil {
		t.Fatal(err)
	}
	k.keepTimes(times, words{"relayd", "r", time.UTC})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	synctest.Wait()
	return k, func() { cancel(); <-done }
}

func severe(severity string, names ...string) []Alert {
	list := alerts(names...)
	for i := range list {
		list[i].Labels["severity"] = severity
	}
	return list
}

// till lets the time go by until the time of day of the day.
func till(day int, hour, minute int) {
	time.Sleep(time.Until(time.Date(2000, 1, day, hour, minute, 0, 0, time.UTC)))
}

func TestQuietHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &desk{}, &inbox{name: "hook"}
		k, stop := Config{Quiet: "22:00-07:00", TimeZone: "UTC"}.keep(t, filepath.Join(t.TempDir(), "alerts.json"), d, hook)
		defer stop()
		k.Set(time.Now(), alerts("passes", "stays"))
		hook.want(t, "passes firing", "stays firing")
		till(1, 6, 0)
		k.Set(time.Now(), alerts("stays"))
		till(1, 6, 59)
		d.want(t)
		till(1, 7, 1)
		d.want(t, "stays") // what is over and was not told is not told
		k.Set(time.Now(), alerts("stays", "day"))
		d.want(t, "day")
		till(1, 22, 0)
		k.Set(time.Now(), alerts("night"))
		till(2, 6, 59)
		d.want(t)
		till(2, 7, 1)
		d.want(t, "night, and 2 more") // the ends of those it knew of, too
		hook.want(t, "passes firing", "stays firing", "passes resolved", "day firing", "stays resolved", "day resolved", "night firing")
	})
}

func TestQuietHoursInAZone(t *testing.T) {
	for zone, want := range map[string]bool{"UTC": false, "Asia/Tokyo": true} { // 14:00 is 23:00 there
		times, err := Config{Quiet: "22:00-07:00", TimeZone: zone}.times()
		if err != nil {
			t.Fatal(err)
		}
		if got := times.quietAt(time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC)); got != want {
			t.Errorf("%s: got quiet %v, want %v", zone, got, want)
		}
	}
	times, err := Config{Quiet: "12:00-13:30", TimeZone: "UTC"}.times()
	if err != nil {
		t.Fatal(err)
	}
	for clock, want := range map[string]bool{"11:59": false, "12:00": true, "13:29": true, "13:30": false} {
		at, _ := time.Parse("15:04", clock)
		if got := times.quietAt(at); got != want {
			t.Errorf("%s: got quiet %v, want %v", clock, got, want)
		}
	}
}

// Warnings wait for the digest, which comes each day; what is critical does not wait.
func TestDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &desk{}, &inbox{name: "hook"}
		file := filepath.Join(t.TempDir(), "alerts.json")
		k, stop := Config{Digest: "08:00", TimeZone: "UTC"}.keep(t, file, d, hook)
		k.Digest(func(now time.Time) []string { return []string{"The month: " + now.UTC().Format(time.DateOnly)} })
		d.want(t) // none at the start
		till(1, 1, 0)
		k.Set(time.Now(), append(severe("warning", "old", "short"), severe("critical", "down")...))
		d.want(t, "down")
		hook.want(t, "down firing", "old firing", "short firing")
		till(1, 2, 0)
		k.Set(time.Now(), severe("warning", "old"))
		d.want(t, "over: down")
		till(1, 8, 1)
		text := strings.Join(d.want(t, "1 alert holds, 2 alerts are over"), "")
		for _, want := range []string{"1 alert holds:\nSince 2000-01-01 01:00 UTC: it is old\n", "2 alerts are over:\n", "it is short", "it is down", "The month: 2000-01-01"} {
			if !strings.Contains(text, want) {
				t.Errorf("got the digest %q, want %q in it", text, want)
			}
		}
		if k.Waiting() != 0 {
			t.Errorf("%d waiting, want 0", k.Waiting())
		}
		till(1, 12, 0)
		k.Set(time.Now(), nil)
		till(2, 7, 59)
		d.want(t)
		till(2, 8, 1)
		d.want(t, "all is well, 1 alert is over")
		till(3, 8, 1)
		if text := strings.Join(d.want(t, "all is well"), ""); !strings.HasPrefix(text, "All is well; nothing since yesterday.\nThe month") {
			t.Errorf("got %q, want that all is well", text)
		}
		stop()
		till(3, 9, 0)
		// A restart does not repeat it ...
		_, stop = Config{Digest: "08:00", TimeZone: "UTC"}.keep(t, file, d)
		till(4, 7, 0)
		d.want(t)
		stop()
		till(4, 8, 30)
		// ... and one that was missed comes late, once for all days.
		till(6, 8, 30)
		_, stop = Config{Digest: "08:00", TimeZone: "UTC"}.keep(t, file, d)
		defer stop()
		till(6, 12, 0)
		d.want(t, "all is well")
	})
}

// Who cannot be reached gets the digest later, also after a restart; the next one takes
// its place.
func TestDigestIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{down: errors.New("503")}
		file := filepath.Join(t.TempDir(), "alerts.json")
		c := Config{Digest: "08:00", TimeZone: "UTC"}
		k, stop := c.keep(t, file, d)
		k.Set(time.Now(), severe("warning", "old"))
		till(1, 9, 0)
		stop()
		d.setDown(nil)
		k, stop = c.keep(t, file, d)
		k.Set(time.Now(), severe("warning", "old"))
		till(1, 9, 30)
		d.want(t, "1 alert holds")
		d.setDown(errors.New("503"))
		k.Set(time.Now(), nil)
		till(3, 7, 0)
		d.setDown(nil)
		till(3, 7, 59)
		d.want(t, "all is well, 1 alert is over")
		till(3, 8, 1)
		d.want(t, "all is well")
		stop()
	})
}

// A clock that jumps to and fro makes no storm of digests.
func TestDigestsAndAClockThatJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		k, stop := Config{Digest: "08:00", TimeZone: "UTC"}.keep(t, filepath.Join(t.TempDir(), "alerts.json"), d)
		k.mu.Lock()
		begin := time.Now()
		k.wall = func() time.Time { // each minute a year ahead, and back
			now := time.Now()
			if int(now.Sub(begin)/time.Minute)%2 == 1 {
				now = now.AddDate(1, 0, 0)
			}
			return now
		}
		k.mu.Unlock()
		time.Sleep(24 * time.Hour)
		stop()
		synctest.Wait()
		if n := len(d.mail); n < 1 || n > 4 {
			t.Errorf("%d digests in a day, want 1 to 4", n)
		}
	})
}

func TestTimesThatCannotBe(t *testing.T) {
	for want, c := range map[string]Config{
		"":                                {Quiet: "22:00-07:00", Digest: "08:00", TimeZone: "Europe/Berlin"},
		"alerts.time_zone: want a name":   {TimeZone: "Europe/Nowhere"},
		"alerts.time_zone: want a name s": {TimeZone: "Local"},
		"alerts.quiet: want two times":    {Quiet: "22-7", TimeZone: "UTC"},
		"alerts.quiet: want two times of": {Quiet: "22:00-22:00", TimeZone: "UTC"},
		"alerts.digest: want a time":      {Digest: "8", TimeZone: "UTC"},
		"alerts.digest: 06:00 lies in":    {Quiet: "22:00-07:00", Digest: "06:00", TimeZone: "UTC"},
	} {
		switch err := c.Validate(); {
		case want == "" && err != nil:
			t.Errorf("%+v: got %v, want no fault", c, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%+v: got %v, want %q", c, err, want)
		}
	}
}

// Starts are counted within the hour, and what stops a program is told once.
func TestStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), StartsFile)
		start := func(want int) {
			t.Helper()
			if n, err := Starts(file, time.Now()); err != nil || n != want {
				t.Fatalf("got %d, %v; want %d starts", n, err, want)
			}
		}
		for i := range TooOften {
			start(i + 1)
			time.Sleep(10 * time.Minute)
		}
		started := time.Now()
		start(TooOften + 1)
		if got := RestartsOften("relayd", nil, TooOften, started, time.Now()); len(got) != 1 || got[0].Name != "RestartsOften" {
			t.Errorf("got %v, want RestartsOften", got)
		}
		if got := RestartsOften("relayd", nil, TooOften-1, started, time.Now()); got != nil {
			t.Errorf("got %v, want none of so few", got)
		}
		if got := RestartsOften("relayd", nil, TooOften, started, started.Add(time.Hour)); got != nil {
			t.Errorf("got %v, want none after an hour", got)
		}
		time.Sleep(59 * time.Minute)
		start(2)
		for range 2 * maxStarts {
			_, _ = Starts(file, time.Now())
		}
		start(maxStarts)
		if n, err := Starts(file, time.Now().Add(-24*time.Hour)); err != nil || n != 1 {
			t.Errorf("got %d, %v; want 1: the others are of a clock that was wrong", n, err)
		}
	})
	file := filepath.Join(t.TempDir(), StartsFile)
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Starts(file, time.Now()); n != 1 || err == nil || !strings.Contains(err.Error(), file+" begins anew") {
		t.Errorf("got %d, %v; want that a damaged file begins anew", n, err)
	}
	if n, err := Starts(file, time.Now()); n != 2 || err != nil {
		t.Errorf("got %d, %v; want that the counting goes on", n, err)
	}
}

func TestCannotStart(t *testing.T) {
	h := newHook(t, nil)
	c := Config{Webhooks: []URL{URL(h.URL)}, TimeZone: "UTC"}
	file := filepath.Join(t.TempDir(), StartsFile)
	for range 2 * TooOften {
		if _, err := Starts(file, time.Now()); err != nil {
			t.Fatal(err)
		}
		c.CannotStart(t.Context(), file, "relayd", quiet, nil, errors.New("the port is taken"))
	}
	if got := h.all(); len(got) != 1 || !strings.Contains(got[0], "CannotStart firing: relayd cannot start; it was tried 5 times within an hour: the port is taken") {
		t.Errorf("got %q, want one message with the cause", got)
	}
}

// One that cannot be reached does not keep the message from the others.
func TestSendNow(t *testing.T) {
	h := newHook(t, nil)
	c := Config{Receivers: []URL{"ntfy://127.0.0.1:1/sesame"}, Webhooks: []URL{URL(h.URL)}, TimeZone: "UTC", Quiet: "00:00-23:59"}
	err := c.SendNow(t.Context(), "relayd", quiet, []Alert{{Name: "Test", Summary: "a test"}})
	if err == nil || !strings.HasPrefix(err.Error(), "ntfy 127.0.0.1:1 (alerts.receivers[0]): ") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got %v, want a fault of ntfy alone, without the topic", err)
	}
	if got := h.all(); len(got) != 1 {
		t.Errorf("got %q, want one message", got)
	}
}
