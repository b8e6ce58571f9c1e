package bounty

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSealed(t *testing.T) {
	h := hour(t, "2026-11-03T13:00:00Z")
	end := h.End()
	good := evidence.Clock{Samples: 60, Synchronised: true, DriftMS: 1999}
	cosigned := func(names string, at time.Time) []evidence.Cosigned {
		var out []evidence.Cosigned
		for _, name := range strings.Fields(names) {
			out = append(out, evidence.Cosigned{Witness: "key of " + name, At: at})
		}
		return out
	}
	sealedAt := end.Add(17 * time.Minute)
	hourMin := end.Add(60 * time.Minute)
	for _, tc := range []struct {
		name      string
		n         int // monitors, each a witness
		clock     evidence.Clock
		cosigned  []evidence.Cosigned
		required  Witnesses
		want      Why
		witnesses int
	}{
		{"one of three monitors is enough", 3, good, cosigned("m2", hourMin), Half, None, 1},
		{"both others", 3, good, cosigned("m2 m3", hourMin), Half, None, 2},
		{"its own does not count", 3, good, cosigned("m1", hourMin), Half, Late, 0},
		{"a second late", 3, good, cosigned("m2", hourMin.Add(time.Second)), Half, Late, 0},
		{"one late, one in time", 3, good, append(cosigned("m2", hourMin.Add(time.Second)), cosigned("m3", hourMin)...), Half, None, 1},
		{"nobody", 3, good, nil, Half, Late, 0},
		{"a stranger", 3, good, cosigned("x y", hourMin), Half, Late, 0},
		{"two of five", 5, good, cosigned("m2 m3", hourMin), Half, None, 2},
		{"one of five", 5, good, cosigned("m2", hourMin), Half, Late, 1},
		{"twice the same of five", 5, good, cosigned("m2 m2", hourMin), Half, Late, 1},
		{"more are required", 3, good, cosigned("m2", hourMin), 2, Late, 1},
		{"none is required", 3, good, nil, 0, None, 0},
		{"no other witness: the rule is off", 1, evidence.Clock{}, nil, Half, None, 0},
		{"the clock was not synchronised", 3, evidence.Clock{Samples: 60}, cosigned("m2", hourMin), Half, Clock, 1},
		{"nobody looked at the clock", 3, evidence.Clock{Synchronised: true}, cosigned("m2", hourMin), Half, Clock, 1},
		{"the witness is 5 s behind", 3, good, cosigned("m2", sealedAt.Add(-5*time.Second)), Half, None, 1},
		{"the witness is further behind", 3, good, cosigned("m2", sealedAt.Add(-6*time.Second)), Half, Clock, 0},
		{"both witnesses are", 3, good, cosigned("m2 m3", sealedAt.Add(-6*time.Second)), Half, Clock, 0},
		{"one witness's clock is wrong", 3, good, append(cosigned("m2", time.Unix(0, 0)), cosigned("m3", hourMin)...), Half, None, 1},
		{"and the other's is late", 3, good, append(cosigned("m2", time.Unix(0, 0)), cosigned("m3", hourMin.Add(time.Second))...), Half, Late, 0},
		{"a wrong one makes up no number", 5, good, append(cosigned("m2", time.Unix(0, 0)), cosigned("m3", hourMin)...), Half, Late, 1},
		{"most of four say so", 5, good, append(cosigned("m2 m3", sealedAt.Add(-6*time.Second)), cosigned("m4", hourMin)...), Half, Clock, 1},
		{"two of four do not", 5, good, append(cosigned("m2 m3", sealedAt.Add(-6*time.Second)), cosigned("m4 m5", hourMin)...), Half, None, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules, roster := Defaults(), bench(tc.n)
			rules.WitnessesRequired = tc.required
			for i := range roster.Monitors {
				roster.Monitors[i].WitnessKey = "key of " + roster.Monitors[i].Name
			}
			vh := &evidence.VerifiedHour{Header: evidence.Header{Hour: h, SealedAt: evidence.TimeOf(sealedAt), Clock: tc.clock}, Cosigned: tc.cosigned}
			got := Sealed(rules, roster, &roster.Monitors[0], tc.n, vh)
			if got.Why != tc.want || len(got.Witnesses) != tc.witnesses {
				t.Errorf("got %q by %v, want %q by %d", got.Why, got.Witnesses, tc.want, tc.witnesses)
			}
		})
	}
	t.Run("nobody vouches for himself", func(t *testing.T) {
		rules, roster := Defaults(), bench(4)
		for i := range roster.Monitors {
			roster.Monitors[i].WitnessKey = "key of " + roster.Monitors[i].Name
			roster.Monitors[i].Operator = []string{"one", "one", "two", "two"}[i]
		}
		roster.Witnesses = []Witness{{Name: "w", Operator: "one", Key: "key of w", Term: Term{From: 1}}}
		vh := &evidence.VerifiedHour{Header: evidence.Header{Hour: h, SealedAt: evidence.TimeOf(sealedAt), Clock: good}, Cosigned: cosigned("m2 w", hourMin)}
		if got := Sealed(rules, roster, &roster.Monitors[0], 2, vh); got.Why != Late || len(got.Witnesses) != 0 {
			t.Errorf("by two of its own operator: got %+v", got)
		}
		vh.Cosigned = append(vh.Cosigned, cosigned("m3", hourMin)...)
		if got := Sealed(rules, roster, &roster.Monitors[0], 2, vh); got.Why != None || len(got.Witnesses) != 1 {
			t.Errorf("and by another's: got %+v", got)
		}
	})
	t.Run("a witness that is no monitor, in its term only", func(t *testing.T) {
		rules, roster := Defaults(), bench(1)
		rules.WitnessesRequired = 1
		roster.Witnesses = []Witness{{Name: "w", Key: "key of w", Term: Term{From: h + 1}}}
		vh := &evidence.VerifiedHour{Header: evidence.Header{Hour: h, Clock: good}, Cosigned: cosigned("w", hourMin)}
		if got := Sealed(rules, roster, &roster.Monitors[0], 1, vh); got.Why != None || got.Witnesses != nil {
			t.Errorf("before its term the rule is off: got %+v", got)
		}
		roster.Witnesses[0].From = h
		if got := Sealed(rules, roster, &roster.Monitors[0], 1, vh); got.Why != None || len(got.Witnesses) != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

func expect(t *testing.T, f Finding, want Outcome, words string) {
	t.Helper()
	if f.Outcome != want || !strings.Contains(strings.Join(f.Reasons, "; "), words) {
		t.Errorf("got %s %q, want %s with %q", f.Outcome, f.Reasons, want, words)
	}
}

func TestAddress(t *testing.T) {
	m := month(t, "2026-11")
	move := func(day int, announced bool, signed bool) Move {
		mv := Move{From: m.First() + evidence.Hour(24*day), Address: Address{IPv4: "198.41.0.5"}}
		mv.Announced = mv.From
		if announced {
			mv.Announced = mv.From - 1
		}
		if signed {
			mv.Statement = Statement{1}
		}
		return mv
	}
	for _, tc := range []struct {
		name   string
		ipv4   string
		moves  []Move
		survey survey
		want   Outcome
		words  string
	}{
		{"unchanged", "198.41.0.4", nil, survey{}, Pass, "all month"},
		{"one announced change", "198.41.0.4", []Move{move(3, true, true)}, survey{}, Review, "announced before it took effect and signed"},
		{"one that was announced too late", "198.41.0.4", []Move{move(3, false, true)}, survey{}, Review, "not announced before"},
		{"one that was registered anew", "198.41.0.4", []Move{move(3, true, false)}, survey{}, Review, "not signed"},
		{"two changes", "198.41.0.4", []Move{move(3, true, true), move(9, true, true)}, survey{}, Fail, "2 changes"},
		{"changes of other months", "198.41.0.4", []Move{move(-3, true, true), move(30, true, true)}, survey{}, Pass, "all month"},
		{"another A record", "198.41.0.4", nil, survey{otherRecord: []Span{{m.First(), m.First() + 2}}}, Warn, "in 2 h"},
		{"a private address", "10.0.0.1", nil, survey{}, Review, "no public address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &Relay{Address: Address{IPv4: tc.ipv4}, Moves: tc.moves}
			expect(t, judgeAddress(Defaults(), r, m, &tc.survey), tc.want, tc.words)
		})
	}
	if differs(nil, "1.1.1.1") || differs([]string{"1.1.1.1"}, "1.1.1.1") || !differs([]string{"1.1.1.1", "2.2.2.2"}, "1.1.1.1") || !differs([]string{"2.2.2.2"}, "1.1.1.1") {
		t.Error("differs")
	}
}

func TestPublic(t *testing.T) {
	for ip, want := range map[string]bool{
		"198.41.0.4": true, "8.8.8.8": true, "1.1.1.1": true, "223.255.255.254": true,
		"10.0.0.1": false, "172.16.0.1": false, "172.32.0.1": true, "192.168.1.1": false, "127.0.0.1": false, "0.0.0.0": false,
		"100.64.0.1": false, "100.127.255.255": false, "100.128.0.0": true, "169.254.1.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"240.0.0.1": false, "192.0.2.1": false, "198.51.100.1": false, "203.0.113.1": false, "198.18.0.1": false,
		"": false, "::1": false, "2001:db8::1": false, "::ffff:8.8.8.8": false, "8.8.8.8/32": false, "008.8.8.8": false, "relay.example.org": false,
	} {
		err := Address{IPv4: ip, TCPPort: 4001, Domain: "relay.example.org"}.Validate(evidence.PSF)
		if (err == nil) != want {
			t.Errorf("%q: %v", ip, err)
		}
	}
	lab := Address{IPv4: "127.0.0.2", TCPPort: 1, Domain: "relay.test"}
	if err := lab.Validate(evidence.Lab); err != nil {
		t.Errorf("a lab may use any address: %v", err)
	}
	for _, d := range []string{"", "localhost", "Relay.example.org", "relay..org", "-a.org", "a-.org", "a_b.org", ".org", "org.", strings.Repeat("a", 64) + ".org", "[::1].org"} {
		if isDomain(d) {
			t.Errorf("domain %q was accepted", d)
		}
	}
}

func TestCertificate(t *testing.T) {
	m := month(t, "2026-11")
	leaf := func(last evidence.Hour, notAfter string, accepted bool) CertificateSeen {
		return CertificateSeen{First: m.First(), Last: last, NotAfter: evidence.TimeOf(at(t, notAfter)), Accepted: accepted}
	}
	h := m.First()
	for _, tc := range []struct {
		name  string
		seen  []CertificateSeen
		want  Outcome
		words string
	}{
		{"none", nil, Review, "no monitor accepted"},
		{"refused", []CertificateSeen{leaf(h, "2027-01-01T00:00:00Z", false)}, Review, "no monitor accepted"},
		{"7 days after the month", []CertificateSeen{leaf(h, "2026-12-08T00:00:00Z", true)}, Pass, "valid until"},
		{"a second less", []CertificateSeen{leaf(h, "2026-12-07T23:59:59Z", true)}, Warn, "expires"},
		{"renewed", []CertificateSeen{leaf(h, "2026-11-05T00:00:00Z", true), leaf(h+100, "2027-02-05T00:00:00Z", true)}, Pass, "valid until"},
		{"the last one counts", []CertificateSeen{leaf(h+100, "2026-12-05T00:00:00Z", true), leaf(h, "2027-02-05T00:00:00Z", true)}, Warn, "expires"},
		{"of two in one hour the longer one", []CertificateSeen{leaf(h, "2027-02-05T00:00:00Z", true), leaf(h, "2026-11-05T00:00:00Z", true)}, Pass, "valid until"},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, judgeCertificate(Defaults(), m, tc.seen), tc.want, tc.words) })
	}
}

