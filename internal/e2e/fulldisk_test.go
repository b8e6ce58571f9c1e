package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// The disk of a monitor runs full, of bytes or of inodes, while it works: it stops
// probing and says so on its page, in its metrics and by an alert; killed and started
// again it says so too; when there is room it goes on by itself; and nothing that was
// in its log is lost.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: alerts are looked for once a minute")
	}
	t.Parallel() // most of the time goes by in waiting
	if !isolated(t) {
		return
	}
	for name, fill := range map[string]func(t *testing.T, dir string){"bytes": fillBytes, "inodes": fillInodes} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fullDisk(t, fill)
		})
	}
}

// patience is how long anything is waited for that comes within two minutes on an
// idle machine.
const patience = 15 * time.Minute

// places is how many relays are tried at the same time.
const places = 4

func fullDisk(t *testing.T, fill func(t *testing.T, dir string)) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=16m,nr_inodes=400"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	desk := &pager{}
	desk.srv = httptest.NewServer(desk)
	defer desk.srv.Close()

	// The disk holds nothing but the data folder. The relays hang up at once.
	dir := t.TempDir()
	relays, err := net.Listen("tcp4", "0.0.0.0:0") // each relay has an address of its own
	if err != nil {
		t.Fatal(err)
	}
	defer relays.Close()
	go func() {
		for {
			c, err := relays.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	pages := freePort(t)
	m := &watcher{t: t, program: filepath.Join(bin, "relaymon"), config: filepath.Join(dir, "config.yaml"), data: filepath.Join(disk, "data"), url: "http://127.0.0.1:" + fmt.Sprint(pages.Port())}
	write(t, m.config, fmt.Sprintf("name: m1\nnetwork: lab\ndata_dir: %s\nrules: %s\nroster: %s\nlisten: 127.0.0.1:%d\nbrowser: none\nconcurrency: %d\nalerts: {webhooks: [%q]}\nlab: {resolve: {%s: 127.0.0.1}}\n",
		m.data, filepath.Join(dir, "rules.yaml"), filepath.Join(dir, "roster.yaml"), pages.Port(), places, desk.srv.URL, domain))
	write(t, filepath.Join(dir, "rules.yaml"), "network: lab\n")
	m.command("init")
	var keys struct {
		LogKey string `json:"log_key"`
	}
	if err := json.Unmarshal(m.command("keys", "--json"), &keys); err != nil {
		t.Fatal(err)
	}
	port := relays.Addr().(*net.TCPAddr).Port
	now := evidence.HourOf(time.Now())
	roster := fmt.Sprintf("network: lab\nmonitors:\n- {name: m1, operator: us, log_key: %q, from: %q}\nrelays:\n", keys.LogKey, now)
	for i := range 300 {
		_, public, err := crypto.GenerateEd25519Key(nil)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		roster += fmt.Sprintf("- {peer_id: %s, operator: them, ipv4: 127.1.%d.%d, tcp_port: %d, domain: %s, wss_port: %d, enrolled: %q}\n", id, i/200, i%200+1, port, domain, port, now)
	}
	write(t, filepath.Join(dir, "roster.yaml"), roster)

	// It works.
	run := m.start(ctx)
	run.eventually("some attempts in the log", func() bool { return len(m.attempts()) >= 5 })
	if code, text := m.get("/healthz"); code != http.StatusOK {
		t.Fatalf("/healthz of a monitor that works: %d %s", code, text)
	}

	// It stops, and says so.
	fill(t, disk)
	stopped := func() bool { code, _ := m.get("/healthz"); return code == http.StatusServiceUnavailable }
	run.eventually("a page that says what is wrong", stopped)
	run.eventually("an alert", func() bool { return desk.count("firing") >= 1 })
	m.wantFault()
	kept := m.attempts()
	_, after, _ := strings.Cut(run.said(), "not judging")
	if n := strings.Count(after, "msg=attempt"); n > places {
		t.Errorf("it made %d attempts after it had said that it cannot keep any, want at most the %d under way", n, places)
	}
	if n := strings.Count(run.said(), "judging again"); n > 0 {
		t.Errorf("while the disk was full it began %d times anew:\n%s", n, run.said())
	}

	// Killed and started again it comes up, tries no relay, and tells again: what was
	// told it could not keep.
	run.kill()
	run = m.start(ctx)
	run.eventually("the page after a restart", stopped)
	run.eventually("an alert after the restart", func() bool { return desk.count("firing") >= 2 })
	m.wantFault()
	if strings.Contains(run.said(), "msg=attempt") {
		t.Errorf("it made attempts that nothing could keep:\n%s", run.said())
	}

	// With room it goes on by itself.
	if err := os.RemoveAll(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	run.eventually("a monitor that works again", func() bool { code, _ := m.get("/healthz"); return code == http.StatusOK })
	run.eventually("more attempts in the log", func() bool { return len(m.attempts()) >= len(kept)+3 })
	run.eventually("the end of the alert", func() bool { return desk.count("resolved") >= 1 })
	for id := range m.attempts() {
		delete(kept, id)
	}
	if len(kept) > 0 {
		t.Errorf("%d attempts were in the log and are gone: %v", len(kept), kept)
	}
	run.stop()
	if out := m.command("log", "check"); strings.Contains(string(out), "fault") {
		t.Errorf("log check: %s", out)
	}
	if left, err := filepath.Glob(filepath.Join(m.data, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// fillBytes takes all room there is.
func fillBytes(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "filler"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "filler", "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// fillInodes takes all files that there may be.
func fillInodes(t *testing.T, dir string) {
	t.Helper()
	err := os.Mkdir(filepath.Join(dir, "filler"), 0o700)
	for i := 0; err == nil; i++ {
		err = os.WriteFile(filepath.Join(dir, "filler", fmt.Sprint(i)), nil, 0o600)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// watcher is a monitor as its operator has it: the program, and what it serves.
type watcher struct {
	t                          *testing.T
	program, config, data, url string
}

// command runs relaymon to its end.
func (m *watcher) command(args ...string) []byte {
	m.t.Helper()
	var fault bytes.Buffer
	cmd := exec.CommandContext(m.t.Context(), m.program, append(args, "--config", m.config)...)
	cmd.Stderr = &fault
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("relaymon %s: %v\n%s%s", strings.Join(args, " "), err, out, fault.String())
	}
	return out
}

// running is one life of the program.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   string
	ended chan error
}

func (m *watcher) start(ctx context.Context) *running {
	m.t.Helper()
	f, err := os.CreateTemp(m.t.TempDir(), "log")
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	r := &running{t: m.t, cmd: exec.CommandContext(ctx, m.program, "run", "--config", m.config), log: f.Name(), ended: make(chan error, 1)}
	r.cmd.Stderr = f
	if err := r.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	m.t.Cleanup(r.kill)
	return r
}

func (r *running) said() string {
	b, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Error(err)
	}
	return string(b)
}

// kill ends the program without a warning; it can be done again.
func (r *running) kill() {
	_ = r.cmd.Process.Kill()
	r.ended <- <-r.ended
}

// stop ends it as systemd does.
func (r *running) stop() {
	r.t.Helper()
	_ = r.cmd.Process.Signal(os.Interrupt)
	err := <-r.ended
	if err != nil {
		r.t.Errorf("relaymon run ended: %v\n%s", err, r.said())
	}
	r.ended <- err
}

func (m *watcher) get(path string) (int, string) {
	res, err := http.Get(m.url + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// wantFault wants the page and the metrics to say that nothing is judged.
func (m *watcher) wantFault() {
	m.t.Helper()
	if _, text := m.get("/status.json"); !strings.Contains(text, "no room for the evidence log") && !strings.Contains(text, "no space left on device") {
		m.t.Errorf("the status does not tell of the full disk: %.300s", text)
	}
	if _, text := m.get("/metrics"); !strings.Contains(text, "\nrelaymon_judging 0\n") {
		m.t.Errorf("the metrics do not tell that nothing is judged: %.300s", text)
	}
}

// attempts are those that anybody can read in the log now.
func (m *watcher) attempts() map[string]bool {
	l, err := store.OpenRead(filepath.Join(m.data, "log"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer l.Close()
	out := map[string]bool{}
	for h := l.First(); h <= evidence.HourOf(time.Now()); h++ {
		records, err := l.Records(h)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, r := range records {
			for _, a := range r.Attempts {
				out[fmt.Sprint(h, " ", r.PeerID, " ", a.Started)] = true
			}
		}
	}
	return out
}

// pager is a receiver of webhooks.
type pager struct {
	srv *httptest.Server
	mu  sync.Mutex
	got []string
}

func (p *pager) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var message struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range message.Alerts {
		if a.Labels["alertname"] == "MonitorNotJudging" {
			p.got = append(p.got, a.Status)
		}
	}
}

func (p *pager) count(status string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.got {
		if s == status {
			n++
		}
	}
	return n
}

// eventually waits until something is so, while the program runs.
func (r *running) eventually(what string, so func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(200 * time.Millisecond) {
		if len(r.ended) > 0 || time.Now().After(end) {
			r.t.Fatalf("waited for %s in vain:\n%.5000s", what, r.said())
		}
	}
}
