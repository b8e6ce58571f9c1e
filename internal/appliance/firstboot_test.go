package appliance

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const relayOnly = "role: relay\ndomain: relay.test\nemail: me@relay.test\n"

func (f *fake) wantDone(when string, want ...string) {
	f.t.Helper()
	if d := cmp.Diff(want, f.did); d != "" {
		f.t.Errorf("%s: wanted -, done +\n%s", when, d)
	}
}

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

func TestRelay(t *testing.T) {
	f := newFake(t)
	if err := f.firstBoot(relayOnly + "month: 2TB\nrelayd: {limits: {reservations: 2048}}\n"); err != nil {
		t.Fatal(err)
	}
	f.wantDone("at first",
		"relayd init --config /etc/relayd/relayd.yaml",
		"systemctl enable nftables.service", "systemctl reload-or-restart nftables.service",
		"systemctl enable relayd.service", "systemctl restart relayd.service")
	want := head + `acme:
  directory: https://acme-v02.api.letsencrypt.org/directory
  email: me@relay.test
domain: relay.test
limits:
  month: 2TB
  reservations: 2048
`
	if d := cmp.Diff(want, f.text("/etc/relayd/relayd.yaml")); d != "" {
		t.Error(d)
	}
	if got := f.text("/etc/relaymon/relaymon.yaml"); got != pristine {
		t.Errorf("the monitor's configuration is %q", got)
	}
	if d := cmp.Diff([]string{"tcp 22", "tcp 4001", "tcp 443", "tcp 80", "udp 4001", "udp 546"}, f.open()); d != "" {
		t.Error(d)
	}
	// At the next boot there is nothing to do.
	if err := f.firstBoot(""); err != nil {
		t.Fatal(err)
	}
	f.wantDone("again")
	if len(f.said) != 1 || f.said[0] != "relayd runs" {
		t.Errorf("again it says %q", f.said)
	}
	// It grows a monitor.
	if err := f.firstBoot(good); err != nil {
		t.Fatal(err)
	}
	f.wantDone("as both",
		"relaymon init --config /etc/relaymon/relaymon.yaml",
		"systemctl restart relayd.service",
		"systemctl enable relaymon.service", "systemctl restart relaymon.service")
	if !strings.Contains(f.text("/etc/relayd/relayd.yaml"), "http_upstream: http://127.0.0.1:8420\n") {
		t.Error("the relay does not pass on what is the monitor's")
	}
	if got := f.text("/etc/relaymon/relaymon.yaml"); strings.Contains(got, "public") || !strings.Contains(got, "browser: none\n") || !strings.Contains(got, "roster: /etc/relaymon/roster.yaml\n") {
		t.Errorf("the monitor's configuration:\n%s", got)
	}
	// And is one only, with a name of its own.
	if err := f.firstBoot(strings.Replace(good, "both", "monitor", 1)); err != nil {
		t.Fatal(err)
	}
	f.wantDone("as a monitor",
		"systemctl reload-or-restart nftables.service",
		"systemctl disable --now relayd.service", "systemctl restart relaymon.service")
	if !f.has("/etc/systemd/system/relaymon.service.d/own-domain.conf") {
		t.Error("it may not listen on ports 80 and 443")
	}
	if d := cmp.Diff([]string{"tcp 22", "tcp 443", "tcp 80", "udp 546"}, f.open()); d != "" {
		t.Error(d)
	}
	// At last nobody may call it.
	if err := f.firstBoot("role: monitor\nmonitor: {name: alpha, roster: /etc/relaymon/roster.yaml}\n"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"tcp 22", "udp 546"}, f.open()); d != "" {
		t.Error(d)
	}
	if f.has("/etc/systemd/system/relaymon.service.d/own-domain.conf") {
		t.Error("it may still listen on ports 80 and 443")
	}
}

func TestWithoutSettings(t *testing.T) {
	f := newFake(t)
	if err := f.firstBoot(""); err != nil {
		t.Fatal(err)
	}
	f.wantDone("without settings")
	for _, name := range []string{issuePath, motdPath} {
		if !strings.Contains(f.text(name), "not set up yet") || strings.Contains(f.text(name), "NOT SET UP:") {
			t.Errorf("%s: %s", name, f.text(name))
		}
	}
	s, err := f.Status(t.Context())
	if err != nil || s.Set || s.Fault != "" || s.Role != "" {
		t.Errorf("%+v, %v", s, err)
	}
}

