package monitor

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/witness"
)

// foreign is a witness that others wrote, as a process that can be started anew.
type foreign struct {
	t    *testing.T
	addr string // of loopback; the same after each start
	key  string // verifier key
	cmd  func() *exec.Cmd
	stop func() // the process that runs
}

const othersDir = "../internal/tools/witnesses"

// freeAddr is an address of loopback on which nobody listens.
func freeAddr(t *testing.T, ip string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// start runs the witness until stop or the test's end, and waits for it to listen.
func (f *foreign) start() {
	f.t.Helper()
	cmd := f.cmd()
	var said lockedBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(f.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	f.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // whatever it promised it must have written down
		<-ended
	})
	f.t.Cleanup(f.stop)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", f.addr)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			f.t.Fatalf("the witness ended: %v\n%s", err, said.String())
		default:
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("the witness does not listen: %v\n%s", err, said.String())
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// litewitness is torchwood's, whose key is held by an ssh-agent: here, this process.
func litewitness(t *testing.T, bin, logKey string) *foreign {
	t.Helper()
	dir := t.TempDir()
	pub, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	keys := agent.NewKeyring()
	must(t, keys.Add(agent.AddedKey{PrivateKey: key}))
	socket := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(keys, c)
		}
	}()
	sshKey, err := ssh.NewPublicKey(pub)
	must(t, err)
	const name = "witness.example/lite"
	plain, err := note.NewEd25519VerifierKey(name, pub)
	must(t, err)
	vkey, err := formats.VKeyToCosignatureV1(plain)
	must(t, err)
	f := &foreign{t: t, addr: freeAddr(t, "127.0.0.41"), key: vkey}
	db := filepath.Join(dir, "db")
	f.cmd = func() *exec.Cmd {
		return exec.Command(filepath.Join(bin, "litewitness"), "-name", name, "-db", db, "-ssh-agent", socket, "-key", ssh.FingerprintSHA256(sshKey), "-listen", f.addr)
	}
	f.start()
	others(t, bin, nil, "register", db, logKey)
	return f
}

// tdevWitness is transparency-dev's. It answers with a line for each of its keys, of
// which the roster names the one at place known.
func tdevWitness(t *testing.T, bin, logKey string, known int) *foreign {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example/tdev")
	must(t, err)
	if vkey, err = formats.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	pqSkey, pqVkey, err := formats.GenerateMLDSAKey("witness.example/tdev")
	must(t, err)
	f := &foreign{t: t, addr: freeAddr(t, "127.0.0.42"), key: []string{vkey, pqVkey}[known]}
	db := filepath.Join(t.TempDir(), "db")
	f.cmd = func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, "witnesses"), "witness", f.addr, db, logKey)
		cmd.Stdin = strings.NewReader(skey + "\n" + pqSkey + "\n")
		return cmd
	}
	f.start()
	return f
}

// others runs a command of the tools that others' libraries make up.
func others(t *testing.T, bin string, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "witnesses"), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", args, err, said.Bytes())
	}
	return string(out)
}

// Witnesses that others wrote cosign a log of ours.
func TestForeignWitnesses(t *testing.T) {
	bin := need.Programs(t, othersDir, ".", "filippo.io/torchwood/cmd/litewitness")
	for _, c := range []struct {
		name  string
		start func(t *testing.T, logKey string) *foreign
	}{
		{"litewitness", func(t *testing.T, logKey string) *foreign { return litewitness(t, bin, logKey) }},
		{"transparency-dev Ed25519", func(t *testing.T, logKey string) *foreign { return tdevWitness(t, bin, logKey, 0) }},
		{"transparency-dev ML-DSA-44", func(t *testing.T, logKey string) *foreign { return tdevWitness(t, bin, logKey, 1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, 1)
			s := h.spots[0]
			logKey := s.m.store.Key()
			f := c.start(t, logKey)
			h.stop(s)
			h.name(f)
			m := h.start(s)
			for blocks := int64(1); blocks <= 2; blocks++ {
				h.seal(m, blocks)
				wantCosigned(t, m, blocks, 1)
			}
			f.stop() // kill -9
			f.start()
			h.seal(m, 4)
			wantCosigned(t, m, 4, 1)

			// A monitor that is started anew learns by a 409 where the witness is.
			h.stop(s)
			m = h.start(s)
			h.seal(m, 5)
			wantCosigned(t, m, 5, 1)
			asked, err := witness.NewClient("http://"+f.addr, f.key, logKey, http.DefaultClient)
			must(t, err)
			first, _, err := m.store.Extension(0)
			must(t, err)
			var conflict *witness.ConflictError
			if _, _, err := asked.Add(t.Context(), witness.AddCheckpoint{Checkpoint: first}); !errors.As(err, &conflict) || conflict.Size != 5 {
				t.Errorf("asked as if it had cosigned nothing: %v, want a conflict with size 5", err)
			}

			month := m.store.First().Month()
			const relay = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
			export, err := m.store.Month(month, relay, time.Now().Add(3*time.Hour), f.key)
			must(t, err)
			v, err := evidence.VerifyMonth(export, evidence.Keys{Log: logKey, Witnesses: []string{f.key}})
			must(t, err)
			if len(v.Hours) == 0 {
				t.Error("the export has no hours")
			}
			for i, hour := range v.Hours {
				if len(hour.Cosigned) != 1 || hour.Cosigned[0].Witness != f.key {
					t.Errorf("hour %d of the export is cosigned by %v, want %s", i, hour.Cosigned, f.key)
				}
			}

			// Two copies of the log: the witness takes the first one's history.
			h.stop(s)
			twin := &spot{name: s.name, dir: filepath.Join(t.TempDir(), "twin"), srv: s.srv}
			must(t, os.CopyFS(twin.dir, os.DirFS(s.dir)))
			a, b := h.start(s), h.start(twin)
			b.askWitnesses(t.Context())
			h.seal(a, 6)
			wantCosigned(t, a, 6, 1)
			sixth := b.store.First() + 5
			must(t, b.store.Begin(sixth, sixth.Start(), "another history"))
			h.seal(b, 6)
			wantCosigned(t, b, 6, 0)
			if w := h.overview(b).Witnesses[0]; !strings.Contains(w.Error, witness.ErrInconsistent.Error()) {
				t.Errorf("of the copy with another history the witness says %q", w.Error)
			}
			h.seal(a, 7)
			wantCosigned(t, a, 7, 1)
		})
	}
}

