package image

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// exposure is the most that `systemd-analyze security` may find: 1.5 of 10, as it
// wants it said.
const exposure = "15"

// checkHardening asks systemd itself, with the units as they run.
func (a *appliance) checkHardening(ctx context.Context, t *testing.T, services ...string) {
	for _, s := range services {
		out, err := a.Run(ctx, "systemd-analyze security --no-pager --threshold="+exposure+" "+s+".service")
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if m := regexp.MustCompile(`Overall exposure level for \S+: ([\d.]+)`).FindStringSubmatch(out); m != nil {
			a.note(t, "%s: exposure %s", s, m[1])
		}
	}
}

// checkDisk wants the root file system to have taken the disk that there is.
func (a *appliance) checkDisk(ctx context.Context, t *testing.T) {
	out, err := a.Run(ctx, "df --block-size=1 --output=size / | tail -n 1")
	if err != nil {
		t.Fatal(err)
	}
	if got := atoi(t, out); got < machineSize*9/10 {
		t.Errorf("the root file system has %d bytes of a disk of %d", got, machineSize)
	}
}

// checkMemory wants something to be left of the machine's memory.
func (a *appliance) checkMemory(ctx context.Context, t *testing.T) {
	out, err := a.Run(ctx, `awk '/^MemAvailable:/ {print $2}' /proc/meminfo`)
	if err != nil {
		t.Fatal(err)
	}
	available := atoi(t, out) / 1024
	a.note(t, "%d MiB of memory are left", available)
	if available < 48 {
		t.Errorf("only %d MiB of memory are available", available)
	}
}

// client is a visitor that trusts the tests' CA and takes the domain for this
// machine's forwarded ports.
func (a *appliance) client(t *testing.T) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(a.caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, a.Addr(atoi(t, port)))
		},
	}
	return &http.Client{
		Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get is what a visitor sees.
func get(ctx context.Context, c *http.Client, url string) (status int, body string, header http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, string(b), resp.Header, err
}

// checkPages wants the status page, the redirect to it, and the monitor's pages
// behind the same name.
func (a *appliance) checkPages(ctx context.Context, t *testing.T) {
	c := a.client(t)
	for url, want := range map[string]string{
		"https://" + domain + "/":         a.peerID,
		"https://" + domain + "/monitor/": "alpha",
	} {
		status, body, _, err := get(ctx, c, url)
		if err != nil || status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: status %d, %v, want %q in\n%s", url, status, err, want, body[:min(len(body), 2000)])
		}
	}
	status, _, header, err := get(ctx, c, "http://"+domain+"/")
	if to := header.Get("Location"); err != nil || status/100 != 3 || !strings.HasPrefix(to, "https://"+domain+"/") {
		t.Errorf("port 80: status %d to %q, %v", status, to, err)
	}
}

// What each role opens, as firewall.go of internal/appliance has it: port 22 is for
// SSH, 546/udp for DHCPv6's answers.
var opened = map[string]map[string][]int{
	"none":    {"tcp": {22}, "udp": {546}},
	"relay":   {"tcp": {22, 80, 443, 4001}, "udp": {546, 4001}},
	"both":    {"tcp": {22, 80, 443, 4001}, "udp": {546, 4001}},
	"monitor": {"tcp": {22}, "udp": {546}}, // without a domain nobody comes to it
}

// checkFirewall wants the kernel to let in what the role needs and nothing else, and
// tries one port at which something listens.
func (a *appliance) checkFirewall(ctx context.Context, t *testing.T, role string) {
	out, err := a.Run(ctx, "nft --json --numeric list ruleset")
	if err != nil {
		t.Fatal(err)
	}
	got := acceptedPorts(t, out)
	for _, protocol := range []string{"tcp", "udp"} {
		if !slices.Equal(got[protocol], opened[role][protocol]) {
			t.Errorf("%s ports %v are open, want %v", protocol, got[protocol], opened[role][protocol])
		}
	}

	const server = `import socket
s = socket.create_server(("0.0.0.0", %d))
while True:
    c, _ = s.accept()
    c.sendall(b"reached")
    c.close()`
	script := fmt.Sprintf(`systemd-run --quiet --unit=closed-port python3 -c '%s'
for i in $(seq 60); do
	python3 -c 'import socket; print(socket.create_connection(("127.0.0.1", %d)).recv(7).decode())' 2>/dev/null && exit
	sleep 1
done
exit 1`, fmt.Sprintf(server, closedPort), closedPort)
	if out, err := a.Run(ctx, script); err != nil || strings.TrimSpace(out) != "reached" {
		t.Fatalf("a server in the guest: %q, %v", out, err)
	}
	reached := func() (string, error) {
		conn, err := net.Dial("tcp", a.Addr(closedPort))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		b, err := io.ReadAll(conn)
		return string(b), err
	}
	if said, _ := reached(); said != "" {
		t.Errorf("port %d is open: %q", closedPort, said)
	}
	// That it is the firewall which keeps it closed: opened, it is reached.
	out, err = a.Run(ctx, fmt.Sprintf("nft --echo --handle insert rule inet filter input tcp dport %d accept", closedPort))
	handle := regexp.MustCompile(`# handle (\d+)`).FindStringSubmatch(out)
	if err != nil || handle == nil {
		t.Fatalf("open a port: %q, %v", out, err)
	}
	if said, err := reached(); said != "reached" {
		t.Errorf("opened in the firewall the port says %q, %v", said, err)
	}
	if _, err := a.Run(ctx, "nft delete rule inet filter input handle "+handle[1]+"\nsystemctl stop closed-port"); err != nil {
		t.Error(err)
	}
}

