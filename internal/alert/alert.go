// Package alert tells people when something is wrong, and when it is well again: by mail,
// Telegram and whatever else a well-kept library sends by (people.go), by a webhook, or
// through Prometheus's Alertmanager. To people it sends nothing in the quiet hours, and
// warnings only once a day, if they want it so (digest.go).
//
// There is no queue. A [Keeper] is told, as often as one likes, which alerts hold
// now; it remembers for each receiver what that has been told, and the difference
// is what is still to be sent. So nothing is sent twice, what has passed before it
// could be sent is not sent at all, and a receiver that is gone for a week costs
// no more than the alerts there are.
//
// A thousand relays may be down at once. Of alerts that differ only in whom they are
// about, many become one, with a count and a list (group.go); and those about the
// monitor itself have room of their own and are sent first.
package alert

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/publicip"
)

// Alert is something that somebody should know of.
type Alert struct {
	// Name and Labels tell alerts apart.
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	// Summary says it in a sentence. Of an alert that goes on the first one stays,
	// unless it stands for many.
	Summary string `json:"summary"`
	// Of are the labels that say whom it is about, besides Labels; nil: it is the only
	// one of its kind. Many is what is said of several, such as "relays are down". What
	// a keeper gives out has them in Labels.
	Of   map[string]string `json:"-"`
	Many string            `json:"-"`
	// Count is how many alerts it stands for; 0: it stands for itself.
	Count int `json:"count,omitempty"`
	// Parts are whom those are about, each as in Of: the first maxAlerts.
	Parts []map[string]string `json:"parts,omitempty"`
	// Since is set by the keeper.
	Since time.Time `json:"since"`
	// Ended is when it was over; zero: it goes on.
	Ended time.Time `json:"ended,omitzero"`
}

// rank is the kind of an alert, each of which has room of its own: those about the monitor
// itself, those that stand for many, those about single relays, and what strangers say.
// There are few of the first two.
func (a Alert) rank() int {
	switch {
	case a.foreign():
		return 3
	case a.Labels["relay"] != "":
		return 2
	case a.Count > 0:
		return 1
	}
	return 0
}

// foreign says whether others say so, such as the monitors that a relay asks: it never
// takes the room or the place of what the program itself found.
func (a Alert) foreign() bool { return a.Labels["source"] == ByMonitors }

// order is the order in which alerts are sent: those about the monitor itself, which are a
// message of their own, then the program's others, then those of strangers; of these first
// what is critical.
func (a Alert) order() int {
	switch {
	case a.rank() == 0:
		return 0
	case a.foreign() && a.Labels["severity"] == "critical":
		return 3
	case a.foreign():
		return 4
	case a.Labels["severity"] == "critical":
		return 1
	}
	return 2
}

func (a Alert) id() string {
	var b strings.Builder
	b.WriteString(a.Name)
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		fmt.Fprintf(&b, "\x00%s\x00%s", k, a.Labels[k])
	}
	return b.String()
}

// Receiver is told of alerts.
type Receiver interface {
	// Name stands for it in logs and in the state; it holds no secret.
	Name() string
	// Send tells of alerts; on an error it is asked again, with what holds then.
	Send(ctx context.Context, alerts []Alert) error
	// Repeats says that it must be told again and again of alerts that go on.
	Repeats() bool
}

// Bounds and pauses.
const (
	// maxAlerts are known at the same time, those included whose end is still to be
	// told, of each rank.
	maxAlerts  = 1000
	maxForeign = 200 // ... of those that strangers say
	maxMessage = 100 // alerts in one message
	// mostInARow are sent one after the other, before a pause of repeatEvery.
	mostInARow  = 10
	sendTimeout = 15 * time.Second
	// mailTimeout is longer: a mail server may look at sender and text before it answers.
	mailTimeout = 2 * time.Minute
	firstPause  = 5 * time.Second
	lastPause   = 10 * time.Minute
	repeatEvery = time.Minute
)

