package appliance

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
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

// A fault may repeat what is in a file or what a program said. However long, it can be read.
func TestLongFault(t *testing.T) {
	f := newFake(t)
	f.answer["relayd config"] = Result{Code: 2, Stderr: strings.Repeat("ä", 3<<20)}
	if err := f.firstBoot(relayOnly); err == nil {
		t.Fatal("there is no fault")
	}
	got, err := f.Fault()
	if err != nil || !strings.HasPrefix(got, "relayd refuses what follows from the settings: ä") || !strings.HasSuffix(got, " bytes more)") || len(got) > 20<<10 {
		t.Errorf("%d bytes, %.80q, %v", len(got), got, err)
	}
}

// What steers a terminal, and what no name of a file can hold, is in no fault.
func TestFaultIsPlain(t *testing.T) {
	f := newFake(t)
	f.file("/var/lib/cloud/scripts/per-boot/README", "")
	f.answer["relayd config"] = Result{Code: 2, Stderr: "it is \x1b]0;mine\a\x00"}
	if err := f.firstBoot(relayOnly); err == nil {
		t.Fatal("there is no fault")
	}
	got, err := f.Fault()
	const want = "it is ?]0;mine??"
	if err != nil || !strings.Contains(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if got := f.scripts(); len(got) != 1 || !strings.Contains(got[0], want) {
		t.Errorf("cloud-init is told %q", got)
	}
}

// What is written in vain is said.
func TestUnusedMonitor(t *testing.T) {
	f := newFake(t)
	err := f.firstBoot(strings.Replace(good, "role: both", "role: relay", 1))
	if err != nil || !slices.Contains(f.said, "the settings of a monitor are not used: the role is relay, not both") {
		t.Errorf("%v, it said %q", err, f.said)
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
	if err := f.firstBoot(good); err == nil || !strings.Contains(err.Error(), "role both: relaymon is not installed: install its package, of the same version as relay-appliance: by apt-get install relaymon, or as a file of the release") {
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

// A page that is no file of the committee's, such as that of a server which is being
// mended, takes the place of none: with it relaymon would not start again.
func TestFetchTriesWhatItGot(t *testing.T) {
	answer := map[string]string{"/roster": "roster 1", "/rules": "rules 1", "/releases": "version: 1\n"}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(answer[r.URL.Path]))
	}))
	defer server.Close()
	f := newFake(t)
	f.Client = server.Client()
	if err := f.firstBoot("role: monitor\nmonitor: {name: alpha, committee: vkey, roster: " + server.URL + "/roster, rules: " + server.URL + "/rules, releases: " + server.URL + "/releases}\n"); err != nil {
		t.Fatal(err)
	}
	for path := range answer {
		answer[path] = "<html>back soon"
	}
	f.answer["relaymon roster check /run/relay-appliance/roster.yaml --committee vkey"] = Result{Code: 2, Stderr: "no roster"}
	f.answer["relaymon roster check /run/relay-appliance/rules.yaml --rules --committee vkey"] = Result{Code: 2, Stderr: "no rules"}
	var said []string
	if err := f.Fetch(t.Context(), func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"monitor.roster, the one from before serves on: relaymon refuses it", "monitor.rules, the one from before serves on: relaymon refuses it", "monitor.releases, the one from before serves on: "} {
		if len(said) != 3 || !strings.Contains(said[i], want) {
			t.Errorf("it says %q, want %q", said, want)
		}
	}
	for name, want := range map[string]string{"roster": "roster 1", "rules": "rules 1", "releases": "version: 1\n"} {
		if got := f.text("/etc/relaymon/" + name + ".yaml"); got != want {
			t.Errorf("%s holds %q", name, got)
		}
		if f.has(runDir + "/" + name + ".yaml") {
			t.Errorf("the %s that was tried stays", name)
		}
	}
}
