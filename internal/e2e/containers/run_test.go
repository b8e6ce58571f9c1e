package containers

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// envWork names the folder of what is built to the test that runs inside a namespace.
const envWork = "CONTAINERS_WORK"

// isolated is true inside namespaces of the test's own, of network, mounts and
// processes. Outside it runs the calling test again there, and reports how it went; the
// caller returns then.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envWork) != "" {
		for _, m := range []func() error{
			func() error { return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") },
			func() error { return syscall.Mount("proc", "/proc", "proc", 0, "") },
			func() error { return syscall.Mount("tmpfs", "/run", "tmpfs", 0, "") }, // for the names of networks
			// crun wants to know which kind of control groups there is, and uses none.
			func() error { return syscall.Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "") },
		} {
			if err := m(); err != nil {
				t.Fatal(err)
			}
		}
		return true
	}
	need.Root(t)
	need.Tools(t, "crun", "ip", "skopeo", "umoci")
	images(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The shell is the first process there and, unlike the test, takes note when any other
	// ends. A container that has been executed in does not end before.
	args := []string{"-c", `"$@"; exit $?`, "sh", self, "-test.run=^" + t.Name() + "$", "-test.v"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+(time.Until(end)-time.Second).String())
	}
	cmd := exec.CommandContext(t.Context(), "sh", args...)
	cmd.Env = append(os.Environ(), envWork+"="+work)
	// With a PID namespace of its own, whatever the test started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is of the thread
	defer runtime.UnlockOSThread()
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
			t.Skipf("skipped: not even root may make namespaces here: %v", err)
		}
		t.Fatalf("start in namespaces: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("inside the namespaces: %v", err)
	}
	return false
}

// The test is the gateway of the container's network: what a peer of the test sends comes
// from there, as through a port forwarding that hides addresses.
const (
	outside = "10.77.0.1"
	inside  = "10.77.0.2"
	domain  = "relay.test"
)

const relayYAML = `domain: ` + domain + `
announce: {ip4: 198.41.0.4}
tls: {cert: /etc/relayd/cert.pem, key: /etc/relayd/key.pem}
psf: {bootstrap: [], bootstrap_list: ""}
`

// From the archive for docker load to a relay that serves, with what the compose file
// allows it.
func TestRelayServes(t *testing.T) {
	if !isolated(t) {
		return
	}
	network(t)
	s := composed(t, "relayd")
	settings := t.TempDir()
	certificate(t, settings)
	write(t, filepath.Join(settings, "relayd.yaml"), relayYAML)
	give(t, settings)
	volume := t.TempDir()
	give(t, volume)

	bundle := unpack(t, "relayd", runtime.GOARCH)
	mounts := map[string]string{"/var/lib/relayd": volume, "/etc/relayd": settings}
	c := start(t, bundle, s, true, mounts)
	c.await("msg=ready")
	health := s.Healthcheck.Test // CMD and what to run
	if said := c.exec(health[1:]...); said != "ok\n" {
		t.Errorf("the health check says %q", said)
	}
	id := strings.TrimSpace(c.exec("relayd", "id", "--config", "/etc/relayd/relayd.yaml"))

	// Nobody there is root or could become it, and nothing can be changed or run.
	status := string(read(t, fmt.Sprintf("/proc/%d/status", c.pid)))
	for _, want := range []string{"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(status, want+"\n") {
			t.Errorf("the process is not %q:\n%s", want, status)
		}
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/usr/bin/other", c.pid), nil, 0o755); !errors.Is(err, syscall.EROFS) {
		t.Errorf("its root can be written: %v", err)
	}
	for _, shell := range []string{"sh", "/bin/sh", "/bin/bash", "/busybox/sh"} {
		if out, err := c.tryExec(shell, "-c", "echo here"); err == nil {
			t.Errorf("%s is there: %s", shell, out)
		}
	}

	// A monitor's container reaches all of it.
	address := "/ip4/" + inside + "/tcp/4001/p2p/" + id
	probe := start(t, unpack(t, "relaymon", runtime.GOARCH), composed(t, "relaymon"), false, map[string]string{"/etc/relaymon": settings},
		"probe", "--json", "--allow-private", "--ca", "/etc/relaymon/ca.pem", "--resolve", domain+":"+inside,
		address, "/dns4/"+domain+"/tcp/443/wss/p2p/"+id)
	if err := probe.wait(); err != nil {
		t.Errorf("the probe: %v\n%s", err, probe.log)
	}

	// Peers whose addresses are hidden: the doctor says by whom.
	relay, err := peer.AddrInfoFromString(address)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		relaytest.Must(t, relaytest.NewPeer(t, nil).Connect(relaytest.Context(t), *relay))
	}
	c.await("all 10 peers come from " + outside + ": this network's gateway")
	out, err := c.tryExec("relayd", "doctor", "--timeout=20s", "--config", "/etc/relayd/relayd.yaml")
	if err == nil || !strings.Contains(out, "this network's gateway") || !strings.Contains(out, "give the container the host's network (network_mode: host)") {
		t.Errorf("the doctor: %v\n%s", err, out)
	}

	// What comes after an update is the same relay.
	c.stop()
	c = start(t, bundle, s, true, mounts)
	c.await("msg=ready")
	if again := strings.TrimSpace(c.exec("relayd", "id", "--config", "/etc/relayd/relayd.yaml")); again != id {
		t.Errorf("it was %s, and is %s after a start on the same volume", id, again)
	}
	c.stop()
	if out, err := c.tryExec(health[1:]...); err == nil {
		t.Errorf("it has ended, and is healthy: %s", out)
	}
}

