package appliance

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/psf-relay/relay-appliance/internal/upgrade"
)

const good = `role: both
domain: relay.test
email: me@relay.test
monitor: {name: alpha, roster: /etc/relaymon/roster.yaml}
`

func TestGoodSettings(t *testing.T) {
	for name, text := range map[string]string{
		"a relay":               "role: relay\ndomain: relay.test\nemail: me@relay.test\n",
		"both":                  good,
		"a monitor, nameless":   "role: monitor\nmonitor: {name: a, roster: https://committee.test/roster.yaml}\n",
		"a name like a domain":  "role: monitor\nmonitor: {name: m1.example.org, roster: /r}\n",
		"a monitor with a name": "role: monitor\ndomain: m.relay.test\nemail: me@relay.test\nmonitor: {name: a, roster: /r}\n",
		"all there is": good + `name: The relay of alpha
abuse_contact: https://relay.test/abuse
acme: {directory: https://ca.test/dir, ca_file: /etc/relay-appliance/ca.pem}
announce: {ip4: 198.51.100.7, ip6: 2001:db8::7}
month: 1.5TB
payout: simpleledger:qpm2qsznhks23z7629mms6s4cwef74vcwvg3pncxyr
firewall: off
relayd: {limits: {reservations: 2048}, acme: {}}
relaymon: {network: lab, lab: {resolve: {relay.test: 192.0.2.1}}}
`,
	} {
		if _, err := ParseSettings("f", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each wrong value is named with its line, all of a file at once.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"nothing":        {"", "f: role: missing: write relay, monitor or both"},
		"unknown role":   {strings.Replace(good, "both", "rely", 1), `f:1: role: want relay, monitor or both, not "rely"`},
		"no domain":      {strings.Replace(good, "domain: relay.test\n", "", 1), "f: domain: missing: write the name whose A record leads to this machine"},
		"bad domain":     {strings.Replace(good, "relay.test", "Relay_test", 1), `f:2: domain: want a name in lower case such as relay.example.org, not "Relay_test"`},
		"a URL":          {strings.Replace(good, "relay.test", "https://relay.test", 1), "f:2: domain: want a name"},
		"an address":     {strings.Replace(good, "relay.test", "192.0.2.1", 1), "f:2: domain: want a name"},
		"the example":    {strings.Replace(good, "relay.test", "relay.example.org", 1), "f:2: domain: \"relay.example.org\" is the example: write your own"},
		"no email":       {strings.Replace(good, "email: me@relay.test\n", "", 1), "f: email: missing: write where the certificate authority may write to"},
		"bad email":      {strings.Replace(good, "me@", "me at ", 1), `f:3: email: want a mail address, not "me at relay.test"`},
		"example email":  {strings.Replace(good, "me@relay.test", "you@example.org", 1), "f:3: email: \"you@example.org\" is the example"},
		"tab":            {"role: relay\nacme:\n\tdirectory: x\n", "f:3:1: a tab: indent with spaces"},
		"unknown key":    {good + "emial: x\n", `f:5:1: unknown key "emial"; did you mean "email"?`},
		"no roster":      {strings.Replace(good, ", roster: /etc/relaymon/roster.yaml", "", 1), "f: monitor.roster: missing"},
		"no name":        {strings.Replace(good, "name: alpha, ", "", 1), "f: monitor.name: missing"},
		"bad name":       {strings.Replace(good, "alpha", "al pha", 1), "f:4: monitor.name: want 1 to 100"},
		"capital name":   {strings.Replace(good, "alpha", "Alpha", 1), "f:4: monitor.name: want 1 to 100"},
		"roster nowhere": {strings.Replace(good, "/etc/relaymon/", "", 1), "f:4: monitor.roster: want a path that begins with / or a URL"},
		"plain roster":   {strings.Replace(good, "/etc", "http://x", 1), "f:4: monitor.roster: want a path that begins with / or a URL"},
		"bad alert":      {good[:len(good)-2] + ", alerts: [hooks.test/sesame]}\n", "monitor.alerts[0]: want an address such as"},
		"no receiver":    {good + "alerts:\n  receivers: [smtp://me:sesame@relay.test]\n", "f:6: alerts.receivers[0]: the address is not as smtp wants it"},
		"what is no URL": {good + "alerts: {receivers: [sesame, 'a: sesame']}\n", "f:5: alerts.receivers[1]: there is a space in it"},
		"one in a list":  {good + "alerts:\n  receivers:\n  - ntfy://ntfy.sh/t\n  - ntfy:/sesame\n", "f:8: alerts.receivers[1]: there is no // behind ntfy"},
		"no list":        {good + "alerts: {receivers: smtp://sesame}\n", "f:5:21: alerts.receivers: want a list"},
		"no map":         {good + "alerts: [smtp://sesame]\n", "alerts: want keys with values"},
		"a tagged URL":   {good + "alerts: {receivers: [!!str smtp://sesame]}\n", "tags are not read"},
		"a map for it":   {good + "alerts:\n  receivers:\n    - smtp: //sesame\n", "alerts.receivers[0]: want one value"},
		"hours":          {good + "alerts: {quiet: at night}\n", `f:5: alerts.quiet: want two times of day such as 22:00-07:00, or nothing, not "at night"`},
		"zone":           {good + "alerts: {time_zone: Mars}\n", "f:5: alerts.time_zone: want a name such as Europe/Berlin"},
		"bad roster":     {strings.Replace(good, "/etc/relaymon/roster.yaml", "http://me:sesame@relay.test/roster", 1), "monitor.roster: want a path"},
		"ip4":            {good + "announce: {ip4: \"2001:db8::1\"}\n", "f:5: announce.ip4: want an IPv4 address, not 2001:db8::1"},
		"ip6":            {good + "announce: {ip6: 192.0.2.1}\n", "f:5: announce.ip6: want an IPv6 address, not 192.0.2.1"},
		"month":          {good + "month: much\n", "f:5: month: want an amount"},
		"payout":         {good + "payout: simpleledger:qpm2qsznhks23z7629mms6s4cwef74vcwvg3pncxyq\n", "f:5: payout: "},
		"firewall":       {good + "firewall: ufw\n", "f:5: firewall: want auto or off"},
		"abuse":          {good + "abuse_contact: me\n", "f:5: abuse_contact: want a mail address or a web page"},
		"CA":             {good + "acme: {directory: http://ca.test}\n", "f:5: acme.directory: want a URL that begins with https://"},
		"CA file":        {good + "acme: {ca_file: ca.pem}\n", "f:5: acme.ca_file: want a path that begins with /"},
		"relay's name":   {good + "name: \"a\\tb\"\n", "f:5: name: at most 64 bytes"},
		"no window":      {good + "updates: {window: at night}\n", "f:5:19: updates.window: want a time of day in UTC such as 02:00-05:00"},
		"itself":         {good + "updates:\n  siblings: [relay.test]\n", "f:6: updates.siblings: relay.test stands for one machine"},
		"written twice":  {good + "relayd: {acme: {email: you@relay.test}}\n", "f:5: relayd.acme.email: stands above in these settings already"},
		"monitor twice":  {good + "relaymon:\n  name: beta\n", "f:6: relaymon.name: stands above"},
	} {
		_, err := ParseSettings("f", []byte(c.yaml))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s:\ngot  %v\nwant %s, and no secret", name, err, c.want)
		}
	}
	_, err := ParseSettings("f", []byte("role: relais\ndomain: x\nmonth: y\n"))
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 4 {
		t.Errorf("want role, domain, email and month at once, got %v", err)
	}
}

