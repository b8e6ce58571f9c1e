package deb

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/need"
)

var services = []string{"relayd", "relaymon"}

// exposure is the most that `systemd-analyze security` may find: 1.5 of 10, as it
// wants it said.
const exposure = "15"

func TestUnitsAreHardened(t *testing.T) {
	need.Tools(t, "systemd-analyze")
	for _, name := range services {
		run(t, "systemd-analyze", "security", "--offline=true", "--threshold="+exposure, "--root="+unpacked(t, name), name+".service")
	}
	// These are root's, to become others, end those, and write what systemd and nft read. The
	// gate has no sandbox: it has dpkg install packages.
	tree := unpacked(t, "relay-appliance")
	for unit, exposure := range map[string]string{"first-boot": "29", "status": "31", "fetch": "23", "backup": "23"} {
		run(t, "systemd-analyze", "security", "--offline=true", "--threshold="+exposure, "--root="+tree, "relay-appliance-"+unit+".service")
	}
}

// What systemd says of units that it would not take as they are meant.
func TestUnitsAreValid(t *testing.T) {
	need.Tools(t, "systemd-analyze")
	m := newMachine(t)
	m.dpkg("--install", built(t, "relayd"), built(t, "relaymon"), built(t, "relay-appliance"))
	for _, unit := range []string{"sysinit", "basic", "shutdown", "network-online", "nss-lookup", "time-sync", "time-set", "timers", "multi-user"} {
		m.write("usr/lib/systemd/system/"+unit+".target", "[Unit]\nDescription="+unit+"\n", 0o644)
	}
	m.write("usr/lib/systemd/system/-.slice", "", 0o644)
	m.write("usr/lib/systemd/system/system.slice", "", 0o644)
	units := slices.Concat(appliances, []string{"relayd.service", "relaymon.service", "relay-appliance-status.service", "relay-appliance-fetch.service", "relay-appliance-gate.service", "relay-appliance-backup.service", "relay-appliance-backup.timer"})
	for _, unit := range units {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--root="+m.root, unit).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

// settings are those of a unit, in order; a setting that is given twice has two.
func settings(t *testing.T, unit string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for line := range strings.Lines(read(t, top(t), "image/rootfs/usr/lib/systemd/system", unit)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			out[key] = append(out[key], value)
		}
	}
	return out
}

// A sandbox that takes from a program what it lives on is worse than none: each of
// these was measured to be needed.
func TestSandboxLeavesWhatIsNeeded(t *testing.T) {
	for _, name := range services {
		s := settings(t, name+".service")
		for _, family := range []string{"AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"} {
			if !slices.Contains(strings.Fields(s["RestrictAddressFamilies"][0]), family) {
				t.Errorf("%s: not allowed %s", name, family)
			}
		}
		if s["Type"][0] != "notify" || s["WatchdogSec"] == nil || s["User"][0] != name || s["StateDirectory"][0] != name {
			t.Errorf("%s: want Type=notify, a watchdog, its own user and state", name)
		}
	}
	relayd, relaymon := settings(t, "relayd.service"), settings(t, "relaymon.service")
	if relayd["AmbientCapabilities"][0] != "CAP_NET_BIND_SERVICE" || relayd["PrivateUsers"] != nil {
		t.Error("relayd cannot bind ports 80 and 443")
	}
	// Evidence would say of a good clock that it is not synchronised (rule R9).
	if relaymon["ProtectClock"] != nil || relaymon["SystemCallFilter"][len(relaymon["SystemCallFilter"])-1] != "adjtimex" {
		t.Error("relaymon cannot ask the kernel about its clock")
	}
}

func TestSysctl(t *testing.T) {
	found := 0
	for line := range strings.Lines(read(t, top(t), "image/rootfs/usr/lib/sysctl.d/60-relayd.conf")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := regexp.MustCompile(`^([a-z0-9_.]+) = (\d+)$`).FindStringSubmatch(line)
		if m == nil {
			t.Errorf("cannot read %q", line)
			continue
		}
		found++
		// Name spaces of the network hide some that the kernel has.
		if _, err := os.Stat("/proc/sys/" + strings.ReplaceAll(m[1], ".", "/")); err != nil {
			t.Logf("%s is not seen here", m[1])
		}
	}
	if found == 0 {
		t.Error("nothing is set")
	}
}

// chainPorts are the ports that a ruleset's input chain accepts, by protocol.
func chainPorts(t *testing.T, files ...string) map[string][]string {
	t.Helper()
	need.Root(t)
	need.Tools(t, "nft", "unshare")
	// In a network of its own, which nobody uses and which ends with the command.
	args := []string{"--net", "sh", "-ec", `for f in "$@"; do nft -f "$f"; done; nft --json --numeric list ruleset`, "sh"}
	var ruleset struct {
		Nftables []struct {
			Rule *struct {
				Chain string
				Expr  []map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal([]byte(run(t, "unshare", append(args, files...)...)), &ruleset); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, item := range ruleset.Nftables {
		if item.Rule == nil || item.Rule.Chain != "input" {
			continue
		}
		accepts := slices.ContainsFunc(item.Rule.Expr, func(e map[string]json.RawMessage) bool { _, ok := e["accept"]; return ok })
		for _, e := range item.Rule.Expr {
			var match struct {
				Left struct {
					Payload struct{ Protocol, Field string }
				}
				Right any
			}
			if e["match"] == nil || !accepts || json.Unmarshal(e["match"], &match) != nil || match.Left.Payload.Field != "dport" {
				continue
			}
			text, err := json.Marshal(match.Right)
			if err != nil {
				t.Fatal(err)
			}
			protocol := match.Left.Payload.Protocol
			out[protocol] = append(out[protocol], regexp.MustCompile(`\d+`).FindAllString(string(text), -1)...)
		}
	}
	for _, ports := range out {
		slices.Sort(ports)
	}
	return out
}

// base is the image's firewall, with an include that finds nothing.
func base(t *testing.T) string {
	t.Helper()
	text := read(t, top(t), "image/rootfs/etc/nftables.conf")
	const include = `include "/etc/nftables.d/*.nft"`
	if strings.Count(text, include) != 1 {
		t.Fatalf("the firewall does not say %s once", include)
	}
	path := filepath.Join(t.TempDir(), "nftables.conf")
	if err := os.WriteFile(path, []byte(strings.Replace(text, include, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFirewall(t *testing.T) {
	share := filepath.Join(top(t), "image/rootfs/usr/share")
	relayd, relaymon := filepath.Join(share, "relayd/relayd.nft"), filepath.Join(share, "relaymon/relaymon.nft")

	// The ports that relayd listens on are those of its own defaults.
	listen, _, _ := strings.Cut(read(t, top(t), "relay/config/default.yaml"), "\nannounce:")
	want := map[string][]string{"tcp": {"22"}, "udp": {"546"}}
	for _, m := range regexp.MustCompile(`(?m)^  [a-z]+: .*$`).FindAllString(listen, -1) {
		for _, p := range regexp.MustCompile(`/(tcp|udp)/(\d+)`).FindAllStringSubmatch(m, -1) {
			want[p[1]] = append(want[p[1]], p[2])
		}
		if p := regexp.MustCompile(`^  http: ":(\d+)"$`).FindStringSubmatch(m); p != nil {
			want["tcp"] = append(want["tcp"], p[1])
		}
	}
	for protocol, ports := range want {
		slices.Sort(ports)
		want[protocol] = slices.Compact(ports)
	}
	if len(want["tcp"]) < 4 || len(want["udp"]) < 2 {
		t.Fatalf("cannot read the ports in relay/config/default.yaml: %q", want)
	}
	for _, c := range []struct {
		role  string
		files []string
		want  map[string][]string
	}{
		{"none", nil, map[string][]string{"tcp": {"22"}, "udp": {"546"}}},
		{"relay", []string{relayd}, want},
		{"monitor", []string{relaymon}, map[string][]string{"tcp": {"22", "443", "80"}, "udp": {"546"}}},
	} {
		got := chainPorts(t, append([]string{base(t)}, c.files...)...)
		for _, protocol := range []string{"tcp", "udp"} {
			if !slices.Equal(got[protocol], c.want[protocol]) {
				t.Errorf("role %s: %s ports %q are open, want %q", c.role, protocol, got[protocol], c.want[protocol])
			}
		}
		if len(got) != 2 {
			t.Errorf("role %s: open are %q", c.role, got)
		}
	}
}
