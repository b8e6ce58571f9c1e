package image

import (
	"bytes"
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
	test, firmware, devices, format string
	memory                          int
	facts                           []string
	failed                          bool
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

| test | firmware | devices | format | memory | outcome | seen |
|---|---|---|---|---|---|---|
`, time.Now().UTC().Format(time.DateOnly), first("git", "describe", "--always", "--dirty"), outcome,
		first("qemu-system-x86_64", "--version"), 2, runtime.NumCPU())
	for _, w := range r.rows {
		outcome := "ok"
		if w.failed {
			outcome = "**failed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d MiB | %s | %s |\n", strings.TrimPrefix(w.test, "Test"), w.firmware, w.devices, w.format, w.memory, outcome, strings.Join(w.facts, "; "))
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