func TestSoftware(t *testing.T) {
	m := month(t, "2026-11")
	list, err := release.Parse("releases", []byte(`
products:
- name: relayd
  agent: relayd/*
  releases:
  - {version: v1.0.0, published: 2026-10-01T00:00:00Z}
  - {version: v1.1.0, published: 2026-11-10T12:00:00Z}
  - {version: v1.2.0, published: 2026-11-28T12:00:00Z}
- name: quiet
  agent: "quiet-*-relay"
  releases:
  - {version: 3.0.0, published: 2026-01-01T00:00:00Z}
  - {version: 4.0.0, published: 2026-02-01T00:00:00Z}
`))
	if err != nil {
		t.Fatal(err)
	}
	from := func(day, hour int) evidence.Hour { return m.First() + evidence.Hour(24*(day-1)+hour) }
	run := func(agent string, a, b evidence.Hour) AgentSeen { return AgentSeen{agent, Span{a, b}} }
	for _, tc := range []struct {
		name   string
		agents []AgentSeen
		want   Outcome
		words  string
	}{
		{"never named", nil, Review, "no hour"},
		{"not on the list", []AgentSeen{run("helia/2.0", from(1, 0), from(31, 0))}, Review, "not on the release list"},
		{"a version that is not on the list", []AgentSeen{run("relayd/9.9.9", from(1, 0), from(31, 0))}, Review, "not on the release list"},
		{"the newest at the month's start", []AgentSeen{run("relayd/1.0.0", from(1, 0), from(1, 1))}, Pass, "self-reported"},
		{"old, an hour before 1.1.0 is due", []AgentSeen{run("relayd/1.0.0", from(13, 11), from(30, 0))}, Pass, "newest"},
		{"old, when 1.1.0 is due", []AgentSeen{run("relayd/1.0.0", from(13, 12), from(30, 0))}, Fail, "v1.1.0 had been out for 72 h"},
		{"1.1.0, when 1.2.0 is out but not due", []AgentSeen{run("relayd/1.1.0", from(30, 23), from(31, 0))}, Pass, "newest"},
		{"newer than what is due", []AgentSeen{run("relayd/1.2.0", from(29, 0), from(30, 0))}, Pass, "or newer"},
		{"late, but updated", []AgentSeen{run("relayd/1.0.0", from(14, 0), from(20, 0)), run("relayd/1.1.0", from(20, 0), from(21, 0))}, Pass, "v1.1.0"},
		{"updated to something unknown", []AgentSeen{run("relayd/1.0.0", from(14, 0), from(20, 0)), run("dev", from(20, 0), from(21, 0))}, Review, "not on"},
		{"with a v", []AgentSeen{run("relayd/v1.1.0", from(20, 0), from(21, 0))}, Pass, "v1.1.0"},
		{"something behind the version", []AgentSeen{run("relayd/1.1.0/evil", from(20, 0), from(21, 0))}, Review, "not on"},
		{"a quiet month, newest", []AgentSeen{run("quiet-4.0.0-relay", from(1, 0), from(2, 0))}, Pass, "newest"},
		{"a quiet month, older", []AgentSeen{run("quiet-3.0.0-relay", from(1, 0), from(2, 0))}, Warn, "nothing to do"},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, judgeSoftware(Defaults(), list, m, tc.agents), tc.want, tc.words) })
	}
	expect(t, judgeSoftware(Defaults(), nil, m, []AgentSeen{run("relayd/1.0.0", from(1, 0), from(2, 0))}), Review, "no release list")
	for name, file := range map[string]string{
		"no pattern":     "products: [{name: a, agent: a, releases: [{version: 1, published: 2026-01-01T00:00:00Z}]}]",
		"no releases":    "products: [{name: a, agent: a/*}]",
		"newest first":   "products: [{name: a, agent: a/*, releases: [{version: 2, published: 2026-02-01T00:00:00Z}, {version: 1, published: 2026-01-01T00:00:00Z}]}]",
		"twice":          "products: [{name: a, agent: a/*, releases: [{version: 2, published: 2026-02-01T00:00:00Z}, {version: 2, published: 2026-03-01T00:00:00Z}]}]",
		"no time":        "products: [{name: a, agent: a/*, releases: [{version: 2}]}]",
		"half a time":    "products: [{name: a, agent: a/*, releases: [{version: 2, published: 2026-02-01}]}]",
		"unknown key":    "product: []",
		"future version": "version: 2",
	} {
		if _, err := release.Parse("releases", []byte(file)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// rings is a world in which countries lie at distances from everywhere.
type rings struct {
	near map[string]float64
	a, b string
}

func (r rings) Within(_ Place, km float64) []string {
	var out []string
	for c, d := range r.near {
		if d <= km {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}
func (r rings) Locate(string) (a, b string) { return r.a, r.b }
func (r rings) Sources() []Source           { return nil }

// abroad is a world that looks otherwise from one place than from all others.
type abroad struct {
	rings
	at    Place
	there rings
}

func (a abroad) Within(p Place, km float64) []string {
	if p == a.at {
		return a.there.Within(p, km)
	}
	return a.rings.Within(p, km)
}

func TestRegion(t *testing.T) {
	here, there := Place{1, 2}, Place{40, -80}
	// c is the committee's, o and p are two monitors of one other operator, q is a third one's.
	at := func(name string, p Place, us int64) Disk {
		m := Monitor{Name: name, Operator: map[string]string{"c": "committee", "o": "one", "p": "one", "q": "two"}[name], Committee: name == "c", Place: &p}
		return Defaults().disk(&m, us)
	}
	disk := func(names string, us int64) (out []Disk) {
		for _, name := range strings.Fields(names) {
			out = append(out, at(name, here, us))
		}
		return out
	}
	world := map[string]float64{"SG": 0, "MY": 50, "ID": 100, "IN": 2500, "US": 9000}
	us := map[string]float64{"US": 0, "BR": 5000}
	both := abroad{rings{world, "SG", "SG"}, there, rings{map[string]float64{"US": 0, "SG": 15000}, "", ""}}
	for _, tc := range []struct {
		name  string
		geo   Geo
		claim string
		disks []Disk
		want  Outcome
		words string
	}{
		{"no data", nil, "", nil, Review, "no data"},
		{"1 ms from Singapore, two operators", rings{world, "US", ""}, "", disk("o q", 1000), Pass, "strong"},
		{"one operator's word alone", rings{world, "US", ""}, "", disk("o p", 1000), Review, "decide nothing"},
		{"nor the committee's alone", rings{world, "US", ""}, "", disk("c", 1000), Review, "further than"},
		{"just within eligible land", rings{world, "", ""}, "", disk("c o", 24_980), Pass, "strong"},
		{"the disk touches India", rings{world, "SG", "SG"}, "", disk("c o", 25_010), Pass, "weak"},
		{"the data sets disagree", rings{world, "SG", "US"}, "SG", disk("c o", 25_010), Review, "not the same eligible country"},
		{"both agree on an ineligible country", rings{world, "US", "US"}, "SG", disk("c o", 100_000), Review, "operator claims SG"},
		{"both do, and round trips say otherwise", rings{world, "US", "US"}, "", disk("c o q", 1000), Review, "and yet the relay answered c"},
		{"both agree, no round trip", rings{world, "SG", "SG"}, "", nil, Pass, "no round trip tells more"},
		{"the committee's round trip contradicts", rings{map[string]float64{"IN": 0, "SG": 3000}, "SG", "SG"}, "", disk("c", 25_000), Review, "further than"},
		{"two operators' do", rings{map[string]float64{"IN": 0, "SG": 3000}, "SG", "SG"}, "", disk("o q", 25_000), Review, "further than"},
		{"one operator's does", rings{map[string]float64{"IN": 0, "SG": 3000}, "SG", "SG"}, "", disk("o p", 25_000), Pass, "decide nothing: SG is further than"},
		{"no eligible country is so near", rings{us, "BR", "BR"}, "BR", disk("o q", 33_000), Fail, "vacuum"},
		{"by the committee's word alone", rings{us, "BR", "BR"}, "BR", disk("c", 33_000), Review, "committee's monitor alone"},
		{"by one operator's alone", rings{us, "BR", "BR"}, "BR", disk("o p", 33_000), Pass, "decide nothing"},
		{"barely near enough for light", rings{map[string]float64{"US": 0, "BR": 4950}, "BR", "BR"}, "BR", disk("o q", 33_000), Review, "further than"},
		{"one known data set", rings{world, "SG", ""}, "", disk("c o q", 50_000), Review, "no country"},
		{"another monitor says it is in America", both, "", append(disk("c q", 1000), at("o", there, 1000)), Pass, "decide nothing: the relay answered o"},
		{"two others do", both, "", append(disk("c", 1000), at("o", there, 1000), at("q", there, 1000)), Review, "contradict each other"},
		{"and the committee's is too far to say", both, "", append(disk("c", 200_000), at("o", there, 1000), at("q", there, 1000)), Fail, "vacuum"},
		{"the committee's says it is in America", both, "", append(disk("o q", 1000), at("c", there, 1000)), Review, "contradict each other"},
		{"open sea", rings{nil, "", ""}, "", disk("o q", 1000), Fail, "vacuum"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, judgeRegion(Defaults(), tc.geo, "198.41.0.4", tc.claim, tc.disks), tc.want, tc.words)
		})
	}
	if d := disk("o", 10_000)[0]; d.CableKm != 1001 || d.VacuumKm != 1501 {
		t.Errorf("10 ms: got %+v", d)
	}
}

func TestBrowser(t *testing.T) {
	start := at(t, "2026-11-03T00:00:00Z")
	// c is the committee's monitor, o and p are one other operator's, q is a third one's.
	by := map[string]*Monitor{"c": {Name: "c", Operator: "committee", Committee: true}, "o": {Name: "o", Operator: "one"}, "p": {Name: "p", Operator: "one"}, "q": {Name: "q", Operator: "two"}}
	check := func(name string, hours float64, ok bool) browserCheck {
		return browserCheck{by[name], evidence.TimeOf(start.Add(time.Duration(hours * float64(time.Hour)))), ok}
	}
	for _, tc := range []struct {
		name    string
		checks  []browserCheck
		without []Span
		want    Outcome
		words   string
	}{
		{"no check", nil, nil, Pass, "no check by a real browser"},
		{"passed", []browserCheck{check("o", 0, true)}, nil, Pass, "1 checks"},
		{"failed", []browserCheck{check("c", 0, false)}, nil, Review, "not repeated"},
		{"failed, says one operator", []browserCheck{check("o", 0, false), check("p", 1, false)}, nil, Pass, "decide nothing: the browser check of o"},
		{"failed, say two", []browserCheck{check("o", 0, false), check("q", 1, false)}, nil, Review, "the browser check of q"},
		{"repeated in time", []browserCheck{check("c", 0, false), check("c", 24, true)}, nil, Pass, "1 failed"},
		{"repeated too late", []browserCheck{check("c", 0, false), check("c", 24.01, true)}, nil, Review, "not repeated"},
		{"repeated by another", []browserCheck{check("c", 0, false), check("o", 1, true), check("q", 1, true)}, nil, Review, "not repeated"},
		{"repeated by the committee's", []browserCheck{check("o", 0, false), check("q", 0, false), check("c", 2, true)}, nil, Pass, "2 were repeated"},
		{"success before does not help", []browserCheck{check("c", 0, true), check("c", 1, false)}, nil, Review, "not repeated"},
		{"failed again, then well", []browserCheck{check("c", 0, false), check("c", 10, false), check("c", 20, true)}, nil, Pass, "2 failed"},
		{"an hour up without wss", nil, []Span{{1, 2}}, Review, "in 1 h that count up"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, judgeBrowser(Defaults(), tc.checks, tc.without), tc.want, tc.words)
		})
	}
}

