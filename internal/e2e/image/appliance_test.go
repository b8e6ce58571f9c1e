package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// domain is the machine's name, which only the CA of these tests knows.
const domain = "relay.test"

// acmePort is where the guest finds the CA, filesPort where it finds the files that
// are served to it.
const acmePort, filesPort = 14000, 8000

// closedPort is one that nothing in the guest may open.
const closedPort = 5555

// bootTime bounds one boot: four times what it takes on two quiet processors. What
// ends the waiting earlier is a console that has fallen silent.
const bootTime = 12 * time.Minute

// appliance is a machine with the image, and what the world knows of it.
type appliance struct {
	*qemu.Machine
	*row
	ca     *pebble.Server
	caFile string // the CA's root
	files  string // the folder that is served to the guest as filesURL
	peerID string

	timing bool   // whether the first reservation is timed
	first  string // when it was given
}

// filesURL is where the guest finds what lies in [appliance.files].
var filesURL = fmt.Sprintf("http://%s:%d", qemu.ServiceHost, filesPort)

// settings are those of the machine that is wanted.
type settings struct {
	image    disk
	arch     string        // default: amd64
	firmware qemu.Firmware // default: BIOS, but for arm64
	memory   int           // default: 512
	devices  qemu.Devices
	network  qemu.Network // default: QEMU's own
	// userData is handed to the guest, given the PEM of the CA's root; nil: no
	// disk for cloud-init at all.
	userData func(caPEM string) string
}

// disk is an image.
type disk struct{ file, format string }

// machineSize is larger than the image: the guest is to take what there is.
const machineSize = 6 << 30

