package appliance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const receivers = `alerts:
  receivers:
    - smtp://me%40relay.test:sesame@mail.relay.test:587/?from=me@relay.test&to=you@relay.test
    - ntfy://ntfy.relay.test/sesame
  webhooks: [https://hooks.relay.test/sesame]
  quiet: 22:00-07:00
  digest: 08:00
  time_zone: Europe/Berlin
`

// One setting tells both programs who is to be told. The addresses stand whole in their
// configurations, which are not for everybody, and nowhere else.
func TestAlerts(t *testing.T) {
	f := newFake(t)
	if err := f.firstBoot(strings.Replace(good, "name: alpha", "alerts: [https://hooks.relay.test/sesame-2], name: alpha", 1) + receivers); err != nil {
		t.Fatal(err)
	}
	const both = `alerts:
  digest: "08:00"
  quiet: 22:00-07:00
  receivers:
  - smtp://me%40relay.test:sesame@mail.relay.test:587/?from=me@relay.test&to=you@relay.test
  - ntfy://ntfy.relay.test/sesame
  time_zone: Europe/Berlin
  webhooks:
  - https://hooks.relay.test/sesame
`
	for file, want := range map[string]string{"/etc/relayd/relayd.yaml": both, "/etc/relaymon/relaymon.yaml": both + "  - https://hooks.relay.test/sesame-2\n"} {
		if got := f.text(file); !strings.Contains(got, want) {
			t.Errorf("%s is\n%s\nwant in it\n%s", file, got, want)
		}
		info, err := os.Stat(f.path(file))
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: got mode %v, %v; want 0640", file, info.Mode(), err)
		}
	}
	if err := os.Chmod(f.path(SettingsPath), 0o600); err != nil {
		t.Fatal(err)
	}
	all, remarks, err := f.Alerts()
	if err != nil || len(remarks) > 0 {
		t.Fatalf("got %v, %v; want no fault", err, remarks)
	}
	if len(all.Receivers) != 2 || len(all.Webhooks) != 2 || all.TimeZone != "Europe/Berlin" || all.Subject != "relay.test" {
		t.Errorf("got %d receivers and %d webhooks of %s in %s, want each once", len(all.Receivers), len(all.Webhooks), all.Subject, all.TimeZone)
	}
	f.wantNoSecret()
	// The relay's configuration is for everybody when nobody is to be told.
	if err := f.firstBoot(good); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(f.path("/etc/relayd/relayd.yaml")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("got mode %v, %v; want 0644", info.Mode(), err)
	}
	if all, _, err := f.Alerts(); err != nil || all.Any() {
		t.Errorf("got %v, %v; want nobody", all, err)
	}
}

// wantNoSecret looks at what is printed of the machine, and at what first-boot has written
// besides the programs' configurations.
func (f *fake) wantNoSecret() {
	f.t.Helper()
	s, err := f.Settings()
	if err != nil {
		f.t.Fatal(err)
	}
	asJSON, err := json.Marshal(s)
	if err != nil {
		f.t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(s)
	if err != nil {
		f.t.Fatal(err)
	}
	st, err := f.Status(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	status, err := json.Marshal(st)
	if err != nil {
		f.t.Fatal(err)
	}
	printed := fmt.Sprintf("%+v %#v %s %s %s %s %q %s %s", s, s, asJSON, asYAML, status, st.Text(), f.said, f.text(reportPath), f.text(writtenPath))
	if strings.Contains(printed, "sesame") {
		f.t.Errorf("a secret is printed: %s", printed)
	}
	// Every other file that first-boot has written, too.
	err = filepath.WalkDir(f.path("/"), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		switch name := strings.TrimPrefix(path, f.path("/")); name {
		case "/etc/relayd/relayd.yaml", "/etc/relaymon/relaymon.yaml", SettingsPath:
		default:
			if strings.Contains(string(b), "sesame") {
				f.t.Errorf("%s holds a secret", name)
			}
		}
		return err
	})
	if err != nil {
		f.t.Error(err)
	}
}

// User-data with receivers is kept by others, and says so; what it says has no address.
func TestUserDataWithReceivers(t *testing.T) {
	u := UserData{Settings: good + receivers}
	if got := strings.Join(u.Remarks(), "\n"); !strings.Contains(got, "your provider keeps this file") || strings.Contains(got, "sesame") {
		t.Errorf("got the remarks %q, want one on the passwords", got)
	}
	text, err := u.Render()
	if err != nil || !strings.Contains(string(text), "smtp://me%40relay.test:sesame@mail.relay.test") {
		t.Errorf("got %v, want the settings whole in it", err)
	}
}

// Of receivers that the programs do not know a test would say nothing.
func TestAlertsBeforeFirstBoot(t *testing.T) {
	f := newFake(t)
	f.file(SettingsPath, good+receivers)
	if _, _, err := f.Alerts(); err == nil || !strings.Contains(err.Error(), "first-boot") {
		t.Errorf("got %v, want what to do", err)
	}
	f.file("/etc/relayd/relayd.yaml", "domain: relay.test\n"+receivers)
	_, remarks, err := f.Alerts()
	if err != nil || len(remarks) != 2 || !strings.Contains(remarks[0].Error(), "others can read "+f.path("/etc/relayd")) || !strings.Contains(remarks[1].Error(), "others can read "+f.path(SettingsPath)) {
		t.Errorf("got %v, %v; want a remark on the mode of each file", remarks, err)
	}
	f.file(SettingsPath, good+receivers+"  alertmanagers: [https://new.relay.test/sesame]\n")
	_, remarks, err = f.Alerts()
	if err != nil || len(remarks) != 3 || !strings.Contains(remarks[2].Error(), "first-boot") {
		t.Errorf("got %v, %v; want a remark on the receiver that is new", remarks, err)
	}
	f.file("/etc/relayd/relayd.yaml", "alerts: {receivers: [smtp://sesame]}\n")
	if _, _, err := f.Alerts(); err == nil || !strings.Contains(err.Error(), "/etc/relayd/relayd.yaml:1: alerts.receivers[0]: ") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got %v, want a fault without the address", err)
	}
}
