package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/e2e/provider"
	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/pebble"
	"github.com/psf-relay/relay-appliance/internal/qemu"
	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// What a test inside of a namespace is told by the one outside.
const (
	// programsVariable is the folder with the programs that were built.
	programsVariable = "RELAY_IMAGE_PROGRAMS"
	// rowsVariable is the file that rows for the page are left in.
	rowsVariable = "RELAY_IMAGE_ROWS"
)

// A machine at each provider: its owner's settings and key arrive, the network is as the
// provider gives it, and what the relay announces is where the world reaches it.
func TestProviders(t *testing.T) {
	part(t)
	for _, k := range provider.Kinds {
		t.Run(k.Name, func(t *testing.T) {
			// One stands for all in CI: with the most quirks.
			if k.Name != provider.EC2.Name {
				full(t)
			}
			if !inside(t) {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*bootTime)
			defer cancel()
			p := rent(ctx, t, k, provided)
			p.begin(ctx, t)
			p.checkKey(ctx, t)
			p.checkNetwork(ctx, t)
			p.checkAnnounced(ctx, t)
			if p.Lan.Addr().Is6() {
				p.checkNoIPv4(ctx, t)
				return
			}
			p.probeUntilOK(ctx, t)
			if p.Lan.Public.IsValid() && os.Getenv(modeVariable) == "full" {
				p.checkMove(ctx, t)
			}
		})
	}
}

// What is wrong in the user-data is said whichever way it comes: by the metadata service,
// by a disk, by a CD.
func TestProvidersWrongUserData(t *testing.T) {
	full(t)
	for _, k := range []provider.Kind{provider.Google, provider.DigitalOcean, provider.VMware} {
		t.Run(k.Name, func(t *testing.T) {
			if !inside(t) {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
			defer cancel()
			w := wrongs[0]
			p := rent(ctx, t, k, func(*rented) string { return w.userData })
			w.look(ctx, t, p.appliance)
		})
	}
}

// A provider whose metadata service says nothing, as EC2's where it was switched off, does
// not keep a machine from coming up and saying that nobody has set it up.
func TestProviderSilent(t *testing.T) {
	full(t)
	if !inside(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootTime)
	defer cancel()
	p := rent(ctx, t, provider.EC2.Silent(), func(*rented) string { return "" })
	began := time.Now()
	if err := p.Machine.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{notSetUp, "login:"} {
		if err := p.WaitConsole(ctx, 0, text); err != nil {
			t.Fatal(err)
		}
	}
	p.note(t, "says that it is not set up after %s", time.Since(began).Round(time.Second))
}

// inside is true in a network of the test's own. Outside it makes what the test stands on,
// runs it there, and takes over its rows.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(rowsVariable) != "" {
		return relaytest.Isolated(t)
	}
	need.Tools(t, "ip", "nft", "dnsmasq", "genisoimage")
	rows := filepath.Join(t.TempDir(), "rows.json")
	t.Setenv(imageVariable, build(t).file)
	t.Setenv(programsVariable, filepath.Dir(program(t, "relaymon")))
	t.Setenv(rowsVariable, rows)
	relaytest.Isolated(t)
	if err := results.take(t, rows); err != nil {
		t.Error(err)
	}
	return false
}

// rented is a machine at a provider.
type rented struct {
	*appliance
	*provider.Cloud
	key      string // what the owner gave the provider
	userData func(*rented) string
	began    time.Time
}

