package appliance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/publicip"
)

const (
	// cloud-init's record of where it found its data; without anything secret.
	instanceDataPath = "/run/cloud-init/instance-data.json"
	// What was announced for the machine, so that a boot at which nobody answers changes
	// nothing.
	publicAddressPath = stateDir + "/public-address.json"
	// addressTime bounds the search: it is on the way to a relay that serves.
	addressTime = 20 * time.Second
	maxMetadata = 64 << 10
)

// A question to a provider's metadata service, and how its answer is read.
type question struct {
	path   string
	header map[string]string
	read   func([]byte) []netip.Addr
}

// A natting provider gives the machine a private address, and maps a public one to it.
type natting struct {
	name string
	// token is where the service gives out what its questions are asked with.
	token, tokenAsk, tokenUse string
	questions                 []question
	// dns: where the service does not know the address, or is not there, the relay's name
	// is taken at its word: its A record is to lead to this machine anyway. What the service
	// said before counts for more.
	dns bool
}

// nattings are these providers, by what cloud-init calls them. They are asked anew each
// time: cloud-init does not record the public address of every one, and keeps what it
// recorded of some from the first boot on. Oracle's service does not know the address.
var nattings = map[string]natting{
	"aws": {
		name: "Amazon EC2", token: "/latest/api/token", tokenAsk: "X-aws-ec2-metadata-token-ttl-seconds", tokenUse: "X-aws-ec2-metadata-token",
		questions: []question{{path: "/latest/meta-data/public-ipv4", read: readText}},
	},
	"gce": {name: "Google", questions: []question{
		{path: "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip", header: map[string]string{"Metadata-Flavor": "Google"}, read: readText},
	}},
	"azure": {name: "Azure", questions: []question{
		{path: "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text", header: map[string]string{"Metadata": "true"}, read: readText},
		// Addresses of the kind that is sold now stand only here.
		{path: "/metadata/loadbalancer?api-version=2020-10-01", header: map[string]string{"Metadata": "true"}, read: readBalancer},
	}, dns: true},
	"openstack":   {name: "OpenStack", questions: []question{{path: "/latest/meta-data/public-ipv4", read: readText}}},
	"configdrive": {name: "OpenStack", questions: []question{{path: "/latest/meta-data/public-ipv4", read: readText}}, dns: true},
	"oracle":      {name: "Oracle", dns: true},
}

func readText(b []byte) []netip.Addr {
	ip, err := netip.ParseAddr(strings.TrimSpace(string(b)))
	if err != nil {
		return nil
	}
	return []netip.Addr{ip}
}

func readBalancer(b []byte) (out []netip.Addr) {
	var answer struct {
		Balancer struct {
			Addresses []struct {
				Frontend string `json:"frontendIpAddress"`
			} `json:"publicIpAddresses"`
		} `json:"loadbalancer"`
	}
	if json.Unmarshal(b, &answer) != nil {
		return nil
	}
	for _, a := range answer.Balancer.Addresses {
		out = append(out, readText([]byte(a.Frontend))...)
	}
	return out
}

// publicAddress is an address that was found for the machine.
type publicAddress struct {
	IP4  netip.Addr `json:"ip4"`
	From string     `json:"from"` // who named it
	// At and Instance are the provider and its name of the machine: a copy of the disk is
	// another machine.
	At       string `json:"at"`
	Instance string `json:"instance"`
}

// namesNone is the answer of who must know that there is no address; who it was.
type namesNone string

func (n namesNone) Error() string { return string(n) + " names none" }

