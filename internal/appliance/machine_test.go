package appliance

import (
	"context"
	"crypto/md5"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// fake is a machine in a folder. systemd is played: it remembers what is enabled and
// what runs. So are relayd and relaymon, whose answers the tests set. nft and dpkg
// are the real ones.
type fake struct {
	*Machine
	t       *testing.T
	enabled map[string]bool
	running map[string]bool
	did     []string          // what was done to services and identities
	answer  map[string]Result // by the beginning of a command
	inForce string            // what nft loads before it lists the ruleset
	said    []string
	put     map[string]map[string]string // the files that a program restored
	fails   map[string]string            // why a program cannot back up or restore, by both words
	cards   []Interface
}

var loopback = Interface{Name: "lo", Loopback: true, Up: true, Link: true, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}}

// card is one with these addresses.
func card(addrs ...string) Interface {
	i := Interface{Name: "eth0", MAC: "52:54:00:12:34:56", Up: true, Link: true}
	for _, a := range addrs {
		i.Addrs = append(i.Addrs, netip.MustParseAddr(a))
	}
	return i
}

const pristine = "# as the package brought it\n"

func newFake(t *testing.T) *fake {
	t.Helper()
	need.Root(t)
	need.Tools(t, "nft", "dpkg-query", "unshare")
	f := &fake{t: t, enabled: map[string]bool{}, running: map[string]bool{}, answer: map[string]Result{}, put: map[string]map[string]string{}, fails: map[string]string{}}
	f.Machine = &Machine{Root: t.TempDir(), Exec: f.exec, Interfaces: func() ([]Interface, error) { return f.cards, nil }}
	f.cards = []Interface{loopback, card("18.196.7.7")}
	f.file("/proc/uptime", "10.00 1.00\n")
	var conffiles strings.Builder
	for _, name := range []string{"/etc/relayd/relayd.yaml", "/etc/relaymon/relaymon.yaml", rulesetPath} {
		f.file(name, pristine)
		fmt.Fprintf(&conffiles, "\n %s %x", name, md5.Sum([]byte(pristine)))
	}
	f.file("/var/lib/dpkg/status", "Package: relayd\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\nConffiles:"+conffiles.String()+"\n")
	f.file("/etc/passwd", fmt.Sprintf("relayd:x:%[1]d:%[2]d::/:/\nrelaymon:x:%[1]d:%[2]d::/:/\n", os.Getuid(), os.Getgid()))
	for _, name := range []string{"/usr/bin/relayd", "/usr/bin/relaymon", "/usr/sbin/sshd", "/sbin/agetty", "/etc/relaymon/roster.yaml", scriptsDir + "/README"} {
		f.file(name, "")
	}
	f.file(rulesetFrom, guest(t, "/etc/nftables.conf"))
	for target := range DefaultSettings().openings() {
		f.file(target, guest(t, target))
	}
	for _, name := range []string{"relayd id", "relaymon keys"} {
		f.answer[name] = Result{Code: 1, Stderr: "there is none"}
	}
	return f
}

// guest is a file of the guest as it is packed.
func guest(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../image/rootfs" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (f *fake) file(name, text string) {
	f.t.Helper()
	if err := f.write(name, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) text(name string) string {
	f.t.Helper()
	b, err := f.readFile(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

// firstBoot runs it, and returns what it said and did.
func (f *fake) firstBoot(settings string) error {
	f.t.Helper()
	f.said, f.did = nil, nil
	if settings != "" {
		f.file(SettingsPath, settings)
	}
	return f.FirstBoot(f.t.Context(), func(format string, args ...any) { f.said = append(f.said, fmt.Sprintf(format, args...)) })
}

func (f *fake) exec(ctx context.Context, c Command) (Result, error) {
	line := strings.ReplaceAll(strings.Join(c.Args, " "), f.Root, "")
	for prefix, r := range f.answer {
		if strings.HasPrefix(line, prefix) {
			return r, nil
		}
	}
	no := Result{Code: 3}
	switch c.Args[0] {
	case "systemctl":
		unit := strings.TrimSuffix(c.Args[len(c.Args)-1], ".service")
		switch verb := c.Args[1]; verb {
		case "is-enabled":
			if !f.enabled[unit] {
				return no, nil
			}
		case "is-active":
			if !f.running[unit] {
				return Result{Code: 3, Stdout: "inactive\n"}, nil
			}
			return Result{Stdout: "active\n"}, nil
		case "show", "try-restart", "daemon-reload", "reset-failed":
		case "start":
			if c.Args[2] != "--no-block" && !f.running[unit] {
				f.did = append(f.did, line)
			}
			f.running[unit] = true
		default:
			f.did = append(f.did, line)
			f.enabled[unit] = verb == "enable" || f.enabled[unit] && verb != "disable"
			f.running[unit] = verb != "disable" && (verb != "enable" || f.running[unit])
		}
		return Result{}, nil
	case "nft":
		if slices.Contains(c.Args, "list") {
			return f.nft(ctx, f.inForce, "--json list ruleset")
		}
		return f.nft(ctx, f.ruleset(), "")
	case "dpkg-query":
		return (&Machine{}).process(ctx, c)
	case "relayd", "relaymon":
		if f.user(c) != (c.Args[1] == "init" || c.Args[1] == "id" || c.Args[1] == "keys" || c.Args[1] == "doctor" || c.Args[1] == "roster" || c.Args[1] == "backup" || c.Args[1] == "restore") {
			f.t.Errorf("%s is run as %q", line, c.User)
		}
		if c.Args[1] == "backup" || c.Args[1] == "restore" {
			return f.moves(c), nil
		}
		if c.Args[1] == "init" {
			f.did = append(f.did, line)
			f.answer[c.Args[0]+" id"], f.answer[c.Args[0]+" keys"] = Result{Stdout: "12D3KooWfake\n"}, Result{Stdout: `{"log_key": "alpha+1", "witness_key": "alpha+2"}`}
		}
		return Result{}, nil
	case "/usr/sbin/sshd":
		return Result{Stdout: "port 22\naddressfamily any\n"}, nil
	case "agetty":
		return Result{}, nil
	}
	return Result{}, fmt.Errorf("nobody plays %s", line)
}

func (f *fake) user(c Command) bool { return c.User == c.Args[0] }

// ruleset is what nft would load on the machine.
func (f *fake) ruleset() string {
	f.t.Helper()
	text := f.text(rulesetPath)
	if !strings.Contains(text, include) {
		return text
	}
	entries, err := os.ReadDir(f.path(rulesDir))
	if err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	var more strings.Builder
	for _, e := range entries {
		name := filepath.Join(rulesDir, e.Name())
		if to, err := os.Readlink(f.path(name)); err == nil {
			name = to
		}
		more.WriteString(f.text(name))
	}
	return strings.Replace(text, include, more.String(), 1)
}

// nft loads rules in a network of their own, which ends with the command.
func (f *fake) nft(ctx context.Context, rules, then string) (Result, error) {
	file := filepath.Join(f.t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		f.t.Fatal(err)
	}
	script := "nft --file " + file
	if then != "" {
		script += " && nft " + then
	}
	out, err := exec.CommandContext(ctx, "unshare", "--net", "sh", "-c", script).CombinedOutput()
	if err != nil {
		return Result{Code: 1, Stderr: string(out)}, nil
	}
	return Result{Stdout: string(out)}, nil
}