// A volume that is not there, or not its own, is said, and no identity is made elsewhere.
func TestVolumes(t *testing.T) {
	if !isolated(t) {
		return
	}
	network(t)
	s := composed(t, "relayd")
	settings := t.TempDir()
	write(t, filepath.Join(settings, "relayd.yaml"), "psf: {bootstrap: [], bootstrap_list: \"\"}\n")
	give(t, settings)
	bundle := unpack(t, "relayd", runtime.GOARCH)
	roots := t.TempDir() // nobody gave it to the container's user
	if err := os.Chmod(roots, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, volume, want string }{
		{"root's", roots, "/var/lib/relayd is of user 0 (mode 0755), and this program runs as user 65532: give it its folder, as root: chown -R 65532:65532 /var/lib/relayd (for a container, the folder on the host that is mounted there)"},
		{"none", "", "nothing can be written to /var/lib/relayd: take a folder that can be, in a container a volume at that place"},
	} {
		mounts := map[string]string{"/etc/relayd": settings}
		if tc.volume != "" {
			mounts["/var/lib/relayd"] = tc.volume
		}
		c := start(t, bundle, s, true, mounts)
		if err := c.wait(); err == nil || !strings.Contains(c.log.String(), tc.want) {
			t.Errorf("%s: %v\n%s\nwant %q", tc.name, err, c.log, tc.want)
		}
	}
	if entries, err := os.ReadDir(roots); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// composed is a service of the compose file.
func composed(t *testing.T, program string) service {
	t.Helper()
	return compose(t, "VERSION="+version)[program]
}

// network makes the network of a container, which leads to the test alone.
func network(t *testing.T) {
	t.Helper()
	for _, args := range []string{
		"netns add inside",
		"link set lo up",
		"link add outside type veth peer name eth0 netns inside",
		"addr add " + outside + "/24 dev outside",
		"link set outside up",
		"-n inside link set lo up",
		"-n inside addr add " + inside + "/24 dev eth0",
		"-n inside link set eth0 up",
		"-n inside route add default via " + outside,
	} {
		run(t, "ip", strings.Fields(args)...)
	}
}

// container is one that was started.
type container struct {
	t    *testing.T
	id   string
	pid  int
	log  *relaytest.LogPage // stdout and stderr
	done chan error
	crun []string // its options, before the command
}

var containers int

// start runs an image's root as the compose file says. mounts are folders of this machine
// by where they go; args take the place of the image's command. network is that of
// [network], else the container has the test's own.
func start(t *testing.T, bundle string, s service, network bool, mounts map[string]string, args ...string) *container {
	t.Helper()
	configure(t, bundle, s, network, mounts, args)
	containers++
	c := &container{t: t, id: fmt.Sprintf("c%d", containers), log: new(relaytest.LogPage), done: make(chan error, 1)}
	c.crun = []string{"--cgroup-manager=disabled", "--root", filepath.Join(filepath.Dir(bundle), "state")}
	pidFile := filepath.Join(filepath.Dir(bundle), c.id+".pid")
	cmd := exec.CommandContext(t.Context(), "crun", append(c.crun, "run", "--bundle", bundle, "--pid-file", pidFile, c.id)...)
	cmd.Stdout, cmd.Stderr = c.log, c.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.done <- cmd.Wait() }()
	relaytest.Eventually(t, "the container is there", func() bool {
		b, err := os.ReadFile(pidFile)
		if err == nil {
			c.pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		select {
		case ended := <-c.done: // before anybody could look
			c.done <- ended
			return true
		default:
			return err == nil
		}
	})
	return c
}

// configure makes of an image's defaults what the compose file asks for.
func configure(t *testing.T, bundle string, s service, network bool, mounts map[string]string, args []string) {
	t.Helper()
	file := filepath.Join(bundle, "config.json")
	c := decode[map[string]any](t, read(t, file))
	process, linux := c["process"].(map[string]any), c["linux"].(map[string]any)
	process["terminal"] = false
	process["capabilities"] = map[string]any{}
	process["noNewPrivileges"] = true
	var files syscall.Rlimit // not everywhere may root raise it
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	most := min(uint64(s.Ulimits.Nofile), files.Max)
	process["rlimits"] = []any{map[string]any{"type": "RLIMIT_NOFILE", "hard": most, "soft": most}}
	if len(args) > 0 {
		process["args"] = append(process["args"].([]any)[:1:1], anys(args)...)
	}
	c["root"].(map[string]any)["readonly"] = s.ReadOnly
	delete(linux, "resources") // there are no control groups here
	if network {
		linux["sysctl"] = s.Sysctls
		for _, n := range linux["namespaces"].([]any) {
			if n := n.(map[string]any); n["type"] == "network" {
				n["path"] = "/run/netns/inside"
			}
		}
	} else {
		linux["namespaces"] = []any{map[string]any{"type": "pid"}, map[string]any{"type": "ipc"}, map[string]any{"type": "uts"}, map[string]any{"type": "mount"}}
	}
	var kept []any
	for _, m := range c["mounts"].([]any) {
		switch m.(map[string]any)["destination"] {
		case "/proc", "/dev", "/sys":
			kept = append(kept, m)
		}
	}
	for to, from := range mounts {
		options := []string{"rbind", "rw"}
		if strings.HasPrefix(to, "/etc/") {
			options[1] = "ro"
		}
		kept = append(kept, map[string]any{"destination": to, "type": "bind", "source": from, "options": options})
	}
	c["mounts"] = kept
	out, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

func anys(list []string) (out []any) {
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

// await waits until the container has said something.
func (c *container) await(words string) {
	c.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(c.log.String(), words); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-c.done:
			c.t.Fatalf("it has ended (%v), and did not say %q:\n%s", err, words, c.log)
		default:
		}
		if time.Now().After(end) {
			c.t.Fatalf("it did not say %q:\n%s", words, c.log)
		}
	}
}

// wait waits until it ends, and returns an error unless that was well.
func (c *container) wait() error {
	c.t.Helper()
	select {
	case err := <-c.done:
		return err
	case <-time.After(patience):
		c.t.Fatalf("it does not end:\n%s", c.log)
		return nil
	}
}

func (c *container) stop() {
	c.t.Helper()
	run(c.t, "crun", append(c.crun, "kill", c.id, "TERM")...)
	if err := c.wait(); err != nil {
		c.t.Errorf("a stop: %v\n%s", err, c.log)
	}
}

// exec runs a program beside the container's own, as health checks are.
func (c *container) exec(args ...string) string {
	c.t.Helper()
	out, err := c.tryExec(args...)
	if err != nil {
		c.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

func (c *container) tryExec(args ...string) (string, error) {
	c.t.Helper()
	stdout, stderr, err := try(c.t, "crun", append(append(c.crun, "exec", "--user=65532:65532", c.id), args...)...)
	return stdout + stderr, err
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// give makes a folder and what is in it the container's user's.
func give(t *testing.T, dir string) {
	t.Helper()
	run(t, "chown", "-R", "65532:65532", dir)
}

// certificate writes a certificate for the domain, its key, and as ca.pem the authority
// that it is signed by.
func certificate(t *testing.T, dir string) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{domain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, "cert.pem"), cert)
	write(t, filepath.Join(dir, "ca.pem"), cert)
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}
