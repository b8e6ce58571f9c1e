package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// results are what the page says about a run.
var results table

type table struct {
	mu   sync.Mutex
	rows []*row
}

// row is one machine: what it was, and what was seen of it.
type row struct {
	test, firmware, format string
	provider               string // empty: none is played
	memory                 int
	facts                  []string
	failed                 bool
}

// add begins a row, whose outcome is that of the test.
func (r *table) add(t *testing.T, w row) *row {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.test = t.Name()
	r.rows = append(r.rows, &w)
	t.Cleanup(func() { w.failed = t.Failed() })
	return &w
}

// left is a row as one test leaves it to another.
type left struct {
	Test, Firmware, Format, Provider string
	Memory                           int
	Facts                            []string
}

// leave writes the rows for [table.take].
func (r *table) leave(file string) error {
	var all []left
	for _, w := range r.rows {
		all = append(all, left{w.test, w.firmware, w.format, w.provider, w.memory, w.facts})
	}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// take adds the rows that a test inside of a namespace has left.
func (r *table) take(t *testing.T, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("rows of the test in a namespace: %w", err)
	}
	var all []left
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("rows of the test in a namespace: %w", err)
	}
	for _, l := range all {
		r.add(t, row{firmware: l.Firmware, format: l.Format, provider: l.Provider, memory: l.Memory, facts: l.Facts})
	}
	return nil
}

// note is something measured. It is also in the test's log.
func (w *row) note(t *testing.T, format string, args ...any) {
	t.Helper()
	fact := fmt.Sprintf(format, args...)
	t.Log(fact)
	w.facts = append(w.facts, fact)
}

// write makes the page.
func (r *table) write(file string, ok bool) error {
	outcome := "everything was as it should be"
	if !ok {
		outcome = "**not everything was as it should be**"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `# The image, booted

Written by `+"`make test-image-full`"+` on %s, of commit %s: %s.
%s, %d processors emulated by TCG on %d of the host's. Times are those of that host.

| test | provider | firmware | format | memory | outcome | seen |
|---|---|---|---|---|---|---|
`, time.Now().UTC().Format(time.DateOnly), first("git", "describe", "--always", "--dirty"), outcome,
		first("qemu-system-x86_64", "--version"), 2, runtime.NumCPU())
	for _, w := range r.rows {
		outcome := "ok"
		if w.failed {
			outcome = "**failed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d MiB | %s | %s |\n", strings.TrimPrefix(w.test, "Test"), w.provider, w.firmware, w.format, w.memory, outcome, strings.Join(w.facts, "; "))
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// first is the first line of what a program prints.
func first(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