// Keeper knows which alerts hold and who has been told. Make one with [New].
type Keeper struct {
	file string
	log  *slog.Logger
	to   []*courier
	salt []byte // of the keys of receivers

	mu      sync.Mutex
	alerts  map[string]*Alert
	outside int  // alerts that hold and for which there is no room
	unkept  bool // it was said that the state cannot be kept

	times  times // when people are told
	words  words
	extra  func(now time.Time) []string // what the program adds to a digest
	digest digests
	wrote  time.Time        // when the last digest was written, by the steady clock; zero: not since the start
	wall   func() time.Time // the time of day
}

// courier brings the alerts to one receiver.
type courier struct {
	Receiver
	people reader         // the same, if people read it; else nil
	name   string         // for people; none else has it
	key    string         // for the state: it stays the same wherever the receiver stands in the list
	told   map[string]int // by id: it knows that the alert holds, for so many at least
	wake   chan struct{}
	failed string
	// unsure is the message of which it is not known whether it was taken. It is asked for
	// before there is another.
	unsure []Alert

	failures int       // in a row
	failing  time.Time // since the first of them
	why      string    // ... of the last one
	last     time.Time // when it took a message; zero: not since the start
}

// rouse has the courier look for news.
func (c *courier) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// state is what is kept on disk, so that a restart repeats and forgets nothing.
type state struct {
	Alerts []Alert             `json:"alerts"`
	Told   map[string][]string `json:"told"` // by receiver's key: ids
	Digest *digests            `json:"digest,omitempty"`
	Salt   []byte              `json:"salt"`
}

// New reads what was told before from a file, which need not be there. A damaged one is set
// aside: it is worse to tell nobody than to tell twice.
func New(file string, log *slog.Logger, to ...Receiver) (*Keeper, error) {
	k := &Keeper{file: file, log: log, alerts: map[string]*Alert{}, wall: time.Now, words: words{zone: time.UTC}}
	s, err := k.read()
	if err != nil {
		return nil, fmt.Errorf("read what alerts were sent: %w", err)
	}
	for _, a := range s.Alerts {
		k.alerts[a.id()] = &a
	}
	if s.Digest != nil {
		k.digest = *s.Digest
	}
	if k.salt = s.Salt; len(k.salt) == 0 {
		k.salt = make([]byte, sha256.Size)
		_, _ = rand.Read(k.salt) // it never fails
	}
	seen := map[string]bool{}
	to = slices.DeleteFunc(slices.Clone(to), func(r Receiver) bool {
		key := k.key(r)
		twice := seen[key] // it was written twice
		seen[key] = true
		return twice
	})
	names := namesOf(to)
	for i, r := range to {
		c := &courier{Receiver: r, name: names[i], key: k.key(r), told: map[string]int{}, wake: make(chan struct{}, 1)}
		c.people, _ = r.(reader)
		for _, id := range s.Told[c.key] {
			if a := k.alerts[id]; a != nil {
				c.told[id] = max(a.Count, 1)
			}
		}
		k.to = append(k.to, c)
	}
	return k, nil
}

