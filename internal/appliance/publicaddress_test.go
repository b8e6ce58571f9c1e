package appliance

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// service answers as the metadata service of a provider does. token is the header that it
// wants to be asked with and its value, if it does.
func (f *fake) service(answers map[string]string, token ...string) {
	f.t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "169.254.169.254" {
			f.t.Errorf("%s is asked", r.Host)
		}
		if r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "" {
			_, _ = w.Write([]byte("secret"))
			return
		}
		text, ok := answers[r.URL.RequestURI()]
		switch {
		case len(token) == 2 && r.Header.Get(token[0]) != token[1]:
			w.WriteHeader(http.StatusUnauthorized)
		case !ok || r.Method != http.MethodGet:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(text))
		}
	}))
	f.t.Cleanup(s.Close)
	f.Client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}}}
}

// noService is a network in which nobody answers.
func (f *fake) noService() {
	f.Client = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("nobody answers")
	}}}
}

func (f *fake) instanceData(provider string) {
	f.t.Helper()
	b, err := os.ReadFile("testdata/instance-data/" + provider + ".json")
	if err != nil {
		f.t.Fatal(err)
	}
	f.file(instanceDataPath, string(b))
}

const relaySettings = "role: relay\ndomain: relay.test\nemail: a@relay.test\n"

const azureDirect = "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text"

