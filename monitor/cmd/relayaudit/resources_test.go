package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// most is what a verification may take, in bytes.
const most = 512 << 20

// files are a bundle of the scene and what it takes to verify it.
type files struct {
	dir       string
	committee string
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

// write writes the scene's bundle and the committee's files into a folder.
func write(t testing.TB, w *scene.Scene) files {
	t.Helper()
	f := files{t.TempDir(), w.CommitteeKey}
	in := bundle.Input{
		Rules: w.RulesFile(), Roster: w.Signed(w.RosterYAML()), Logs: w.Logs(),
		Relay: w.RelayID, Month: w.First.Month(), Sign: w.Monitors[0].Log.SignStatement,
	}
	out, err := os.Create(f.path("bundle.zip"))
	w.Must(err)
	_, err = bundle.Write(out, in)
	w.Must(err)
	w.Must(out.Close())
	w.Must(os.WriteFile(f.path("rules.yaml"), in.Rules, 0o644))
	w.Must(os.WriteFile(f.path("roster.yaml"), in.Roster, 0o644))
	return f
}

// verify runs the program on a bundle, and fails if it takes too much memory.
func (f files) verify(t testing.TB, name string, args ...string) (code int, stderr string) {
	t.Helper()
	c := exec.Command("peak", append([]string{"relayaudit", "verify", f.path(name), "--rules", f.path("rules.yaml"),
		"--roster", f.path("roster.yaml"), "--committee", f.committee}, args...)...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var kib int
	var cpu time.Duration
	if _, err := fmt.Sscan(string(out), &kib, (*int64)(&cpu)); err != nil {
		t.Fatal(err)
	}
	t.Logf("exit code %d, %d MiB, %s of CPU: %.200s", c.ProcessState.ExitCode(), kib>>10, cpu.Round(100*time.Millisecond), said.String())
	if kib > most>>10 {
		t.Errorf("it took %d KiB, want %d at most", kib, most>>10)
	}
	return c.ProcessState.ExitCode(), said.String()
}

// peak runs a program and prints the KiB of memory that it took at most, and its
// nanoseconds of CPU. It is a
// process of its own, since what a process has taken before counts for its children,
// too: the tests take more than the program may.
func peak() {
	c := exec.Command(os.Args[1], os.Args[2:]...)
	c.Stderr = os.Stderr
	c.Run()
	fmt.Println(c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss, int64(c.ProcessState.UserTime()+c.ProcessState.SystemTime()))
	os.Exit(c.ProcessState.ExitCode())
}

// failing is an attempt that fails, with all that a monitor may note of it: nine
// controls on both ports, and other resolvers' word.
func failing(w *scene.Scene, m *scene.Watcher, h evidence.Hour, after time.Duration) evidence.Attempt {
	a := w.Down(m, h, after)
	for i := range a.Rungs {
		a.Rungs[i].Tries, a.Rungs[i].Detail = 3, "dial tcp4 198.41.0.4:4001: connect: connection refused, and what else was found out about it"
	}
	a.Controls = nil
	for i := range 9 {
		for _, c := range []evidence.Component{evidence.TCP4, evidence.WSS} {
			a.Controls = append(a.Controls, evidence.Control{Name: fmt.Sprintf("control-%d.example.net", i+1), Component: c, Outcome: evidence.OK,
				Started: evidence.TimeOf(a.Started.Add(10 * time.Second)), DurationUS: 123_456, Sent: 17, Resent: 1})
		}
	}
	for i := range 9 {
		a.Facts.Lookups = append(a.Facts.Lookups, evidence.Lookup{Resolver: "own", IPv4: []string{scene.RelayIP}})
		if i > 0 {
			a.Facts.Lookups[i].Resolver = fmt.Sprintf("192.0.2.%d:53#resolver-%d.example.net", i, i)
		}
	}
	return a
}

// inMemory puts the temporary files of the test into memory, where there is a file
// system for that: a log of many hours syncs its files thousands of times.
func inMemory(t testing.TB) {
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err == nil && info.IsDir() {
		t.Setenv("TMPDIR", shared)
	}
}

// month is a scene of so many monitors that fail to reach the relay, three times an hour.
func month(t testing.TB, monitors, hours int) *scene.Scene {
	w := scene.New(t, evidence.PSF, 0)
	w.First = w.First.Month().First()
	w.Hours = hours
	for i := range monitors {
		w.Join(i)
	}
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		return []evidence.Attempt{failing(w, m, h, 10*time.Minute), failing(w, m, h, 16*time.Minute), failing(w, m, h, 25*time.Minute)}
	})
	return w
}