// rent makes a machine at the provider.
func rent(ctx context.Context, t *testing.T, k provider.Kind, userData func(*rented) string) *rented {
	t.Helper()
	image := build(t)
	p := &rented{Cloud: k.Start(t, domain), userData: userData}
	dir := t.TempDir()
	m, err := qemu.New(ctx, qemu.Config{
		Disk: image.file, Format: image.format, Size: machineSize, Dir: dir,
		Tap: p.Tap(), More: p.Args(),
		Progress: func(line string) { t.Log("console: " + line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	closeWithConsole(t, m, dir)
	p.appliance = &appliance{Machine: m, caFile: filepath.Join(dir, "ca.pem")}
	p.row = results.add(t, row{provider: k.Name, firmware: string(qemu.BIOS), devices: qemu.Devices{}.String(), format: image.format, memory: 512})
	p.ca, err = pebble.Start(t.Context(), pebble.Options{
		TLSPort: 443, HTTPPort: 80, Names: map[string]netip.Addr{domain: k.Lan.Addr()},
		Listen: netip.AddrPortFrom(provider.Internet, acmePort).String(), Hosts: []string{provider.Internet.String()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.caFile, p.ca.RootPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	p.key = m.AuthorizedKey()
	if err := p.Serve(provider.Guest{Key: p.key, UserData: userData(p)}); err != nil {
		t.Fatal(err)
	}
	return p
}

// provided is user-data for a relay with public addresses, in a world that has a CA of its
// own.
func provided(p *rented) string {
	var keys []string
	if p.NoKeys {
		keys = append(keys, p.key)
	}
	return cloudConfig(map[string]string{
		"/etc/relay-appliance/ca.pem": string(p.ca.RootPEM),
		"/etc/relay-appliance/appliance.yaml": fmt.Sprintf(`role: relay
domain: %s
email: operator@%[1]s
acme:
  directory: https://%s:%d/dir
  ca_file: /etc/relay-appliance/ca.pem
relayd:
  psf: {bootstrap: [], bootstrap_list: ""}
`, domain, provider.Internet, acmePort),
	}, keys...)
}

// begin starts the machine and waits for a relay, without more complaints of cloud-init's
// than belong to the provider.
func (p *rented) begin(ctx context.Context, t *testing.T) {
	t.Helper()
	err := p.oncemore(t, func() error {
		p.began = time.Now()
		if err := p.Machine.Start(ctx); err != nil {
			return err
		}
		return p.ready(ctx)
	})
	if err != nil {
		p.showBoot(ctx, t)
		t.Fatal(err)
	}
	p.isReady(t, time.Since(p.began))
	source, err := p.Run(ctx, `python3 -c 'import json; print(json.load(open("/run/cloud-init/result.json"))["v1"]["datasource"])'
cloud-init analyze blame | grep -m1 -E '\(init-(local|network)/search-' || true`)
	if err != nil {
		t.Fatal(err)
	}
	name, blame, _ := strings.Cut(strings.TrimSpace(source), "\n")
	name, _, _ = strings.Cut(name, " ")
	took, _, _ := strings.Cut(strings.TrimSpace(blame), " ")
	p.note(t, "%s, found in %s", name, cmp.Or(strings.TrimLeft(took, "0"), "no time"))
	p.peerID = p.learnPeerID(ctx, t)
}

func (p *rented) ready(ctx context.Context) error {
	c, err := p.CloudInit(ctx)
	if err != nil {
		return err
	}
	says := p.Says
	if p.Lan.Addr().Is6() {
		// The appliance has cloud-init say it, as a script that fails, and does its work.
		if len(c.Errors) != 1 || !strings.Contains(c.Errors[0], "but no IPv4 address") {
			return fmt.Errorf("cloud-init does not name the missing IPv4 address alone: %s", c)
		}
		c.Status, c.Errors, says = "done", nil, append(slices.Clip(says), "scripts-per-boot")
	}
	for level, all := range c.Recoverable {
		all = slices.DeleteFunc(all, func(said string) bool {
			return slices.ContainsFunc(says, func(s string) bool { return strings.Contains(said, s) })
		})
		if c.Recoverable[level] = all; len(all) == 0 {
			delete(c.Recoverable, level)
		}
	}
	var errs []error
	if !c.OK() {
		errs = append(errs, fmt.Errorf("cloud-init: %s", c))
	}
	if !p.Lan.Addr().Is6() {
		return errors.Join(append(errs, p.CheckUnits(ctx, "relayd"))...)
	}
	// The units of cloud-init that ran the script count as failed, and no other.
	out, err := p.Run(ctx, "systemctl is-system-running --wait || true; systemctl is-active relayd; systemctl --failed --plain --no-legend | cut -d ' ' -f 1")
	if got := strings.Fields(out); !slices.Equal(got, []string{"degraded", "active", "cloud-final.service", "cloud-init-main.service"}) {
		errs = append(errs, fmt.Errorf("the system is %q", got))
	}
	return errors.Join(append(errs, err)...)
}

// checkKey wants the owner's key to be the only one that opens the machine.
func (p *rented) checkKey(ctx context.Context, t *testing.T) {
	t.Helper()
	out, err := p.Run(ctx, `cut -d ' ' -f 1,2 /home/*/.ssh/authorized_keys # Google's have a comment behind
grep -v '^no-port-forwarding,' /root/.ssh/authorized_keys || true`)
	if err != nil || strings.TrimSpace(out) != p.key {
		t.Errorf("keys that open the machine: %q, %v; want only %q", out, err, p.key)
	}
}

// checkNetwork wants what the provider gives: addresses, routes, and the size of packets.
// What a router advertises may take a while.
func (p *rented) checkNetwork(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := eventually(ctx, t, func() (any, error) { return nil, p.network(ctx) }); err != nil {
		t.Error(err)
	}
}

// network says what is not as the provider gives it.
func (p *rented) network(ctx context.Context) error {
	out, err := p.Run(ctx, `printf '{"addresses": '
ip -json address show up scope global
printf ', "routes": '
ip -json route show default
printf ', "routes6": '
ip -json -6 route show default
printf '}'`)
	if err != nil {
		return err
	}
	type route struct{ Gateway string }
	var seen struct {
		Addresses []struct {
			Address string `json:"address"`
			MTU     int    `json:"mtu"`
			Infos   []struct {
				Local     netip.Addr `json:"local"`
				PrefixLen int        `json:"prefixlen"`
			} `json:"addr_info"`
		} `json:"addresses"`
		Routes  []route `json:"routes"`
		Routes6 []route `json:"routes6"`
	}
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var got []netip.Prefix
	for _, a := range seen.Addresses {
		if a.Address != provider.MAC {
			continue
		}
		for _, i := range a.Infos {
			if !i.Local.IsValid() {
				continue // so it prints those of the link
			}
			got = append(got, netip.PrefixFrom(i.Local, i.PrefixLen))
		}
		if want := p.Lan.MTU; want != 0 && a.MTU != want {
			wrong("the MTU is %d, want %d", a.MTU, want)
		}
	}
	for _, want := range []netip.Prefix{p.Lan.IP4, p.Lan.IP6} {
		if want.IsValid() && !slices.Contains(got, want) {
			wrong("the card has %v, want %v", got, want)
		}
	}
	if len(got) > 2 {
		wrong("the card has more than the provider gave: %v", got)
	}
	if p.Lan.IP4.IsValid() && (len(seen.Routes) != 1 || seen.Routes[0].Gateway != p.Lan.Router4.String()) {
		wrong("default routes %v, want by %s", seen.Routes, p.Lan.Router4)
	}
	elsewhere := func(r route) bool { return !strings.HasPrefix(r.Gateway, "fe80::") }
	if p.Lan.IP6.IsValid() && (len(seen.Routes6) == 0 || slices.ContainsFunc(seen.Routes6, elsewhere)) {
		wrong("default IPv6 routes %v, want them by a link-local address", seen.Routes6)
	}
	return errors.Join(errs...)
}

// checkAnnounced wants relayd to announce the public addresses and no others, and the
// console to say where one was found that is on no interface.
func (p *rented) checkAnnounced(ctx context.Context, t *testing.T) {
	t.Helper()
	want := map[string]bool{}
	if a := p.Lan.Addr(); a.Is4() {
		want["/ip4/"+a.String()] = true
	}
	if p.Lan.IP6.IsValid() {
		want["/ip6/"+p.Lan.IP6.Addr().String()] = true
	}
	_, err := eventually(ctx, t, func() (string, error) {
		out, err := p.status(ctx, "--json")
		if err != nil {
			return "", err
		}
		var st struct {
			Relay struct {
				Status struct{ Addrs []string }
			}
		}
		if err := json.Unmarshal([]byte(out), &st); err != nil {
			return "", err
		}
		got := map[string]bool{}
		for _, a := range st.Relay.Status.Addrs {
			if m := regexp.MustCompile(`^/ip[46]/[^/]+`).FindString(a); m != "" {
				got[m] = true
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return "", fmt.Errorf("announced are %v, want addresses %v", st.Relay.Status.Addrs, want)
		}
		return "", nil
	})
	if err != nil {
		t.Error(err)
	}
	if p.Lan.Public.IsValid() {
		p.saidPublic(ctx, t, 0, fmt.Sprintf("the public IPv4 address is %s, says", p.Lan.Public))
	}
}

// status is what the machine says of itself.
func (p *rented) status(ctx context.Context, args ...string) (string, error) {
	out, err := p.Run(ctx, strings.Join(append([]string{"relay-appliance status"}, args...), " "))
	var exit *qemu.ExitError
	if errors.As(err, &exit) && exit.Code == 1 { // something is not as the bounty wants it
		err = nil
	}
	return out, err
}

// saidPublic notes the line in which the machine says where its address was found.
func (p *rented) saidPublic(ctx context.Context, t *testing.T, mark int, want string) {
	t.Helper()
	if err := p.WaitConsole(ctx, mark, want); err != nil {
		t.Error(err)
		return
	}
	line := regexp.MustCompile(regexp.QuoteMeta(want) + `[^:\n]*`).FindString(p.Console.Since(mark))
	p.note(t, "%q", line)
}

// checkMove wants another public address to be followed at the next boot.
func (p *rented) checkMove(ctx context.Context, t *testing.T) {
	t.Helper()
	was := p.Lan.Public
	mark := p.Console.Mark()
	if _, err := p.Run(ctx, "systemctl --no-block poweroff"); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitOff(ctx); err != nil {
		t.Fatal(err)
	}
	p.PowerCut()
	p.Move(was.Next())
	p.ca.SetName(domain, p.Lan.Public)
	began := time.Now()
	if err := p.Machine.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.ready(ctx); err != nil {
		p.showBoot(ctx, t)
		t.Fatal(err)
	}
	p.note(t, "ready %s after a start with another public address", time.Since(began).Round(time.Second))
	p.saidPublic(ctx, t, mark, fmt.Sprintf("the public IPv4 address is %s now, was %s, says", p.Lan.Public, was))
	p.probeUntilOK(ctx, t)
}

// checkNoIPv4 wants a machine without IPv4 to say what it lacks, where its owner looks.
func (p *rented) checkNoIPv4(ctx context.Context, t *testing.T) {
	t.Helper()
	const want = "this machine has no IPv4 address, and the bounty needs a public one"
	if err := p.WaitConsole(ctx, 0, want); err != nil {
		t.Error(err)
	}
	if out, err := p.status(ctx); err != nil || !strings.Contains(out, "have no public IPv4 address") {
		t.Errorf("the status does not say that the bounty lacks an IPv4 address: %v\n%s", err, out)
	}
	p.note(t, "the console says %q", want)
}