// The instance data are what cloud-init 25.1.4 recorded of providers that were played to it
// (internal/e2e/provider), without the machine's configuration; none is of a real one.
func TestPublicAddress(t *testing.T) {
	for name, c := range map[string]struct {
		data       string
		answers    map[string]string
		token      []string
		dns        []string
		interfaces []string
		settings   string // more of them
		want       string // empty: none is announced
		said       string // part of what is said; empty: nothing is
	}{
		"EC2": {data: "ec2", answers: map[string]string{"/latest/meta-data/public-ipv4": "18.196.7.9"}, token: []string{"X-aws-ec2-metadata-token", "secret"},
			want: "18.196.7.9", said: "the public IPv4 address is 18.196.7.9, says the metadata service of Amazon EC2: relayd announces it"},
		"EC2 without a public address": {data: "ec2", token: []string{"X-aws-ec2-metadata-token", "secret"}, dns: []string{"18.196.7.9"},
			said: "the metadata service of Amazon EC2 names none: set announce.ip4"},
		"Google": {data: "gce", answers: map[string]string{"/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip": "18.196.7.9"}, token: []string{"Metadata-Flavor", "Google"},
			want: "18.196.7.9", said: "says the metadata service of Google"},
		"Google, a page of another": {data: "gce", answers: map[string]string{"/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip": "<html>"},
			said: "Google names none"},
		"Azure": {data: "azure", answers: map[string]string{azureDirect: "18.196.7.9"}, token: []string{"Metadata", "true"},
			want: "18.196.7.9", said: "says the metadata service of Azure"},
		"Azure, standard address": {data: "azure", answers: map[string]string{azureDirect: "",
			"/metadata/loadbalancer?api-version=2020-10-01": `{"loadbalancer": {"publicIpAddresses": [{"frontendIpAddress": "18.196.7.9", "privateIpAddress": "10.0.0.4"}]}}`}, token: []string{"Metadata", "true"},
			want: "18.196.7.9", said: "says the metadata service of Azure"},
		"Azure, which does not know": {data: "azure", answers: map[string]string{azureDirect: ""}, token: []string{"Metadata", "true"}, dns: []string{"18.196.7.9"},
			want: "18.196.7.9", said: "says the A record of relay.test: relayd announces it; when the record has changed, run: relay-appliance first-boot"},
		"Oracle": {data: "oracle", dns: []string{"18.196.7.9"},
			want: "18.196.7.9", said: "says the A record of relay.test"},
		"Oracle, several records": {data: "oracle", dns: []string{"18.196.7.9", "18.196.7.10"}, said: "names several"},
		"Oracle, private record":  {data: "oracle", dns: []string{"10.0.0.4"}, said: "the A record of relay.test names [10.0.0.4], which is not public"},
		"Oracle, an example's":    {data: "oracle", dns: []string{"192.0.2.1"}, said: "the A record of relay.test names [192.0.2.1], which is not public"},
		"translated IPv6 only": {data: "ec2", interfaces: []string{"192.0.0.2"}, answers: map[string]string{"/latest/meta-data/public-ipv4": "18.196.7.9"}, token: []string{"X-aws-ec2-metadata-token", "secret"},
			want: "18.196.7.9", said: "says the metadata service of Amazon EC2"},
		"Oracle, no record": {data: "oracle", said: "the A record of relay.test names none"},
		"OpenStack": {data: "openstack", answers: map[string]string{"/latest/meta-data/public-ipv4": "18.196.7.9"},
			want: "18.196.7.9", said: "says the metadata service of OpenStack"},
		"OpenStack without a floating address": {data: "openstack", answers: map[string]string{"/latest/meta-data/public-ipv4": ""}, said: "OpenStack names none"},
		"config drive": {data: "configdrive", answers: map[string]string{"/latest/meta-data/public-ipv4": "18.196.7.9"},
			want: "18.196.7.9", said: "says the metadata service of OpenStack"},
		"private address named": {data: "ec2", answers: map[string]string{"/latest/meta-data/public-ipv4": "10.1.2.3"}, token: []string{"X-aws-ec2-metadata-token", "secret"}, said: "names none"},

		"on an interface":    {data: "ec2", interfaces: []string{"18.196.7.7"}, answers: map[string]string{"/latest/meta-data/public-ipv4": "18.196.7.9"}},
		"the settings do it": {data: "ec2", settings: "announce: {ip4: 18.196.7.8}\n", want: "18.196.7.8"},
		"relayd's own do it": {data: "ec2", settings: "relayd: {announce: {ip4: 18.196.7.8}}\n", want: "18.196.7.8"},
		"a lab":              {data: "ec2", settings: "relayd: {network: {allow_private: true}}\n"},
		"Hetzner, IPv6 only": {data: "hetzner", interfaces: []string{"2001:db8::7"}, said: "this machine has no IPv4 address, and the bounty needs a public one"},
		"at home":            {interfaces: []string{"192.168.1.7"}, said: "no interface has a public IPv4 address, and the bounty needs one"},
		// Whom cloud-init calls so maps no address: nobody is asked.
		"Vultr":    {data: "vultr", said: "no interface has a public IPv4 address"},
		"Linode":   {data: "akamai", said: "no interface has a public IPv4 address"},
		"Scaleway": {data: "scaleway", said: "no interface has a public IPv4 address"},
		"NoCloud":  {data: "nocloud", said: "no interface has a public IPv4 address"},
		"OVF":      {data: "ovf", said: "no interface has a public IPv4 address"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			if c.interfaces == nil {
				c.interfaces = []string{"10.0.0.4", "fe80::1"}
			}
			f.cards = []Interface{loopback, card(c.interfaces...)}
			f.service(c.answers, c.token...)
			f.Lookup = func(_ context.Context, network, host string) (out []netip.Addr, err error) {
				if network != "ip4" || host != "relay.test" {
					t.Errorf("looked up: %s %s", network, host)
				}
				for _, a := range c.dns {
					out = append(out, netip.MustParseAddr(a))
				}
				return out, nil
			}
			if c.data != "" {
				f.instanceData(c.data)
			}
			if err := f.firstBoot(relaySettings + c.settings); err != nil {
				t.Fatal(err)
			}
			if got := f.announced(); got != c.want {
				t.Errorf("relayd is to announce %q, want %q", got, c.want)
			}
			about := slices.DeleteFunc(slices.Clone(f.said), func(s string) bool { return !strings.Contains(s, "IPv4") })
			if said := strings.Join(about, "\n"); !strings.Contains(said, c.said) || (c.said == "") != (said == "") {
				t.Errorf("it says %q, want %q", said, c.said)
			}
			// For whoever looks later, too.
			if page := f.text(issuePath); !strings.Contains(page, c.said) {
				t.Errorf("the page lacks %q:\n%s", c.said, page)
			}
		})
	}
}

// announced is the address in relayd's configuration.
func (f *fake) announced() string {
	f.t.Helper()
	_, after, _ := strings.Cut(f.text("/etc/relayd/relayd.yaml"), "ip4: ")
	line, _, _ := strings.Cut(after, "\n")
	return line
}