// findPublic completes the settings of a relay with the public IPv4 address that its
// provider maps to it, where the settings name none and no interface has one. What it
// cannot find out it says; the relay runs without, too.
func (m *Machine) findPublic(ctx context.Context, s Settings, say func(string, ...any)) (Settings, error) {
	own, _ := s.Relayd["announce"].(map[string]any)
	if !s.Role.Relays() || s.Announce.IP4.IsValid() || own["ip4"] != nil || own["addrs"] != nil {
		return s, nil
	}
	// A lab has no public addresses.
	if network, _ := s.Relayd["network"].(map[string]any); network["allow_private"] == true {
		return s, nil
	}
	before, err := m.loadPublic()
	if err != nil {
		say("%v: the address is looked for anew", err)
	}
	interfaces, err := m.ownAddrs()
	if err == nil && slices.ContainsFunc(interfaces, isPublic4) {
		return s, nil
	}
	var provider, instance string
	if err == nil {
		provider, instance, err = m.provider()
	}
	const still = "the public IPv4 address is taken to be %s still, as %s said before: %v"
	n, natted := nattings[provider]
	switch {
	case err == nil && provider == "" && before.IP4.IsValid():
		say(still, before.IP4, before.From, "cloud-init names no provider")
		s.Announce.IP4 = before.IP4
		return s, nil
	case err != nil:
		s.Announce.IP4 = before.IP4
		return s, fmt.Errorf("look for the public IPv4 address: %w", err)
	case !natted:
		say("%s", noPublic4(interfaces))
		return s, nil
	}
	if before.At != n.name || before.Instance != instance {
		before = publicAddress{}
	}
	found, silent, err := m.askPublic(ctx, n, s.Domain)
	found.At, found.Instance = n.name, instance
	announces := "relayd announces it"
	if found.From == aRecord(s.Domain) { // which may be mended later than it was asked
		announces += "; when the record has changed, run: relay-appliance first-boot"
	}
	switch {
	case err == nil && silent != nil && before.IP4.IsValid() && before.From != found.From:
		// Who knows it better than DNS does not answer now.
		say(still, before.IP4, before.From, silent)
		found = before
	case err == nil && before.IP4.IsValid() && before.IP4 != found.IP4:
		say("the public IPv4 address is %s now, was %s, says %s: %s; see that the A record of %s names it", found.IP4, before.IP4, found.From, announces, s.Domain)
	case err == nil:
		say("the public IPv4 address is %s, says %s: %s", found.IP4, found.From, announces)
	case before.IP4.IsValid() && errors.As(err, new(namesNone)):
		say("the public IPv4 address %s is no longer announced: %v: set announce.ip4 in %s if it has another; the bounty needs one", before.IP4, err, SettingsPath)
		return s, os.Remove(m.path(publicAddressPath))
	case before.IP4.IsValid():
		say(still, before.IP4, before.From, err)
		found = before
	default:
		say("the public IPv4 address was not found: %v: set announce.ip4 in %s to it; the bounty needs one", err, SettingsPath)
		return s, nil
	}
	s.Announce.IP4 = found.IP4
	if found == before {
		return s, nil
	}
	text, err := json.Marshal(found)
	if err != nil {
		return s, err
	}
	return s, m.write(publicAddressPath, append(text, '\n'), 0o644)
}

// noPublic4 says what a machine lacks whose provider is not known to map an address to it.
func noPublic4(interfaces []netip.Addr) string {
	if slices.ContainsFunc(interfaces, func(a netip.Addr) bool { return a.Is4() && a.IsGlobalUnicast() }) {
		return "no interface has a public IPv4 address, and the bounty needs one: if the provider or a router maps one to this machine, set announce.ip4 in " + SettingsPath
	}
	return "this machine has no IPv4 address, and the bounty needs a public one: add one at the provider, and restart the machine"
}

func isPublic4(a netip.Addr) bool { return publicip.Is4(a.Unmap()) }

// askPublic asks the metadata service, and where that need not know it DNS. silent is why
// the service did not answer.
func (m *Machine) askPublic(ctx context.Context, n natting, domain string) (found publicAddress, silent, err error) {
	ctx, cancel := context.WithTimeout(ctx, addressTime)
	defer cancel()
	from := "the metadata service of " + n.name
	addrs, silent := m.askMetadata(ctx, n)
	if err = silent; len(addrs) == 0 && n.dns {
		from = aRecord(domain)
		addrs, err = m.askDNS(ctx, domain)
		if err != nil && silent != nil {
			err = fmt.Errorf("%w, and %w", err, silent)
		}
	}
	switch {
	case err != nil:
		return publicAddress{}, silent, err
	case len(addrs) == 0:
		return publicAddress{}, nil, namesNone(from)
	case len(addrs) > 1:
		return publicAddress{}, silent, fmt.Errorf("%s names several: %v", from, addrs)
	}
	return publicAddress{IP4: addrs[0].Unmap(), From: from}, silent, nil
}