// BenchmarkMonth verifies the month of 15 monitors, all of whose attempts fail.
func BenchmarkMonth(b *testing.B) {
	inMemory(b)
	f := write(b, month(b, 15, 744))
	info, err := os.Stat(f.path("bundle.zip"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	b.ResetTimer()
	for b.Loop() {
		if code, stderr := f.verify(b, "bundle.zip"); code != 0 {
			b.Fatalf("exit code %d: %s", code, stderr)
		}
	}
}

// contents are the files of a bundle.
func (f files) contents(t testing.TB) map[string][]byte {
	t.Helper()
	z, err := zip.OpenReader(f.path("bundle.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := map[string][]byte{}
	for _, x := range z.File {
		r, err := x.Open()
		if err != nil {
			t.Fatal(err)
		}
		if out[x.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// pack packs files as a bundle is packed.
func (f files) pack(t testing.TB, name string, contents map[string][]byte) {
	t.Helper()
	out, err := os.Create(f.path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	z := zip.NewWriter(out)
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		data := contents[name]
		w, err := z.CreateRaw(&zip.FileHeader{
			Name: name, CreatorVersion: 20, ReaderVersion: 20, ModifiedDate: 1<<5 | 1, //lint:ignore SA1019 as a bundle has it
			CRC32: crc32.ChecksumIEEE(data), CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data)),
		})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

const statementFile = "report.dsse.json"

// signed signs for the files with a monitor's key, whatever they are.
func signed(t testing.TB, m *scene.Watcher, contents map[string][]byte) map[string][]byte {
	t.Helper()
	var envelope struct{ Payload []byte }
	var statement map[string]any
	if err := errors.Join(json.Unmarshal(contents[statementFile], &envelope), json.Unmarshal(envelope.Payload, &statement)); err != nil {
		t.Fatal(err)
	}
	subjects := []any{}
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		if name != statementFile {
			subjects = append(subjects, map[string]any{"name": name, "digest": map[string]any{"sha256": fmt.Sprintf("%x", sha256.Sum256(contents[name]))}})
		}
	}
	statement["subject"] = subjects
	b, err := evidence.Encode(statement)
	if err != nil {
		t.Fatal(err)
	}
	out := maps.Clone(contents)
	if out[statementFile], err = m.Log.SignStatement(b); err != nil {
		t.Fatal(err)
	}
	return out
}

// filled repeats what stands between head and tail until n bytes are reached.
func filled(head, item, tail string, n int) []byte {
	b := append(make([]byte, 0, n), head...)
	for len(b)+len(item)+len(tail) <= n {
		b = append(b, item...)
	}
	return append(b, tail...)
}

// Whatever somebody without a key, or with that of a monitor, puts into a bundle:
// finding out that it is wrong takes a bounded amount of memory.
func TestHostileBundles(t *testing.T) {
	w := scene.New(t, evidence.PSF, 2)
	w.Hours = 2
	w.Watch(nil)
	f := write(t, w)
	good := f.contents(t)
	var log string // the folder of the first log
	for _, name := range slices.Sorted(maps.Keys(good)) {
		if strings.HasPrefix(name, "logs/") {
			log = name[:strings.LastIndex(name, "/")+1]
			break
		}
	}
	log = log[:len("logs/0123456789abcdef/")]
	with := func(name string, data []byte) map[string][]byte {
		out := maps.Clone(good)
		out[name] = data
		return out
	}
	nested := func(n int) []byte { return bytes.Repeat([]byte("["), n) }
	const mib = 1 << 20

	for name, contents := range map[string]map[string][]byte{
		"a report of tiny elements":            with("report.json", filled(`{"absent":[`, `{},`, `{}]}`, 8*mib)),
		"a report nested deeply":               with("report.json", nested(8*mib)),
		"a report that is too long":            with("report.json", nested(100*mib)),
		"a statement of tiny elements":         with(statementFile, filled(`{"payload":"","payloadType":"","signatures":[`, `{},`, `{}]}`, 4*mib)),
		"a statement nested deeply":            with(statementFile, nested(4*mib)),
		"a statement that is too long":         with(statementFile, filled(`{"payload":"`, `AAAA`, `","payloadType":"","signatures":[]}`, 100*mib)),
		"a long key ID":                        with(statementFile, filled(`{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"`, `A`, `","sig":""}]}`, 4*mib)),
		"a release list nested deeply":         with("inputs/releases.yaml", nested(4*mib)),
		"a fork of empty lines":                with("forks/1.txt", bytes.Repeat([]byte("\n"), 4<<10)),
		"a file that nobody knows":             with("inputs/roots.pem", make([]byte, mib)),
		"logs that are too long":               with(log+"records.jsonl", make([]byte, 100*mib)),
		"a month of tiny elements":             with(log+"month.json", filled(`{"records":[`, `{},`, "{}]}\n", 30*mib)),
		"a month nested deeply":                with(log+"month.json", append(nested(30*mib), '\n')),
		"blocks without end":                   with(log+"blocks.jsonl", bytes.Repeat([]byte("\n"), 30*mib)),
		"records without end":                  with(log+"records.jsonl", bytes.Repeat([]byte("{}\n"), 10*mib)),
		"checkpoints without end":              with(log+"checkpoints", bytes.Repeat([]byte("\n"), 30*mib)),
		"a note without end":                   with(log+"checkpoints", bytes.Repeat([]byte("a\n\n"), 10*mib)),
		"an open hour without end":             with(log+"open/2026-10-31T20.jsonl", bytes.Repeat([]byte("{}\n"), 10*mib)),
		"a certificate without end":            with(log+"certificates/"+strings.Repeat("0", 64)+".der", make([]byte, 30*mib)),
		"certificates of nothing":              many(good, log+"certificates/", 9000),
		"a verification text that nobody made": with("VERIFY.md", []byte("trust me\n")),
	} {
		for _, key := range []string{"nobody's key", "a monitor's key"} {
			t.Run(name+", "+key, func(t *testing.T) {
				if key != "nobody's key" {
					if name == "a month of tiny elements" || !strings.HasPrefix(name, "a statement") && name != "a long key ID" {
						contents = signed(t, w.Monitors[0], contents)
					}
				}
				f.pack(t, "hostile.zip", contents)
				if code, stderr := f.verify(t, "hostile.zip"); code != 1 || len(stderr) > 4<<10 || strings.Contains(stderr, "goroutine") {
					t.Errorf("exit code %d: %.300s", code, stderr)
				}
			})
		}
	}
}

func many(good map[string][]byte, dir string, n int) map[string][]byte {
	out := maps.Clone(good)
	for i := range n {
		out[fmt.Sprintf("%s%064x.der", dir, i)] = nil
	}
	return out
}

// The largest log that a monitor can keep of a month: it is verified within the memory
// that there is, beside another's.
func TestLargestLog(t *testing.T) {
	inMemory(t)
	w := scene.New(t, evidence.PSF, 0)
	w.First = w.First.Month().First()
	w.Hours = 480
	w.Join(0)
	text := strings.Repeat("/x", 128)
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		var out []evidence.Attempt
		for i := range 3 {
			a := w.Attempt(m, h, 10*time.Minute+time.Duration(i)*time.Second)
			a.Facts.Protocols = slices.Repeat([]string{text}, 128)
			a.Facts.Reservation.Addrs = slices.Repeat([]string{text}, 32)
			out = append(out, a)
		}
		return out
	})
	f := write(t, w)
	info, err := os.Stat(f.path("bundle.zip"))
	w.Must(err)
	if info.Size() < evidence.MaxMonthBytes*7/8 {
		t.Errorf("the bundle has %d bytes: that is not near the limit of a log, %d", info.Size(), evidence.MaxMonthBytes)
	}
	if code, stderr := f.verify(t, "bundle.zip"); code != 0 {
		t.Errorf("exit code %d: %.300s", code, stderr)
	}
}

// An archive is not looked through if it is too large, nor if its directory is.
func TestHostileArchives(t *testing.T) {
	w := scene.New(t, evidence.PSF, 1)
	w.Hours = 1
	w.Watch(nil)
	f := write(t, w)
	end := func(directory uint32) []byte {
		b := append([]byte("PK\x05\x06"), make([]byte, 18)...)
		binary.LittleEndian.PutUint32(b[12:], directory)
		return b
	}
	entry := append([]byte("PK\x01\x02"), make([]byte, 42)...)
	const n = 2_000_000
	for name, tc := range map[string]struct {
		head []byte
		size int64 // zeros until there
		tail []byte
	}{
		"a file of 4 GiB":            {size: 4 << 30},
		"1 GiB of nothing":           {size: 1<<30 - 22, tail: end(0)},
		"a directory of millions":    {head: bytes.Repeat(entry, n), size: int64(n * len(entry)), tail: end(uint32(n * len(entry)))},
		"a directory that is hidden": {head: bytes.Repeat(entry, n), size: int64(n * len(entry)), tail: end(0)},
	} {
		t.Run(name, func(t *testing.T) {
			w.Must(os.WriteFile(f.path("hostile.zip"), tc.head, 0o644))
			w.Must(os.Truncate(f.path("hostile.zip"), tc.size)) // a file with a hole
			out, err := os.OpenFile(f.path("hostile.zip"), os.O_APPEND|os.O_WRONLY, 0)
			w.Must(err)
			_, err = out.Write(tc.tail)
			w.Must(err)
			w.Must(out.Close())
			if code, stderr := f.verify(t, "hostile.zip"); code != 1 || len(stderr) > 4<<10 {
				t.Errorf("exit code %d: %.300s", code, stderr)
			}
		})
	}
}
