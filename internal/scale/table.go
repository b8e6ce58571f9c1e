package scale

import (
	"fmt"
	"io"
	"strings"
)

// due is how many monitors try a relay in an hour, by the default rules.
const due = 7

// line is one of the table.
type line struct {
	name   string
	how    string // measured, or computed from what
	of     func(r *Result) (value float64, ok bool)
	format func(float64) string
}

func (r *Result) sample(step string) *Sample {
	for i := range r.Samples {
		if r.Samples[i].Step == step {
			return &r.Samples[i]
		}
	}
	return nil
}

// per divides what a step came to.
func per(step string, value func(s *Sample) float64, by func(r *Result) float64) func(*Result) (float64, bool) {
	return func(r *Result) (float64, bool) {
		s := r.sample(step)
		if s == nil || by(r) == 0 {
			return 0, false
		}
		return value(s) / by(r), true
	}
}

func of(names ...string) func(*Sample) float64 {
	return func(s *Sample) (sum float64) {
		for _, name := range names {
			sum += s.Values[name]
		}
		return sum
	}
}

func cpuOf(s *Sample) float64  { return s.CPU }
func timeOf(s *Sample) float64 { return s.Seconds }
func peakOf(s *Sample) float64 { return float64(s.Peak) }

func one(*Result) float64          { return 1 }
func records(r *Result) float64    { return float64(r.Made.Records) }
func relayHours(r *Result) float64 { return float64(r.Relays * r.Hours) }
func blocks(r *Result) float64     { return float64(r.Monitors * r.Hours) }
func hours(r *Result) float64      { return float64(r.Hours) }

// each divides by what the sample itself counted.
func each(step string, value func(*Sample) float64, by string) func(*Result) (float64, bool) {
	return func(r *Result) (float64, bool) {
		s := r.sample(step)
		if s == nil || s.Values[by] == 0 {
			return 0, false
		}
		return value(s) / s.Values[by], true
	}
}

func invert(of func(*Result) (float64, bool)) func(*Result) (float64, bool) {
	return func(r *Result) (float64, bool) {
		v, ok := of(r)
		return 1 / v, ok && v > 0
	}
}

func times(of func(*Result) (float64, bool), by func(*Result) float64) func(*Result) (float64, bool) {
	return func(r *Result) (float64, bool) {
		v, ok := of(r)
		return v * by(r), ok
	}
}

// month is how much longer a month is than what was run.
func month(r *Result) float64 { return float64(Month.Hours()) / float64(r.Hours) }

// How a line came about.
const (
	measured = "measured"
	inMonth  = "computed where fewer than 720 h were run"
)