// What stands in a comment of the defaults is what is in force.
// What is wrong elsewhere does not undo what the operator says of updates.
func TestUpdateSettings(t *testing.T) {
	off := upgrade.DefaultSettings()
	off.Automatic, off.Own = false, "Relay"
	byDefault := upgrade.DefaultSettings()
	for settings, want := range map[string]upgrade.Settings{
		"role: relay\ndomain: Relay\nmonht: 1TB\nupdates: {automatic: false}\n": off,
		"updates: {automatic: false, healthy_within: 1s}\n":                     byDefault,
		"role:\n\tupdates: {automatic: false}\n":                                byDefault,
		"":                                                                      byDefault, // there are none
	} {
		f := newFake(t)
		if settings != "" {
			f.file(SettingsPath, settings)
		}
		got, err := f.UpdateSettings()
		if err == nil {
			t.Errorf("%q: no error", settings)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%q: %s", settings, d)
		}
	}
}

func TestDefaults(t *testing.T) {
	s := DefaultSettings()
	if s.Firewall != "auto" || s.ACME.Directory == "" {
		t.Errorf("defaults %+v", s)
	}
	// These are described here and decided there.
	want := upgrade.DefaultSettings()
	want.Siblings = []string{}
	if d := cmp.Diff(want, s.Updates); d != "" {
		t.Error(d)
	}
	if err := s.Validate(); err == nil || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("of the defaults only the role is missing, not %v", err)
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("relayd: {a: [1, {b: c}]}\nmonitor: {alerts: [x, y]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSettings("f", data)
		if err != nil {
			return
		}
		// What is good can be written for the programs.
		for _, p := range programs {
			if _, err := p.text(s); err != nil {
				t.Errorf("%q: %v", data, err)
			}
		}
	})
}