// An address that changes is followed; where nobody answers, the one from before stays.
func TestPublicAddressChanges(t *testing.T) {
	f := newFake(t)
	f.cards = []Interface{loopback, card("10.0.0.4")}
	f.instanceData("ec2")
	boot := func(want, said string) {
		t.Helper()
		if err := f.firstBoot(relaySettings); err != nil {
			t.Fatal(err)
		}
		if got := f.announced(); got != want {
			t.Errorf("relayd is to announce %q, want %q", got, want)
		}
		if !strings.Contains(strings.Join(f.said, "\n"), said) {
			t.Errorf("it says %q, want %q", f.said, said)
		}
	}
	serve := func(ip string) {
		f.service(map[string]string{"/latest/meta-data/public-ipv4": ip}, "X-aws-ec2-metadata-token", "secret")
	}
	f.noService()
	boot("", "was not found: the metadata service of Amazon EC2 gives no token")
	serve("18.196.7.9")
	boot("18.196.7.9", "wrote /etc/relayd/relayd.yaml")
	serve("18.196.7.10")
	boot("18.196.7.10", "is 18.196.7.10 now, was 18.196.7.9")
	f.noService()
	boot("18.196.7.10", "is taken to be 18.196.7.10 still")
	// A copy of the disk is another machine, whose address is not known.
	data := f.text(instanceDataPath)
	f.file(instanceDataPath, strings.ReplaceAll(data, "i-0123456789abcdef0", "i-fedcba9876543210f"))
	boot("", "was not found: the metadata service of Amazon EC2 gives no token")
	f.file(instanceDataPath, data)
	boot("18.196.7.10", "is taken to be 18.196.7.10 still")
	f.instanceData("openstack")
	boot("", "was not found: ask the metadata service of OpenStack")
	// Who knows it says that there is none any more.
	f.file(instanceDataPath, data)
	f.service(nil, "X-aws-ec2-metadata-token", "secret")
	boot("", "18.196.7.10 is no longer announced: the metadata service of Amazon EC2 names none")
	f.noService()
	boot("", "was not found")
	if f.has(publicAddressPath) {
		t.Error("what was found before is still there")
	}
	f.file(publicAddressPath, "{")
	serve("18.196.7.11")
	boot("18.196.7.11", "the address is looked for anew")
	// Where cloud-init is gone, or its record, nobody has said that the address is.
	f.noService()
	for name, record := range map[string]string{"none": "", "of nobody": `{"v1": {"cloud_name": "unknown", "platform": "none"}}`} {
		if err := os.Remove(f.path(instanceDataPath)); err != nil {
			t.Fatal(err)
		}
		if record != "" {
			f.file(instanceDataPath, record)
		}
		boot("18.196.7.11", "is taken to be 18.196.7.11 still")
		f.file(instanceDataPath, "broken")
		if err := f.firstBoot(relaySettings); err == nil || f.announced() != "18.196.7.11" {
			t.Errorf("record %s, then broken: %v; relayd is to announce %q", name, err, f.announced())
		}
	}
	f.instanceData("nocloud")
	boot("", "no interface has a public IPv4 address")
}

// What DNS names counts for nothing against the service, while that does not answer.
func TestPublicAddressOfTwo(t *testing.T) {
	f := newFake(t)
	f.cards = []Interface{loopback, card("10.0.0.4")}
	f.instanceData("azure")
	f.Lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }
	f.service(map[string]string{azureDirect: "18.196.7.9"}, "Metadata", "true")
	if err := f.firstBoot(relaySettings); err != nil || f.announced() != "18.196.7.9" {
		t.Fatalf("%v, %q", err, f.said)
	}
	f.noService()
	for _, named := range [][]netip.Addr{nil, {netip.MustParseAddr("127.0.1.1")}, {netip.MustParseAddr("18.196.7.66")}} {
		f.Lookup = func(context.Context, string, string) ([]netip.Addr, error) { return named, nil }
		if err := f.firstBoot(relaySettings); err != nil || f.announced() != "18.196.7.9" || !strings.Contains(strings.Join(f.said, "\n"), "is taken to be 18.196.7.9 still") {
			t.Errorf("DNS names %v: %v, %q", named, err, f.said)
		}
	}
	// Where DNS is all there is, it is followed.
	f.instanceData("oracle")
	for _, ip := range []string{"18.196.7.9", "18.196.7.66"} {
		f.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(ip)}, nil
		}
		if err := f.firstBoot(relaySettings); err != nil || f.announced() != ip {
			t.Errorf("DNS names %s: %v, %q", ip, err, f.said)
		}
	}
	f.Lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }
	if err := f.firstBoot(relaySettings); err != nil || f.announced() != "18.196.7.66" {
		t.Errorf("DNS names none: %v, %q", err, f.said)
	}
}