// aRecord is what is asked where only DNS can know the address.
func aRecord(domain string) string { return "the A record of " + domain }

// askDNS returns the public addresses of the domain. That there is none is an error: the
// machine may have one all the same.
func (m *Machine) askDNS(ctx context.Context, domain string) ([]netip.Addr, error) {
	all, err := m.lookup(ctx, domain)
	if err != nil {
		return nil, err
	}
	var public []netip.Addr
	for _, a := range all {
		if isPublic4(a) {
			public = append(public, a)
		}
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("%s names none", aRecord(domain))
	case len(public) == 0:
		return nil, fmt.Errorf("%s names %v, which is not public", aRecord(domain), all)
	}
	return public, nil
}

// askMetadata returns the public addresses that the service names. None without an error:
// it knows none.
func (m *Machine) askMetadata(ctx context.Context, n natting) ([]netip.Addr, error) {
	header := map[string]string{}
	if n.token != "" {
		token, err := m.metadata(ctx, http.MethodPut, n.token, map[string]string{n.tokenAsk: "60"})
		if err != nil {
			return nil, fmt.Errorf("the metadata service of %s gives no token: %w", n.name, err)
		}
		header[n.tokenUse] = string(token)
	}
	for _, q := range n.questions {
		for k, v := range q.header {
			header[k] = v
		}
		b, err := m.metadata(ctx, http.MethodGet, q.path, header)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ask the metadata service of %s: %w", n.name, err)
		}
		if addrs := slices.DeleteFunc(q.read(b), func(a netip.Addr) bool { return !isPublic4(a) }); len(addrs) > 0 {
			return addrs, nil
		}
	}
	return nil, nil
}

// metadata asks the service that is behind one address at all these providers.
func (m *Machine) metadata(ctx context.Context, method, path string, header map[string]string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://169.254.169.254"+path, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	client := m.Client
	if client == nil {
		// No proxy: what is asked is the next host.
		client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: addressTime / 4}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound:
		return nil, fs.ErrNotExist
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return bytes.TrimSpace(b), nil
}

// provider is who cloud-init found, as it calls him, and what he calls the machine; empty:
// nobody.
func (m *Machine) provider() (name, instance string, err error) {
	b, err := m.readFile(instanceDataPath)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	var data struct {
		V1 struct {
			Name     string `json:"cloud_name"`
			Platform string `json:"platform"`
			Instance string `json:"instance_id"`
		} `json:"v1"`
	}
	if err == nil {
		err = json.Unmarshal(b, &data)
	}
	if err != nil {
		return "", "", fmt.Errorf("read what cloud-init says of the provider: %w", err)
	}
	if data.V1.Platform == "none" { // it found none, which is no word about the address
		return "", "", nil
	}
	return data.V1.Name, data.V1.Instance, nil
}

func (m *Machine) loadPublic() (publicAddress, error) {
	b, err := m.readFile(publicAddressPath)
	if errors.Is(err, fs.ErrNotExist) {
		return publicAddress{}, nil
	}
	var p publicAddress
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return publicAddress{}, fmt.Errorf("read %s: %w", publicAddressPath, err)
	}
	return p, nil
}

// ownAddrs are the addresses that this machine has itself.
func (m *Machine) ownAddrs() ([]netip.Addr, error) {
	var out []netip.Addr
	all, err := m.interfaces()
	for _, i := range all {
		out = append(out, i.Addrs...)
	}
	return out, err
}

func (m *Machine) lookup(ctx context.Context, domain string) ([]netip.Addr, error) {
	if m.Lookup != nil {
		return m.Lookup(ctx, "ip4", domain)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", domain)
}
