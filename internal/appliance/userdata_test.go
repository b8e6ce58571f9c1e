package appliance

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
)

const (
	sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIECseX4JwCGg1ld5XzYDCl82R2TKF5R7wgB1clbOPicp you@host"
	noKey  = "ssh-ed25519 AAAA-your-public-key you@host"
	noSum  = "0000000000000000000000000000000000000000000000000000000000000000"
)

// examples are the files in cloud-init/, where operators find them. Their sums are
// nobody's: a release brings a file with its own.
var examples = map[string]UserData{
	"image.yaml": {Example: true, Keys: []string{noKey}, Settings: threeLines + roleLines},
	"packages.yaml": {Example: true, Keys: []string{noKey}, Settings: threeLines + roleLines, From: "https://example.org/releases/v1.0.0",
		Sums: exampleSums()},
	"repository.yaml": {Example: true, Keys: []string{noKey}, Settings: threeLines + "updates: {repository: https://example.org/apt}\n" + roleLines, Keyring: []byte("the repository's keyring")},
}

// exampleSums are of the packages for each architecture.
func exampleSums() string {
	var b strings.Builder
	for _, a := range arch.Names() {
		for _, name := range []string{"relayd", "relaymon", "relay-appliance"} {
			fmt.Fprintf(&b, "%s  %s_1.0.0_%s.deb\n", noSum, name, a)
		}
	}
	fmt.Fprintf(&b, "%s  relay-appliance-archive-keyring_1.0.0_all.deb\n", noSum)
	return b.String()
}

const (
	threeLines = "role: relay\ndomain: relay.example.org\nemail: you@example.org\n"
	roleLines  = `# Role monitor or both also needs:
#monitor:
#  name: your-name-in-the-roster
#  roster: https://committee.example.org/roster.yaml
#  committee: the committee's verifier key
`
)

var update = flag.Bool("update", false, "write the examples in cloud-init/")

func TestExamples(t *testing.T) {
	for name, u := range examples {
		got, err := u.Render()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		path := filepath.Join("../../cloud-init", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(have), string(got)); d != "" {
			t.Errorf("%s: go test ./internal/appliance -run Examples -update writes it anew\n%s", name, d)
		}
		schema(t, got)
		// The operator edits, and it is good.
		u.Settings = strings.NewReplacer("relay.example.org", "relay.test", "you@example.org", "me@relay.test").Replace(u.Settings)
		u.Keys, u.Example = []string{sshKey}, false
		if _, err := u.Render(); err != nil {
			t.Errorf("%s, edited: %v", name, err)
		}
		u.Settings = strings.Replace(u.Settings, "role: relay", "role: both", 1)
		u.Settings = strings.NewReplacer("#monitor", "monitor", "#  ", "  ").Replace(u.Settings)
		if _, err := u.Render(); err != nil {
			t.Errorf("%s, for both: %v", name, err)
		}
	}
}

// schema has cloud-init itself look at user-data.
func schema(t *testing.T, text []byte) {
	t.Helper()
	need.Tools(t, "cloud-init")
	file := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "cloud-init", "schema", "--config-file", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), "deprecat") {
		t.Errorf("cloud-init: %v\n%s\n%s", err, out, text)
	}
}

func TestWrongUserDataIsNotWritten(t *testing.T) {
	sums := noSum + "  relayd_1_amd64.deb\n" + noSum + " *relaymon_1_amd64.deb\n" + noSum + "  ./relay-appliance_1_amd64.deb\n" + noSum + "  other_1_amd64.deb\n"
	for name, c := range map[string]struct {
		u    UserData
		want string
	}{
		"settings":      {UserData{Settings: "role: relais\n"}, SettingsPath + ":1: role: want relay, monitor or both"},
		"example":       {UserData{Settings: threeLines}, "domain: \"relay.example.org\" is the example"},
		"key":           {UserData{Settings: relayOnly, Keys: []string{"AAAA"}}, "SSH key: want a line"},
		"two keys":      {UserData{Settings: relayOnly, Keys: []string{sshKey + "\nruncmd: [reboot]"}}, "SSH key: want a line"},
		"no URL":        {UserData{Settings: relayOnly, Sums: sums}, "packages: want the URL"},
		"URL for shell": {UserData{Settings: relayOnly, Sums: sums, From: "https://x/$(reboot)"}, "packages: want the URL"},
		"no sums":       {UserData{Settings: relayOnly, From: "https://x"}, "packages: the list has no checksum of relay-appliance_*.deb"},
		"keyring only":  {UserData{Settings: relayOnly, Keyring: []byte{1}}, "repository: a keyring, but the settings name none"},
		"both ways":     {UserData{Settings: relayOnly + "updates: {repository: https://x/apt}\n", Keyring: []byte{1}, Sums: sums, From: "https://x"}, "not both"},
		"margin":        {UserData{Settings: "  # a remark\nrole: monitor\nmonitor: {name: a, roster: /r}\n"}, "user-data: "},
	} {
		out, err := c.u.Render()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q\n%s", name, err, c.want, out)
		}
	}
	if out, err := (UserData{Settings: strings.ReplaceAll(relayOnly, "\n", "\r\n"), Sums: sums, From: "https://x/"}).Render(); err != nil || strings.Contains(string(out), "other") || strings.Contains(string(out), "\r") || !strings.Contains(string(out), `"https://x/$file"`) {
		t.Errorf("%v\n%s", err, out)
	}
}