// What is wrong stands on the console and in cloud-init's status, changes nothing,
// and is gone once it is mended.
func TestWrongSettings(t *testing.T) {
	f := newFake(t)
	err := f.firstBoot("role: relay\ndomain: Relay\nemail: me@relay.test\nmonht: 1TB\n")
	if err == nil || !strings.Contains(err.Error(), SettingsPath+`:4:1: unknown key "monht"; did you mean "month"?`) {
		t.Fatalf("%v", err)
	}
	f.wantDone("with wrong settings")
	if got := f.scripts(); len(got) != 1 || got[0] != `relay-appliance: appliance.yaml:4:1: unknown key "monht"; did you mean "month"?` {
		t.Errorf("cloud-init gets %q", got)
	}
	for _, name := range []string{issuePath, motdPath} {
		if !strings.Contains(f.text(name), "NOT SET UP: "+SettingsPath+":4:1: unknown key") {
			t.Errorf("%s: %s", name, f.text(name))
		}
	}
	if fault, err := f.Fault(); err != nil || !strings.Contains(fault, "unknown key") {
		t.Errorf("%q, %v", fault, err)
	}
	if err = f.firstBoot("role: relay\ndomain: Relay\n"); err == nil {
		t.Fatal("no error")
	}
	if got := f.scripts(); len(got) != 1 || got[0] != `relay-appliance: appliance.yaml:2: domain: want a name in lower case such as relay.example.org, not "Relay" (and 1 more)` {
		t.Errorf("cloud-init gets %q", got)
	}
	if err := f.firstBoot(relayOnly); err != nil {
		t.Fatal(err)
	}
	if got := f.scripts(); len(got) != 0 {
		t.Errorf("mended, cloud-init still gets %q", got)
	}
	if strings.Contains(f.text(issuePath), "NOT SET UP") {
		t.Error("mended, and the console does not know")
	}
}

// scripts are those by which cloud-init is told.
func (f *fake) scripts() (names []string) {
	f.t.Helper()
	entries, err := os.ReadDir(f.path(scriptsDir))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "README" {
			names = append(names, e.Name())
			if info, err := e.Info(); err != nil || info.Mode()&0o111 == 0 {
				f.t.Errorf("%s cannot be run", e.Name())
			}
		}
	}
	return names
}

// User-data that cloud-init cannot read leads to no settings: that is why.
func TestWrongUserData(t *testing.T) {
	for name, c := range map[string]struct{ userData, want string }{
		"none":        {"", ""},
		"a tab":       {"#cloud-config\nwrite_files:\n\t- path: /x\n", "user-data:3:1: a tab: indent with spaces: mend it there"},
		"no header":   {"write_files: []\n", "user-data: its first line must be #cloud-config"},
		"no map":      {"#cloud-config\n- a\n", "user-data: "},
		"a script":    {"#!/bin/sh\necho\n", ""},
		"of others":   {"#cloud-config\npackages: [vim]\n", ""},
		"compressed":  {"\x1f\x8b\x08\x00\xff\xfe", ""},
		"many parts":  {"Content-Type: multipart/mixed\n\n", ""},
		"a template":  {"## template: jinja\n#cloud-config\n\t{{ x }}", ""},
		"only spaces": {" \n", ""},
	} {
		f := newFake(t)
		f.file(userDataPath, c.userData)
		err := f.firstBoot("")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if got := f.scripts(); (c.want == "") != (len(got) == 0) {
			t.Errorf("%s: cloud-init gets %q", name, got)
		}
	}
}

