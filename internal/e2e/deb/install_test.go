package deb

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// machine is a throw-away root with as much of a Debian as the packages ask for.
// What would talk to systemd writes down what it was told.
type machine struct {
	t    *testing.T
	root string
}

// newMachine copies the real programs that the maintainer scripts call, and what
// these link; dpkg enters the root for each script.
func newMachine(t *testing.T) *machine {
	t.Helper()
	need.Root(t)
	need.Tools(t, "dpkg", "unshare", "ldd", "systemd-sysusers", "systemd-tmpfiles", "chroot")
	m := &machine{t, t.TempDir()}
	if err := os.Chmod(m.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib/systemd", "usr/lib64", "etc/systemd/system/multi-user.target.wants",
		"var/lib/dpkg/info", "var/lib/dpkg/updates", "run/systemd/system", "tmp", "dev", "proc"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(m.root, dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"sh", "rm", "true", "kill", "mkdir", "cp", "chmod", "mv", "ln", "nft", "dpkg-query", "systemd-sysusers", "systemd-tmpfiles"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		m.copyProgram(path, "usr/bin/"+program)
	}
	for _, program := range []string{"usr/bin/systemctl", "usr/bin/deb-systemd-invoke", "usr/lib/systemd/systemd-sysctl"} {
		m.write(program, "#!/bin/sh\necho \""+filepath.Base(program)+" $*\" >> /told\n"+
			// By its preset that timer is off.
			"case \"$*\" in is-enabled*relay-appliance-backup.timer) exit 1 ;; esac\n", 0o755)
	}
	m.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
	m.write("etc/group", "root:x:0:\n", 0o644)
	m.write("var/lib/dpkg/available", "", 0o644)
	// What the packages may depend on is there; what else they named would be missing.
	var status strings.Builder
	for _, name := range []string{"ca-certificates", "nftables", "systemd", "unattended-upgrades"} {
		fmt.Fprintf(&status, "Package: %s\nStatus: install ok installed\nMaintainer: Debian <debian@example.org>\nArchitecture: all\nVersion: 252\nDescription: stands in\n\n", name)
		m.write("var/lib/dpkg/info/"+name+".list", "", 0o644)
	}
	m.write("var/lib/dpkg/status", status.String(), 0o644)
	return m
}

var library = regexp.MustCompile(`(/\S+) \(0x`)

func (m *machine) copyProgram(from, to string) {
	m.t.Helper()
	for _, lib := range library.FindAllStringSubmatch(run(m.t, "ldd", from), -1) {
		into := strings.TrimPrefix(lib[1], "/")
		if !strings.HasPrefix(into, "usr/") {
			into = "usr/" + into
		}
		if _, err := os.Stat(filepath.Join(m.root, into)); err != nil {
			m.write(into, read(m.t, lib[1]), 0o755)
		}
	}
	m.write(to, read(m.t, from), 0o755)
}

func (m *machine) write(name, text string, mode os.FileMode) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

// dpkg runs dpkg on the machine and returns what it and the scripts said.
func (m *machine) dpkg(args ...string) string {
	m.t.Helper()
	// With /proc, as where packages are installed, in a mount name space that ends with dpkg.
	const enter = `mount --bind /proc "$0/proc"; exec dpkg --root="$0" --force-confold "$@"`
	cmd := exec.CommandContext(m.t.Context(), "unshare", append([]string{"--mount", "sh", "-ec", enter, m.root}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("dpkg %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	m.t.Logf("dpkg %s\n%s", strings.Join(args, " "), out)
	return string(out)
}

// as runs a program on the machine as a user of the machine.
func (m *machine) as(user string, command ...string) string {
	m.t.Helper()
	return run(m.t, "chroot", append([]string{"--userspec=" + m.ids(user), m.root}, command...)...)
}

// ids are the user's and its group's number.
func (m *machine) ids(user string) string {
	m.t.Helper()
	f := regexp.MustCompile(`(?m)^` + user + `:[^:]*:(\d+):(\d+):[^:]*:([^:]*):(.*)$`).FindStringSubmatch(read(m.t, m.root, "etc/passwd"))
	if f == nil {
		m.t.Fatalf("there is no user %s", user)
	}
	if f[3] != "/var/lib/"+user || !strings.HasSuffix(f[4], "/nologin") {
		m.t.Errorf("user %s has home %s and shell %s", user, f[3], f[4])
	}
	return f[1] + ":" + f[2]
}

// told returns what systemd has been told since it was asked the last time.
func (m *machine) told() []string {
	m.t.Helper()
	path := filepath.Join(m.root, "told")
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	if err == nil {
		if err := os.Remove(path); err != nil {
			m.t.Fatal(err)
		}
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func (m *machine) wantTold(when string, want ...string) {
	m.t.Helper()
	if got := m.told(); !slices.Equal(got, want) {
		m.t.Errorf("%s systemd was told %q, want %q", when, got, want)
	}
}

func (m *machine) has(name string) bool {
	_, err := os.Lstat(filepath.Join(m.root, name))
	return err == nil
}

// owned says mode and owner of a file.
func (m *machine) owned(name string) string {
	m.t.Helper()
	return strings.TrimSpace(run(m.t, "stat", "--format=%a %u:%g", filepath.Join(m.root, name)))
}

// newer is the same package in a later version, whose maker has changed the
// configuration that comes with it.
func newer(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	run(t, "dpkg-deb", "--raw-extract", built(t, name), tree)
	edit := func(file string, change func(string) string) {
		path := filepath.Join(tree, file)
		before := read(t, path)
		after := change(before)
		if after == before {
			t.Fatalf("%s: nothing to change", file)
		}
		if err := os.WriteFile(path, []byte(after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit("DEBIAN/control", func(s string) string {
		return strings.Replace(s, "Version: "+version+"\n", "Version: 99.0.0\n", 1)
	})
	edit("etc/"+name+"/"+name+".yaml", func(s string) string { return s + "# In a later version there is more to say.\n" })
	file := filepath.Join(dir, name+".deb")
	run(t, "dpkg-deb", "-Zgzip", "-z1", "--build", tree, file)
	return file
}

const edited = "# The operator was here.\n"

func (m *machine) edit(config string) {
	m.t.Helper()
	m.write(config, read(m.t, m.root, config)+edited, 0o644)
}

func TestRelayd(t *testing.T) {
	first, second := built(t, "relayd"), newer(t, "relayd")
	m := newMachine(t)
	const config, data = "etc/relayd/relayd.yaml", "var/lib/relayd"

	said := m.dpkg("--install", first)
	m.wantTold("at the installation", "systemd-sysctl 60-relayd.conf", "systemctl daemon-reload")
	if !strings.Contains(said, "systemctl enable --now relayd") {
		t.Errorf("the installation does not say how to go on:\n%s", said)
	}
	if got, want := m.owned(data), "700 "+m.ids("relayd"); got != want {
		t.Errorf("%s is %s, want %s", data, got, want)
	}
	// The file as it comes is a good one, and its own user can read it.
	id := m.as("relayd", "/usr/bin/relayd", "init", "--config", "/"+config)
	m.as("relayd", "/usr/bin/relayd", "config", "--config", "/"+config)

	m.edit(config)
	m.dpkg("--install", second)
	m.wantTold("at the upgrade", "systemd-sysctl 60-relayd.conf", "systemctl daemon-reload", "deb-systemd-invoke try-restart relayd.service")
	if !strings.HasSuffix(read(t, m.root, config), edited) {
		t.Error("the upgrade has not kept the operator's configuration")
	}
	if got := m.as("relayd", "/usr/bin/relayd", "id", "--config", "/"+config); got != id {
		t.Errorf("after the upgrade it is relay %s, was %s", got, id)
	}

	m.dpkg("--remove", "relayd")
	m.wantTold("at the removal", "deb-systemd-invoke stop relayd.service", "systemctl daemon-reload")
	if !m.has(config) || !m.has(data+"/identity.key") || m.has("usr/bin/relayd") {
		t.Error("removed: want configuration and identity to stay, the program to go")
	}

	enabled := "etc/systemd/system/multi-user.target.wants/relayd.service"
	if err := os.Symlink("/usr/lib/systemd/system/relayd.service", filepath.Join(m.root, enabled)); err != nil {
		t.Fatal(err)
	}
	said = m.dpkg("--purge", "relayd")
	if m.has(config) || m.has(enabled) || !m.has(data+"/identity.key") {
		t.Error("purged: want configuration and link to go, the identity to stay")
	}
	if !strings.Contains(said, "/var/lib/relayd stays") {
		t.Errorf("the purge does not say what stays:\n%s", said)
	}

	m.dpkg("--install", first)
	if got := m.as("relayd", "/usr/bin/relayd", "id", "--config", "/"+config); got != id {
		t.Errorf("installed again it is relay %s, was %s", got, id)
	}
	m.write("run/relayd.purge", "", 0o644)
	m.dpkg("--purge", "relayd")
	if m.has(data) || m.has("run/relayd.purge") {
		t.Error("purged and asked twice: want the data to go, and the second asking with it")
	}
}

func TestRelaymon(t *testing.T) {
	first, second := built(t, "relaymon"), newer(t, "relaymon")
	m := newMachine(t)
	const config, data = "etc/relaymon/relaymon.yaml", "var/lib/relaymon"

	m.dpkg("--install", first)
	m.wantTold("at the installation", "systemctl daemon-reload")
	ids := m.ids("relaymon")
	_, group, _ := strings.Cut(ids, ":")
	if got, want := m.owned(data), "700 "+ids; got != want {
		t.Errorf("%s is %s, want %s", data, got, want)
	}
	if got, want := m.owned(config), "640 0:"+group; got != want {
		t.Errorf("%s is %s, want %s", config, got, want)
	}
	// As it comes it lacks a name, and only that.
	m.write(config, strings.Replace(read(t, m.root, config), "#name: \"\"", "name: alpha", 1), 0o640)
	m.as("relaymon", "/usr/bin/relaymon", "init", "--config", "/"+config)
	keys := m.as("relaymon", "/usr/bin/relaymon", "keys", "--config", "/"+config)

	m.dpkg("--install", second)
	m.wantTold("at the upgrade", "systemctl daemon-reload", "deb-systemd-invoke try-restart relaymon.service")
	if got, want := m.owned(config), "640 0:"+group; got != want {
		t.Errorf("after the upgrade %s is %s, want %s", config, got, want)
	}
	m.dpkg("--purge", "relaymon")
	m.wantTold("at the purge", "deb-systemd-invoke stop relaymon.service", "systemctl daemon-reload")
	if m.has(config) || !m.has(data+"/log") {
		t.Error("purged: want the configuration to go, the evidence to stay")
	}
	m.dpkg("--install", first)
	m.write(config, strings.Replace(read(t, m.root, config), "#name: \"\"", "name: alpha", 1), 0o640)
	if got := m.as("relaymon", "/usr/bin/relaymon", "keys", "--config", "/"+config); got != keys {
		t.Errorf("installed again its keys are %s, were %s", got, keys)
	}
	m.write("run/relaymon.purge", "", 0o644)
	m.dpkg("--purge", "relaymon")
	if m.has(data) {
		t.Error("purged and asked twice: want the data to go")
	}
}

// Both on one machine, and in a chroot without systemd, as an image is built.
func TestWithoutSystemd(t *testing.T) {
	m := newMachine(t)
	if err := os.RemoveAll(filepath.Join(m.root, "run/systemd")); err != nil {
		t.Fatal(err)
	}
	m.dpkg("--install", built(t, "relayd"), built(t, "relaymon"), built(t, "relayaudit"), built(t, "relay-appliance"))
	if out := m.dpkg("--verify"); out != "" {
		t.Errorf("what is installed is not what was packed:\n%s", out)
	}
	m.dpkg("--purge", "relayd", "relaymon", "relayaudit", "relay-appliance")
	m.wantTold("without systemd", "systemctl preset "+strings.Join(appliances, " "))
	for _, f := range append(files(t, filepath.Join(m.root, "usr")), files(t, filepath.Join(m.root, "etc"))...) {
		if strings.Contains(f, "relay") {
			t.Errorf("purged: %s is left", f)
		}
	}
}
