package load

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bench/lab"
)

// Job is one repetition: what one run of the load does, to print one line of JSON.
type Job struct {
	Kind   string
	Target Target
	Over   string        // transport and security, such as tcp/noise
	For    time.Duration // how long is measured
	Amount int64         // or, if not 0, for how many bytes, to the last of them
	Peers  int           // how many of them, where the job has a number of them
	Others int           // trim: how many without a reservation
	From   int           // whose address the peer has, where there is one of them
	Dest   peer.ID       `json:",omitzero"` // where its circuits lead
	Steps  []int         // fill: the counts of peers at which is measured
}

// Values are what a repetition measured, by name.
type Values map[string]float64

// Do does the job. One that goes on until ctx ends says when it has begun.
func (j Job) Do(ctx context.Context, ready func(Ready) error) (Values, error) {
	do, ok := map[string]func(Job, context.Context, func(Ready) error) (Values, error){
		"bulk":     Job.bulk,
		"many":     Job.many,
		"proxy":    Job.proxy,
		"sink":     Job.sink,
		"send":     Job.send,
		"ask":      Job.ask,
		"hog":      Job.hog,
		"fill":     Job.fill,
		"churn":    Job.churn,
		"halfopen": Job.halfOpen,
		"crowd":    Job.crowd,
		"trim":     Job.trim,
		"soak":     Job.soak,
	}[j.Kind]
	if !ok {
		return nil, fmt.Errorf("no job is called %q", j.Kind)
	}
	return do(j, ctx, ready)
}

// usage is a process's use of its CPU while something goes on.
type usage struct {
	pid   int
	cpu   time.Duration
	start time.Time
}

func use(pid int) (usage, error) {
	cpu, err := lab.CPU(pid)
	return usage{pid, cpu, time.Now()}, err
}

func (u usage) since() (cpu, wall time.Duration, err error) {
	now, err := lab.CPU(u.pid)
	return now - u.cpu, time.Since(u.start), err
}

// settled waits until a process uses next to nothing, at most a few seconds.
func settled(ctx context.Context, pid int) error {
	for range 20 {
		u, err := use(pid)
		if err != nil {
			return err
		}
		if err := pause(ctx, 150*time.Millisecond); err != nil {
			return err
		}
		cpu, wall, err := u.since()
		if err != nil {
			return err
		}
		if cpu < wall/50 {
			return nil
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// chunk is what a sender writes at a time.
const chunk = 32 << 10

// flow keeps streams full and counts what arrives at their other ends.
type flow struct {
	delivered atomic.Int64
	failed    chan error
}

func newFlow(streams int) *flow { return &flow{failed: make(chan error, 2*streams)} }

// pump adds a stream, to be filled with an amount, or without end if it is 0.
func (f *flow) pump(into io.Writer, from io.Reader, amount int64) *flow {
	fill(into, amount, f.failed)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			f.delivered.Add(int64(n))
			if err != nil {
				f.failed <- fmt.Errorf("receive: %w", err)
				return
			}
		}
	}()
	return f
}

// fill writes an amount, or without end if it is 0, and says if that went wrong.
func fill(into io.Writer, amount int64, failed chan<- error) {
	go func() {
		// No compression on the way may pay.
		data := make([]byte, chunk)
		_, err := rand.Read(data)
		for wrote := int64(0); err == nil; wrote += chunk {
			if amount > 0 && wrote >= amount {
				return
			}
			_, err = into.Write(data)
		}
		failed <- fmt.Errorf("send: %w", err)
	}()
}

// warmUp is how long a flow goes on before it is measured.
const warmUp = 300 * time.Millisecond

// measure says what a running flow costs and carries.
func (j Job) measure(ctx context.Context, f *flow) (Values, error) {
	if err := f.wait(ctx, warmUp); err != nil {
		return nil, err
	}
	before := f.delivered.Load()
	u, err := use(j.Target.PID)
	if err != nil {
		return nil, err
	}
	if err := f.wait(ctx, j.For); err != nil {
		return nil, err
	}
	for range patience / warmUp { // a busy machine may need longer for the first bytes
		if f.delivered.Load() > before {
			break
		}
		if err := f.wait(ctx, warmUp); err != nil {
			return nil, err
		}
	}
	return carried(f.delivered.Load()-before, u)
}

// all says what it costs to carry an amount, from its first byte to its last.
func (j Job) all(ctx context.Context, f *flow, u usage) (Values, error) {
	for f.delivered.Load() < j.Amount {
		if err := f.wait(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return carried(j.Amount, u)
}

func carried(n int64, u usage) (Values, error) {
	bytes := float64(n)
	cpu, wall, err := u.since()
	if err != nil {
		return nil, err
	}
	if bytes == 0 {
		return nil, fmt.Errorf("nothing was carried in %s", wall)
	}
	return Values{
		"mb_s":      bytes / wall.Seconds() / 1e6,
		"cpu_s_gib": cpu.Seconds() / (bytes / (1 << 30)),
		"busy":      cpu.Seconds() / wall.Seconds(),
	}, nil
}

func (f *flow) wait(ctx context.Context, d time.Duration) error {
	select {
	case err := <-f.failed:
		return err
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