// read reads the state. One that makes no sense becomes FILE.damaged, of which the newest
// is kept.
func (k *Keeper) read() (s state, err error) {
	b, err := os.ReadFile(k.file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	bad := json.Unmarshal(b, &s)
	if bad == nil {
		return s, nil
	}
	aside := k.file + ".damaged"
	_, err = os.Lstat(aside)
	older := err == nil
	if err := os.Rename(k.file, aside); err != nil {
		return state{}, fmt.Errorf("%s is damaged (%w) and cannot be set aside: %w", k.file, bad, err)
	}
	if err := durable.SyncDir(filepath.Dir(k.file)); err != nil {
		k.log.Warn("the damaged file of alerts may be there again after a power cut", "err", err)
	}
	k.log.Error("what alerts were sent is not known, because the file is damaged: those that hold are sent again; the file was set aside", "file", k.file, "as", aside, "replaced_older", older, "err", bad)
	return state{}, nil
}

// key stands for a receiver in the state. Without the salt, which lies in the same file,
// no guessed password can be held against it.
func (k *Keeper) key(r Receiver) string {
	a, ok := r.(interface{ address() string })
	if !ok {
		return r.Name()
	}
	mac := hmac.New(sha256.New, k.salt)
	mac.Write([]byte(a.address()))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// namesOf are the names of receivers, with a number where several have the same.
func namesOf(to []Receiver) []string {
	total, n := map[string]int{}, map[string]int{}
	for _, r := range to {
		total[r.Name()]++
	}
	names := make([]string, len(to))
	for i, r := range to {
		names[i] = r.Name()
		if n[names[i]]++; total[r.Name()] > 1 {
			names[i] += fmt.Sprintf(" %d", n[r.Name()])
		}
	}
	return names
}

// Set says which alerts hold now. It returns at once, whatever the receivers do.
func (k *Keeper) Set(now time.Time, holding []Alert) { k.set(now, holding, true) }

// Add says that these hold, and that of others nothing new is known.
func (k *Keeper) Add(now time.Time, holding []Alert) { k.set(now, holding, false) }

func (k *Keeper) set(now time.Time, holding []Alert, all bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now = now.UTC().Truncate(time.Millisecond)
	holding, grouped := k.group(holding)
	changed, outside := false, 0
	still := map[string]bool{}
	room := [...]int{maxAlerts, maxAlerts, maxAlerts, maxForeign}
	for _, a := range k.alerts {
		room[a.rank()]--
	}
	for _, a := range holding {
		id := a.id()
		still[id] = true
		switch known := k.alerts[id]; {
		case known == nil && room[a.rank()] <= 0:
			if outside++; k.outside == 0 && outside == 1 {
				k.log.Error("too many alerts at the same time: not all are sent", "name", a.Name, "summary", a.Summary)
			}
		case known == nil:
			a.Since, a.Ended = now, time.Time{}
			k.alerts[id] = &a
			room[a.rank()]--
			changed = true
			k.log.Warn("alert", "name", a.Name, "summary", a.Summary)
		case !known.Ended.IsZero(): // again, before its end was told to everybody
			known.Ended, known.Summary, known.Count, known.Parts = time.Time{}, a.Summary, a.Count, a.Parts
			changed = true
		case a.Count > 0 && (known.Summary != a.Summary || !slices.EqualFunc(known.Parts, a.Parts, maps.Equal)):
			known.Summary, known.Count, known.Parts = a.Summary, a.Count, a.Parts
			changed = true
		}
	}
	for id, a := range k.alerts {
		if all && a.Ended.IsZero() && !still[id] {
			a.Ended = now
			changed = true
			if grouped[id] {
				a.Summary += "; this goes on, and is told of together with the others from now on"
			}
			k.ended(*a)
			k.log.Info("alert is over", "name", a.Name, "summary", a.Summary)
		}
	}
	k.outside = outside
	if !changed {
		return
	}
	k.forget()
	k.save()
	for _, c := range k.to {
		c.rouse()
	}
}

// forget drops what is over and is owed to nobody. The caller holds the lock.
func (k *Keeper) forget() {
	maps.DeleteFunc(k.alerts, func(id string, a *Alert) bool {
		return !a.Ended.IsZero() && !slices.ContainsFunc(k.to, func(c *courier) bool { return c.told[id] > 0 })
	})
}

// save keeps the state. Failing that, alerts are sent a second time after a
// restart, which is the lesser evil. The caller holds the lock.
func (k *Keeper) save() {
	s := state{Alerts: k.list(func(*Alert) bool { return true }), Told: map[string][]string{}, Salt: k.salt}
	if k.times.digests {
		s.Digest = &k.digest
	}
	for _, c := range k.to {
		s.Told[c.key] = slices.Sorted(maps.Keys(c.told))
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = durable.Replace(k.file, b, 0o600)
	}
	if err != nil && !k.unkept {
		k.log.Error("what alerts were sent cannot be kept: they go out all the same, and after a restart a second time; make room, or mend the disk", "err", err)
	}
	k.unkept = err != nil
}

// list are copies of alerts in the order in which they are sent, the oldest first. The caller holds the lock.
func (k *Keeper) list(want func(*Alert) bool) []Alert {
	out := []Alert{}
	for _, a := range k.alerts {
		if want(a) {
			out = append(out, *a)
		}
	}
	slices.SortFunc(out, func(a, b Alert) int {
		return cmp.Or(a.order()-b.order(), a.rank()-b.rank(), a.Since.Compare(b.Since), cmp.Compare(a.id(), b.id()))
	})
	return out
}

// Holding are the alerts that hold, in the order in which they are sent.
func (k *Keeper) Holding() []Alert {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list(func(a *Alert) bool { return a.Ended.IsZero() })
}

// Waiting counts what is still to be told to some receiver, by now.
func (k *Keeper) Waiting() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, c := range k.to {
		n += len(k.news(c))
	}
	return n
}

// Outside counts the alerts that hold and are not told, because there are too many.
func (k *Keeper) Outside() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.outside
}