// name has the roster name a witness that is no monitor, besides the monitors.
func (h *house) name(f *foreign) {
	h.t.Helper()
	b, err := os.ReadFile(h.roster)
	must(h.t, err)
	b = fmt.Appendf(b, "witnesses:\n- {name: foreign, operator: others, key: %q, url: %q, from: %q}\n", f.key, "http://"+f.addr, h.first)
	must(h.t, os.WriteFile(h.roster, b, 0o644))
}

// A client that others wrote asks our witness, and so does a log that others wrote.
func TestForeignClient(t *testing.T) {
	bin := need.Programs(t, othersDir, ".")
	h := newHouse(t, 1)
	s := h.spots[0]
	skey, vkey, err := note.GenerateKey(rand.Reader, "m9/relaymon/lab")
	must(t, err)
	dir := filepath.Join(t.TempDir(), "log")
	l, err := store.Create(dir, store.Options{Name: "m8", Network: evidence.Lab, First: h.first})
	must(t, err)
	defer l.Close()
	h.stop(s)
	b, err := os.ReadFile(h.roster)
	must(t, err)
	for name, key := range map[string]string{"m8": l.Key(), "m9": vkey} {
		b = fmt.Appendf(b, "- {name: %s, operator: %s, log_key: %q, from: %q}\n", name, name, key, h.first)
	}
	must(t, os.WriteFile(h.roster, b, 0o644))
	h.start(s)
	url, key := s.srv.URL+"/witness", s.m.store.WitnessKey()

	// Tessera publishes a checkpoint only with the cosignature that it was told to get.
	log, err := note.NewVerifier(vkey)
	must(t, err)
	ours, err := formats.NewVerifierForCosignatureV1(key)
	must(t, err)
	tessera := filepath.Join(t.TempDir(), "tessera")
	for _, entries := range [][]string{{"a"}, {"b", "c", "d"}, {"e", "f"}} {
		raw := others(t, bin, []byte(skey), append([]string{"log", tessera, url, key}, entries...)...)
		n, err := note.Open([]byte(raw), note.VerifierList(log, ours))
		if err != nil || len(n.Sigs) != 2 {
			t.Fatalf("the checkpoint over %s is\n%s\n%v", entries, raw, err)
		}
	}

	ask := func(r witness.AddCheckpoint) string {
		args := []string{"ask", url, strconv.FormatInt(r.OldSize, 10)}
		for _, h := range r.Proof {
			args = append(args, h.String())
		}
		return others(t, bin, r.Checkpoint, args...)
	}
	seal := func(blocks int64) {
		_, err := l.Seal((l.First() + evidence.Hour(blocks)).Start().Add(evidence.CloseAfter))
		must(t, err)
	}
	request := func(old int64) witness.AddCheckpoint {
		checkpoint, proof, err := l.Extension(old)
		must(t, err)
		return witness.AddCheckpoint{OldSize: old, Proof: proof, Checkpoint: checkpoint}
	}
	wantLine := func(what, got string) {
		t.Helper()
		if !strings.HasPrefix(got, "— m1/") || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: got %q, want a cosignature", what, got)
		}
	}
	seal(2)
	wantLine("first checkpoint", ask(request(0)))
	seal(5)
	good := request(2)
	wrong := good
	wrong.Proof = append([]evidence.Hash{{1}}, good.Proof[1:]...)
	forged := good
	forged.Checkpoint = bytes.Replace(good.Checkpoint, []byte("\n5\n"), []byte("\n4\n"), 1)
	unknown := good
	unknown.Checkpoint = bytes.Replace(good.Checkpoint, []byte("m8/"), []byte("m7/"), -1)
	ahead := good
	ahead.OldSize = 6
	for what, c := range map[string]struct {
		r    witness.AddCheckpoint
		want string
	}{
		"old size of before":   {request(0), "refused: old size != current, 2\n"},
		"old size beyond":      {ahead, "refused: old size > current, 0\n"},
		"proof of another log": {wrong, "refused: consistency proof invalid, 0\n"},
		"no signature":         {forged, "refused: no valid signatures, 0\n"},
		"log of nobody":        {unknown, "refused: unknown log, 0\n"},
	} {
		if got := ask(c.r); got != c.want {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
	}
	// Signatures by keys that are unknown here stand below the log's, as many as 16.
	for i := range 15 {
		skey, _, err := formats.GenerateMLDSAKey(fmt.Sprintf("stranger%d.example", i))
		must(t, err)
		stranger, err := formats.NewMLDSASigner(skey)
		must(t, err)
		n, err := note.Open(good.Checkpoint, note.VerifierList(mustVerifier(t, l.Key())))
		must(t, err)
		good.Checkpoint, err = note.Sign(n, stranger)
		must(t, err)
	}
	wantLine("with signatures by strangers", ask(good))
}

func mustVerifier(t *testing.T, key string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(key)
	must(t, err)
	return v
}
