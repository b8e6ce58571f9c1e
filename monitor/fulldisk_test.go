package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/agefile"
	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// Whatever a monitor writes beside its log meets a real file system that is full, of
// pages and then of inodes: it fails whole, leaves nothing behind, and succeeds when
// there is room. Alerts go out all the same.
func TestWritersOnAFullDisk(t *testing.T) {
	dir := os.Getenv("FULL_FILE_SYSTEM")
	if dir == "" {
		need.Root(t)
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWritersOnAFullDisk$", "-test.v")
		child.Env = append(os.Environ(), "FULL_FILE_SYSTEM="+t.TempDir())
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=200"))
	for _, what := range []string{"pages", "inodes"} {
		t.Run(what, func(t *testing.T) { writeOnAFullDisk(t, filepath.Join(dir, what), what == "inodes") })
	}
}

func writeOnAFullDisk(t *testing.T, dir string, inodes bool) {
	first := evidence.HourOf(time.Now()) - 3
	cfg := Config{Name: "m1", Network: evidence.Lab, DataDir: dir}
	must(t, os.MkdirAll(filepath.Join(dir, "schedule"), 0o700))
	must(t, Init(cfg))
	log, err := store.Open(logDir(cfg))
	must(t, err)
	defer log.Close()
	m := &Monitor{cfg: cfg, log: slog.New(slog.DiscardHandler), store: log}
	goBy(m, bounty.Defaults(), &bounty.Roster{Network: evidence.Lab})
	own, err := ownWitness(log)
	must(t, err)
	other, err := store.Create(filepath.Join(t.TempDir(), "log"), store.Options{Name: "m2", Network: evidence.Lab, First: first})
	must(t, err)
	defer other.Close()
	if _, err := other.Seal((first + 1).Start().Add(evidence.CloseAfter)); err != nil {
		t.Fatal(err)
	}
	request := witness.AddCheckpoint{}
	request.Checkpoint, request.Proof, err = other.Extension(0)
	must(t, err)
	var told []string
	desk := &desk{heard: make(chan string, 10)}
	keeper, err := alert.New(filepath.Join(dir, "alerts.json"), m.log, desk)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { keeper.Run(ctx); close(done) }()
	defer cancel()
	n := 0
	writers := map[string]func() error{
		"publications": func() error { return m.keepPublications(m.basis().roster, nil, first.Month()) },
		"format":       func() error { return stateFormat.Note(dir) },
		"backup": func() error {
			return agefile.OutputFlags{File: filepath.Join(dir, "backup")}.Write(nil, func(w io.Writer) error { return BackupLog(cfg, w) })
		},
		"witness": func() error {
			_, err := own.Cosign(other.Key(), request, time.Now())
			return err
		},
		"alerts": func() error { // says so in the log, and goes on
			n++
			keeper.Set(time.Now(), []alert.Alert{{Name: fmt.Sprint("alert", n), Summary: "x"}})
			told = append(told, <-desk.heard)
			if _, err := os.Stat(filepath.Join(dir, "alerts.json")); err != nil {
				return syscall.ENOSPC
			}
			return nil
		},
	}
	_ = os.Remove(filepath.Join(dir, "format"))
	// All is taken, by a file and then by empty ones.
	filler := filepath.Join(filepath.Dir(dir), "filler")
	must(t, os.Mkdir(filler, 0o700))
	for i := 0; err == nil; i++ {
		if inodes {
			err = os.WriteFile(filepath.Join(filler, fmt.Sprint(i)), nil, 0o600)
		} else {
			err = appendTo(filepath.Join(filler, "file"), make([]byte, 4096))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for name, write := range writers {
		if err := write(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v, want no space left", name, err)
		}
	}
	must(t, os.RemoveAll(filler))
	for name, write := range writers {
		if err := write(); err != nil {
			t.Errorf("%s, with room again: %v", name, err)
		}
	}
	if len(told) != 2 || told[0] != "alert1" {
		t.Errorf("alerts that were heard: %v, want the first one while the disk was full", told)
	}
	cancel()
	<-done
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && (strings.HasPrefix(e.Name(), ".")) {
			t.Errorf("left behind: %s", path)
		}
		return err
	}))
}

func appendTo(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// desk hears of alerts that begin.
type desk struct{ heard chan string }

func (*desk) Name() string  { return "desk" }
func (*desk) Repeats() bool { return false }

func (d *desk) Send(_ context.Context, alerts []alert.Alert) error {
	for _, a := range alerts {
		if a.Ended.IsZero() {
			d.heard <- a.Name
		}
	}
	return nil
}

// A mark of the clock that is refused ends the judging like an attempt that is: else
// the fault would be shown until the next hour begins, whatever the log takes by then.
func TestRefusedMarkEndsTheJudging(t *testing.T) {
	m, _ := newTestMonitor(t, &fakeNet{}, 0, 1)
	m.tick(t.Context(), m.machine.Now())
	if m.begun.IsZero() || m.fault != nil {
		t.Fatalf("begun %s, fault %v", m.begun, m.fault)
	}
	must(t, m.store.Close())
	m.noteClock()
	if !m.begun.IsZero() || m.fault == nil {
		t.Errorf("begun %s, fault %v, want none begun and a fault", m.begun, m.fault)
	}
	again, err := store.Open(logDir(m.cfg))
	must(t, err)
	defer again.Close()
	m.store = again
	m.tick(t.Context(), m.machine.Now())
	if m.begun.IsZero() || m.fault != nil {
		t.Errorf("with a log again: begun %s, fault %v, want an hour begun and no fault", m.begun, m.fault)
	}
	m.running.Wait()
}