// news is what the receiver does not know: alerts that began, that stand for twice as
// many as it was told or more, and ends of those it was told of. People are told nothing
// in the quiet hours, and of warnings by the digest if there is one. The caller holds the
// lock.
func (k *Keeper) news(c *courier) []Alert {
	if c.people != nil && k.times.quietAt(k.wall()) {
		return nil
	}
	return k.list(func(a *Alert) bool {
		if c.people != nil && k.times.digests && a.Labels["severity"] == "warning" {
			return false
		}
		told := c.told[a.id()]
		return a.Ended.IsZero() != (told > 0) || a.Ended.IsZero() && a.Count >= 2*told
	})
}

// Run sends until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, c := range k.to {
		all.Go(func() { k.serve(ctx, c) })
	}
	if k.times.quiet || k.times.digests {
		all.Go(func() { k.keepTime(ctx) })
	}
	all.Wait()
}

func (k *Keeper) serve(ctx context.Context, c *courier) {
	pause, row := time.Duration(0), 0
	for {
		more, err := k.send(ctx, c)
		if err == nil {
			err = k.sendDigest(ctx, c)
		}
		if ctx.Err() != nil {
			return
		}
		wait := time.Duration(-1) // until something changes
		switch {
		case err != nil:
			k.failed(c, err)
			pause = min(max(2*pause, firstPause), lastPause)
			wait = pause/2 + mathrand.N(pause) // not all at the same moment
			if c.failed != err.Error() {
				c.failed = err.Error()
				k.log.Error("alerts cannot be sent, and will be tried again", "to", c.name, "receiver", placeOf(c.Receiver), "err", err)
			}
		default:
			pause, c.failed = 0, ""
			if row++; more && row < mostInARow {
				continue
			}
			row = 0
			if more || c.Repeats() {
				wait = repeatEvery
			}
		}
		if !rest(ctx, wait, err == nil, c.wake) {
			return
		}
	}
}

// rest waits for so long (below 0: for ever), or, if it may be woken, until there is
// news; it says whether to go on.
func rest(ctx context.Context, d time.Duration, wakeable bool, wake <-chan struct{}) bool {
	var timer <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	if !wakeable {
		wake = nil // a receiver that is in trouble is not asked sooner for more
	}
	select {
	case <-ctx.Done():
		return false
	case <-timer:
	case <-wake:
	}
	return true
}

