package bounty

import (
	"fmt"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// committee signs rosters and rules one after the other.
type committee struct {
	t    *testing.T
	name string
	sign func([]byte) []byte
	key  string
}

func newCommittee(t *testing.T) *committee {
	signer, key := logKey(t, "committee.example.org")
	return &committee{t, "committee.example.org", func(b []byte) []byte { return mustSign(t, b, signer) }, key}
}

func (c *committee) roster(text string, before []byte, now evidence.Hour) ([]byte, error) {
	var p *Previous
	if before != nil {
		p = &Previous{"before", before, c.key}
	}
	out, _, err := NextRoster("roster", []byte(text), p, now)
	if err != nil {
		return nil, err
	}
	return c.sign(out), nil
}

func (c *committee) rules(text string, before []byte, now evidence.Hour) ([]byte, error) {
	var p *Previous
	if before != nil {
		p = &Previous{"before", before, c.key}
	}
	out, _, err := NextRules("rules", []byte(text), p, now)
	if err != nil {
		return nil, err
	}
	return c.sign(out), nil
}

func wants(t *testing.T, what string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

func TestNextRoster(t *testing.T) {
	c, now := newCommittee(t), hour(t, "2026-11-15T12:00:00Z")
	text := "# kept by the committee\n" + wholeRoster(t, nil) + "# the end\n"
	first, err := c.roster(text, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.roster(string(first), first, now) // signed as it was, with its old serial
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := OpenRoster("roster", second, c.key)
	if err != nil || r.Serial != 2 || r.Previous != hashOf(first) {
		t.Fatalf("got %+v, %v", r.Link(), err)
	}
	want := strings.Replace(text, "serial: 1\n", "", 1)
	want = strings.Replace(want, "version: 1\n", "version: 1\nserial: 2\nprevious: "+hashOf(first)+"\n", 1)
	if got, _ := Text(second); string(got) != want {
		t.Errorf("all else stays as it was: got\n%s", got)
	}
	_, err = c.roster(strings.Replace(want, "serial: 2\n", "", 1), second, now)
	wants(t, "by hand, without a serial", err, "")
	// A file without a version, and one that no line can be written into.
	for text, want := range map[string]string{
		"# words\nnetwork: psf\n":       "",
		"network: psf\nserial: 7 # old": "",
		"{network: psf}\n":              "cannot be written into it",
		"{network: psf, serial: 1}\n":   "cannot be written into it",
		"---\nnetwork: psf\n":           "",
		"":                              "network: want psf or lab",
	} {
		_, err := c.roster(text, nil, now)
		wants(t, fmt.Sprintf("%q", text), err, want)
	}
	_, other := logKey(t, "committee.example.org")
	_, _, err = NextRoster("roster", second, &Previous{"before", second, other}, now)
	wants(t, "another's", err, "no signature by the committee's key")
	_, err = c.roster(wholeRoster(t, nil), second, now)
	wants(t, "another roster altogether", err, "changes what was in force")
}

func TestNextRules(t *testing.T) {
	c, now := newCommittee(t), hour(t, "2026-11-15T12:00:00Z")
	from := func(month string) string {
		return strings.Replace(string(DefaultRules), "from: 1970-01", "from: "+month, 1)
	}
	first, err := c.rules(from("2026-11"), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.rules(from("2026-12"), first, now)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := OpenRules("rules", second, c.key)
	if err != nil || r.Serial != 2 || r.Previous != hashOf(first) || r.From != month(t, "2026-12") {
		t.Fatalf("got %+v, %v", r, err)
	}
	_, err = c.rules(from("2026-12"), second, now)
	wants(t, "twice from the same month", err, "from: 2026-12 is not after 2026-12")
	_, err = c.rules(from("2026-12"), second, hour(t, "2026-12-01T00:00:00Z"))
	wants(t, "from a month that has begun", err, "from: 2026-12 has begun: the first month that new rules can judge is 2027-01")
	_, err = c.rules(strings.Replace(from("2027-01"), "network: psf", "network: lab", 1), second, now)
	wants(t, "for another network", err, "network: it was psf")
	_, err = c.rules("network: lab\n", nil, now)
	wants(t, "not complete", err, "missing: ")
	_, err = c.rules(from("1970-01"), nil, now)
	wants(t, "the first may judge any month", err, "")
}

func TestChain(t *testing.T) {
	links := []Link{{1, "a", ""}, {2, "b", "a"}, {3, "c", "b"}, {4, "d", "c"}, {5, "e", "d"}}
	l := func(n ...int) (out []Link) {
		for _, i := range n {
			out = append(out, links[i-1])
		}
		return out
	}
	for _, tc := range []struct {
		name  string
		held  []Link
		of    Link
		newer int
		want  string
	}{
		{"the newest", l(5), links[4], 0, ""},
		{"the one before", l(5), links[3], 1, ""},
		{"two before", l(5), links[2], 0, "the bundle's roster file has serial 3, and the oldest that you hold has 5: bring serial 4 along"},
		{"an older one that is held", l(3, 5, 4), links[2], 2, ""},
		{"before the oldest that is held", l(4, 3, 5), links[1], 3, ""},
		{"given twice", l(5, 4, 5, 4), links[3], 1, ""},
		{"newer", l(4), links[4], 0, "the bundle's roster file is newer (serial 5) than yours (serial 4): get the committee's newest"},
		{"another of the same serial", l(5, 4), Link{4, "x", "c"}, 0, "the bundle's roster file, serial 4, is another file than yours"},
		{"another one before", l(5), Link{4, "x", "c"}, 0, "is not the one that your serial 5 follows"},
		{"a gap", l(5, 3), links[2], 0, "roster serial 4 is missing between serials 3 and 5"},
		{"a wide gap", l(1, 5), links[2], 0, "roster serial 2 is missing between serials 1 and 5"},
		{"two chains", append(l(4), Link{5, "e", "x"}), links[2], 0, "roster serial 5 does not follow the serial 4 that is held"},
		{"two of one serial", append(l(4), Link{4, "x", "c"}), links[2], 0, "two files of roster serial 4"},
		{"no serials, the same", []Link{{0, "a", ""}}, Link{0, "a", ""}, 0, ""},
		{"no serials, another", []Link{{0, "a", ""}}, Link{0, "b", ""}, 0, "another roster file than yours"},
		{"no serial in one", l(5), Link{0, "b", ""}, 0, "another roster file than yours"},
		{"two without serials", []Link{{0, "a", ""}, {0, "b", ""}}, Link{0, "b", ""}, 0, "has no serial"},
		{"none", nil, Link{0, "b", ""}, 0, "no file is held"},
	} {
		c, err := ChainOf("roster", tc.held...)
		newer := 0
		if err == nil {
			newer, err = c.Find(tc.of)
		}
		if newer != tc.newer {
			t.Errorf("%s: %d are newer, want %d", tc.name, newer, tc.newer)
		}
		wants(t, tc.name, err, tc.want)
	}
}

func TestSucceeds(t *testing.T) {
	for _, tc := range []struct {
		name     string
		old, now Link
		want     string
	}{
		{"the same", Link{2, "b", "a"}, Link{2, "b", "a"}, ""},
		{"the next", Link{2, "b", "a"}, Link{3, "c", "b"}, ""},
		{"one was missed", Link{2, "b", "a"}, Link{4, "d", "c"}, ""},
		{"older", Link{2, "b", "a"}, Link{1, "a", ""}, "serial 1 is older than serial 2"},
		{"none any more", Link{2, "b", "a"}, Link{0, "a", ""}, "serial 0 is older than serial 2"},
		{"another", Link{2, "b", "a"}, Link{2, "x", "a"}, "serial 2 is another file than the serial 2"},
		{"of another chain", Link{2, "b", "a"}, Link{3, "c", "x"}, "serial 3 does not follow the serial 2"},
		{"the first with a serial", Link{0, "x", ""}, Link{1, "a", ""}, ""},
		{"a lab's", Link{0, "x", ""}, Link{0, "y", ""}, ""},
	} {
		wants(t, tc.name, tc.now.Succeeds(tc.old), tc.want)
	}
}

// Controls count in the hours of their terms alone.
func TestControlTerms(t *testing.T) {
	h := hour(t, "2026-11-10T00:00:00Z")
	end := h
	r := &Roster{Controls: []ControlHost{
		{Name: "ever", TCP4: "x", WSS: "y"}, {Name: "gone", TCP4: "x", WSS: "y", Term: Term{Until: &end}}, {Name: "new", TCP4: "x", WSS: "y", Term: Term{From: h}},
	}}
	relay := &Relay{PeerID: "relay"}
	for at, want := range map[evidence.Hour]string{h - 1: "[ever gone]", h: "[ever new]"} {
		if got := fmt.Sprint(r.controlsFor(relay, evidence.WSS, at)); got != want {
			t.Errorf("%s: got %s, want %s", at, got, want)
		}
	}
}

// Two relays at one address are refused in the hours in which both are there.
func TestOneRelayAnAddress(t *testing.T) {
	h := func(s string) evidence.Hour { return hour(t, s) }
	early, mid, late := h("2026-11-01T00:00:00Z"), h("2026-11-10T00:00:00Z"), h("2026-11-20T00:00:00Z")
	a := Address{IPv4: "198.41.0.4", TCPPort: 4001, Domain: "a.example.org"}
	otherPort := Address{IPv4: "198.41.0.4", TCPPort: 4002, Domain: "b.example.org"}
	sameName := Address{IPv4: "198.41.0.5", TCPPort: 4001, Domain: "a.example.org"}
	elsewhere := Address{IPv4: "198.41.0.6", TCPPort: 4001, Domain: "c.example.org"}
	for _, tc := range []struct {
		name     string
		one, two Relay
		psf, lab bool // refused
	}{
		{"elsewhere", Relay{Address: a, Enrolled: early}, Relay{Address: elsewhere, Enrolled: early}, false, false},
		{"the same", Relay{Address: a, Enrolled: early}, Relay{Address: a, Enrolled: mid}, true, true},
		{"another port", Relay{Address: a, Enrolled: early}, Relay{Address: otherPort, Enrolled: mid}, true, false},
		{"the same name", Relay{Address: a, Enrolled: early}, Relay{Address: sameName, Enrolled: mid}, true, false},
		{"one after the other", Relay{Address: a, Enrolled: early, Until: &mid}, Relay{Address: a, Enrolled: mid}, false, false},
		{"one within the other", Relay{Address: a, Enrolled: early}, Relay{Address: a, Enrolled: mid, Until: &late}, true, true},
		{"moved away", Relay{Address: a, Enrolled: early, Moves: []Move{{From: mid, Address: elsewhere}}}, Relay{Address: a, Enrolled: mid}, false, false},
		{"moved in", Relay{Address: a, Enrolled: early}, Relay{Address: elsewhere, Enrolled: early, Moves: []Move{{From: late, Address: a}}}, true, true},
		{"would have moved in", Relay{Address: a, Enrolled: early}, Relay{Address: elsewhere, Enrolled: early, Until: &mid, Moves: []Move{{From: late, Address: a}}}, false, false},
		{"moves and comes back", Relay{Address: a, Enrolled: early, Moves: []Move{{From: mid, Address: elsewhere}, {From: late, Address: a}}}, Relay{Address: a, Enrolled: mid, Until: &late}, false, false},
	} {
		for _, n := range []evidence.Network{evidence.PSF, evidence.Lab} {
			tc.one.PeerID, tc.two.PeerID = "one", "two"
			var f faults
			(&Roster{Network: n, Relays: []Relay{tc.one, tc.two}}).validateAddresses(&f)
			if want := n == evidence.PSF && tc.psf || n == evidence.Lab && tc.lab; want != (f != nil) {
				t.Errorf("%s, %s: got %v, want refused: %v", tc.name, n, f, want)
			}
			for _, err := range f {
				if !strings.Contains(err.Error(), "relays[") || !strings.Contains(err.Error(), "at the same address as") {
					t.Errorf("%s: %v", tc.name, err)
				}
			}
		}
	}
	// Three in a row: the one that stays longest is compared, not the last.
	var f faults
	(&Roster{Network: evidence.PSF, Relays: []Relay{
		{PeerID: "a", Address: a, Enrolled: early}, {PeerID: "b", Address: a, Enrolled: early + 1, Until: &mid}, {PeerID: "c", Address: a, Enrolled: late},
	}}).validateAddresses(&f)
	if len(f) != 4 { // by address and by name
		t.Errorf("got %v", f)
	}
}