// makeMachine makes a machine, and a CA that it can reach and that can reach it.
func makeMachine(ctx context.Context, t *testing.T, s settings) *appliance {
	t.Helper()
	if s.arch == "" {
		s.arch = "amd64"
	}
	if s.firmware == "" && s.arch == "amd64" {
		s.firmware = qemu.BIOS
	} else if s.firmware == "" {
		s.firmware = qemu.UEFI
	}
	if s.memory == 0 {
		s.memory = 512
	}
	dir := t.TempDir()
	m, err := qemu.New(ctx, qemu.Config{
		Disk: s.image.file, Format: s.image.format, Size: machineSize, Dir: dir,
		Arch: s.arch, Firmware: s.firmware, Memory: s.memory, Devices: s.devices, Network: s.network,
		TCP:      []int{80, 443, 4001, closedPort},
		Progress: func(line string) { t.Log("console: " + line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	closeWithConsole(t, m, dir)
	a := &appliance{Machine: m, caFile: filepath.Join(dir, "ca.pem")}
	a.row = results.add(t, row{arch: s.arch, firmware: string(s.firmware), devices: s.devices.String(), format: s.image.format, memory: s.memory})
	a.ca, err = pebble.Start(t.Context(), pebble.Options{
		TLSPort: m.Forwarded(443), HTTPPort: m.Forwarded(80),
		Names: map[string]netip.Addr{domain: netip.MustParseAddr("127.0.0.1")},
		Hosts: []string{qemu.ServiceHost},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.caFile, a.ca.RootPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Serve(acmePort, strings.TrimSuffix(strings.TrimPrefix(a.ca.DirectoryURL, "https://"), "/dir")); err != nil {
		t.Fatal(err)
	}
	a.files = t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(a.files)))
	t.Cleanup(server.Close)
	if err := m.Serve(filesPort, server.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if s.userData != nil {
		if err := m.Seed(ctx, qemu.Seed{UserData: []byte(s.userData(string(a.ca.RootPEM)))}); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// closeWithConsole ends the machine with the test, and shows what it said last if that
// failed.
func closeWithConsole(t *testing.T, m *qemu.Machine, dir string) {
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the console:\n%s", m.Console.Tail(80))
			keepConsole(t, filepath.Join(dir, "console.log"))
		}
	})
}

// keepConsole leaves the console's log where the environment says, if it does.
func keepConsole(t *testing.T, file string) {
	dir := os.Getenv(logsVariable)
	if dir == "" {
		return
	}
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".console.log"), b, 0o600)
	}
	if err != nil {
		t.Log(err)
	}
}

// boot makes a machine, starts it and waits until it is ready with these services.
func boot(ctx context.Context, t *testing.T, s settings, services ...string) *appliance {
	t.Helper()
	a := makeMachine(ctx, t, s)
	a.start(ctx, t, services...)
	return a
}

func (a *appliance) start(ctx context.Context, t *testing.T, services ...string) {
	t.Helper()
	began := time.Now()
	err := a.oncemore(t, func() error { return a.tryStart(ctx, t, services...) })
	if err != nil {
		a.showBoot(ctx, t)
		t.Fatal(err)
	}
	a.isReady(t, time.Since(began))
	if a.first != "" {
		a.note(t, "%s", a.first)
	}
	if slices.Contains(services, "relayd") {
		a.peerID = a.learnPeerID(ctx, t)
	}
}

// oncemore starts a machine again where QEMU's emulation with several processors broke
// off: now and then one of them meets the breakpoint that Linux has in its code while
// another one changes that code (https://github.com/multipath-tcp/mptcp_net-next/issues/471).
// No real machine does that.
func (a *appliance) oncemore(t *testing.T, start func() error) error {
	mark := a.Console.Mark()
	err := start()
	if err != nil && strings.Contains(a.Console.Since(mark), "Oops: int3") {
		t.Logf("once more, since the emulated processor broke off at a breakpoint of Linux's own (Oops: int3): %v", err)
		a.PowerCut()
		err = start()
	}
	return err
}

func (a *appliance) tryStart(ctx context.Context, t *testing.T, services ...string) error {
	on := time.Now()
	if err := a.Start(ctx); err != nil {
		return err
	}
	if a.timing {
		// While the machine still starts.
		if err := a.timeFirst(ctx, t, on); err != nil {
			return err
		}
	}
	return a.WaitReady(ctx, services...)
}

// showBoot puts into the test's log what the guest says of a boot that went wrong.
func (a *appliance) showBoot(ctx context.Context, t *testing.T) {
	out, err := a.Run(ctx, "cloud-init status --long || true; tail -n 40 /var/log/cloud-init-output.log; relay-appliance status || true")
	t.Logf("%s%v", out, err)
}

// lab is user-data for a machine that has nothing of the internet: the CA is on the
// host, the relay's address is private, and no other peer is to be found.
func lab(role, caPEM string) string { return cloudConfig(labFiles(role, caPEM)) }

func labFiles(role, caPEM string) map[string]string {
	return map[string]string{
		"/etc/relay-appliance/ca.pem":         caPEM,
		"/etc/relay-appliance/roster.yaml":    "network: lab\n",
		"/etc/relay-appliance/rules.yaml":     "network: lab\n",
		"/etc/relay-appliance/appliance.yaml": labSettings(role),
	}
}

// ownCA are the settings of somebody with a CA and a network of its own.
var ownCA = fmt.Sprintf(`acme:
  directory: https://%s:%d/dir
  ca_file: /etc/relay-appliance/ca.pem
relayd:
  network: {allow_private: true}
  psf: {bootstrap: [], bootstrap_list: ""}
`, qemu.ServiceHost, acmePort)

func labSettings(role string) string {
	text := fmt.Sprintf("role: %s\n", role)
	if role != "monitor" {
		text += fmt.Sprintf("domain: %s\nemail: operator@%[1]s\n", domain) + ownCA
	}
	if role != "relay" {
		text += `monitor:
  name: alpha
  roster: /etc/relay-appliance/roster.yaml
  rules: /etc/relay-appliance/rules.yaml
relaymon:
  network: lab
`
	}
	return text
}

// cloudConfig is user-data that writes files and lets keys in, and nothing else. JSON is
// YAML, too.
func cloudConfig(files map[string]string, keys ...string) string {
	type file struct {
		Path        string `json:"path"`
		Permissions string `json:"permissions"`
		Encoding    string `json:"encoding,omitempty"`
		Content     string `json:"content"`
	}
	var config struct {
		WriteFiles []file   `json:"write_files"`
		Keys       []string `json:"ssh_authorized_keys,omitempty"`
	}
	config.Keys = keys
	for path, content := range files {
		f := file{Path: path, Permissions: "0644", Content: content}
		if !utf8.ValidString(content) {
			f.Encoding, f.Content = "b64", base64.StdEncoding.EncodeToString([]byte(content))
		}
		config.WriteFiles = append(config.WriteFiles, f)
	}
	b, err := json.Marshal(config)
	if err != nil {
		panic(err) // strings only
	}
	return "#cloud-config\n" + string(b) + "\n"
}

// writeFile makes a file in the guest.
func (a *appliance) writeFile(ctx context.Context, t *testing.T, name, content string) error {
	t.Helper()
	local := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return a.Copy(ctx, local, name)
}

// learnPeerID asks the guest who it is.
func (a *appliance) learnPeerID(ctx context.Context, t *testing.T) string {
	t.Helper()
	out, err := a.Run(ctx, "runuser -u relayd -- relayd id --config /etc/relayd/relayd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// report is what `relaymon probe --json` says.
type report struct {
	Components map[string]struct {
		Outcome, Class string
		Level          int
	}
	Rungs []struct{ Name, Outcome, Class, Detail string }
}

// tcpAddr and wssAddr are where the relay is found from outside.
func (a *appliance) tcpAddr(t *testing.T) string {
	at := a.reached(t, 4001)
	return fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", at.Addr(), at.Port(), a.peerID)
}

func (a *appliance) wssAddr(t *testing.T) string {
	return fmt.Sprintf("/dns4/%s/tcp/%d/wss/p2p/%s", domain, a.reached(t, 443).Port(), a.peerID)
}

// reached is where a port of the guest is reached from here.
func (a *appliance) reached(t *testing.T, port int) netip.AddrPort {
	t.Helper()
	at, err := netip.ParseAddrPort(a.Addr(port))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// probe looks at the relay from outside, once.
func (a *appliance) probe(ctx context.Context, t *testing.T) (report, error) {
	t.Helper()
	return a.probeAt(ctx, t, a.tcpAddr(t), a.wssAddr(t))
}

func (a *appliance) probeAt(ctx context.Context, t *testing.T, addrs ...string) (report, error) {
	t.Helper()
	at := a.reached(t, 443).Addr()
	args := []string{"probe", "--json", "--ca", a.caFile, "--resolve", domain + ":" + at.String()}
	if at.IsLoopback() {
		args = append(args, "--allow-private")
	}
	cmd := exec.CommandContext(ctx, program(t, "relaymon"), append(args, addrs...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		return r, fmt.Errorf("relaymon probe: %w\n%s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	var errs []error
	for _, rung := range r.Rungs {
		if rung.Outcome == "fail" {
			errs = append(errs, fmt.Errorf("%s: %s: %s", rung.Name, rung.Class, rung.Detail))
		}
	}
	if err != nil && len(errs) == 0 {
		errs = append(errs, err)
	}
	return r, errors.Join(errs...)
}

// probeUntilOK probes until all that a monitor asks for is ok, which after a start
// takes a certificate.
func (a *appliance) probeUntilOK(ctx context.Context, t *testing.T) {
	t.Helper()
	r, err := eventually(ctx, t, func() (report, error) { return a.probe(ctx, t) })
	if err != nil {
		log, _ := a.Run(ctx, "journalctl --no-pager --unit=relayd --output=short-monotonic --lines=60")
		t.Fatalf("the relay is not as a monitor wants it: %v\n%s", err, log)
	}
	for name, c := range r.Components {
		if c.Outcome != "ok" {
			t.Errorf("%s: %s %s", name, c.Outcome, c.Class)
		}
	}
	if len(r.Components) != 3 || r.Components["relay"].Level != 4 {
		t.Errorf("want tcp4, wss and relay at level 4: %+v", r.Components)
	}
}

// eventually tries until it works, for five minutes at most, and returns what was
// said last. What goes wrong in another way than before is in the test's log.
func eventually[T any](ctx context.Context, t *testing.T, try func() (T, error)) (T, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	said := ""
	for {
		v, err := try()
		if err == nil {
			return v, nil
		}
		if err.Error() != said {
			said = err.Error()
			t.Log("not yet: " + said)
		}
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(time.Second):
		}
	}
}

// atoi reads a number that the guest said.
func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatalf("want a number: %v", err)
	}
	return n
}