func TestAgreed(t *testing.T) {
	c, o, q := &Monitor{Name: "c", Committee: true}, &Monitor{Name: "o"}, &Monitor{Name: "q"}
	all := []*Monitor{c, o, q}
	for liar := range all { // in each place of the roster
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			var heard []named
			for _, i := range order {
				n := named{all[i], "relayd/1.0.0"}
				if i == liar {
					n.agent = "relayd/9.9.9"
				}
				heard = append(heard, n)
			}
			if got := agreed(heard); got != "relayd/1.0.0" {
				t.Errorf("%s lies, order %v: got %q", all[liar].Name, order, got)
			}
		}
	}
	for name, tc := range map[string]struct {
		heard []named
		want  string
	}{
		"nobody":                         {nil, ""},
		"one":                            {[]named{{o, "a"}}, "a"},
		"one against one":                {[]named{{o, "a"}, {q, "b"}}, ""},
		"one against the committee's":    {[]named{{o, "a"}, {c, "b"}}, "b"},
		"two against the committee's":    {[]named{{o, "a"}, {q, "a"}, {c, "b"}}, "a"},
		"three ways":                     {[]named{{o, "a"}, {q, "b"}, {c, "c"}}, "c"},
		"the committee's say two things": {[]named{{&Monitor{Name: "c2", Committee: true}, "a"}, {c, "b"}}, ""},
	} {
		if got := agreed(tc.heard); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestAssurance(t *testing.T) {
	_, roster, relay, _ := stage(t)
	by := map[string]voter{
		"c": {&Monitor{Name: "c", Operator: "committee", Committee: true}, true}, "d": {&Monitor{Name: "d", Operator: "committee", Committee: true}, true},
		"o": {&Monitor{Name: "o", Operator: "one"}, true}, "p": {&Monitor{Name: "p", Operator: "one"}, true}, "q": {&Monitor{Name: "q", Operator: "two"}, true},
		"u": {&Monitor{Name: "u", Operator: "three"}, false}, "e": {&Monitor{Name: "e", Operator: "committee", Committee: true}, false},
	}
	for _, tc := range []struct {
		voters string
		want   Grade
		words  string
	}{
		{"c o", GradeA, ""},
		{"o c", GradeA, ""},
		{"c o p q u", GradeA, ""},
		{"c", GradeC, "in 1 h too few other operators"},
		{"c d", GradeC, "in 1 h too few other operators"},
		{"o q", GradeB, "in 1 h no monitor of the committee's"},
		{"o p", GradeC, "in 1 h no monitor of the committee's"},
		{"", GradeC, "in 1 h no monitor of the committee's"},
		{"c u", GradeB, "in 1 h no witness of another operator"},
		{"e o q", GradeB, "in 1 h no witness of another operator"},
	} {
		var voters []voter
		for _, name := range strings.Fields(tc.voters) {
			voters = append(voters, by[name])
		}
		a := assurance{}
		for range 599 {
			a.add(Defaults(), []voter{by["c"], by["o"]})
		}
		if got := a.add(Defaults(), voters); got != tc.want {
			t.Errorf("%q: got grade %s, want %s", tc.voters, got, tc.want)
		}
		if tc.want == GradeA {
			expect(t, judgeAssurance(Defaults(), roster, relay, &a), Pass, "600 hours up are assured")
		} else {
			expect(t, judgeAssurance(Defaults(), roster, relay, &a), Review, "599 of the 600 hours")
			expect(t, judgeAssurance(Defaults(), roster, relay, &a), Review, tc.words)
		}
	}
	var a assurance
	for range 600 {
		a.add(Defaults(), []voter{by["c"], by["o"]})
	}
	expect(t, judgeAssurance(Defaults(), bench(3), relay, &a), Review, "no controls")
}

func TestDissent(t *testing.T) {
	first := month(t, "2026-11").First()
	expect(t, judgeDissent(Defaults(), nil, nil), Pass, "in no hour")
	expect(t, judgeDissent(Defaults(), nil, []Span{{first, first + 24}}), Pass, "24 h are unknown although the committee's monitor voted down")
	expect(t, judgeDissent(Defaults(), []Span{{first, first + 24}}, nil), Warn, "24 h count up although")
	expect(t, judgeDissent(Defaults(), []Span{{first, first + 24}, {first + 30, first + 31}}, nil), Review, "25 h count up although")
	var d dissents
	for i := range 3 {
		d.add(&Monitor{Name: "o", Operator: "one"}, Down, StateUp, first+evidence.Hour(i))
	}
	d.add(&Monitor{Name: "q", Operator: "two"}, Up, StateDown, first)
	d.add(&Monitor{Name: "c", Operator: "committee", Committee: true}, Down, StateUp, first)
	d.add(&Monitor{Name: "c", Operator: "committee", Committee: true}, Down, StateUnknown, first+1)
	got := d.sorted()
	if len(got) != 4 || got[0].Monitor != "c" || got[0].Against != StateUnknown || got[1].Against != StateUp || got[2].Monitor != "o" || got[2].Hours != 3 || len(got[2].Spans) != 1 || got[3].Vote != Up {
		t.Errorf("got %+v", got)
	}
}

func TestConclude(t *testing.T) {
	signed := []string{"committee+00000000"}
	m := month(t, "2026-11")
	findings := func(s string) []Finding {
		var out []Finding
		for _, o := range strings.Fields(s) {
			out = append(out, Finding{Rule: "R", Subject: "thing", Outcome: Outcome(o), Reasons: []string{"because"}})
		}
		return out
	}
	for _, tc := range []struct {
		findings string
		network  evidence.Network
		signed   []string
		final    bool
		want     string
	}{
		{"PASS PASS", evidence.PSF, signed, true, "ELIGIBLE"},
		{"PASS WARN", evidence.PSF, signed, true, "ELIGIBLE"},
		{"PASS REVIEW", evidence.PSF, signed, true, "REVIEW"},
		{"INCONCLUSIVE PASS", evidence.PSF, signed, true, "REVIEW"},
		{"FAIL REVIEW", evidence.PSF, signed, true, "NOT_ELIGIBLE"},
		{"REVIEW FAIL", evidence.PSF, signed, true, "NOT_ELIGIBLE"},
		{"PASS", evidence.PSF, signed, false, "ELIGIBLE, PROVISIONAL"},
		{"PASS", evidence.PSF, nil, true, "REVIEW"},
		{"FAIL", evidence.PSF, nil, true, "NOT_ELIGIBLE"},
		{"PASS", evidence.Lab, signed, true, "LAB"},
		{"FAIL", evidence.Lab, nil, true, "LAB"},
		{"PASS", evidence.Lab, nil, false, "LAB, PROVISIONAL"},
	} {
		v := &Verdict{Network: tc.network, Findings: findings(tc.findings)}
		c := &Case{Rules: Defaults(), Month: m, RulesSignedBy: tc.signed, RosterSignedBy: tc.signed}
		v.AsOf = evidence.TimeOf(m.End().Start())
		if tc.final {
			v.AsOf = evidence.TimeOf(v.AsOf.Add(c.Rules.FinalAfter))
		}
		v.conclude(c, &Uptime{Final: tc.final})
		if v.Headline != tc.want || len(v.Reasons) == 0 {
			t.Errorf("%s, %s, final %v: got %s %q, want %s", tc.findings, tc.network, tc.final, v.Headline, v.Reasons, tc.want)
		}
	}
}

// A lab's month is never won, so that losing it early ends nothing.
func TestLabIsProvisionalUntilTimeEndsIt(t *testing.T) {
	m := month(t, "2026-11")
	v := &Verdict{Network: evidence.Lab, Findings: []Finding{{Rule: "R10", Subject: "uptime", Outcome: Fail, Reasons: []string{"too late"}}}}
	v.conclude(&Case{Rules: Defaults(), Month: m}, &Uptime{Final: true})
	if v.Headline != "LAB, PROVISIONAL" {
		t.Errorf("got %s", v.Headline)
	}
}

func TestRules(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Fatal(err)
	}
	lab := []byte("network: lab\n")
	partial, err := ParseRules("lab", lab)
	if err != nil || partial.HoursRequired != 600 || partial.SHA256 != hashOf(lab) {
		t.Errorf("a lab's rules keep the defaults: %+v, %v", partial, err)
	}
	// What is signed, or is for the real network, takes no number from the program.
	signer, _ := logKey(t, "committee")
	for name, file := range map[string][]byte{"empty": nil, "psf": []byte("network: psf\nhours_required: 500\n"), "signed lab": mustSign(t, lab, signer)} {
		if _, _, err := OpenRules("mine", file, ""); err == nil || !strings.Contains(err.Error(), "missing: address_changes, assured_operators, attempt_close") || !strings.Contains(err.Error(), "seal_within, serial, vacuum_km_per_ms") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for line := range strings.Lines(string(DefaultRules)) {
		key, _, ok := strings.Cut(line, ": ")
		if !ok || strings.ContainsAny(key, "# ") || key == "countries" {
			continue
		}
		without := strings.Replace(string(DefaultRules), "\n"+line, "\n", 1)
		if _, err := ParseRules("mine", []byte(without)); err == nil || !strings.Contains(err.Error(), "missing: "+key+":") {
			t.Errorf("without %s: got %v", key, err)
		}
	}
	// Rules that were made before R21 do not name it: it is off, whatever the program's are.
	before := strings.NewReplacer("\nmonitors_due: 7", "", "\ndue_from: 15", "").Replace(string(DefaultRules))
	if r, err := ParseRules("mine", []byte(before)); err != nil || r.MonitorsDue != 0 || r.DueFrom != 0 {
		t.Errorf("rules without R21: got %+v, %v, want both 0", r, err)
	}
	for change, want := range map[string]string{"monitors_due: 1\n": "monitors_due: want at least as many as assured_operators, 2", "due_from: 7\n": "due_from: want more than monitors_due, 7", "monitors_due: 0\n": "missing: monitors_due"} {
		if _, err := ParseRules("lab", []byte("network: lab\n"+change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", change, err, want)
		}
	}
	octal := strings.Replace(string(DefaultRules), "hours_required: 600", "hours_required: 0600", 1)
	if _, err := ParseRules("mine", []byte(octal)); err == nil || !strings.Contains(err.Error(), "without leading zeros: 600") {
		t.Errorf("hours_required: 0600: got %v", err)
	}
	for change, want := range map[string]string{
		"serial: 0\n": "", "serial: -1\n": "serial: want 1, 2, 3", "serial: 2\n": "previous: want the SHA-256 of the file with serial 1",
		"serial: 1\nprevious: " + hashOf(nil) + "\n": "previous: there is no file before the first", "serial: 2\nprevious: " + hashOf(nil) + "\n": "",
		"from: 2026-13\n": "want YYYY-MM",
	} {
		if _, err := ParseRules("lab", []byte("network: lab\n"+change)); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", change, err, want)
		}
	}
	_, err = ParseRules("mine", []byte("hours_requird: 500\nbusy_cap: many\nnetwork: 5g\n"))
	for _, want := range []string{"mine:1:1", `did you mean "hours_required"`, "mine:2:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	_, err = ParseRules("mine", []byte("version: 0\nnetwork: 5g\nhours_required: 0\nrelay_level: 5\ncontrol_share: 2/3\nbusy_cap: -1\ncountries: [SG, SG, Japan]\nvacuum_km_per_ms: 10\nassured_operators: 0\nseal_within: 1s\n"))
	for _, want := range []string{"version:", "network:", "hours_required:", "relay_level:", "busy_cap:", "SG stands twice", `"Japan"`, "vacuum_km_per_ms:", "assured_operators:", "seal_within:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	for _, bad := range []string{"3/2", "0/3", "2", "2/0", "a/b", "1/100"} {
		if _, err := ParseRules("mine", fmt.Appendf(nil, "network: lab\ncontrol_share: %s\n", bad)); err == nil {
			t.Errorf("control_share %s was accepted", bad)
		}
	}
	for w, want := range map[string]int{"half": 2, "0": 0, "3": 3} {
		r, err := ParseRules("mine", fmt.Appendf(nil, "network: lab\nwitnesses_required: %s\n", w))
		if err != nil || r.WitnessesRequired.Of(5) != want || r.WitnessesRequired.String() != w {
			t.Errorf("witnesses_required %s: %v, %v", w, r, err)
		}
	}
	if _, err := ParseRules("mine", []byte("network: lab\nwitnesses_required: -1\n")); err == nil {
		t.Error("witnesses_required -1 was accepted")
	}
}
