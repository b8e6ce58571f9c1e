package monitor

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// published is a monitor of one relay whose log began in a month long past.
func published(t *testing.T, command ...string) (m *Monitor, month evidence.Month, out string) {
	t.Helper()
	const id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	dir, out := t.TempDir(), t.TempDir()
	month = evidence.MonthOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC))
	l, err := store.Create(filepath.Join(dir, "log"), store.Options{Name: "m1", Network: evidence.Lab, First: month.First()})
	must(t, err)
	rules, roster := filepath.Join(dir, "rules.yaml"), filepath.Join(dir, "roster.yaml")
	must(t, os.WriteFile(rules, []byte("network: lab\n"), 0o644))
	must(t, os.WriteFile(roster, fmt.Appendf(nil, "network: lab\nmonitors:\n- {name: m1, operator: us, log_key: %q, from: %q}\n"+
		"relays:\n- {peer_id: %s, operator: them, ipv4: 127.0.0.2, tcp_port: 4001, domain: relay.test, enrolled: %[2]q}\n", l.Key(), month.First(), id), 0o644))
	_, err = l.Seal((month.First() + 2).Start().Add(evidence.CloseAfter))
	must(t, err)
	must(t, l.Close())
	for i := range command {
		command[i] = strings.ReplaceAll(command[i], "OUT", out)
	}
	cfg, err := ParseConfig("test", fmt.Appendf(nil, "name: m1\nnetwork: lab\ndata_dir: %q\nrules: %q\nroster: %q\nbrowser: none\n", dir, rules, roster))
	must(t, err)
	cfg.Publish.Command = command
	m, err = Open(cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m, month, out
}

func (m *Monitor) tried(t *testing.T, month evidence.Month) publication {
	t.Helper()
	known, err := m.publications()
	must(t, err)
	return known[bundle.Name(m.basis().roster.Relays[0].PeerID, month)]
}

func TestPublishWhenFinal(t *testing.T) {
	m, month, out := published(t, "cp", "-t", "OUT")
	end := month.End().Start()
	file := filepath.Join(out, bundle.Name(m.basis().roster.Relays[0].PeerID, month))
	m.publish(t.Context(), end.Add(71*time.Hour))
	if _, err := os.Stat(file); err == nil {
		t.Fatal("published before it was final")
	}
	// By the clock it is, but the log does not reach so far: tried again, and not published.
	m.publish(t.Context(), end.Add(72*time.Hour))
	if _, err := os.Stat(file); err == nil || m.tried(t, month).Final {
		t.Fatal("published what was provisional")
	}
	_, err := m.store.Seal(end.Add(72*time.Hour + evidence.CloseAfter))
	must(t, err)
	m.publish(t.Context(), end.Add(96*time.Hour))
	b, err := os.ReadFile(file)
	must(t, err)
	rules, err := os.ReadFile(m.cfg.Rules)
	must(t, err)
	roster, err := os.ReadFile(m.cfg.Roster)
	must(t, err)
	res, err := bundle.Verify(strings.NewReader(string(b)), int64(len(b)), bundle.Options{Rules: rules, Roster: roster})
	if err != nil || !res.Verdict.Final {
		t.Errorf("what was published: %+v, %v", res.Verdict, err)
	}
	// Once.
	must(t, os.Remove(file))
	for day := range 20 {
		m.publish(t.Context(), end.Add(96*time.Hour+time.Duration(day)*25*time.Hour))
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("published a second time")
	}
}

func TestPublishDaily(t *testing.T) {
	m, month, out := published(t, "cp", "--backup=numbered", "-t", "OUT")
	m.cfg.Publish.Daily = true
	for h := range 72 {
		m.publish(t.Context(), (month.First() + 100 + evidence.Hour(h)).Start())
	}
	if files, err := os.ReadDir(out); err != nil || len(files) != 3 {
		t.Errorf("in three days: %v, %v", files, err)
	}
}

