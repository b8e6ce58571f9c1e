package bench

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bench/lab"
	"github.com/psf-relay/relay-appliance/internal/bench/load"
	"github.com/psf-relay/relay-appliance/internal/bench/subject"
)

// How much may rise between two parts of the last two fifths of a soak. Before, the
// relay learns whom there is: it remembers a peer's addresses for a quarter of an
// hour after it left. The garbage collector's phases are worth something, too.
const (
	mayRise      = 1.05
	mayVary      = 2
	soakSampling = 5 * time.Second
)

// watched are the numbers that are to stay flat.
var watched = []struct{ name, metric string }{
	{"rss_mib", ""}, // of the kernel
	{"heap_mib", "go_memstats_heap_alloc_bytes"},
	{"goroutines", "go_goroutines"},
	{"open_files", "process_open_fds"},
	{"connections", "relayd_connections"},
}

// Soak keeps a relay busy with a little of everything, and looks whether it
// grows. The error says what did, or what failed.
func Soak(ctx context.Context, o Options, d time.Duration, out io.Writer) error {
	bench := subject.Bench{Dir: o.Dir, Relayd: o.Relayd, Cert: filepath.Join(o.Dir, "cert.pem")}
	if err := subject.WriteCert(bench.Cert); err != nil {
		return err
	}
	sub, err := bench.Start(ctx, subject.Relayd, 1, "")
	if err != nil {
		return err
	}
	defer sub.Stop()
	r := &runner{Options: o, began: time.Now()}
	p, err := r.start(ctx, load.Job{Kind: "soak", Target: sub.Target, For: d})
	if err != nil {
		return err
	}
	defer p.Stop()
	cpu, err := lab.CPU(sub.PID())
	if err != nil {
		return err
	}
	var samples []Sample
	ticks := time.NewTicker(min(soakSampling, d/12))
	defer ticks.Stop()
	for running := true; running; {
		select {
		case <-ticks.C:
			values, err := observe(ctx, sub)
			if err != nil {
				return fmt.Errorf("read the relay's numbers: %w\n%s", err, sub.Tail())
			}
			s := Sample{Run: r.began.UTC().Truncate(time.Millisecond), Experiment: "soak", Variant: subject.Relayd, Round: len(samples) + 1, Time: time.Now().UTC().Truncate(time.Second), Values: values}
			samples = append(samples, s)
			r.say("%s", s.brief())
			if err := json.NewEncoder(o.Results).Encode(s); err != nil {
				return fmt.Errorf("write the results: %w", err)
			}
		case <-p.Done():
			running = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var did load.Values
	if err := json.NewDecoder(p.Stdout).Decode(&did); err != nil {
		return fmt.Errorf("the load: %w\n%s", err, p.Tail())
	}
	used, err := lab.CPU(sub.PID())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, %.1f %% of a CPU\n\n", time.Since(r.began).Round(time.Second), 100*(used-cpu).Seconds()/time.Since(r.began).Seconds())
	rose := flat(out, samples)
	fmt.Fprintln(out)
	rows := [][]string{{"what was done", "times"}}
	var failed []string
	for _, name := range slices.Sorted(maps.Keys(did)) {
		rows = append(rows, []string{name, number(did[name])})
		if strings.HasSuffix(name, "_failed") {
			failed = append(failed, name)
		}
	}
	writeTable(out, rows)
	lines, err := complaints(sub.Log())
	if err != nil {
		return err
	}
	fmt.Fprintln(out)
	writeTable(out, lines)
	switch {
	case len(failed) > 0:
		return fmt.Errorf("%s; the end of the load's log:\n%s", strings.Join(failed, ", "), p.Tail())
	case len(rose) > 0:
		return fmt.Errorf("not flat: %s", strings.Join(rose, ", "))
	}
	return nil
}

// observe reads the watched numbers.
func observe(ctx context.Context, sub *subject.Subject) (load.Values, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, sub.Metrics, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	metrics := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if name, v, ok := strings.Cut(lines.Text(), " "); ok {
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				metrics[name] = f
			}
		}
	}
	rss, err := lab.RSS(sub.PID())
	if err != nil {
		return nil, err
	}
	values := load.Values{"rss_mib": float64(rss) / (1 << 20)}
	for _, w := range watched[1:] {
		v, ok := metrics[w.metric]
		if !ok {
			return nil, fmt.Errorf("the relay has no metric %s", w.metric)
		}
		if strings.HasSuffix(w.name, "_mib") {
			v /= 1 << 20
		}
		values[w.name] = v
	}
	return values, nil
}

// flat writes the median of each fifth of the time, and returns what rose in the
// last two.
func flat(out io.Writer, samples []Sample) (rose []string) {
	const parts = 5
	rows := [][]string{{"median of each fifth", "1", "2", "3", "4", "5", "5 against 4"}}
	for _, w := range watched {
		row := []string{w.name}
		var medians []float64
		for i := range parts {
			var v []float64
			for _, s := range samples[len(samples)*i/parts : len(samples)*(i+1)/parts] {
				v = append(v, s.Values[w.name])
			}
			if len(v) > 0 {
				medians = append(medians, median(v))
				row = append(row, number(median(v)))
			} else {
				row = append(row, "-")
			}
		}
		if len(medians) < parts {
			rows = append(rows, append(row, "-"))
			continue
		}
		before, after := medians[parts-2], medians[parts-1]
		rows = append(rows, append(row, number(after/before)))
		if after > before*mayRise && after-before > mayVary {
			rose = append(rose, fmt.Sprintf("%s rose to %s times what it was", w.name, number(after/before)))
		}
	}
	writeTable(out, rows)
	return rose
}

var logged = regexp.MustCompile(`level=(WARN|ERROR) msg=("(?:[^"\\]|\\.)*"|\S+)`)

// complaints counts the warnings and errors that the relay logged, by their text.
func complaints(log string) ([][]string, error) {
	data, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, m := range logged.FindAllStringSubmatch(string(data), -1) {
		count[m[1]+" "+m[2]]++
	}
	rows := [][]string{{"the relay's warnings and errors", "times"}}
	for _, text := range slices.SortedFunc(maps.Keys(count), func(a, b string) int { return cmp.Compare(count[b], count[a]) }) {
		rows = append(rows, []string{text, strconv.Itoa(count[text])})
	}
	return rows, nil
}