// acceptedPorts are those that the chain input accepts, by protocol.
func acceptedPorts(t *testing.T, ruleset string) map[string][]int {
	t.Helper()
	var list struct {
		Nftables []struct {
			Chain *struct{ Name, Hook, Policy string }
			Rule  *struct {
				Chain string
				Expr  []map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal([]byte(ruleset), &list); err != nil {
		t.Fatal(err)
	}
	out, drops := map[string][]int{}, false
	for _, item := range list.Nftables {
		if c := item.Chain; c != nil && c.Hook == "input" {
			drops = drops || c.Policy == "drop"
		}
		if item.Rule == nil || item.Rule.Chain != "input" ||
			!slices.ContainsFunc(item.Rule.Expr, func(e map[string]json.RawMessage) bool { _, ok := e["accept"]; return ok }) {
			continue
		}
		for _, e := range item.Rule.Expr {
			var match struct {
				Left struct {
					Payload struct{ Protocol, Field string }
				}
				Right json.RawMessage
			}
			if e["match"] == nil || json.Unmarshal(e["match"], &match) != nil || match.Left.Payload.Field != "dport" {
				continue
			}
			for _, n := range regexp.MustCompile(`\d+`).FindAllString(string(match.Right), -1) {
				out[match.Left.Payload.Protocol] = append(out[match.Left.Payload.Protocol], atoi(t, n))
			}
		}
	}
	if !drops {
		t.Error("what no rule accepts is let in")
	}
	for _, ports := range out {
		slices.Sort(ports)
	}
	return out
}

// checkSSH wants keys to be the only way in.
func (a *appliance) checkSSH(ctx context.Context, t *testing.T) {
	for _, user := range []string{qemu.User, "root"} {
		conn, err := ssh.Dial("tcp", a.Addr(22), &ssh.ClientConfig{
			User: user, Timeout: time.Minute,
			Auth: []ssh.AuthMethod{
				ssh.Password(""), ssh.Password(user),
				ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
					return make([]string, len(questions)), nil
				}),
			},
			HostKeyCallback: ssh.InsecureIgnoreHostKey(), // nothing is said to the host
		})
		if err == nil {
			conn.Close()
			t.Errorf("%s logs in without a key", user)
		} else if !strings.Contains(err.Error(), "attempted methods [none]") {
			t.Errorf("%s is offered another way in than by a key: %v", user, err)
		}
	}
	out, err := a.Run(ctx, "sshd -T | grep -E '^(permitrootlogin|passwordauthentication|kbdinteractiveauthentication|permitemptypasswords) ' | sort")
	want := "kbdinteractiveauthentication no\npasswordauthentication no\npermitemptypasswords no\npermitrootlogin without-password\n"
	if err != nil || out != want {
		t.Errorf("sshd is set to\n%s%v", out, err)
	}
	out, err = a.Run(ctx, `awk -F: '$2 !~ /^[!*]/ {print $1}' /etc/shadow`)
	if err != nil || out != "" {
		t.Errorf("a password opens %q, %v", out, err)
	}
}

// checkKilled wants systemd to start again what was killed. ABRT is how its watchdog
// ends a program that hangs, and how a program of Go's ends that panics.
func (a *appliance) checkKilled(ctx context.Context, t *testing.T) {
	a.kill(ctx, t, "relayd", "KILL")
	a.kill(ctx, t, "relayd", "ABRT")
	a.kill(ctx, t, "relaymon", "ABRT")
	a.probeUntilOK(ctx, t)
}

// kill sends a signal of which the service dies, sooner or later, and waits for
// another process that is ready.
func (a *appliance) kill(ctx context.Context, t *testing.T, service, signal string) {
	t.Helper()
	out, err := a.Run(ctx, `s=`+service+`
was=$(systemctl show --property=MainPID --value $s)
began=$(date +%s%N)
kill -s `+signal+` "$was"
for i in $(seq 600); do
	now=$(systemctl show --property=MainPID --value $s)
	if [ "$now" != "$was" ] && [ "$now" != 0 ] && systemctl --quiet is-active $s; then
		echo $(( ($(date +%s%N) - began) / 1000000 ))
		exit
	fi
	sleep 0.2
done
systemctl status --no-pager $s`)
	if err != nil {
		t.Fatalf("%s is not back after %s: %v", service, signal, err)
	}
	a.note(t, "ready %.1f s after %s of %s", float64(atoi(t, out))/1000, signal, service)
}

// checkReload wants a changed configuration to be taken over without a restart.
func (a *appliance) checkReload(ctx context.Context, t *testing.T) {
	out, err := a.Run(ctx, `was=$(systemctl show --property=MainPID --value relayd)
cp -p /etc/relayd/relayd.yaml /run/relayd.yaml
printf 'log: {level: debug}\n' >> /etc/relayd/relayd.yaml
cursor=$(journalctl --no-pager --lines=0 --show-cursor --quiet | sed -n 's/^-- cursor: //p')
systemctl reload relayd
for i in $(seq 60); do
	if journalctl --no-pager --quiet --unit=relayd --output=cat --after-cursor="$cursor" | grep -i -m1 configuration; then break; fi
	sleep 1
done
cat /run/relayd.yaml > /etc/relayd/relayd.yaml
systemctl reload relayd
[ "$was" = "$(systemctl show --property=MainPID --value relayd)" ] || echo another process`)
	if err != nil || !strings.Contains(strings.ToLower(out), "configuration") || strings.Contains(out, "another process") {
		t.Errorf("reload: %q, %v", out, err)
	}
}

// checkReboot wants the same machine to come back, by itself.
func (a *appliance) checkReboot(ctx context.Context, t *testing.T, services ...string) {
	began := time.Now()
	if err := a.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	a.checkSame(ctx, t, began, "a reboot", services...)
}

// checkPowerCut wants so after the cable was pulled.
func (a *appliance) checkPowerCut(ctx context.Context, t *testing.T, services ...string) {
	began := time.Now()
	a.PowerCut()
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	a.checkSame(ctx, t, began, "a power cut", services...)
}

func (a *appliance) checkSame(ctx context.Context, t *testing.T, began time.Time, after string, services ...string) {
	t.Helper()
	orders := a.ca.Orders()
	if err := a.WaitReady(ctx, services...); err != nil {
		a.showBoot(ctx, t)
		t.Fatal(err)
	}
	a.note(t, "ready %s after %s", time.Since(began).Round(time.Second), after)
	if !slices.Contains(services, "relayd") {
		return
	}
	if got := a.learnPeerID(ctx, t); got != a.peerID {
		t.Errorf("after %s it is relay %s, was %s", after, got, a.peerID)
	}
	a.probeUntilOK(ctx, t)
	if n := a.ca.Orders() - orders; n != 0 {
		t.Errorf("after %s it ordered %d certificates although it has one", after, n)
	}
}

// checkStatus wants the appliance's own summary to say what the machine is.
func (a *appliance) checkStatus(ctx context.Context, t *testing.T, wants ...string) {
	out, err := a.Run(ctx, "relay-appliance status")
	var exit *qemu.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.Code == 1) { // 1: something is not as the bounty wants it
		t.Fatal(err)
	}
	for _, want := range wants {
		if !bytes.Contains([]byte(out), []byte(want)) {
			t.Errorf("relay-appliance status does not say %q:\n%s", want, out)
		}
	}
	// What looks for the console is a unit in a sandbox, and must not take that for a fault.
	if slices.Contains(wants, a.peerID) {
		if err := a.WaitConsole(ctx, 0, "met      Room on the disk"); err != nil {
			page, _ := a.Run(ctx, "cat /run/relay-appliance/issue; journalctl --no-pager --quiet --unit=relay-appliance-status")
			t.Errorf("on the console: %v\n%s", err, page)
		}
	}
}
