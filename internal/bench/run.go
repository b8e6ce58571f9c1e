// Package bench measures the relay of this repository side by side with what else
// there is: haproxy and a proxy in Go, which carry the same bytes without libp2p;
// go-libp2p's relay with its defaults; and js-libp2p's, which PSF software runs.
//
// The relay runs on CPU 0, all clients on CPU 1, in a network of their own. The
// machine's mood weighs on every number, so that goals compare within one round,
// and tables show medians of such ratios with their spread.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bench/lab"
	"github.com/psf-relay/relay-appliance/internal/bench/load"
	"github.com/psf-relay/relay-appliance/internal/bench/subject"
)

// Options say what to measure.
type Options struct {
	Scale    Scale
	Only     []string // experiments; empty: all
	Rounds   int      // in place of the scale's, if not 0
	Relayd   string   // the program
	Modules  string   // node_modules for the js relay; empty: it is left out
	Dir      string   // for the files of the subjects; they are left there
	Results  io.Writer
	Progress io.Writer
}

// Sample is one repetition, and one line of the results.
type Sample struct {
	Run        time.Time   `json:"run"` // when the run began that the round is of
	Experiment string      `json:"experiment"`
	Variant    string      `json:"variant"`
	Round      int         `json:"round"`
	Time       time.Time   `json:"time"`
	Values     load.Values `json:"values,omitempty"`
	Error      string      `json:"error,omitempty"`
}

// repetition bounds one of them.
const repetition = 3 * time.Minute

// Run measures, and writes a line of JSON for each repetition. One that failed is
// a line too, and the error says how many did; what cannot be had on this machine
// is left out, and said so.
func Run(ctx context.Context, o Options) ([]Sample, error) {
	chosen, err := choose(experiments(o.Scale), o.Only)
	if err != nil {
		return nil, err
	}
	r := &runner{Options: o, began: time.Now(), bench: subject.Bench{
		Dir: o.Dir, Relayd: o.Relayd, Modules: o.Modules, Cert: filepath.Join(o.Dir, "cert.pem"),
	}}
	if err := subject.WriteCert(r.bench.Cert); err != nil {
		return nil, err
	}
	for _, e := range chosen {
		if o.Rounds > 0 {
			e.rounds = o.Rounds
		}
		if err := r.run(ctx, e); err != nil {
			return r.samples, err
		}
	}
	if r.failed > 0 {
		return r.samples, fmt.Errorf("%d of %d repetitions failed", r.failed, len(r.samples))
	}
	return r.samples, nil
}

type runner struct {
	Options
	bench   subject.Bench
	began   time.Time
	samples []Sample
	failed  int
	started int // subjects so far
}

func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.Progress, "[%4.0f s] %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *runner) run(ctx context.Context, e experiment) error {
	r.say("%s: %s", e.name, e.about)
	kept := map[string]*subject.Subject{}
	defer func() {
		for _, s := range kept {
			s.Stop()
		}
	}()
	absent := map[string]bool{}
	for round := range e.rounds {
		for _, v := range e.variants {
			if err := r.bench.Has(v.subject); err != nil {
				if !absent[v.subject] {
					r.say("%s is left out: %v", v.subject, err)
				}
				absent[v.subject] = true
				continue
			}
			s := Sample{Run: r.began.UTC().Truncate(time.Millisecond), Experiment: e.name, Variant: v.name(), Round: round + 1, Time: time.Now().UTC().Truncate(time.Second)}
			values, err := r.repeat(ctx, v, kept)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if s.Values = values; err != nil {
				s.Error = err.Error()
				r.failed++
			}
			r.samples = append(r.samples, s)
			r.say("%s %d/%d  %-22s %s", e.name, round+1, e.rounds, v.name(), s.brief())
			if err := json.NewEncoder(r.Results).Encode(s); err != nil {
				return fmt.Errorf("write the results: %w", err)
			}
		}
	}
	return nil
}