// The script that installs the packages takes those of the machine's architecture,
// and none whose sum is another. apt's own downloader is the real one.
// What follows the key is its owner's remark, and may look like something to YAML.
func TestKeysComeOutAsTheyWere(t *testing.T) {
	remark := strings.TrimSuffix(sshKey, "you@host")
	keys := []string{sshKey, remark + "laptop: you", remark + "you #2", `no-pty,command="echo: 'hi' #" ` + sshKey}
	out, err := UserData{Settings: relayOnly, Keys: keys}.Render()
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Keys []string `yaml:"ssh_authorized_keys"`
	}
	if err := yaml.Unmarshal(out, &back); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if d := cmp.Diff(keys, back.Keys); d != "" {
		t.Error(d)
	}
	schema(t, out)
}

// A path with what means something to YAML is the path that first boot reads.
func TestKeyOfTheBackupIsWhereItIsRead(t *testing.T) {
	const path, key = "/etc/relay-appliance/my key #1", "AGE-SECRET-KEY-1X"
	u := UserData{Settings: "restore: {from: https://relay.test/b.age, identity: " + `"` + path + `"}` + "\n", RestoreKey: "# written by a Windows editor\r\n" + key + "\r\n"}
	text, err := u.Render()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Files []struct{ Path, Content string } `yaml:"write_files"`
	}
	if err := yaml.Unmarshal(text, &got); err != nil || len(got.Files) != 2 || got.Files[1].Path != path || strings.TrimSpace(got.Files[1].Content) != "# written by a Windows editor\n"+key {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestInstallScript(t *testing.T) {
	const helper = "/usr/lib/apt/apt-helper"
	if _, err := os.Stat(helper); err != nil {
		need.Tools(t, helper)
	}
	dir := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	var sums strings.Builder
	for _, name := range []string{"relayd_1.0+git1~rc_amd64.deb", "relaymon_1_amd64.deb", "relay-appliance_1_amd64.deb", "relayd_1_arm64.deb", "relay-appliance-archive-keyring_1_all.deb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256([]byte(name)), name)
	}
	text, err := UserData{Settings: relayOnly, From: server.URL, Sums: sums.String()}.Render()
	if err != nil {
		t.Fatal(err)
	}
	schema(t, text)
	var data struct {
		Files []struct {
			Path    string `yaml:"path"`
			Content string `yaml:"content"`
		} `yaml:"write_files"`
	}
	if err := yaml.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	script := data.Files[len(data.Files)-1]
	if filepath.Dir(script.Path) != "/var/lib/cloud/scripts/per-once" {
		t.Fatalf("the script is %s", script.Path)
	}
	bin := t.TempDir()
	for name, text := range map[string]string{
		"dpkg": "echo amd64", "relay-appliance": `echo "relay-appliance $*"`,
		// Needs the distribution's lists first.
		"apt-get": `echo "$*" | sed 's/.*recommends //'; case "$*" in *update) : > ` + bin + `/lists ;; *) [ -e ` + bin + `/lists ] ;; esac`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	install := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script.Content)
		cmd.Env = []string{"PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		var said []string
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "install") || strings.HasPrefix(line, "update") || strings.HasPrefix(line, "relay-appliance ") {
				said = append(said, line)
			}
		}
		return strings.Join(said, ""), err
	}
	const packages = "install ./relay-appliance-archive-keyring_1_all.deb ./relay-appliance_1_amd64.deb ./relayd_1.0+git1~rc_amd64.deb ./relaymon_1_amd64.deb\n"
	out, err := install()
	if want := packages + "update\n" + packages + "relay-appliance first-boot\n"; err != nil || out != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "relaymon_1_amd64.deb"), []byte("another one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := install(); err == nil || out != "" {
		t.Errorf("a package that is another one was installed: %s", out)
	}
}

// DigitalOcean asks of images that are not its own that ConfigDrive stands before
// NoCloud, or user-data is not found there.
func TestDataSources(t *testing.T) {
	data, err := os.ReadFile("../../image/rootfs/etc/cloud/cloud.cfg.d/90-relay-image.cfg")
	if err != nil {
		t.Fatal(err)
	}
	var cfg struct {
		List []string `yaml:"datasource_list"`
	}
	if err := yaml.Unmarshal(data, &cfg); err != nil {
		t.Fatal(err)
	}
	drive, noCloud := slices.Index(cfg.List, "ConfigDrive"), slices.Index(cfg.List, "NoCloud")
	if drive < 0 || noCloud < 0 || drive > noCloud {
		t.Errorf("got the order %v, want ConfigDrive before NoCloud", cfg.List)
	}
}
