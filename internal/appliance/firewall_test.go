package appliance

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// open are the ports that the machine's firewall lets in.
func (f *fake) open() []string {
	f.t.Helper()
	r, err := f.nft(f.t.Context(), f.ruleset(), "list chain inet filter input")
	if err != nil || r.Code != 0 {
		f.t.Fatalf("%v %s", err, r.Stderr)
	}
	var out []string
	for _, m := range regexp.MustCompile(`(tcp|udp) dport (?:\{ ([0-9, ]+) \}|(\d+)) accept`).FindAllStringSubmatch(r.Stdout, -1) {
		for _, p := range strings.Split(m[2]+m[3], ", ") {
			out = append(out, m[1]+" "+p)
		}
	}
	if !strings.Contains(r.Stdout, "policy drop") {
		f.t.Errorf("all else is not dropped:\n%s", r.Stdout)
	}
	slices.Sort(out)
	return out
}

// The table of open ports that operators read is the one that is in force.
func TestPortsInTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../../cloud-init/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for who, s := range map[string]Settings{
		"none (no settings, or wrong ones)": {},
		"relay, both":                       {Role: Relay, Domain: "relay.test"},
		"monitor with a domain":             {Role: Monitor, Domain: "relay.test"},
		"monitor without":                   {Role: Monitor},
	} {
		ports := map[string][]int{"tcp": {22}}
		for _, p := range s.Ports() {
			ports[p.Protocol] = append(ports[p.Protocol], p.Port)
		}
		cell := func(protocol string) string {
			slices.SortFunc(ports[protocol], cmp.Compare[int])
			return strings.Trim(strings.ReplaceAll(fmt.Sprint(ports[protocol]), " ", ", "), "[]")
		}
		if row := strings.ReplaceAll(fmt.Sprintf("| %s | %s | %s |\n", who, cell("tcp"), cell("udp")), "|  |", "| |"); !strings.Contains(string(readme), row) {
			t.Errorf("the table lacks %q", row)
		}
	}
}

// A port of the operator's own would be closed without a word.
func TestPortsOfOnesOwn(t *testing.T) {
	said := func(listen string) (said string) {
		f := newFake(t)
		if err := f.firstBoot(relayOnly + "relayd: {listen: {" + listen + "}}\n"); err != nil {
			t.Fatal(err)
		}
		for _, s := range f.said {
			if strings.Contains(s, "relayd.listen") {
				said += s
			}
		}
		return said
	}
	const mine = "tcp: [/ip4/0.0.0.0/tcp/4001, /ip4/0.0.0.0/tcp/4002, /ip4/127.0.0.1/tcp/5001, /ip6/::1/tcp/5002], quic: [/ip6/::/udp/443/quic-v1]"
	want := "firewall: relayd.listen has ports that are not the role's: 443/udp 4002/tcp: they stay closed unless a file of your own opens them"
	if got := said(mine); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := said("tcp: [/ip4/0.0.0.0/tcp/4001]"); got != "" {
		t.Errorf("of the role's own: %q", got)
	}
	// Where the firewall is somebody else's, they are to be opened there.
	f := newFake(t)
	if err := f.firstBoot(relayOnly + "firewall: off\nrelayd: {listen: {" + mine + "}}\n"); err != nil {
		t.Fatal(err)
	}
	if want := "firewall: off: see to it yourself that these ports are open: 80/tcp 443/tcp 4001/tcp 4001/udp 443/udp 4002/tcp"; !slices.Contains(f.said, want) {
		t.Errorf("it said %q, want %q", f.said, want)
	}
}

func TestFirewallOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		inForce string // before
		own     string // /etc/nftables.conf
		sshd    string
		setting string
		takes   bool
		said    string
		ports   []string
	}{
		"Debian's empty one":  {"table inet filter { chain input { type filter hook input priority filter; }; }", pristine, "", "auto", true, "firewall: open are SSH", []string{"tcp 22"}},
		"only fail2ban":       {"table inet f2b-table { chain f2b-chain { type filter hook input priority filter - 1; tcp dport 22 drop; }; }", pristine, "", "auto", true, "firewall: open are SSH", []string{"tcp 22"}},
		"SSH elsewhere":       {"", pristine, "port 2222\nport 22\n", "auto", true, "firewall: open are SSH", []string{"tcp 22", "tcp 2222"}},
		"ufw":                 {"table ip filter { chain INPUT { type filter hook input priority filter; policy drop; }; }", pristine, "", "auto", false, "this machine has a firewall already (ip filter)", nil},
		"rules without drop":  {"table ip filter { chain INPUT { type filter hook input priority filter; tcp dport 25 reject; }; }", pristine, "", "auto", false, "this machine has a firewall already (ip filter)", nil},
		"a router":            {"table ip docker { chain FORWARD { type filter hook forward priority filter; policy drop; }; }", pristine, "", "auto", false, "this machine has a firewall already (ip docker)", nil},
		"the operator's file": {"", "# mine\n", "", "auto", false, "/etc/nftables.conf was changed by hand", nil},
		"off":                 {"", pristine, "", "off", false, "firewall: off: see to it yourself that these ports are open: 80/tcp 443/tcp 4001/tcp 4001/udp", nil},
	} {
		f := newFake(t)
		f.inForce = c.inForce
		f.file(rulesetPath, c.own)
		if c.sshd != "" {
			f.answer["/usr/sbin/sshd"] = Result{Stdout: c.sshd}
		}
		if err := f.firstBoot(relayOnly + "firewall: " + c.setting + "\n"); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.ContainsFunc(f.said, func(s string) bool { return strings.HasPrefix(s, c.said) }) {
			t.Errorf("%s: it said %q", name, f.said)
		}
		if f.running["nftables"] != c.takes || (f.text(rulesetPath) != c.own) != c.takes {
			t.Errorf("%s: want taken over: %t", name, c.takes)
		}
		for _, p := range c.ports {
			if open := f.open(); !slices.Contains(open, p) {
				t.Errorf("%s: %s is not open: %q", name, p, open)
			}
		}
	}
}