// send tells the receiver what it does not know; more says that there is more.
func (k *Keeper) send(ctx context.Context, c *courier) (more bool, err error) {
	k.mu.Lock()
	message := k.news(c)
	if c.Repeats() {
		message = k.list(func(a *Alert) bool { return a.Ended.IsZero() || c.told[a.id()] > 0 })
	}
	quiet := c.people != nil && k.times.quietAt(k.wall())
	k.mu.Unlock()
	if c.unsure != nil && !quiet {
		_, err := k.deliver(ctx, c, c.unsure)
		return true, err // there may be news beside it
	}
	// Those about the monitor itself are a message of their own: whatever becomes of the
	// others, they arrive.
	own := len(message)
	if i := slices.IndexFunc(message, func(a Alert) bool { return a.rank() > 0 }); i >= 0 {
		own = i
	}
	for _, part := range [][]Alert{message[:own], message[own:]} {
		if len(part) == 0 {
			continue
		}
		if !c.Repeats() && len(part) > maxMessage {
			part, more = part[:maxMessage], true
		}
		left, err := k.deliver(ctx, c, part)
		if err != nil {
			return false, err
		}
		more = more || left
	}
	return more, nil
}

// failed counts a failure, for [Metrics] and [Keeper.Failing].
func (k *Keeper) failed(c *courier, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.failures == 0 {
		c.failing = k.wall()
	}
	c.failures++
	c.why = err.Error()
}

// manyFailures in a row are told of: before them a server may just have started again.
const manyFailures = 3

// ownNetwork is what an error says of the network that this machine is in. Everybody can
// read the pages on which such errors stand; the log has them whole.
var ownNetwork = regexp.MustCompile(`\b(?:dial|read|write) (?:tcp|udp)[46]? \S+: |(\blookup \S+) on [^ ]+\b`)

// Failing says in a sentence each which receivers take no messages. Everybody may read it: no
// secret is in it, and no host of this machine or of a private network.
func (k *Keeper) Failing() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.to {
		if c.failures < manyFailures {
			continue
		}
		name, why := c.name, cut(ownNetwork.ReplaceAllString(c.why, "$1"), maxCause)
		kind, host, _ := strings.Cut(c.Name(), " ")
		where := publicip.Where(host)
		if where != "" {
			name = kind + " " + where
		}
		if where != "" || host == "" && services[kind].host { // or nobody knows where
			why = "the log says why"
		}
		if place := placeOf(c.Receiver); place != "" {
			name += " (" + place + ")"
		}
		list = append(list, fmt.Sprintf("alerts do not reach %s: %d failures in a row, since %s: %s", name, c.failures, c.failing.UTC().Format("2006-01-02 15:04 MST"), why))
	}
	return list
}

// deliver sends one message and notes what the receiver knows by it; left says that not all
// had room in it.
func (k *Keeper) deliver(ctx context.Context, c *courier, list []Alert) (left bool, err error) {
	sending, cancel := context.WithTimeout(ctx, patienceWith(c.Receiver))
	defer cancel()
	ids := make([]string, len(list))
	for i, a := range list {
		ids[i] = a.id()
	}
	if c.people == nil {
		err = c.Send(sending, list)
	} else {
		m, shown := k.words.message(list), 0
		shown, err = c.people.tell(sending, m)
		ids = m.IDs[:shown]
	}
	c.unsure = nil
	if errors.Is(err, errSilent) {
		c.unsure = list
	}
	if err != nil {
		return false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	c.failures, c.last = 0, k.wall()
	changed := false
	for _, a := range list {
		id := a.id()
		switch told := c.told[id]; {
		case !slices.Contains(ids, id):
			left = true
		case a.Ended.IsZero():
			changed = changed || told == 0
			c.told[id] = max(told, a.Count, 1)
		case told > 0:
			delete(c.told, id)
			changed = true
		}
	}
	if changed {
		k.forget()
		k.save()
	}
	return left, nil
}

// patienceWith is how long a receiver may take for a message.
func patienceWith(r Receiver) time.Duration {
	if p, ok := r.(*person); ok && p.kind == "smtp" {
		return mailTimeout
	}
	return sendTimeout
}
