package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"relayaudit": main, "peak": peak})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			return os.CopyFS(filepath.Join(env.WorkDir, "golden"), os.DirFS("../../bundle/testdata/golden"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit": exit, "votes": votes, "flip": flip, "readvar": readvar, "rules": rules, "follow": follow,
			"committee": committee, "appealed": appealed, "older": older, "readhash": readhash,
		},
	})
}

// exit runs a command and wants its exit code: exit 2 relayaudit ...
func exit(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		fmt.Sscanf(err.Error(), "exit status %d", &code)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// votes writes a line for each hour: votes FILE MONITOR RELAY FROM HOURS VOTE, appended.
func votes(ts *testscript.TestScript, neg bool, args []string) {
	from, err := time.Parse(time.RFC3339, args[3])
	ts.Check(err)
	var n int
	fmt.Sscan(args[4], &n)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	ts.Check(err)
	defer f.Close()
	for i := range n {
		fmt.Fprintf(f, "{\"relay\":%q,\"monitor\":%q,\"hour\":%q,\"vote\":%q}\n", args[2], args[1], from.Add(time.Duration(i)*time.Hour).Format(time.RFC3339), args[5])
	}
}

// readvar puts a file's content into a variable.
func readvar(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// rules writes the default rules with other values: rules FILE KEY=VALUE...
func rules(ts *testscript.TestScript, neg bool, args []string) {
	var out strings.Builder
	for line := range strings.Lines(string(bounty.DefaultRules)) {
		for _, change := range args[1:] {
			if key, value, _ := strings.Cut(change, "="); strings.HasPrefix(line, key+":") {
				line = key + ": " + value + "\n"
			}
		}
		out.WriteString(line)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(out.String()), 0o644))
}

// follow makes the file that the committee signs next, which says the same, and signs it
// by one key for all: follow BEFORE AFTER KEYFILE, where its verifier key is written.
func follow(ts *testscript.TestScript, neg bool, args []string) {
	before, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	text, _ := bounty.Text(before)
	// As the committee's key is not here, what it signed is linked by its hash alone.
	serial := 1
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "serial: %d", &serial)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "serial:"):
			line = fmt.Sprintf("serial: %d\nprevious: %x\n", serial+1, sha256.Sum256(before))
		case strings.HasPrefix(line, "previous:"):
			line = ""
		case strings.HasPrefix(line, "from:"):
			line = "from: 2026-12\n"
		}
		out.WriteString(line)
	}
	signed, err := bounty.Sign([]byte(out.String()), nextCommittee.signer)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), signed, 0o644))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(nextCommittee.key), 0o644))
}

// nextCommittee is the committee's next key.
var nextCommittee = func() (c struct {
	signer      note.Signer
	secret, key string
}) {
	secret, key, err := note.GenerateKey(rand.Reader, "next.example.org")
	if err == nil {
		c.signer, err = note.NewSigner(secret)
	}
	if err != nil {
		panic(err)
	}
	c.secret, c.key = secret, key
	return c
}()

// flip changes a byte in the middle of a file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	name := ts.MkAbs(args[0])
	b, err := os.ReadFile(name)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(name, b, 0o644))
}

func TestStdin(t *testing.T) {
	roster := filepath.Join(t.TempDir(), "roster.yaml")
	if err := os.WriteFile(roster, []byte("{monitors: [{name: m1, from: 2026-11-01T00:00:00Z}], relays: [{peer_id: ID, enrolled: 2026-11-01T00:00:00Z}]}"), 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	in := strings.NewReader(`{"relay":"ID","monitor":"m1","hour":"2026-11-03T14:00:00Z","vote":"down"}`)
	code := run([]string{"judge", "--month", "2026-11", "--roster", roster, "--json", "-"}, in, &stdout, &stderr)
	if code != 0 || !strings.Contains(stdout.String(), `"down":1`) {
		t.Errorf("exit %d: %s%s", code, stdout.String(), stderr.String())
	}
}

// BenchmarkJudge reads and judges the votes of five monitors on 200 relays.
func BenchmarkJudge(b *testing.B) {
	dir := b.TempDir()
	roster, file := filepath.Join(dir, "roster.yaml"), filepath.Join(dir, "votes.jsonl")
	var y, v bytes.Buffer
	y.WriteString("monitors:\n")
	for m := range 5 {
		fmt.Fprintf(&y, "- {name: m%d, from: 2026-12-01T00:00:00Z}\n", m)
	}
	y.WriteString("relays:\n")
	start := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for r := range 200 {
		fmt.Fprintf(&y, "- {peer_id: relay%d, enrolled: 2026-12-01T00:00:00Z}\n", r)
		for h := range 744 {
			for m := range 5 {
				fmt.Fprintf(&v, "{\"relay\":\"relay%d\",\"monitor\":\"m%d\",\"hour\":%q,\"vote\":\"up\"}\n", r, m, start.Add(time.Duration(h)*time.Hour).Format(time.RFC3339))
			}
		}
	}
	for name, data := range map[string][]byte{roster: y.Bytes(), file: v.Bytes()} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for b.Loop() {
		if code := run([]string{"judge", "--month", "2026-12", "--roster", roster, "--json", file}, nil, io.Discard, io.Discard); code != 0 {
			b.Fatal(code)
		}
	}
	b.ReportMetric(float64(200*744*5)*float64(b.N)/b.Elapsed().Seconds(), "votes/s")
}

// The short way and the long way read the same.
func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"relay":"ID","monitor":"m1","hour":"2026-11-03T14:00:00Z","vote":"up"}`))
	f.Add([]byte(`{"relay":"a\\","monitor":"","hour":"b","vote":"c"}`))
	f.Add([]byte(`{"relay":"a","monitor":"b","hour":"c","vote":"d"}"}`))
	f.Add([]byte("{\"relay\":\"\xff\",\"monitor\":\"b\",\"hour\":\"c\",\"vote\":\"d\"}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		quick, ok := usualLine(string(line))
		if !ok {
			return
		}
		var slow voteLine
		if err := json.Unmarshal(line, &slow); err != nil {
			t.Fatalf("%q: read, but it is not JSON: %v", line, err)
		}
		for i, pair := range [][2]*string{{quick.Relay, slow.Relay}, {quick.Monitor, slow.Monitor}, {quick.Hour, slow.Hour}, {quick.Vote, slow.Vote}} {
			if pair[1] == nil || *pair[0] != *pair[1] {
				t.Errorf("%q: field %d differs", line, i)
			}
		}
	})
}