// A file that the operator has changed is his.
func TestOperatorsFilesStay(t *testing.T) {
	f := newFake(t)
	f.file("/etc/relayd/relayd.yaml", pristine+"domain: other.test\n")
	if err := f.firstBoot(relayOnly); err != nil {
		t.Fatal(err)
	}
	if got := f.text("/etc/relayd/relayd.yaml"); got != pristine+"domain: other.test\n" {
		t.Errorf("it became %s", got)
	}
	if !slices.ContainsFunc(f.said, func(s string) bool { return strings.HasPrefix(s, "/etc/relayd/relayd.yaml was changed by hand") }) {
		t.Errorf("it said %q", f.said)
	}
	if err := os.Remove(f.path("/etc/relayd/relayd.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := f.firstBoot(""); err != nil {
		t.Fatal(err)
	}
	if got := f.text("/etc/relayd/relayd.yaml"); !strings.HasPrefix(got, head) {
		t.Errorf("moved away, it became %s", got)
	}
	f.file("/etc/relayd/relayd.yaml", f.text("/etc/relayd/relayd.yaml")+"# mine\n")
	if err := f.firstBoot(relayOnly + "month: 1TB\n"); err != nil {
		t.Fatal(err)
	}
	if got := f.text("/etc/relayd/relayd.yaml"); !strings.HasSuffix(got, "# mine\n") {
		t.Errorf("changed, it became %s", got)
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		command string
		result  Result
		want    string
	}{
		"a program finds a fault": {"relayd config", Result{Code: 2, Stderr: "relayd: /run/relay-appliance/relayd.yaml:7:3: unknown key \"limits.reservation\"\n"},
			`relayd refuses what follows from the settings: unknown key "limits.reservation"`},
		"an identity cannot be made": {"relayd init", Result{Code: 1, Stderr: "relayd: data folder holds state.json but no identity\n"}, "make the identity of relayd: relayd: data folder holds"},
		"a service does not start":   {"systemctl restart relayd", Result{Code: 1, Stderr: "Job failed."}, "relayd does not start: systemctl restart relayd.service: Job failed.\nits log ends with:\nlast words"},
		"rules cannot be loaded":     {"nft --check", Result{Code: 1, Stderr: "syntax error"}, "the firewall's rules are not loaded: "},
	} {
		f := newFake(t)
		f.answer[c.command], f.answer["journalctl"] = c.result, Result{Stdout: "last words\n"}
		if c.command == "relayd config" {
			f.answer[c.command] = Result{Code: 2, Stderr: strings.ReplaceAll(c.result.Stderr, "/run/", f.Root+"/run/")}
		}
		if err := f.firstBoot(relayOnly); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if len(f.scripts()) != 1 {
			t.Errorf("%s: cloud-init is not told", name)
		}
	}
	f := newFake(t)
	if err := os.Remove(f.path("/usr/bin/relaymon")); err != nil {
		t.Fatal(err)
	}
	if err := f.firstBoot(good); err == nil || !strings.Contains(err.Error(), "role both: relaymon is not installed: apt-get install relaymon") {
		t.Errorf("%v", err)
	}
	if !f.running["relayd"] {
		t.Error("relayd does not run for what is wrong with relaymon")
	}
	f = newFake(t)
	for _, gone := range []string{"/usr/bin/relayd", "/usr/share/relayd/relayd.nft"} {
		if err := os.Remove(f.path(gone)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.firstBoot(relayOnly); err == nil || strings.Contains(err.Error(), "nft") {
		t.Errorf("%v", err)
	}
	if d := cmp.Diff([]string{"tcp 22", "udp 546"}, f.open()); d != "" {
		t.Errorf("without the package the firewall is\n%s", d)
	}
	unlock, err := f.lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.firstBoot(good); err == nil || !strings.Contains(err.Error(), "under way already") {
		t.Errorf("two at once: %v", err)
	}
	unlock()
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

func TestFetch(t *testing.T) {
	answer, code := "first", http.StatusOK
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	f := newFake(t)
	f.Client = server.Client()
	settings := "role: monitor\nmonitor: {name: alpha, committee: vkey, roster: " + server.URL + "/roster.yaml}\n"
	if err := os.Remove(f.path("/etc/relaymon/roster.yaml")); err != nil {
		t.Fatal(err)
	}
	code = http.StatusNotFound
	if err := f.firstBoot(settings); err == nil || !strings.Contains(err.Error(), "fetch monitor.roster: ") {
		t.Errorf("without a roster: %v", err)
	}
	code = http.StatusOK
	if err := f.firstBoot(""); err != nil {
		t.Fatal(err)
	}
	const roster = "/etc/relaymon/roster.yaml"
	fetch := func() (said []string) {
		t.Helper()
		if err := f.Fetch(t.Context(), func(format string, args ...any) { said = append(said, format) }); err != nil {
			t.Fatal(err)
		}
		return said
	}
	if said := fetch(); len(said) != 0 || f.text(roster) != "first" {
		t.Errorf("the same again: %q, %s", said, f.text(roster))
	}
	answer = "second"
	if fetch(); f.text(roster) != "second" {
		t.Errorf("a newer one: %s", f.text(roster))
	}
	// Neither one that relaymon refuses nor none at all takes the place of a good one.
	answer, f.answer["relaymon roster check /run/relay-appliance/roster.yaml --committee vkey"] = "third", Result{Code: 2, Stderr: "not signed"}
	if said := fetch(); len(said) != 1 || f.text(roster) != "second" {
		t.Errorf("a bad one: %q, %s", said, f.text(roster))
	}
	clear(f.answer)
	code = http.StatusInternalServerError
	if said := fetch(); len(said) != 1 || f.text(roster) != "second" {
		t.Errorf("none: %q, %s", said, f.text(roster))
	}
}

func TestStatus(t *testing.T) {
	f := newFake(t)
	monitor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "the clock is wrong", http.StatusServiceUnavailable)
	}))
	defer monitor.Close()
	listen := strings.TrimPrefix(monitor.URL, "http://")
	f.answer["relayd doctor"] = Result{Code: 1, Stdout: `{"peer_id": "12D3KooW", "running": true, "met": 1, "not_met": 1, "unknown": 0, "requirements": [
		{"name": "service", "title": "Reservations are served", "outcome": "met", "found": "since then"},
		{"name": "records", "title": "The domain leads to that address", "outcome": "not met", "found": "it \\1 leads\nto \u001b[31mno address", "cure": "Make an A record."}],
		"status": {"version": "v1.2.3", "healthy": true, "addrs": ["/ip4/192.0.2.1/tcp/4001", "/dns4/relay.test/tcp/443/wss", "/ip4/192.0.2.1/udp/4001/webrtc-direct/certhash/uEiA"],
		"certificate": {"domain": "relay.test", "issuer": "Pebble", "not_after": "2027-01-02T03:04:05Z", "days_left": 40}}}`}
	if err := f.firstBoot(good + "payout: simpleledger:qpm2qsznhks23z7629mms6s4cwef74vcwvg3pncxyr\nrelaymon: {listen: \"" + listen + "\"}\n"); err != nil {
		t.Fatal(err)
	}
	s, err := f.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ShowPages(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	motd, issue := f.text(motdPath), f.text(issuePath)
	for _, want := range []string{
		": both, relay.test\n", "relayd       active\n", "relaymon     active\n", "Peer ID      12D3KooW\n", "Relay        v1.2.3, healthy\n",
		"Addresses    /ip4/192.0.2.1/tcp/4001\n", "             /dns4/relay.test/tcp/443/wss\n               and 1 for WebTransport and WebRTC: ", "Certificate  until 2027-01-02 03:04 UTC, by Pebble\n",
		"Bounty       met      Reservations are served\n", "not met  The domain leads to that address\n", "-> Make an A record.\n",
		"Log key      alpha+1\n", "the clock is wrong\n", "Open ports   80/tcp 443/tcp 4001/tcp 4001/udp, and SSH\n", "Enrol        relayd enrol ", "Status page  https://relay.test/\n",
	} {
		if !strings.Contains(motd, want) || !strings.Contains(issue, want) {
			t.Errorf("the pages lack %q:\n%s", want, motd)
		}
	}
	// What comes from outside steers no terminal, and agetty takes no backslash for an escape.
	if strings.Contains(motd, "\x1b") || !strings.Contains(motd, `it \1 leads to ?[31mno address`) || !strings.Contains(issue, `it \\1 leads`) {
		t.Errorf("not cleaned:\n%q", motd)
	}
	f.answer["relayd doctor"] = Result{Code: 1, Stderr: "relayd: there is no identity yet\n"}
	if s, err = f.Status(t.Context()); err != nil || s.Relay.Fault == "" {
		t.Errorf("%+v, %v", s.Relay, err)
	}
}

// The real runner bounds what it keeps, passes nothing of the environment on and
// tells an exit code from a failure.
func TestProcess(t *testing.T) {
	t.Setenv("DISABLE_RELAY", "1")
	var m Machine
	r, err := m.run(t.Context(), Command{Args: []string{"sh", "-c", "env; echo wrong >&2; exit 3"}})
	if err != nil || r.Code != 3 || strings.Contains(r.Stdout, "DISABLE_RELAY") || !strings.HasPrefix(r.failed("it").Error(), "it: wrong\n") {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = m.run(t.Context(), Command{Args: []string{"head", "-c", "3000000", "/dev/zero"}}); err != nil || len(r.Stdout) != maxSaid {
		t.Errorf("%d bytes, %v", len(r.Stdout), err)
	}
	if _, err = m.run(t.Context(), Command{Args: []string{filepath.Join(t.TempDir(), "none")}}); err == nil {
		t.Error("a program that is not there was run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = m.run(ctx, Command{Args: []string{"sleep", "60"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err = m.run(t.Context(), Command{User: "nobody-of-this-name", Args: []string{"true"}}); err == nil {
		t.Error("run as nobody")
	}
}
