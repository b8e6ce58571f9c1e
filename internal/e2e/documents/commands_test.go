package documents

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// documents are those for people, in which each command is held to the programs.
var documents = []string{"README.md", "docs/operator.md", "docs/monitor.md", "docs/committee.md", "docs/fleet.md", page}

// programs are built once, with what makes a month to judge.
var programs = map[string]string{
	"relayd": "./relay/cmd/relayd", "relaymon": "./monitor/cmd/relaymon", "relayaudit": "./monitor/cmd/relayaudit",
	"relay-appliance": "./internal/appliance/cmd/relay-appliance",
}

const monthProgram = "./internal/month/cmd/month"

// notHere are the commands that cannot be run by this test, and why. Of them it is seen that
// the program takes them as they stand, with --help behind them.
var notHere = map[string]string{
	"relay-appliance status":     "looks at a machine: internal/e2e/deb and internal/e2e/image do",
	"relay-appliance first-boot": "sets a machine up: internal/e2e/deb and internal/e2e/image do",
	"relay-appliance backup":     "reads a machine's identities: internal/e2e/image does",
	"relay-appliance alert":      "reads a machine's settings; internal/alert sends to a real mail server",
	"relay-appliance updates":    "looks at apt: internal/e2e/image does",
	"relayd doctor":              "asks a relay that runs: internal/e2e does",
	"relaymon run":               "serves until it is ended: the demo does",
	"relaymon probe":             "needs a relay: the demo does",
	"relaymon discover":          "needs the PSF network: internal/e2e does",
	"relaymon committee":         "needs monitors' logs: monitor/cmd/relaymon makes some",
	"relaymon mirror":            "needs another monitor: monitor/cmd/relaymon does",
	"relaymon bundle":            "needs a log with a month in it: internal/month makes some",
	"relaymon report":            "the same",
	"relaymon explain":           "the same",
	"relaymon alert":             "needs receivers; internal/alert sends to a real mail server",
}

// others are the programs of others: what they would do to the machine that runs the tests
// is not done.
var others = map[string]string{
	"apt-get":    "installs packages: internal/e2e/deb and internal/e2e/image do",
	"scp":        "needs another machine",
	"editor":     "needs a person",
	"age-keygen": "belongs to the reader; internal/appliance reads its keys",
}

// harmless are run as they are.
var harmless = []string{"cat", "ls", "sed", "cp", "grep"}

// folder is of what is built here; empty: no test has asked for it.
var folder string

func TestMain(m *testing.M) {
	code := m.Run()
	if folder != "" {
		os.RemoveAll(folder)
	}
	os.Exit(code)
}

// built is the folder of the programs, and of what makes a month.
var built = sync.OnceValues(func() (dir string, err error) {
	if folder, err = os.MkdirTemp("", "relay-documents-"); err != nil {
		return "", err
	}
	args := []string{"build", "-trimpath", "-o", folder + "/", monthProgram}
	for _, p := range programs {
		args = append(args, p)
	}
	build := exec.Command("go", args...)
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return folder, nil
})

// blocks are the commands of a document, as they are shown together.
func blocks(t *testing.T, doc string) (list []string) {
	t.Helper()
	text := read(t, doc)
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	// A block that is only indented would be held to nothing.
	if m := regexp.MustCompile(`(?m)^\n {4,}(sudo|make|relay\w*) .*`).FindString(text); m != "" {
		t.Errorf("%s: %q: put commands between ```sh and ```", doc, strings.TrimSpace(m))
	}
	return list
}

// desk is a folder for the commands of one document. Its programs are the real ones, and
// nothing of the machine is found beside them.
type desk struct {
	t                    *testing.T
	bin                  string // the real programs
	dir, home, path, log string
	begin                string // of a roster, as a committee writes it
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := &desk{t: t, bin: bin, dir: dir, home: filepath.Join(dir, "home"), path: filepath.Join(dir, "path"), log: filepath.Join(dir, "log")}
	for _, sub := range []string{d.path, filepath.Join(d.home, ".ssh"), d.etc("relay-appliance"), d.etc("relayd")} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.write("home/.ssh/id_ed25519.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@example.net\n")
	d.shims()
	return d
}

