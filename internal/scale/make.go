package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// Make makes a fleet in a folder that is empty or not there. Tell is told how far it is
// (nil: nobody asks).
func Make(ctx context.Context, dir string, o Options, tell func(hours int)) (*Fleet, error) {
	f, err := found(dir, o)
	if err != nil {
		return nil, err
	}
	if list, err := os.ReadDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if len(list) > 0 {
		return nil, fmt.Errorf("%s is not empty: name a new folder", dir)
	}
	if err := os.MkdirAll(f.path(monitorsDir), 0o755); err != nil {
		return nil, err
	}
	var relays []*relay
	for i := range o.Relays {
		r, err := o.newRelay(i)
		if err != nil {
			return nil, err
		}
		relays = append(relays, r)
	}
	if err := f.publish(relays); err != nil {
		return nil, err
	}
	began, cpu := time.Now(), cpuTime()
	if err := f.watch(ctx, relays, tell); err != nil {
		return nil, err
	}
	f.Made.Seconds, f.Made.CPU = time.Since(began).Seconds(), cpuTime()-cpu
	b, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return f, os.WriteFile(f.path(fleetFile), append(b, '\n'), 0o644)
}

// data is the data folder of a monitor, with the log in it.
func (f *Fleet) data(m *watcher) string { return f.path(monitorsDir, m.name) }

func (f *Fleet) logOf(m *watcher) string { return filepath.Join(f.data(m), "log") }

// watch lets the monitors live through the hours.
func (f *Fleet) watch(ctx context.Context, relays []*relay, tell func(hours int)) (err error) {
	defer func() {
		for _, m := range f.monitors {
			if m.log != nil {
				err = errors.Join(err, m.log.Close())
			}
		}
	}()
	for _, m := range f.monitors {
		if err := m.create(f.logOf(m)); err != nil {
			return fmt.Errorf("make the log of %s: %w", m.name, err)
		}
	}
	for i := range f.Hours {
		if err := f.watchHour(ctx, relays, f.hour(i)); err != nil {
			return err
		}
		if tell != nil {
			tell(i + 1)
		}
	}
	return nil
}

// watchHour lets each monitor try the relays for which it is due, seal, and have it cosigned.
func (f *Fleet) watchHour(ctx context.Context, relays []*relay, h evidence.Hour) error {
	round := f.drand.round(h)
	due := map[string][]*relay{}
	for _, r := range relays {
		for _, m := range f.rules.Due(f.roster, f.entry(r), h, round) {
			due[m.Name] = append(due[m.Name], r)
		}
	}
	var attempts, records atomic.Int64
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, m := range f.monitors {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			m.log.Round = func(evidence.Hour) []byte { return round }
			evidencetest.Watch(must{}, m.log, h)
			for _, r := range due[m.name] {
				n, err := f.try(m, r, h, round)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", m.name, h, err)
				}
				attempts.Add(n)
			}
			records.Add(int64(len(due[m.name])))
			return f.seal(m, i, h)
		})
	}
	err := g.Wait()
	f.Made.Attempts += attempts.Load()
	f.Made.Records += records.Load()
	return err
}

// try notes what the monitor sees of a relay, at the time of its plan.
func (f *Fleet) try(m *watcher, r *relay, h evidence.Hour, round []byte) (attempts int64, err error) {
	at := h.Start().Add(m.log.Offset(r.id, h))
	if r.isDown(h) {
		for i := range 2 {
			if err := m.log.Append(h, r.down(at.Add(time.Duration(i)*6*time.Minute))); err != nil {
				return 0, err
			}
		}
		return 2, nil
	}
	a, err := r.up(f.Options, m, h, at, round)
	if err != nil {
		return 0, err
	}
	return 1, m.log.Append(h, a, r.der)
}

// seal seals the hour; the next monitors cosign it.
func (f *Fleet) seal(m *watcher, i int, h evidence.Hour) error {
	if _, err := m.log.Seal(sealing(h)); err != nil {
		return err
	}
	checkpoint, err := m.log.Checkpoint()
	if err != nil {
		return err
	}
	var lines []byte
	var keys []string
	for k := 1; k < len(f.monitors) && len(keys) < f.Witnesses; k++ {
		o := f.monitors[(i+k)%len(f.monitors)]
		if o.operator == m.operator {
			continue // it vouches for nothing (R9)
		}
		lines = append(lines, o.witness.Cosign(must{}, checkpoint, sealing(h).Add(3*time.Minute))...)
		keys = append(keys, o.witness.VKey())
	}
	return m.log.AddCosignatures(m.log.Size(), lines, keys...)
}

// cpuTime are the seconds of CPU that this process has taken, user and system.
func cpuTime() float64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		panic(err) // there is no other reason than a wrong argument
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}
