package psf

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// process is a program that runs beside the test. The end of its log is shown if
// the test fails; PSF_LOGS names a folder in which whole logs are kept.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{}
}

func start(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	dir := os.Getenv("PSF_LOGS")
	if dir == "" {
		dir = t.TempDir()
	}
	path := filepath.Join(dir, name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p := &process{t: t, name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in its log
		log.Close()
	}()
	t.Cleanup(func() {
		p.kill()
		if data, err := os.ReadFile(path); t.Failed() && err == nil {
			lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
			t.Logf("the end of the log of %s:\n%s", name, bytes.Join(lines[max(0, len(lines)-80):], []byte("\n")))
		}
	})
	return p
}

// kill is kill -9, and returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// peer is a process of js/peer.mjs.
type peer struct {
	*process
	id      string
	mu      sync.Mutex
	n       int
	in      io.Writer
	answers map[int]chan answer
	last    state
}

type answer struct {
	N     int             `json:"n"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
}

// peerConfig is what js/peer.mjs is told.
type peerConfig struct {
	Name    string   `json:"name"`
	Dir     string   `json:"dir"`
	TCPPort int      `json:"tcpPort"`
	WSPort  int      `json:"wsPort"`
	IP      string   `json:"ip,omitempty"`
	Relay   bool     `json:"relay"` // helia-coord's own relay mode
	Guest   bool     `json:"guest"` // helia alone, outside the PSF network
	Seeds   []string `json:"seeds"`
	Seconds int      `json:"seconds"` // period of its timers; 0: those of upstream
	Script  string   `json:"-"`       // empty: peer.mjs
	// For gossip.mjs.
	Via    string   `json:"via,omitempty"`
	Topics []string `json:"topics,omitempty"`
}

// newPeer starts a peer and waits until helia-coord is up. env is added to its
// environment.
func newPeer(t *testing.T, cfg peerConfig, env ...string) *peer {
	t.Helper()
	dir := t.TempDir()
	cfg.Dir = filepath.Join(dir, "ipfs")
	scripts, err := filepath.Glob("js/*.mjs")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("js/*.mjs: %v", err)
	}
	for _, s := range scripts { // modules are looked for beside the script
		data, err := os.ReadFile(s)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(s)), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(os.Getenv(envModules), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	arg, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "--import", "./register.mjs", cmp.Or(cfg.Script, "peer.mjs"), string(arg))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{in: in, answers: map[int]chan answer{0: make(chan answer, 1)}}
	t.Cleanup(func() {
		if t.Failed() && p.id != "" {
			t.Logf("%s at the end: %+v", cfg.Name, p.last)
		}
	})
	up := p.answers[0]
	p.process = start(t, cfg.Name, cmd)
	go func() {
		for dec := json.NewDecoder(out); ; {
			var a answer
			if dec.Decode(&a) != nil {
				return
			}
			p.mu.Lock()
			c := p.answers[a.N]
			delete(p.answers, a.N)
			p.mu.Unlock()
			if c != nil {
				c <- a
			}
		}
	}()
	if _, err := p.wait(up, 3*time.Minute); err != nil {
		t.Fatalf("%s: %v", cfg.Name, err)
	}
	p.id = p.state().ID
	return p
}

func (p *peer) wait(c chan answer, patience time.Duration) (json.RawMessage, error) {
	select {
	case a := <-c:
		if a.Error != "" {
			return nil, fmt.Errorf("%s", a.Error)
		}
		return a.Value, nil
	case <-p.done:
		return nil, fmt.Errorf("the process ended")
	case <-time.After(patience):
		return nil, fmt.Errorf("no answer after %s", patience)
	}
}

// call has the peer do something.
func (p *peer) call(cmd string, args map[string]any, into any) error {
	p.mu.Lock()
	p.n++
	line := map[string]any{"n": p.n, "cmd": cmd}
	for k, v := range args {
		line[k] = v
	}
	c := make(chan answer, 1)
	p.answers[p.n] = c
	b, err := json.Marshal(line)
	if err == nil {
		_, err = p.in.Write(append(b, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	value, err := p.wait(c, 3*time.Minute)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(value, into)
}

// state is what a peer knows and has.
type state struct {
	ID          string
	Addrs       []string
	Connections []struct {
		Peer, Addr string
		Limited    bool
	}
	Relays []struct {
		ID, Addr  string
		Connected bool
		Samples   []float64
		Score     float64
	}
	Scores map[string]float64
	Peers  []string
	Inbox  []struct{ Text, From string }
}

func (p *peer) state() (s state) {
	p.t.Helper()
	if err := p.call("state", nil, &s); err != nil {
		p.t.Fatalf("%s: state: %v", p.name, err)
	}
	p.last = s
	return s
}

// reserved says whether the peer advertises an address through a relay.
func (s state) reserved(relay string) bool {
	return slices.ContainsFunc(s.Addrs, func(a string) bool { return strings.Contains(a, "/p2p/"+relay+"/p2p-circuit") })
}

func (s state) connected(id string) bool {
	return slices.ContainsFunc(s.Connections, func(c struct {
		Peer, Addr string
		Limited    bool
	}) bool {
		return c.Peer == id
	})
}

// circuit says whether there is a connection to a peer through a relay.
func (s state) circuit(to, relay string) bool {
	for _, c := range s.Connections {
		if c.Peer == to && strings.Contains(c.Addr, "/p2p/"+relay+"/p2p-circuit") {
			return true
		}
	}
	return false
}

// sample is the last latency that was measured to a relay; 20000 is upstream's
// word for none.
func (s state) sample(relay string) (last, score float64, ok bool) {
	for _, r := range s.Relays {
		if r.ID == relay && len(r.Samples) > 0 {
			return r.Samples[len(r.Samples)-1], r.Score, true
		}
	}
	return 0, 0, false
}

// until waits for something and says how long it took.
func until(t *testing.T, patience time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > patience {
			t.Fatalf("not after %s: %s", patience, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(begin).Round(time.Millisecond)
	t.Logf("%8.1f s  %s", took.Seconds(), what)
	return took
}
