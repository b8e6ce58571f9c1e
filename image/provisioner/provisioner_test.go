package provisioner

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/hygiene"
)

// guestOf records what a provisioner does to a machine: its commands with what they
// read, and what is uploaded where. It answers as the machine would.
type guestOf struct {
	packer.MockCommunicator // what is not used
	user                    string
	fails                   string // a script that holds this ends with code 3

	mu       sync.Mutex
	commands []string
	scripts  []string
	uploads  map[string]string
	modes    map[string]os.FileMode
	stages   int
}

func (g *guestOf) Start(_ context.Context, cmd *packer.RemoteCmd) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.commands = append(g.commands, cmd.Command)
	var script []byte
	if cmd.Stdin != nil {
		script, _ = io.ReadAll(cmd.Stdin)
		g.scripts = append(g.scripts, string(script))
	}
	answer, code := "", 0
	switch {
	case cmd.Command == "id -u":
		answer = g.user + "\n"
	case strings.HasPrefix(cmd.Command, "mktemp"):
		g.stages++
		answer = "/var/tmp/relay.00" + string(rune('0'+g.stages)) + "\n"
	case g.fails != "" && strings.Contains(string(script), g.fails):
		answer, code = "it is broken\n", 3
	}
	go func() {
		if cmd.Stdout != nil {
			_, _ = io.WriteString(cmd.Stdout, answer)
		}
		cmd.SetExited(code)
	}()
	return nil
}

func (g *guestOf) Upload(to string, r io.Reader, fi *os.FileInfo) error {
	data, err := io.ReadAll(r)
	g.uploads[to], g.modes[to] = string(data), (*fi).Mode().Perm()
	return err
}

func newGuest(user string) *guestOf {
	return &guestOf{user: user, uploads: map[string]string{}, modes: map[string]os.FileMode{}}
}

// files are packages and files of the guest on this machine.
func files(t *testing.T) (debs []string, rootfs string) {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"relayd_1.0_amd64.deb": 0o644, "relaymon_1.0_amd64.deb": 0o600,
		"rootfs/etc/nftables.conf": 0o640, "rootfs/usr/libexec/script": 0o755} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("content of "+name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return []string{filepath.Join(dir, "relayd_1.0_amd64.deb"), filepath.Join(dir, "relaymon_1.0_amd64.deb")}, filepath.Join(dir, "rootfs")
}

func block(t *testing.T) map[string]any {
	debs, rootfs := files(t)
	return map[string]any{"debs": debs, "rootfs": rootfs, "files": []string{"/etc/nftables.conf", "/usr/libexec/script", "/etc/nftables.d/"},
		"enable": []string{"nftables.service", "ssh.service"}, "preset": []string{"relayd.service"}, "mask": []string{"x.timer"}}
}

func provision(t *testing.T, g *guestOf, block map[string]any) error {
	t.Helper()
	var p Provisioner
	if err := p.Prepare(block); err != nil {
		t.Fatal(err)
	}
	return p.Provision(t.Context(), packer.TestUi(t), g, nil)
}

func TestProvision(t *testing.T) {
	g := newGuest("0")
	if err := provision(t, g, block(t)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --install /var/tmp/relay.001/relayd_1.0_amd64.deb /var/tmp/relay.001/relaymon_1.0_amd64.deb\n",
		"rm -rf /var/tmp/relay.001\n",
		"umask 022\nmkdir -p /etc\ninstall -m 644 /var/tmp/relay.002/0 /etc/nftables.conf\nmkdir -p /usr/libexec\ninstall -m 755 /var/tmp/relay.002/1 /usr/libexec/script\nmkdir -p /etc/nftables.d/\nrm -rf /var/tmp/relay.002\n\n",
		"systemctl preset relayd.service\n", "systemctl enable nftables.service ssh.service\n", "systemctl mask x.timer\n",
	}
	if d := cmp.Diff(want, g.scripts); d != "" {
		t.Error(d)
	}
	uploads := map[string]string{
		"/var/tmp/relay.001/relayd_1.0_amd64.deb": "content of relayd_1.0_amd64.deb", "/var/tmp/relay.001/relaymon_1.0_amd64.deb": "content of relaymon_1.0_amd64.deb",
		"/var/tmp/relay.002/0": "content of rootfs/etc/nftables.conf", "/var/tmp/relay.002/1": "content of rootfs/usr/libexec/script",
	}
	if d := cmp.Diff(uploads, g.uploads); d != "" {
		t.Error(d)
	}
	for _, c := range g.commands {
		if strings.Contains(c, "sudo") {
			t.Errorf("root runs %q", c)
		}
	}
	for _, s := range g.scripts {
		if strings.Contains(s, "--now") || strings.Contains(s, "start ") {
			t.Errorf("a service is started: %s", s)
		}
	}
}

// Who is not root uses sudo, for all but what tells who he is and where he may write.
func TestNotRoot(t *testing.T) {
	g := newGuest("1000")
	b := block(t)
	b["scrub"], b["keep_debs_in"] = true, "/var/lib/x"
	if err := provision(t, g, b); err != nil {
		t.Fatal(err)
	}
	for _, c := range g.commands {
		if c != "id -u" && c != "mktemp -d /var/tmp/relay.XXXXXXXX" && c != "sudo -n sh -eu -s" {
			t.Errorf("runs %q", c)
		}
	}
	if last := g.scripts[len(g.scripts)-1]; last != hygiene.Scrub+"\n" {
		t.Errorf("the last script is %.80s", last)
	}
	if !strings.Contains(strings.Join(g.scripts, ""), "install -m 644 /var/tmp/relay.001/relayd_1.0_amd64.deb /var/tmp/relay.001/relaymon_1.0_amd64.deb /var/lib/x\n") {
		t.Error("the packages are not kept")
	}
}

// A step that fails is the last one, and its words are told.
func TestFailure(t *testing.T) {
	g := newGuest("0")
	g.fails = "dpkg"
	err := provision(t, g, block(t))
	if err == nil || !strings.Contains(err.Error(), "installing packages: exit code 3:\nit is broken") {
		t.Errorf("%v", err)
	}
	if len(g.scripts) != 1 {
		t.Errorf("went on: %q", g.scripts)
	}
}

func TestFaults(t *testing.T) {
	var p Provisioner
	err := p.Prepare(map[string]any{"debs": []string{"/tmp/x.rpm", "/nowhere/relayd_1.0_amd64.deb"}, "keep_debs_in": "x", "rootfs": t.TempDir(),
		"files": []string{"etc/x", "/etc/../x", "/nowhere", "/a b"}, "enable": []string{"a.service; rm -rf /"}, "mask": []string{"nosuffix"}})
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{`debs: want files PACKAGE_VERSION_ARCH.deb, not "/tmp/x.rpm"`, "debs: stat /nowhere/relayd_1.0_amd64.deb", `keep_debs_in: want an absolute path`,
		`files: want absolute paths of the guest, not "etc/x"`, `not "/etc/../x"`, "/nowhere: no such file", `not "/a b"`, `not "a.service; rm -rf /"`, `not "nosuffix"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	for want, b := range map[string]map[string]any{
		"debs is required":   {},
		"rootfs is required": {"files": []string{"/etc/x"}},
		"is no file":         {"rootfs": "/", "files": []string{"/usr"}},
		"no_such_key":        {"no_such_key": 1},
	} {
		var p Provisioner
		if err := p.Prepare(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", b, err, want)
		}
	}
}