// A command that fails is run again the next day, and no sooner.
func TestPublishFails(t *testing.T) {
	m, month, _ := published(t, "false")
	final := month.End().Start().Add(100 * time.Hour)
	_, err := m.store.Seal(final)
	must(t, err)
	for _, later := range []struct {
		at    time.Duration
		tried time.Duration
	}{{0, 0}, {23 * time.Hour, 0}, {24 * time.Hour, 24 * time.Hour}} {
		m.publish(t.Context(), final.Add(later.at))
		if p := m.tried(t, month); p.Final || !p.Tried.Equal(final.Add(later.tried)) {
			t.Errorf("after %v: %+v", later.at, p)
		}
	}
	m.cfg.Publish.Command = []string{"true"}
	m.publish(t.Context(), final.Add(48*time.Hour))
	if !m.tried(t, month).Final {
		t.Error("not published when the command was mended")
	}
}

// A bundle can be made from one that holds this monitor's own log already, as another
// monitor's may; it stands in it once.
func TestBundleFromOneWithTheOwnLog(t *testing.T) {
	m, month, out := published(t, "true")
	q := BundleRequest{Relay: m.basis().roster.Relays[0].PeerID, Month: month, AsOf: month.End().Start().Add(100 * time.Hour)}
	_, err := m.store.Seal(q.AsOf)
	must(t, err)
	first, second := filepath.Join(out, "first.zip"), filepath.Join(out, "second.zip")
	_, err = WriteBundle(t.Context(), m.cfg, q, first)
	must(t, err)
	q.From = []string{first, first}
	_, err = WriteBundle(t.Context(), m.cfg, q, second)
	must(t, err)
	for name, file := range map[string]string{"first": first, "second": second} {
		b, err := os.ReadFile(file)
		must(t, err)
		logs, _, err := bundle.Logs(bytes.NewReader(b), int64(len(b)))
		if err != nil || len(logs) != 1 {
			t.Errorf("%s: %d logs, %v", name, len(logs), err)
		}
	}
	q.Month = month - 1
	if _, err = WriteBundle(t.Context(), m.cfg, q, filepath.Join(out, "before.zip")); err == nil || !strings.Contains(err.Error(), "this log begins in "+month.String()) {
		t.Errorf("of the month before: got %v, want that the log begins later", err)
	}
}

// The command is run as it is written, without a shell; one that hangs is ended
// with all that it has started, and what it says is bounded.
func TestPublishIsBounded(t *testing.T) {
	m, month, out := published(t, "sh", "-c", `yes | head -c 100000; echo $$ > "OUT/pid"; sleep 600 & echo $! > "OUT/child"; wait`, "; touch OUT/shell")
	old := publishTimeout
	defer func() { publishTimeout = old }()
	q := BundleRequest{Relay: m.basis().roster.Relays[0].PeerID, Month: month, AsOf: month.End().Start().Add(100 * time.Hour)}
	_, err := m.store.Seal(q.AsOf)
	must(t, err)
	var child []byte
	// On a busy machine the command has not come to its end within half a second.
	for publishTimeout = 500 * time.Millisecond; len(child) == 0 && publishTimeout < time.Minute; publishTimeout *= 4 {
		_, err = m.publishOne(context.Background(), q, bundle.Name(q.Relay, month), &publication{})
		child, _ = os.ReadFile(filepath.Join(out, "child"))
	}
	if err == nil || !strings.Contains(err.Error(), "it was given") || len(err.Error()) > maxOutput+1000 {
		t.Errorf("error of %d bytes: %.300v", len(err.Error()), err)
	}
	if _, err := os.Stat(filepath.Join(out, "shell")); err == nil {
		t.Error("an argument was run by a shell")
	}
	if len(child) == 0 {
		t.Fatal("the command did not come so far")
	}
	// Ended, or about to be reaped by whoever does that here; the kernel takes a moment.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(child)) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("what the command had started goes on: %s", stat)
		}
	}
}

func TestPublishConfig(t *testing.T) {
	base := "name: m1\ndata_dir: d\nroster: r\n"
	if c, err := ParseConfig("x", []byte(base+"publish: {command: [ipfs, add], daily: true}\n")); err != nil || len(c.Publish.Command) != 2 {
		t.Error(c.Publish, err)
	}
	if _, err := ParseConfig("x", []byte(base+"publish: {command: [\"\"]}\n")); err == nil || !strings.Contains(err.Error(), "publish.command") {
		t.Errorf("error %v", err)
	}
}