// lines are the table. What does not depend on the number of relays is a column's own;
// what is said of each record or each relay is the same in all columns, if it is linear.
var lines = []line{
	{"records in all logs", measured, func(r *Result) (float64, bool) { return records(r), true }, count},
	{"bytes of a record: one relay, one hour, one monitor", measured, per("size", of(ofRecords), records), bytesOf},
	{"bytes of a header", measured, per("size", of(ofHeaders), blocks), bytesOf},
	{"bytes of a checkpoint with its cosignatures", measured, per("size", of(ofCheckpoints), blocks), bytesOf},
	{"records, all logs: a relay's hour", measured, per("size", of(ofRecords), relayHours), bytesOf},
	{"records, all logs: a relay's month", inMonth, times(per("size", of(ofRecords), relayHours), func(*Result) float64 { return float64(Month.Hours()) }), bytesOf},
	{"headers and checkpoints, all logs: a month", inMonth, times(per("size", of(ofHeaders, ofCheckpoints), hours), func(*Result) float64 { return float64(Month.Hours()) }), bytesOf},
	{"make the logs: CPU of a record", measured, func(r *Result) (float64, bool) { return r.Made.CPU / records(r), true }, seconds},
	{"export a relay's month from one log: CPU of an hour", measured, per("export", cpuOf, hours), seconds},
	{"... time, all hours that were run", measured, per("export", timeOf, one), seconds},
	{"... memory", measured, per("export", peakOf, one), bytesOf},
	{"publish a log: CPU of a record", measured, each("publish", cpuOf, "records"), seconds},
	{"mirror a log: CPU of a record", measured, each("mirror", cpuOf, "records"), seconds},
	{"... records a second of CPU", measured, invert(each("mirror", cpuOf, "records")), count},
	{"... records a second", measured, invert(each("mirror", timeOf, "records")), count},
	{"... memory", measured, per("mirror", peakOf, one), bytesOf},
	{"make a relay's bundle from all logs: CPU of an hour", measured, per("bundle", cpuOf, hours), seconds},
	{"... CPU, a month", inMonth, times(per("bundle", cpuOf, hours), func(*Result) float64 { return float64(Month.Hours()) }), seconds},
	{"... time, all hours that were run", measured, per("bundle", timeOf, one), seconds},
	{"... memory", measured, per("bundle", peakOf, one), bytesOf},
	{"... size", measured, per("bundle", of("bytes"), one), bytesOf},
	{"... size without the roster, a month", inMonth, times(per("bundle", of(ofHeaders, ofCheckpoints, ofProofs, ofRecords, ofCertificates, ofReport), one), month), bytesOf},
	{"... share of headers and checkpoints", measured, each("bundle", of(ofHeaders, ofCheckpoints), "bytes"), share},
	{"... share of proofs", measured, each("bundle", of(ofProofs), "bytes"), share},
	{"... share of the roster", measured, each("bundle", of(ofRoster), "bytes"), share},
	{"... share of records", measured, each("bundle", of(ofRecords), "bytes"), share},
	{"... share of hours in which the monitor was not due", "computed: headers, checkpoints and proofs", notDue, share},
	{"verify it: CPU of an hour", measured, per("verify", cpuOf, hours), seconds},
	{"... time, all hours that were run", measured, per("verify", timeOf, one), seconds},
	{"... memory", measured, per("verify", peakOf, one), bytesOf},
	{"the month's table by a bundle for each relay: CPU", "computed: a bundle's month × relays", times(per("bundle", cpuOf, hours), func(r *Result) float64 { return float64(Month.Hours() * r.Relays) }), seconds},
	{"ingest all logs: CPU of a record", measured, each("ingest", cpuOf, "records"), seconds},
	{"... records a second", measured, invert(each("ingest", of("ingest seconds"), "records")), count},
	{"... memory", measured, per("ingest", peakOf, one), bytesOf},
	{"the month's table from the database", measured, per("ingest", of("table seconds"), one), seconds},
	{"the roster: bytes of a relay", measured, each("roster", of("bytes"), "relays"), bytesOf},
	{"... read it once: CPU of a relay", measured, each("roster", cpuOf, "relays"), seconds},
	{"... memory", measured, per("roster", peakOf, one), bytesOf},
	{"... relays that its file has room for", measured, func(r *Result) (float64, bool) { return float64(r.Made.Listed), r.Made.Listed < r.Relays }, count},
}

// notDue is the share of a bundle that tells of hours in which a monitor was not due.
func notDue(r *Result) (float64, bool) {
	v, ok := each("bundle", of(ofHeaders, ofCheckpoints, ofProofs), "bytes")(r)
	return v * (1 - due/float64(r.Monitors)), ok
}

// Table writes results beside each other, as Markdown, each with its ratio to the one
// before.
func Table(out io.Writer, results []Result) error {
	row := func(cells ...string) {
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
	head := []string{"", ""}
	rule := []string{"---", "---"}
	for i, r := range results {
		head = append(head, fmt.Sprintf("%s relays, %d monitors, %d h, %d witnesses", count(float64(r.Relays)), r.Monitors, r.Hours, r.Witnesses))
		if rule = append(rule, "---:"); i > 0 {
			head, rule = append(head, "ratio"), append(rule, "---:")
		}
	}
	row(head...)
	row(rule...)
	for _, l := range lines {
		cells, any := []string{l.name, l.how}, false
		before, was := 0.0, false
		for i := range results {
			v, ok := l.of(&results[i])
			text, ratio := "", ""
			if ok {
				text, any = l.format(v), true
				if was && before != 0 {
					ratio = fmt.Sprintf("%.2f", v/before)
				}
			}
			if cells = append(cells, text); i > 0 {
				cells = append(cells, ratio)
			}
			before, was = v, ok
		}
		if any {
			row(cells...)
		}
	}
	return nil
}

func count(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func share(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }

func bytesOf(v float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if v >= u.size {
			return fmt.Sprintf("%.3g %s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f B", v)
}

func seconds(v float64) string {
	switch {
	case v >= 1e3:
		return count(v) + " s"
	case v >= 1:
		return fmt.Sprintf("%.3g s", v)
	case v >= 1e-3:
		return fmt.Sprintf("%.3g ms", v*1e3)
	}
	return fmt.Sprintf("%.3g µs", v*1e6)
}
