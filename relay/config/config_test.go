package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/config"
)

func TestDefaultsAreValid(t *testing.T) {
	c := DefaultConfig()
	must(t, c.Validate())
	if c.Limits.ReservationsPerIP == 0 || c.Listen.HTTP == "" || len(c.PSF.Bootstrap) == 0 || c.ACME.Directory == "" {
		t.Errorf("not read: %+v", c)
	}
}

// Each field of Config stands in default.yaml, with a description.
func TestEveryFieldIsDescribed(t *testing.T) {
	lines := strings.Split(string(DefaultYAML), "\n")
	var check func(v reflect.Type, indent string)
	check = func(v reflect.Type, indent string) {
		for i := range v.NumField() {
			f := v.Field(i)
			name := f.Tag.Get("yaml")
			if name == "-" {
				continue
			}
			at := -1
			for n, line := range lines {
				if strings.HasPrefix(line, indent+name+":") {
					at = n
				}
			}
			if at < 0 {
				t.Errorf("%s%s is not in default.yaml", indent, name)
				continue
			}
			section := f.Type.Kind() == reflect.Struct && strings.HasPrefix(f.Type.PkgPath(), "github.com/psf-relay/")
			described := false
			for n := at - 1; n >= 0 && (strings.HasPrefix(strings.TrimSpace(lines[n]), "#") || strings.Contains(lines[n], ":")); n-- {
				// A comment may stand for a pair of neighbours.
				described = described || strings.HasPrefix(lines[n], indent+"#")
			}
			if !described && !section {
				t.Errorf("%s%s is not described", indent, name)
			}
			if section {
				check(f.Type, indent+"  ")
			}
		}
	}
	check(reflect.TypeFor[Config](), "")
}

// Every mistake is named, each by its key.
func TestValidateNamesEveryFault(t *testing.T) {
	for key, text := range map[string]string{
		"data_dir":                   `data_dir: ""`,
		"name":                       `name: "a\x01b"`,
		"domain":                     `domain: Relay.example`,
		"abuse_contact":              `abuse_contact: nobody`,
		"listen.tcp[0]":              `listen: {tcp: [/ip4/0.0.0.0/udp/1]}`,
		"listen.quic[0]":             `listen: {quic: [/ip4/0.0.0.0/tcp/1]}`,
		"listen.wss[0]":              `listen: {wss: [/ip4/0.0.0.0/tcp/1/ws]}`,
		"listen.webtransport[0]":     `listen: {webtransport: [/ip4/0.0.0.0/udp/1/quic-v1]}`,
		"listen.webrtc[1]":           `listen: {webrtc: [/ip4/0.0.0.0/udp/1/webrtc-direct, /dns4/x/udp/1/webrtc-direct]}`,
		"listen:":                    `listen: {tcp: [], quic: [], webtransport: [], webrtc: []}`,
		"listen.http":                `listen: {http: "80"}`,
		"announce.ip4":               `announce: {ip4: "2001:db8::1"}`,
		"announce.ip6":               `announce: {ip6: 203.0.113.1}`,
		"announce.addrs[0]":          `announce: {addrs: [/ip4/203.0.113.1/tcp/1/p2p/12D3KooWEBzgK8a5TpMfLotuj7jJnEK41gbD9LZK6qCpxNrX43E9]}`,
		"acme.directory":             `acme: {directory: http://ca.example/dir}`,
		"acme.email":                 `acme: {email: me}`,
		"tls: cert and key":          `tls: {cert: a.pem}`,
		"tls: a certificate without": `tls: {cert: a.pem, key: b.pem}`,
		"psf.bootstrap[0]":           `psf: {bootstrap: [/ip4/203.0.113.1/tcp/1]}`,
		"psf.bootstrap_list":         `psf: {bootstrap_list: "http://x.example/"}`,
		"limits.reservations:":       `limits: {reservations: -1}`,
		"limits.guest_reservations":  `limits: {reservations: 1024, guest_reservations: 5000}`,
		"limits.circuits:":           `limits: {circuits: -1}`,
		"limits.guest_circuit_data":  `limits: {guest_circuit_data: 256B}`,
		"limits.guest_circuit_time":  `limits: {guest_circuit_time: 1s}`,
		"limits.buffer":              `limits: {buffer: 1KiB}`,
		"limits.connects_per_second": `limits: {connects_per_second: 0.5}`,
		"limits.connections_per_ip":  `limits: {connections_per_ip: 15}`,
		"limits.connections:":        `limits: {connections: 15}`,
		"limits.peer_day":            `limits: {peer_day: 1KiB}`,
		"limits.ip_day":              `limits: {ip_day: 1B}`,
		"metrics.listen":             `metrics: {listen: here}`,
		"log.format":                 `log: {format: xml}`,
		"alerts.webhooks[0]":         `alerts: {webhooks: [x]}`,
		"monitors[0]: want":          `monitors: ["http://relay2.example.org/monitor/"]`,
		"monitors[1]: want":          `monitors: ["https://a.example/", "https://user:secret@b.example/"]`,
		"monitors[2]: want":          `monitors: ["http://127.0.0.1:1/", "http://[::1]/", "https://c.example/?token=secret"]`,
		"monitors[1]: https://a":     `monitors: ["https://a.example/", "https://a.example"]`,
		"monitors: 17":               `monitors: [` + strings.Repeat(`"https://a.example/",`, 17) + `]`,
	} {
		c := DefaultConfig()
		must(t, config.Decode("x.yaml", []byte(text), &c))
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v", text, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: a secret stands in %v", text, err)
		}
	}
}

func TestReadConfigNamesAllMistakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relayd.yaml")
	must(t, os.WriteFile(path, []byte("dta_dir: /x\nlimits:\n  month: 1XB\nlog:\n  format: xml\n"), 0o600))
	_, err := ReadConfig(path)
	for _, want := range []string{`:1:1: unknown key "dta_dir"; did you mean "data_dir"?`, ":3:10: limits.month", "log.format"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if _, err := ReadConfig(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("read a file that is not there")
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "4096": 4096, "32KiB": 32 << 10, "1.5 MB": 1500000, "2TB": 2e12, "7B": 7} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: %d, %v", text, b, err)
		}
		var again Bytes
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%s reads back as %d, %v", b, again, err)
		}
	}
	for _, text := range []string{"", "-1", "1.5B", "many", "1e30", "9223372036854775808", "NaN", "Inf", "1 KiB MB"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, b)
		}
	}
	for b, want := range map[Bytes]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 123456789: "123 MB", 1e12: "1 TB"} {
		if got := b.Short(); got != want {
			t.Errorf("%d: %q, want %q", int64(b), got, want)
		}
	}
}

// Whatever stands in the file, reading it ends with a configuration or with an
// error, and a configuration without a fault can be put to use.
func FuzzConfig(f *testing.F) {
	f.Add(DefaultYAML)
	f.Add([]byte("domain: relay.example\nlimits: {month: 1TB}\n"))
	f.Add([]byte("listen:\n  tcp: [/ip4/0.0.0.0/tcp/4001]\n"))
	f.Add([]byte("announce: {ip4: 203.0.113.7}\n---\n"))
	f.Add([]byte("psf:\n  bootstrap:\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := DefaultConfig()
		if config.Decode("fuzz.yaml", data, &c) != nil || c.Validate() != nil {
			return
		}
		for _, k := range Transports {
			for _, a := range *k.addrs(&c.Listen) {
				if k.check(a) != nil {
					t.Errorf("an address that does not fit: %s", a)
				}
			}
		}
		l := Capacity{Memory: 512 << 20, Files: 4096}.Derive(c.Limits).Fill(c.Limits)
		if l.GuestReservations > l.Reservations || l.GuestCircuits > l.Circuits || l.Reservations < 1 || l.Buffer <= 0 {
			t.Errorf("limits %+v", c.Limits)
		}
	})
}
