package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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
	test     string
	arch     string // default: amd64
	firmware string
	devices  string // default: virtio
	provider string // who is emulated; default: none, a disk for NoCloud
	format   string
	memory   int
	ready    time.Duration // of its first boot
	facts    []string
	failed   bool
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
	Firmware, Devices, Provider, Format string
	Memory                              int
	Ready                               time.Duration
	Facts                               []string
}

// leave writes the rows for [table.take].
func (r *table) leave(file string) error {
	var all []left
	for _, w := range r.rows {
		all = append(all, left{w.firmware, w.devices, w.provider, w.format, w.memory, w.ready, w.facts})
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
		r.add(t, row{firmware: l.Firmware, devices: l.Devices, provider: l.Provider, format: l.Format, memory: l.Memory, ready: l.Ready, facts: l.Facts})
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

// isReady is that the machine is ready for the first time.
func (w *row) isReady(t *testing.T, after time.Duration) {
	t.Helper()
	after = after.Round(time.Second)
	t.Logf("ready after %s", after)
	if w.ready == 0 {
		w.ready = after
	}
}

const pageHead = `# The image, booted

What was booted, and what was seen of it. ` + "`make test-image-full`" + ` writes a row for each machine. A
run of some of its tests writes anew their rows only, so each row names its day and commit:

    RELAY_IMAGE_TEST=full RELAY_IMAGE_PAGE=$PWD/image/TESTED.md go test -v -count=1 -timeout 5h -run 'TestSecureBoot' ./internal/e2e/image

All machines are emulated by QEMU without KVM, with two processors on two of the host's: times
are those of such a host, and longer where it had other work to do. A program of the tests
imitates the providers ([docs/providers.md](../docs/providers.md) says what was only read
about).

| test | arch | firmware | devices | provider | format | memory | outcome | ready after | seen | when |
|---|---|---|---|---|---|---|---|---|---|---|
`

// line is the row on the page.
func (w *row) line(when string) string {
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	outcome, ready, memory := "ok", "", ""
	if w.failed {
		outcome = "**failed**"
	}
	if w.ready > 0 {
		ready = w.ready.String()
	}
	if w.memory > 0 {
		memory = fmt.Sprintf("%d MiB", w.memory)
	}
	cells := []string{strings.TrimPrefix(w.test, "Test"), or(w.arch, "amd64"), w.firmware, or(w.devices, "virtio"), or(w.provider, "none"), w.format, memory,
		outcome, ready, strings.Join(w.facts, "; "), when}
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.Join(strings.Fields(c), " "), "|", `\|`)
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

// name is the test that a line of the page is about.
func name(line string) string {
	test, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
	return test
}

// write puts the rows on the page: each in the place of the one of the same test, if
// there is one, else at the end.
func (r *table) write(file, when string) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var lines []string
	_, body, _ := bytes.Cut(old, []byte("|---|---|---|---|---|---|---|---|---|---|---|\n"))
	for line := range strings.Lines(string(body)) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	for _, w := range r.rows {
		line, placed := w.line(when), false
		for i := range lines {
			if name(lines[i]) == name(line) {
				lines[i], placed = line, true
			}
		}
		if !placed {
			lines = append(lines, line)
		}
	}
	return os.WriteFile(file, []byte(pageHead+strings.Join(lines, "\n")+"\n"), 0o644)
}

// when names this run.
func when() string {
	return fmt.Sprintf("%s, %s", time.Now().UTC().Format(time.DateOnly), first("git", "describe", "--always", "--dirty", "--exclude=*"))
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

// A run of some tests leaves the other rows as they are.
func TestPage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "TESTED.md")
	write := func(when string, rows ...*row) string {
		t.Helper()
		if err := (&table{rows: rows}).write(file, when); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(string(b), pageHead)
	}
	write("Monday", &row{test: "TestA", firmware: "bios", format: "qcow2", memory: 512, ready: 80 * time.Second}, &row{test: "TestB/x"})
	got := write("Tuesday", &row{test: "TestB/x", arch: "arm64", facts: []string{"a|b", "c"}, failed: true}, &row{test: "TestC", provider: "ec2", devices: "nvme"})
	want := `| A | amd64 | bios | virtio | none | qcow2 | 512 MiB | ok | 1m20s |  | Monday |
| B/x | arm64 |  | virtio | none |  |  | **failed** |  | a\|b; c | Tuesday |
| C | amd64 |  | nvme | ec2 |  |  | ok |  |  | Tuesday |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
