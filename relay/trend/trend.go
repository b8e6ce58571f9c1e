// Package trend keeps how busy the relay was, for the pictures on its status page: the last
// day in steps of five minutes and the last month in steps of two hours.
//
// Nothing else rests on it. It is no part of a backup, and what cannot be read of it is begun
// anew.
package trend

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/durable"
)

const (
	// File is where it is kept, in the data folder.
	File = "trend.json"
	// Damaged is where a file is put that cannot be read.
	Damaged = "trend.json.damaged"

	lookEvery = time.Minute
	// saveEvery is how much of it a crash may cost.
	saveEvery = 10 * time.Minute
)

// What bounds the file: how many samples there are, and how large a number may be.
const (
	maxFile  = 40_000
	maxCount = 10_000_000 - 1
	maxBytes = 1_000_000_000_000_000 - 1
	maxStep  = 1_000_000_000 - 1 // the year 11476 in steps of five minutes
)

// Now is how busy the relay is at a moment.
type Now struct {
	Reservations, Circuits, Connections int
	Carried                             int64 // bytes since the program was started
}

// What stands in a sample.
const (
	at           = iota // which step of its length it is since 1970
	reservations        // the most in the step, as are circuits and connections
	circuits
	connections
	carried // bytes in the step
	fields
)

type sample [fields]int64

// ring keeps as many samples as there is room for.
type ring struct {
	step    time.Duration
	room    int
	samples []sample // by time, at most one of each step
}

// stepOf is the step that a time is in.
func (r *ring) stepOf(t time.Time) int64 { return t.Unix() / int64(r.step/time.Second) }

func byStep(s sample, step int64) int { return cmp.Compare(s[at], step) }

// add notes a sample of now. A step that is there already is added to, as after a restart.
//
// A sample goes only when there is no room, and never because the clock says another time:
// so a clock that is wrong for a while costs no more samples than were taken by it, whether
// it is ahead or behind. The first to go is one that lies in the future, then the oldest.
func (r *ring) add(now time.Time, s sample) {
	s[at] = r.stepOf(now)
	if s[at] < 1 || s[at] > maxStep {
		return
	}
	for i := reservations; i < fields; i++ {
		s[i] = max(0, s[i])
	}
	i, there := slices.BinarySearchFunc(r.samples, s[at], byStep)
	if there {
		s[carried] += r.samples[i][carried]
		for k := reservations; k < carried; k++ {
			s[k] = max(s[k], r.samples[i][k])
		}
	} else {
		r.samples = slices.Insert(r.samples, i, sample{})
	}
	for k := reservations; k < carried; k++ {
		s[k] = min(s[k], maxCount)
	}
	s[carried] = min(s[carried], maxBytes)
	r.samples[i] = s
	if last := len(r.samples) - 1; last < r.room {
		return
	} else if r.samples[last][at] > s[at] {
		r.samples = r.samples[:last]
	} else {
		r.samples = slices.Delete(r.samples, 0, 1)
	}
}

// check says what is wrong with samples that were read.
func (r *ring) check() error {
	if len(r.samples) > r.room {
		return fmt.Errorf("%d samples where %d have room", len(r.samples), r.room)
	}
	before := int64(0)
	for _, s := range r.samples {
		if s[at] <= before || s[at] > maxStep {
			return fmt.Errorf("step %d after step %d", s[at], before)
		}
		before = s[at]
		if slices.Min(s[:]) < 0 || slices.Max(s[reservations:carried]) > maxCount || s[carried] > maxBytes {
			return fmt.Errorf("step %d: a number that is below 0 or too large", s[at])
		}
	}
	return nil
}

// Keeper keeps it in a file. Make it with [New].
type Keeper struct {
	dir string
	log *slog.Logger

	mu         sync.Mutex
	day, month ring
	now        Now
	unsaved    bool
	fault      string   // why the file could not be written
	periods    []Period // as of the last look: many visitors may ask for them
}

// New makes one for the relay's data folder. Nothing is read yet.
func New(dataDir string, log *slog.Logger) *Keeper {
	return &Keeper{
		dir: dataDir, log: log,
		day:   ring{step: 5 * time.Minute, room: 24 * 12},
		month: ring{step: 2 * time.Hour, room: 30 * 12},
	}
}

// Run reads the file. Then it looks every minute and writes every ten until ctx ends; what it
// saw last is for [Keeper.Save] to write.
func (k *Keeper) Run(ctx context.Context, look func() Now) {
	k.open()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for saved := time.Now(); ; {
		k.note(time.Now(), look())
		if time.Since(saved) >= saveEvery {
			k.Save()
			saved = time.Now()
		}
		select {
		case <-ctx.Done():
			k.note(time.Now(), look()) // what was carried since the last look
			return
		case <-tick.C:
		}
	}
}

// note adds what was seen at a time.
func (k *Keeper) note(now time.Time, n Now) {
	k.mu.Lock()
	defer k.mu.Unlock()
	more := n.Carried - k.now.Carried
	if more < 0 { // it is counted anew
		more = n.Carried
	}
	s := sample{reservations: int64(n.Reservations), circuits: int64(n.Circuits), connections: int64(n.Connections), carried: more}
	k.day.add(now, s)
	k.month.add(now, s)
	k.now, k.unsaved = n, true
	k.periods = []Period{k.draw("The last day", []string{"24 h ago", "12 h ago", "now"}, &k.day, now), k.draw("The last month", []string{"30 days ago", "15 days ago", "now"}, &k.month, now)}
}

// kept is what stands in the file.
type kept struct {
	Day   []sample `json:"day"`
	Month []sample `json:"month"`
}

// open reads the file. One that is damaged is put aside: it must not keep a relay from
// serving, and somebody may want to see it.
func (k *Keeper) open() {
	path := filepath.Join(k.dir, File)
	data, err := bounded.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = k.read(data)
	}
	if err != nil {
		aside := os.Rename(path, filepath.Join(k.dir, Damaged))
		k.log.Warn("how busy the relay was cannot be read, the pictures of the status page begin anew", "file", path, "put_aside_as", Damaged, "error", errors.Join(err, aside))
	}
}

// read takes what stands in a file, or nothing of it.
func (k *Keeper) read(data []byte) error {
	var f kept
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	day, month := k.day, k.month
	day.samples, month.samples = f.Day, f.Month
	if err := day.check(); err != nil {
		return fmt.Errorf("day: %w", err)
	}
	if err := month.check(); err != nil {
		return fmt.Errorf("month: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.day, k.month = day, month
	return nil
}

// Save writes what is not written yet. A fault is said in the log, and tried again.
func (k *Keeper) Save() {
	k.mu.Lock()
	unsaved := k.unsaved
	data, err := json.Marshal(kept{k.day.samples, k.month.samples})
	k.unsaved = false
	k.mu.Unlock()
	if !unsaved {
		return
	}
	if err == nil {
		err = durable.Replace(filepath.Join(k.dir, File), append(data, '\n'), 0o600)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.fault
	k.fault = ""
	if err != nil {
		k.unsaved, k.fault = true, durable.Reason(err)
		if k.fault != was {
			k.log.Warn("how busy the relay was cannot be written: a restart leaves a gap in the pictures of the status page", "error", err)
		}
	}
}

// Periods are the pictures as of the last look; none before the first.
func (k *Keeper) Periods() []Period {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.periods
}