// repeat does one repetition.
func (r *runner) repeat(ctx context.Context, v variant, kept map[string]*subject.Subject) (load.Values, error) {
	ctx, cancel := context.WithTimeout(ctx, repetition)
	defer cancel()
	sub := kept[v.subject]
	if sub == nil || v.fresh {
		life := ctx
		if !v.fresh {
			life = context.WithoutCancel(ctx) // it is stopped with the experiment
		}
		var err error
		r.started++
		if sub, err = r.bench.Start(life, v.subject, r.started, v.settings); err != nil {
			return nil, err
		}
		if v.fresh {
			defer sub.Stop()
		} else {
			kept[v.subject] = sub
		}
	}
	v.job.Target = sub.Target
	values, err := r.load(ctx, v)
	select {
	case <-sub.Done():
		delete(kept, v.subject)
		return nil, errors.Join(fmt.Errorf("%s ended while it was measured:\n%s", v.subject, sub.Tail()), err)
	default:
		return values, err
	}
}

func (r *runner) load(ctx context.Context, v variant) (load.Values, error) {
	if v.beside == 0 {
		return r.once(ctx, v.job)
	}
	return r.share(ctx, v)
}

// share measures a circuit alone, and then beside those of a hog, which lead to
// the same peer or to another one. Each client is a process of its own, as it
// would be elsewhere: it is the relay that is to be fair.
func (r *runner) share(ctx context.Context, v variant) (values load.Values, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	job := func(kind string, from int, to peer.ID) load.Job {
		j := v.job
		j.Kind, j.From, j.Dest = kind, from, to
		return j
	}
	dest, stop, err := r.begin(ctx, job("sink", 0, ""))
	if err != nil {
		return nil, err
	}
	defer stop()
	if v.mbit > 0 {
		undo, err := lab.Link{To: lab.Client(0), Mbit: v.mbit}.Shape()
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, undo()) }()
	}
	alone, err := r.either(ctx, v, job("send", 1, dest))
	if err != nil {
		return nil, err
	}
	hogs := dest
	if !v.sameDest {
		if hogs, stop, err = r.begin(ctx, job("sink", 2, "")); err != nil {
			return nil, err
		}
		defer stop()
	}
	hog := job("hog", 3, hogs)
	hog.Peers = v.beside
	if _, stop, err = r.begin(ctx, hog); err != nil {
		return nil, err
	}
	defer stop()
	beside, err := r.either(ctx, v, job("send", 1, dest))
	if err != nil {
		return nil, err
	}
	values = load.Values{"share": beside["mb_s"] / alone["mb_s"], "alone_mb_s": alone["mb_s"], "beside_mb_s": beside["mb_s"], "busy": beside["busy"]}
	if v.mbit > 0 {
		// Within the bound of 2 times, or 100 ms more, this is at most 1.
		values["alone_p95_ms"], values["beside_p95_ms"] = alone["p95_ms"], beside["p95_ms"]
		values["beside_median_ms"] = beside["median_ms"]
		values["late"] = beside["p95_ms"] / max(2*alone["p95_ms"], alone["p95_ms"]+100)
	}
	return values, nil
}

// either sends, and on a slow link asks before.
func (r *runner) either(ctx context.Context, v variant, send load.Job) (load.Values, error) {
	if v.mbit == 0 {
		return r.once(ctx, send)
	}
	ask := send
	ask.Kind, ask.For = "ask", 2*ask.For // ten answers a second, of which the 20th part counts
	answers, err := r.once(ctx, ask)
	if err != nil {
		return nil, err
	}
	sent, err := r.once(ctx, send)
	if err != nil {
		return nil, err
	}
	maps.Copy(answers, sent)
	return answers, nil
}

// begin starts a load that goes on until it is stopped.
func (r *runner) begin(ctx context.Context, j load.Job) (peer.ID, func(), error) {
	p, err := r.start(ctx, j)
	if err != nil {
		return "", nil, err
	}
	var up load.Ready
	if err := json.NewDecoder(p.Stdout).Decode(&up); err != nil {
		p.Stop()
		return "", nil, fmt.Errorf("%s: %w\n%s", j.Kind, err, p.Tail())
	}
	return up.ID, p.Stop, nil
}

func (r *runner) start(ctx context.Context, j load.Job) (*lab.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	job, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	return lab.Start(ctx, lab.Program{Name: "load", CPU: lab.ClientCPU, Args: []string{self, "load", string(job)}, Dir: r.Dir, Pipe: true})
}

// once runs the load once, to its one line of JSON.
func (r *runner) once(ctx context.Context, j load.Job) (load.Values, error) {
	p, err := r.start(ctx, j)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	var v load.Values
	decodeErr := json.NewDecoder(p.Stdout).Decode(&v)
	if err := p.Wait(); err != nil {
		return nil, err
	}
	return v, decodeErr
}