func (d *desk) etc(name string) string { return filepath.Join(d.dir, "etc", name) }

func (d *desk) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o755); err != nil {
		d.t.Fatal(err)
	}
}

// shims are all programs that a document may call.
func (d *desk) shims() {
	shim := func(name, text string) { d.write("path/"+name, "#!/bin/sh\n"+text) }
	for name := range programs {
		var except strings.Builder
		for command := range notHere {
			if sub, ok := strings.CutPrefix(command, name+" "); ok {
				fmt.Fprintf(&except, "%s) echo '%s' >> '%s'; exec '%s' \"$@\" --help > /dev/null ;;\n", sub, command, d.log, filepath.Join(d.bin, name))
			}
		}
		shim(name, fmt.Sprintf("case \"${1-}\" in\n%sesac\necho ran >> '%s'\nexec '%s' \"$@\"\n", except.String(), d.log, filepath.Join(d.bin, name)))
	}
	shim("sudo", "case $1 in -u) shift 2 ;; esac\nexec \"$@\"\n")
	// The targets are there; what they do is tested where it is.
	shim("make", fmt.Sprintf("for t; do case $t in *=*) ;; *) '%s' -q \"^$t:\" '%s' || { echo \"make has no target $t\" >&2; exit 2; } ;; esac; done\n", d.real("grep"), filepath.Join(top(d.t), "Makefile")))
	for name := range others {
		shim(name, fmt.Sprintf("echo '%s' >> '%s'\n", name, d.log))
	}
	for _, name := range harmless {
		if err := os.Symlink(d.real(name), filepath.Join(d.path, name)); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *desk) real(name string) string {
	d.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		d.t.Fatal(err)
	}
	return path
}

// sh runs a script in a folder of the desk, and returns what it prints.
func (d *desk) sh(in, script string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), "/bin/sh", "-eux")
	cmd.Dir, cmd.Env = filepath.Join(d.dir, in), []string{"PATH=" + d.path, "HOME=" + d.home}
	cmd.Stdin = strings.NewReader(script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		d.t.Fatalf("%v; the last line that was run, and what it said:\n%s", err, stderr.String())
	}
	return stdout.String()
}

// program runs one of the real programs.
func (d *desk) program(name string, args ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), filepath.Join(d.bin, name), args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = d.dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// made is what `make month` makes, of one day: once for all desks.
var made = sync.OnceValues(func() (dir string, err error) {
	bin, err := built()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(bin, ".month")
	out, err := exec.Command(filepath.Join(bin, "month"), "--programs", bin, "--dir", dir, "--once", "--days", "1").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("month: %w\n%s", err, out)
	}
	return dir, err
})

