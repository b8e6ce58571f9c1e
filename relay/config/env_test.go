package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/config"
)

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relayd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a PSF operator has in his .env starts relayd in the same place.
func TestEnvironmentOfServiceProvider(t *testing.T) {
	o, err := ReadOrigin("", environment(
		"ENABLE_CIRCUIT_RELAY", "1", "IPFS_TCP_PORT", "4101", "IPFS_WS_PORT", "4103", "CR_DOMAIN", "Relay.Example.org",
		"COORD_NAME", "alice-relay", "CONNECT_PREF", "cr", "DEBUG_LEVEL", "3"))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Listen.TCP = multiaddrs(t, "/ip4/0.0.0.0/tcp/4101", "/ip6/::/tcp/4101")
	want.Listen.QUIC = multiaddrs(t, "/ip4/0.0.0.0/udp/4101/quic-v1", "/ip6/::/udp/4101/quic-v1")
	want.Listen.WebTransport = multiaddrs(t, "/ip4/0.0.0.0/udp/4101/quic-v1/webtransport", "/ip6/::/udp/4101/quic-v1/webtransport")
	want.Listen.WebRTC = multiaddrs(t, "/ip4/0.0.0.0/udp/4101/webrtc-direct", "/ip6/::/udp/4101/webrtc-direct")
	want.Domain, want.Name, want.Log.Level = "relay.example.org", "alice-relay", slog.LevelDebug
	want.Alerts.Subject = want.Domain
	if !reflect.DeepEqual(o.Config, want) {
		t.Errorf("got %+v\nwant %+v", o.Config, want)
	}
	if !o.Given() || len(o.Notes) != 2 || !strings.Contains(o.Notes[0], "IPFS_WS_PORT") || !strings.Contains(o.Notes[1], "CONNECT_PREF") {
		t.Errorf("notes %q", o.Notes)
	}
}

func TestEmptyEnvironmentIsTheDefaults(t *testing.T) {
	pairs := []string{"PATH", "/bin"}
	for _, v := range variables {
		pairs = append(pairs, v.name, "")
	}
	o, err := ReadOrigin("", environment(pairs...))
	if err != nil || !reflect.DeepEqual(o.Config, DefaultConfig()) || o.Notes != nil || o.Given() {
		t.Errorf("%v: %+v", err, o)
	}
	for _, v := range o.Values() {
		if v.Source != (Source{Kind: "default"}) {
			t.Errorf("%s: source %s", v.Key, v.Source)
		}
	}
}

func TestPrecedence(t *testing.T) {
	path := writeConfig(t, "name: from-file\nlisten:\n  tcp: [/ip4/0.0.0.0/tcp/5000]\nlog:\n  format: json\n")
	o, err := ReadOrigin(path, environment("COORD_NAME", "from-environment", "CR_DOMAIN", "relay.example.org", "IPFS_TCP_PORT", "4101"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Value{}
	for _, v := range o.Values() {
		got[v.Key] = v
	}
	for key, want := range map[string]Value{
		"name":         {Key: "name", Value: "from-file", Source: Source{"file", path + ":1"}},
		"domain":       {Key: "domain", Value: "relay.example.org", Source: Source{"environment", "CR_DOMAIN"}},
		"listen.tcp":   {Key: "listen.tcp", Value: []string{"/ip4/0.0.0.0/tcp/5000"}, Source: Source{"file", path + ":3"}},
		"listen.quic":  {Key: "listen.quic", Value: []string{"/ip4/0.0.0.0/udp/4101/quic-v1", "/ip6/::/udp/4101/quic-v1"}, Source: Source{"environment", "IPFS_TCP_PORT"}},
		"log.format":   {Key: "log.format", Value: "json", Source: Source{"file", path + ":5"}},
		"log.level":    {Key: "log.level", Value: "info", Source: Source{Kind: "default"}},
		"limits.month": {Key: "limits.month", Value: "1TB", Source: Source{Kind: "default"}},
	} {
		if diff := cmp.Diff(want, got[key]); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
}

// Each value stands once in the list, and what is printed reads back as the same
// configuration.
func TestPrintedConfigMeansTheSame(t *testing.T) {
	path := writeConfig(t, "name: \"a \\\"quoted\\\" # name: with signs\"\nannounce: {ip4: 198.51.100.7, addrs: [/ip4/198.51.100.7/tcp/14001]}\nlimits: {guest_circuit_time: 90s, month: 1500GB}\n")
	o, err := ReadOrigin(path, environment("DEBUG_LEVEL", "3"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := o.YAML()
	if err != nil {
		t.Fatal(err)
	}
	var again Config
	if err := config.Decode("printed", []byte(text), &again); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(again.Announce.Addrs) == 0 || again.Log.Level != slog.LevelDebug {
		t.Errorf("the printed one lost values:\n%s", text)
	}
	fromPrinted, err := ReadOrigin(writeConfig(t, text), environment())
	if err != nil {
		t.Fatal(err)
	}
	want := o.Values()
	got := fromPrinted.Values()
	for i := range got {
		if got[i].Kind != "file" {
			t.Errorf("%s is missing in what was printed", got[i].Key)
		}
		want[i].Source, got[i].Source = Source{}, Source{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for key := range config.Lines(DefaultYAML) {
		n := 0
		for _, v := range want {
			if v.Key == key || strings.HasPrefix(v.Key, key+".") {
				n++
			}
		}
		if n == 0 {
			t.Errorf("%s of default.yaml is not printed", key)
		}
	}
}

func TestFaultsNameTheirSource(t *testing.T) {
	path := writeConfig(t, "abuse_contact: nobody\nlisten:\n  http: here\nalerts:\n  webhooks:\n  - x\n  - y\n")
	_, err := ReadOrigin(path, environment("CR_DOMAIN", "https://relay.example.org/", "IPFS_TCP_PORT", "70000", "IPFS_WS_PORT", "ws", "DEBUG_LEVEL", "all"))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"environment IPFS_TCP_PORT: want a port, 1 to 65535, not \"70000\"",
		"environment IPFS_WS_PORT: want a port",
		"environment DEBUG_LEVEL: want 0 to 3, not \"all\"",
		"(environment CR_DOMAIN)",
		"(file " + path + ":1)",
		"(file " + path + ":3)",
		"alerts.webhooks[0]: want an address such as https://alerts.example.org/hook (file " + path + ":6)",
		"alerts.webhooks[1]: want an address such as https://alerts.example.org/hook (file " + path + ":7)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if _, err := ReadOrigin(filepath.Join(t.TempDir(), "none.yaml"), environment()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
}

// The table that operators read names each variable and each key that it sets.
func TestEnvironmentHelp(t *testing.T) {
	help := EnvironmentHelp()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variables {
		if row := "| `" + v.name + "` | " + v.help + " |\n"; !strings.Contains(string(readme), row) {
			t.Errorf("README.md lacks the row %s", row)
		}
		if !strings.Contains(help, v.name+". ") {
			t.Errorf("%s is not described", v.name)
		}
		for _, key := range v.keys {
			if !strings.Contains(v.help, key) {
				t.Errorf("%s does not say that it sets %s", v.name, key)
			}
		}
	}
}
