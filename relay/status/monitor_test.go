package status

import (
	"encoding/json"
	"strings"
	"testing"
)

// Where an operator's own monitors are is the operator's to know.
func TestPublic(t *testing.T) {
	for url, want := range map[string]string{
		"http://127.0.0.1:8480/monitor/":       "on this machine",
		"http://localhost:8480/":               "on this machine",
		"https://[::1]/":                       "on this machine",
		"https://[::]:8443/":                   "on this machine",
		"https://[::ffff:127.0.0.1]/":          "on this machine",
		"https://10.1.2.3/monitor/":            "in a private network",
		"https://192.168.0.9:8443/":            "in a private network",
		"https://100.64.0.1/":                  "in a private network",
		"https://[fd00::1]/":                   "in a private network",
		"https://[fe80::1%25eth0]/":            "in a private network",
		"https://monitor/":                     "in a private network",
		"https://Monitor.Lan./":                "in a private network",
		"https://m.home.arpa/":                 "in a private network",
		"https://m.internal:8443/monitor/":     "in a private network",
		"https://m.localdomain/":               "in a private network",
		"https://nas.fritz.box/":               "in a private network",
		"https://relay2.example.org/monitor/":  "",
		"https://1.1.1.1/monitor/":             "",
		"https://[2606:4700::1111]/":           "",
		"https://internal.example.org/":        "",
		"https://lan.example:8443/monitor/?x=": "",
	} {
		fault := url + ": tls: failed to verify certificate: x509: certificate is valid for nas.lan"
		s := Status{Monitors: []Monitor{{URL: url, Page: "https://page.example/", Error: fault}}}
		got := s.Public().Monitors[0]
		if got.Place != want {
			t.Errorf("%s: it is %q, want %q", url, got.Place, want)
		}
		if hidden := want != ""; hidden != (got.URL == "") || hidden != (got.Page == "") || hidden == (got.Error == fault) || hidden && got.Host() != want {
			t.Errorf("%s: got %+v, shown as %q", url, got, got.Host())
		}
		_, host, _ := strings.Cut(url, "://")
		host, _, _ = strings.Cut(host, "/")
		if b, err := json.Marshal(s.Public()); err != nil || want != "" && (strings.Contains(string(b), "//"+host) || strings.Contains(string(b), "nas.lan")) {
			t.Errorf("%s: got %s, %v, want no host in it", url, b, err)
		}
		if again := s.Public().Public().Monitors[0]; again != got {
			t.Errorf("%s: made public twice: got %+v, want %+v", url, again, got)
		}
		if s.Monitors[0].URL != url || s.Monitors[0].Error != fault {
			t.Errorf("%s: the status itself was changed", url)
		}
	}
	unknown := Monitor{URL: "https://10.1.2.3/", Error: "it does not know this relay", NotEnrolled: true}
	if got := (Status{Monitors: []Monitor{unknown}}).Public().Monitors[0].Error; got != unknown.Error {
		t.Errorf("got %q, want that it does not know the relay", got)
	}
}