// A pipe into which nobody writes is refused: to open it would never end.
func TestPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	golden := "../../bundle/testdata/golden/eligible/"
	args := func(bundle, rules, roster string, more ...string) []string {
		return append([]string{"verify", bundle, "--rules", rules, "--roster", roster, "--unsigned"}, more...)
	}
	for what, args := range map[string][]string{
		"bundle": args(pipe, golden+"rules.yaml", golden+"roster.yaml"),
		"rules":  args(golden+"bundle.zip", pipe, golden+"roster.yaml"),
		"roster": args(golden+"bundle.zip", golden+"rules.yaml", pipe),
		"fork":   args(golden+"bundle.zip", golden+"rules.yaml", golden+"roster.yaml", "--fork", pipe),
	} {
		var stdout, stderr bytes.Buffer
		if code := run(args, strings.NewReader(""), &stdout, &stderr); code != cli.BadUsage || !strings.Contains(stderr.String(), what) || !strings.Contains(stderr.String(), pipe+" is no file") {
			t.Errorf("%s: exit code %d: %s", what, code, stderr.String())
		}
	}
}

// Whoever writes a bundle chooses what its errors quote.
func TestErrorIsOneLine(t *testing.T) {
	err := errors.Join(errors.New("the log of key a\x1b[2J\nverdict: ELIGIBLE"), errors.New("b\u009b1m"))
	if got := oneLine(err); got != "the log of key a?[2J; verdict: ELIGIBLE; b?1m" {
		t.Errorf("got %q", got)
	}
}

func TestPlain(t *testing.T) {
	if got := plain("refused \x1b[31m\n\u202eünïcode"); got != "refused ?[31m??ünïcode" {
		t.Errorf("got %q", got)
	}
}

// committee writes the secret key by which follow signs: committee KEYFILE.
func committee(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(nextCommittee.secret+"\n"), 0o600))
}

// appellant is a relay that objects.
var appellant = func() crypto.PrivKey {
	key, _, err := crypto.GenerateEd25519Key(bytes.NewReader(bytes.Repeat([]byte{7}, 64)))
	if err != nil {
		panic(err)
	}
	return key
}()

// appealed writes what "relayd appeal" prints: appealed FILE NETWORK MONTH TEXT. The relay's
// peer ID is in the variable RELAY then.
func appealed(ts *testscript.TestScript, neg bool, args []string) {
	line, id := appealLine(appellant, args[1], args[2], args[3])
	ts.Setenv("RELAY", id)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(line+"\n"), 0o644))
}

func appealLine(key crypto.PrivKey, network, month, text string) (line, id string) {
	relay, err := peer.IDFromPrivateKey(key)
	if err != nil {
		panic(err)
	}
	envelope, err := statement.Sign(statement.Statement{
		Kind: statement.Appeal, Network: network, PeerID: relay.String(), Operator: "alice", Month: month, Text: text,
		Made: time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC),
	}, key)
	if err != nil {
		panic(err)
	}
	return statement.Text(envelope), relay.String()
}

// older puts the checkpoint of so many entries in place of the last one: older FOLDER SIZE.
func older(ts *testscript.TestScript, neg bool, args []string) {
	raw := ts.ReadFile(filepath.Join(args[0], "checkpoints", args[1]))
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), "checkpoint"), []byte(raw), 0o644))
}

// readhash puts the hash that the last command printed as JSON into a variable.
func readhash(ts *testscript.TestScript, neg bool, args []string) {
	var printed struct{ Hash string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &printed))
	ts.Setenv(args[0], printed.Hash)
}
