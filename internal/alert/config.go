package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
	_ "time/tzdata" // the containers have no files of time zones
)

// Config says who is told, and when. It is a part of the configuration of relayd and of
// relaymon.
type Config struct {
	Receivers     []URL  `yaml:"receivers"`
	Webhooks      []URL  `yaml:"webhooks"`
	Alertmanagers []URL  `yaml:"alertmanagers"`
	Quiet         string `yaml:"quiet"`
	Digest        string `yaml:"digest"`
	TimeZone      string `yaml:"time_zone"`

	// Subject is whose alerts they are, such as the relay's domain, in what people read.
	// It is the program's to say; empty: the machine's name.
	Subject string `yaml:"-"`
}

// maxReceivers are in each list.
const maxReceivers = 20

// Validate names every value that cannot be; the fields stand below "alerts".
func (c Config) Validate() error {
	var faults []error
	for _, list := range []struct {
		name  string
		urls  []URL
		check func(URL) error
	}{
		{"receivers", c.Receivers, CheckReceiver},
		{"webhooks", c.Webhooks, CheckURL},
		{"alertmanagers", c.Alertmanagers, checkAlertmanager},
	} {
		if len(list.urls) > maxReceivers {
			faults = append(faults, fmt.Errorf("alerts.%s: want %d at most, not %d", list.name, maxReceivers, len(list.urls)))
			continue
		}
		for i, u := range list.urls {
			if err := list.check(u); err != nil {
				faults = append(faults, fmt.Errorf("alerts.%s[%d]: %w", list.name, i, err))
			}
		}
	}
	_, more := c.readTimes()
	return errors.Join(append(faults, more...)...)
}

// Any says whether somebody is to be told.
func (c Config) Any() bool {
	return len(c.Receivers)+len(c.Webhooks)+len(c.Alertmanagers) > 0
}

// Join is c with the receivers of d that are not in it.
func (c Config) Join(d Config) Config {
	for _, l := range []struct{ to, from *[]URL }{{&c.Receivers, &d.Receivers}, {&c.Webhooks, &d.Webhooks}, {&c.Alertmanagers, &d.Alertmanagers}} {
		for _, u := range *l.from {
			if !slices.Contains(*l.to, u) {
				*l.to = append(*l.to, u)
			}
		}
	}
	c.TimeZone = cmp.Or(c.TimeZone, d.TimeZone)
	return c
}

// CheckFile says what is wrong with the mode of the file that this configuration is from.
func (c Config) CheckFile(file string) error {
	info, err := os.Stat(file)
	if err != nil || !c.Any() || info.Mode().Perm()&0o007 == 0 {
		return nil // who reads the file says what is wrong with it
	}
	return fmt.Errorf("others can read %s, and the addresses of receivers hold passwords and tokens: chmod o= %[1]s", file)
}

// receivers are all that are to be told, each once.
func (c Config) receivers(program string, zone *time.Location) []Receiver {
	var to []Receiver
	for i, u := range c.Receivers {
		for _, one := range recipients(u) {
			p := newPerson(one, words{program, c.Subject, zone})
			p.at = fmt.Sprintf("alerts.receivers[%d]", i)
			to = append(to, p)
		}
	}
	for i, u := range c.Webhooks {
		w := newWebhook(u, program)
		w.at = fmt.Sprintf("alerts.webhooks[%d]", i)
		to = append(to, w)
	}
	for i, u := range c.Alertmanagers {
		a := newAlertmanager(u, program)
		a.at = fmt.Sprintf("alerts.alertmanagers[%d]", i)
		to = append(to, a)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(to, func(r Receiver) bool {
		key := r.(interface{ address() string }).address()
		twice := seen[key]
		seen[key] = true
		return twice
	})
}

// placeOf is where a receiver stands in the configuration; empty: it has none.
func placeOf(r Receiver) string {
	if p, ok := r.(interface{ place() string }); ok {
		return p.place()
	}
	return ""
}

// Open makes the keeper for the program, which remembers in file what was told; nil:
// nobody is to be told.
func (c Config) Open(file, program string, log *slog.Logger) (*Keeper, error) {
	t, err := c.times()
	if err != nil || !c.Any() {
		return nil, err
	}
	k, err := New(file, log, c.receivers(program, t.zone)...)
	if err != nil {
		return nil, err
	}
	k.keepTimes(t, words{program, c.Subject, t.zone})
	return k, nil
}

// keepTimes sets when people are told, and in whose name.
func (k *Keeper) keepTimes(t times, w words) {
	k.times, k.words = t, w
	if !t.digests {
		k.digest = digests{}
	} else if k.digest.At.IsZero() {
		k.digest.At = t.lastDigest(k.wall()) // the first one comes when it is time, not now
	}
}

// Outcome is what became of a message to one receiver.
type Outcome struct {
	To    string // its name, without secrets
	Place string // where it stands in the configuration, such as alerts.receivers[1]
	Err   error  // nil: it took the message
}

// Send sends at once to all receivers, whatever the time of day, and waits for them all.
// Each has as long as a keeper gives it.
func (c Config) Send(ctx context.Context, program string, alerts ...Alert) ([]Outcome, error) {
	t, err := c.times()
	if err != nil {
		return nil, err
	}
	return sendAll(ctx, c.receivers(program, t.zone), alerts), nil
}

func sendAll(ctx context.Context, to []Receiver, alerts []Alert) []Outcome {
	out, names := make([]Outcome, len(to)), namesOf(to)
	var all sync.WaitGroup
	for i, r := range to {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patienceWith(r))
			defer cancel()
			out[i] = Outcome{names[i], placeOf(r), r.Send(ctx, alerts)}
		})
	}
	all.Wait()
	return out
}

// SendNow sends as [Config.Send] does. The log and the error say who was not reached.
func (c Config) SendNow(ctx context.Context, program string, log *slog.Logger, alerts []Alert) error {
	outcomes, err := c.Send(ctx, program, alerts...)
	if err != nil {
		return err
	}
	return report(log, outcomes)
}

func report(log *slog.Logger, outcomes []Outcome) error {
	var faults []error
	for _, o := range outcomes {
		if o.Err != nil {
			log.Error("an alert cannot be sent", "to", o.To, "receiver", o.Place, "err", o.Err)
			faults = append(faults, fmt.Errorf("%s (%s): %w", o.To, o.Place, o.Err))
		}
	}
	return errors.Join(faults...)
}