// month puts a month on the desk.
func (d *desk) month() {
	d.t.Helper()
	dir, err := made()
	if err == nil {
		err = os.CopyFS(filepath.Join(d.dir, ".month"), os.DirFS(dir))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// relay is one that is set up in the desk's /etc.
func (d *desk) relay() {
	d.t.Helper()
	d.write("etc/relay-appliance/appliance.yaml", "role: relay\ndomain: relay.of-mine.test\nemail: me@of-mine.test\n")
	d.write("etc/relayd/relayd.yaml", "domain: relay.of-mine.test\nannounce: {ip4: 198.41.0.4}\ndata_dir: "+d.etc("relayd/data")+"\n")
	d.program("relayd", "init", "--config", d.etc("relayd/relayd.yaml"))
}

const payout = "simpleledger:qpm2qsznhks23z7629mms6s4cwef74vcwvg3pncxyr"

// committee is what the commands about a roster stand on: the roster as it is written by
// hand, and what a relay's operator sends.
func (d *desk) committee() {
	d.t.Helper()
	d.relay()
	d.write("monitor.yaml", "name: m1\ndata_dir: m1\nroster: roster.yaml\n")
	d.program("relaymon", "init", "--config", "monitor.yaml")
	var keys map[string]any
	if err := json.Unmarshal([]byte(d.program("relaymon", "keys", "--json", "--config", "monitor.yaml")), &keys); err != nil {
		d.t.Fatal(err)
	}
	d.begin = fmt.Sprintf(`version: 1
network: psf
monitors:
- {name: m1, operator: committee, committee: true, log_key: %q, plan_key: %q, witness_key: %q, from: 2026-12-01T00:00:00Z}
controls:
- {name: c1, operator: somebody, tcp4: /ip4/198.41.0.5/tcp/4001/p2p/12D3KooWHGu5hdQ4TBQqH4uRySUjroWrMSPhvjTHCgt5znWgV4vb, wss: /dns4/c5.test/tcp/443/wss/p2p/12D3KooWHGu5hdQ4TBQqH4uRySUjroWrMSPhvjTHCgt5znWgV4vb}
- {name: c2, operator: somebody, tcp4: /ip4/198.41.0.6/tcp/4001/p2p/12D3KooWC69i8Xv4rmdqiEU7fTPzqp71mBp39CPKkCv8Ws1dN1B7, wss: /dns4/c6.test/tcp/443/wss/p2p/12D3KooWC69i8Xv4rmdqiEU7fTPzqp71mBp39CPKkCv8Ws1dN1B7}
- {name: c3, operator: another, tcp4: /ip4/198.41.0.7/tcp/4001/p2p/12D3KooWDmH2iPvXAjAwHaRKJnHRCL9F1UmUUs9NSy5V5o859tvq, wss: /dns4/c7.test/tcp/443/wss/p2p/12D3KooWDmH2iPvXAjAwHaRKJnHRCL9F1UmUUs9NSy5V5o859tvq}
`, keys["log_key"], keys["plan_key"], keys["witness_key"])
	d.write("begin.yaml", d.begin)
	config := []string{"--config", d.etc("relayd/relayd.yaml"), "--from"}
	d.write("enrolment.txt", d.program("relayd", append([]string{"enrol", "--region", "ZA", "--payout", payout}, append(config, "2099-01-01T00")...)...))
	d.write("move.txt", d.program("relayd", append([]string{"move", "--to", "198.41.0.9"}, append(config, "2099-02-01T00")...)...))
}

// fill is what a reader does between two commands: it is put before the line that has the
// one.
type fill struct{ before, script string }

// values stand where a reader writes his own.
var values = []string{
	"example.org", "of-mine.test", "NEW-IPV4", "198.41.0.9", "--payout ADDRESS", "--payout " + payout, "--region CC", "--region ZA",
	"--from HOUR", "--from 2099-01-15T12", "--hour HOUR", `--hour "$HOUR"`,
	"--pay TXID", "--pay " + strings.Repeat("7", 64), "--replace HASH", `--replace "$HASH"`, "--month MONTH", "--month 2026-01",
}

// session is how the commands of one document are run.
type session struct {
	doc, in string
	set     func(*desk)
	fills   []fill
	want    []string // is printed, in this order
}

var sessions = []session{
	{"README.md", ".", (*desk).month, nil, []string{"verdict: LAB", "verdict: LAB", "exit code 3"}},
	{"docs/operator.md", ".", (*desk).relay, []fill{
		{"relayd appeal", "echo 'Hour 14 was up.' > appeal.txt\n"},
	}, []string{"role: \"\"", "no fault found"}},
	{"docs/monitor.md", ".", func(d *desk) { d.committee(); d.write("roster.yaml", d.begin) }, []fill{
		{"relaymon config relaymon.yaml", "printf 'name: m2\\ndata_dir: m2\\nroster: roster.yaml\\n' > relaymon.yaml\n"},
	}, []string{"no fault found", "m2/relaymon/psf"}},
	{"docs/fleet.md", ".", func(d *desk) {
		d.committee()
		d.write("roster.yaml", d.begin)
		d.write("relaymon.yaml", "name: m1\ndata_dir: m1\nroster: roster.yaml\n")
	}, nil, nil},
	{page, ".", func(*desk) {}, nil, nil},
	{"docs/committee.md", ".month", func(d *desk) { d.month(); d.committee() }, []fill{
		{"relayaudit explain", "HOUR=$(relayaudit verify $bundle $trust | sed -n 's/.*dissent.*//;s/.*voted up in [0-9]* hours that count down: \\([0-9-]*T[0-9:]*\\)Z.*/\\1:00Z/p')\n"},
		{"relayaudit appeal", "echo 'Hour 14 was up.' > text.txt; sed 's/^domain:/network: {allow_private: true}\\n&/' /etc/relayd/relayd.yaml > lab.yaml; relayd appeal --config lab.yaml --month 2026-10 --text text.txt > appeal.txt\n"},
		{"--replace HASH", "HASH=$(relayaudit decisions decisions --committee \"$(cat committee.txt)\" --json | sed -n 's/.*\"standing\": \"\\(.*\\)\".*/\\1/p')\n"},
		{"relaymon roster add", "cp ../begin.yaml roster.yaml; cp ../enrolment.txt ../move.txt .\n"},
	}, []string{"5 relays", "verdict: LAB", "exit code 3", "down", "busy_cap", "paid to", "verified: 1 entries", "appeal of", "refused: Paid in error."}},
}

// script is all commands of a document, with what a reader does in between.
func (s session) script(t *testing.T, d *desk) string {
	t.Helper()
	all := ""
	for _, b := range blocks(t, s.doc) {
		for _, f := range s.fills {
			if i := strings.Index(b, f.before); i >= 0 {
				i = strings.LastIndex(b[:i], "\n") + 1
				b = b[:i] + f.script + b[i:]
			}
		}
		all += b
	}
	all = regexp.MustCompile(`(\.\./)?bin/(relay\w+)`).ReplaceAllString(all, "$2")
	return strings.NewReplacer(append(slices.Clone(values), "/etc/", d.etc("")+"/")...).Replace(all)
}

// Every command that the documents show is run as it stands, with the real programs, in the
// order of the page; of those that cannot be run here the program takes every word.
func TestCommands(t *testing.T) {
	used, whole := map[string]bool{}, 0
	for _, s := range sessions {
		t.Run(s.doc, func(t *testing.T) {
			d := newDesk(t)
			s.set(d)
			out := d.sh(s.in, s.script(t, d))
			left := out
			for _, want := range s.want {
				_, rest, ok := strings.Cut(left, want)
				if !ok {
					t.Fatalf("the commands do not print %q, or not in this order:\n%s", want, out)
				}
				left = rest
			}
			log, err := os.ReadFile(d.log)
			if err != nil {
				t.Fatal(err)
			}
			ran, taken := 0, 0
			for line := range strings.SplitSeq(strings.TrimSpace(string(log)), "\n") {
				if used[line] = true; line == "ran" {
					ran++
				} else {
					taken++
				}
			}
			t.Logf("%s: %d commands were run, %d only taken or left to the reader", s.doc, ran, taken)
			whole++
		})
	}
	if whole < len(sessions) {
		return // one failed, or was not asked for
	}
	for _, list := range []map[string]string{notHere, others} {
		for name := range list {
			if !used[name] {
				t.Errorf("%s: no document shows it any more: take it off the list", name)
			}
		}
	}
}

// A command that stands in a sentence is one that its program takes.
func TestCommandsInSentences(t *testing.T) {
	d := newDesk(t)
	n := 0
	for _, doc := range documents {
		text := regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(read(t, doc), "")
		// What begins a row of that page is a message, which may begin with a program's name.
		if doc == page {
			text = regexp.MustCompile(`(?m)^\|[^|]*\|`).ReplaceAllString(text, "")
		}
		for _, m := range regexp.MustCompile("`(?:sudo )?((?:make|relayd|relaymon|relayaudit|relay-appliance) [^`]*)`").FindAllStringSubmatch(strings.ReplaceAll(text, "\n", " "), -1) {
			words := strings.Fields(m[1])
			n++
			if words[0] == "make" {
				d.sh(".", m[1]+"\n")
				continue
			}
			cmd := exec.CommandContext(t.Context(), filepath.Join(d.bin, words[0]), append(slices.Clone(words[1:]), "--help")...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", doc, m[1], err, out)
			}
		}
	}
	if n < 20 {
		t.Errorf("%d commands were found in sentences, want 20 or more", n)
	}
}
