package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Read reads results that Run wrote.
func Read(r io.Reader) ([]Sample, error) {
	var out []Sample
	for dec := json.NewDecoder(r); ; {
		var s Sample
		if err := dec.Decode(&s); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the results after %d lines: %w", len(out), err)
		}
		out = append(out, s)
	}
}

// brief is the sample's values in one line.
func (s Sample) brief() string {
	if s.Error != "" {
		return "FAILED: " + s.Error
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.Values)) {
		out = append(out, name+"="+number(s.Values[name]))
	}
	return strings.Join(out, " ")
}

// Table writes the goals with what was measured, and under it each value of each
// variant, as Markdown.
func Table(out io.Writer, samples []Sample) error {
	w := bufio.NewWriter(out)
	rows := [][]string{{"goal", "must", "aim", "measured now", "n", ""}}
	for _, o := range judge(samples) {
		rows = append(rows, []string{o.name, o.bound(o.must), o.bound(o.aim), o.result(), fmt.Sprint(len(o.measured)), o.verdict()})
	}
	writeTable(w, rows)
	for _, name := range Names() {
		rows := valueRows(samples, name)
		if len(rows) > 1 {
			fmt.Fprintf(w, "\n%s\n\n", name)
			writeTable(w, rows)
		}
	}
	soak := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return s.Experiment != "soak" })
	if len(soak) > 0 {
		fmt.Fprint(w, "\nsoak\n\n")
		for _, rose := range flat(w, soak) {
			fmt.Fprintf(w, "\nnot flat: %s\n", rose)
		}
	}
	for _, s := range samples {
		if s.Error != "" {
			fmt.Fprintf(w, "\nround %d of %s, %s failed: %s\n", s.Round, s.Experiment, s.Variant, s.Error)
		}
	}
	return w.Flush()
}

func valueRows(samples []Sample, experiment string) [][]string {
	by := map[string]map[string][]float64{}
	var variants []string
	names := map[string]bool{}
	for _, s := range samples {
		if s.Experiment != experiment || s.Error != "" {
			continue
		}
		if by[s.Variant] == nil {
			by[s.Variant] = map[string][]float64{}
			variants = append(variants, s.Variant)
		}
		for name, v := range s.Values {
			names[name] = true
			by[s.Variant][name] = append(by[s.Variant][name], v)
		}
	}
	columns := slices.Sorted(maps.Keys(names))
	rows := [][]string{append([]string{"variant"}, columns...)}
	for _, v := range variants {
		row := []string{v}
		for _, c := range columns {
			row = append(row, spread(by[v][c]))
		}
		rows = append(rows, row)
	}
	if len(columns) > widest {
		return transposed(rows)
	}
	return rows
}

// widest is how many values stand beside one another.
const widest = 8

func transposed(rows [][]string) [][]string {
	out := make([][]string, len(rows[0]))
	for i := range out {
		for _, row := range rows {
			out[i] = append(out[i], row[i])
		}
	}
	return out
}

// writeTable writes Markdown whose columns stand below one another.
func writeTable(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	line := func(row []string) {
		for i, cell := range row {
			fmt.Fprintf(w, "| %-*s ", width[i], cell)
		}
		fmt.Fprintln(w, "|")
	}
	line(rows[0])
	for _, n := range width {
		fmt.Fprintf(w, "|%s", strings.Repeat("-", n+2))
	}
	fmt.Fprintln(w, "|")
	for _, row := range rows[1:] {
		line(row)
	}
}
