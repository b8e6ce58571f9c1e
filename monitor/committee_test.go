package monitor

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// linkedTo is a lab's file with its place in a chain.
func linkedTo(before []byte, serial int, text string) []byte {
	if serial == 1 {
		return []byte("serial: 1\n" + text)
	}
	return fmt.Appendf(nil, "serial: %d\nprevious: %064x\n%s", serial, before, text)
}

// The monitor never goes back to an older roster, or to another one of the same serial:
// not while it runs, and not over a restart.
func TestOlderFilesAreRefused(t *testing.T) {
	m, _, _ := published(t, "true")
	text, err := os.ReadFile(m.cfg.Roster)
	must(t, err)
	put := func(b []byte) {
		t.Helper()
		must(t, os.WriteFile(m.cfg.Roster, b, 0o600))
		m.reread(t.Context(), time.Now())
		m.running.Wait()
	}
	first := linkedTo(nil, 1, string(text))
	second := linkedTo(nil, 2, string(text))
	put(first)
	put(second)
	if got := m.basis().roster.Serial; got != 1 {
		t.Errorf("one that does not follow is in force: serial %d", got)
	}
	second = []byte(strings.Replace(string(second), strings.Repeat("0", 64), m.basis().roster.SHA256, 1))
	put(second)
	if got := m.basis().roster.Serial; got != 2 {
		t.Fatalf("serial %d is in force: %s", got, m.refused)
	}
	for _, tc := range []struct {
		file []byte
		want string
	}{
		{first, "serial 1 is older than serial 2"},
		{text, "serial 0 is older than serial 2"},
		{append(bytes.Clone(second), "# another\n"...), "serial 2 is another file than the serial 2"},
	} {
		put(tc.file)
		if m.basis().roster.SHA256 != fmt.Sprintf("%x", sha256.Sum256(second)) || !strings.Contains(m.refused, tc.want) {
			t.Errorf("serial %d is in force, and the log says %q, want %q", m.basis().roster.Serial, m.refused, tc.want)
		}
		// Bundles and what is explained go by the same.
		if by, err := judgedBy(m.cfg, evidence.MonthOf(time.Now())); err != nil || by.roster.SHA256 != m.basis().roster.SHA256 {
			t.Errorf("a bundle is judged by another roster than is in force: %+v, %v", by, err)
		}
		// As after a restart.
		var said bytes.Buffer
		again := &Monitor{cfg: m.cfg, log: slog.New(slog.NewTextHandler(&said, nil)), store: m.store, machine: m.machine, latest: map[string]*evidence.Attempt{}, seen: map[string]*evidence.Attempt{}}
		must(t, again.prepare())
		defer again.ladder.close()
		if again.basis().roster.SHA256 != m.basis().roster.SHA256 || !strings.Contains(said.String(), tc.want) {
			t.Errorf("after a restart serial %d is in force, and the log says %q, want %q", again.basis().roster.Serial, said.String(), tc.want)
		}
	}
	put(second)
	if m.refused != "" {
		t.Errorf("the newest is refused: %s", m.refused)
	}
}

// Rules wait for the month from which they judge, and those before them are kept for the
// months before.
func TestRulesOfTheMonth(t *testing.T) {
	m, month, _ := published(t, "true")
	now := (month + 1).First().Start()
	put := func(text string) {
		t.Helper()
		must(t, os.WriteFile(m.cfg.Rules, []byte(text), 0o600))
		m.reread(t.Context(), now)
		m.running.Wait()
	}
	put("network: lab\nserial: 1\nhours_required: 500\n")
	first := m.basis().rules
	second := fmt.Sprintf("network: lab\nserial: 2\nprevious: %s\nfrom: %s\nhours_required: 510\n", first.SHA256, month+2)
	put(second)
	if m.basis().rules != first || !strings.Contains(m.refused, "in force from "+(month+2).String()+" on: not used before") {
		t.Errorf("rules of the next month are in force: %q", m.refused)
	}
	now = (month + 2).First().Start()
	put(second)
	if got := m.basis().rules.HoursRequired; got != 510 || m.refused != "" {
		t.Errorf("%d hours are required: %q", got, m.refused)
	}
	for of, want := range map[evidence.Month]int{month: 500, month + 1: 500, month + 2: 510, month + 3: 510} {
		b, err := judgedBy(m.cfg, of)
		if err != nil || b.rules.HoursRequired != want || b.rules.SHA256 != fmt.Sprintf("%x", sha256.Sum256(b.files.rules)) {
			t.Errorf("%s: got %+v, %v, want %d hours", of, b, err, want)
		}
		// The pages count it by the same.
		if got := m.basis().rulesOf(of).HoursRequired; got != want {
			t.Errorf("%s: the pages want %d hours, the bundle %d", of, got, want)
		}
	}
	must(t, os.RemoveAll(shelfOf(m.cfg).dir))
	if _, err := judgedBy(m.cfg, month); err == nil || !strings.Contains(err.Error(), "are not known here: put them in") {
		t.Errorf("got %v", err)
	}
}

// Rules that wait for their month keep no roster waiting, and are not kept as if they had
// been in force.
func TestRulesThatWait(t *testing.T) {
	m, month, _ := published(t, "true")
	now := (month + 1).First().Start()
	text, err := os.ReadFile(m.cfg.Roster)
	must(t, err)
	must(t, os.WriteFile(m.cfg.Rules, []byte("network: lab\nserial: 1\nhours_required: 500\n"), 0o600))
	m.reread(t.Context(), now)
	next := fmt.Sprintf("network: lab\nserial: 2\nprevious: %s\nfrom: %s\n", m.basis().rules.SHA256, month+2)
	must(t, os.WriteFile(m.cfg.Rules, []byte(next), 0o600))
	must(t, os.WriteFile(m.cfg.Roster, linkedTo(nil, 1, string(text)), 0o600))
	for range 2 {
		m.reread(t.Context(), now)
		m.running.Wait()
		if b := m.basis(); b.rules.HoursRequired != 500 || b.roster.Serial != 1 || !strings.Contains(m.refused, "not used before") {
			t.Fatalf("rules for %d hours and roster serial %d are in force: %q", b.rules.HoursRequired, b.roster.Serial, m.refused)
		}
	}

	// A first start that knows no others takes them, and others that are in force later on.
	s := shelfOf(m.cfg)
	must(t, os.RemoveAll(s.dir))
	b, err := readFiles(m.cfg)
	must(t, err)
	last, err := s.lastly(b, m.cfg)
	must(t, err)
	if b, err = s.settle(b, last, m.cfg, evidence.HourOf(now)); err == nil || b.rules.Serial != 2 {
		t.Errorf("got rules serial %d, %v", b.rules.Serial, err)
	}
	must(t, s.remember(b, m.cfg, evidence.HourOf(now)))
	if kept, err := s.serials(ruleFiles); err != nil || len(kept) != 0 {
		t.Errorf("rules that are not in force are kept: %v, %v", kept, err)
	}
}

// Where one of the rules between is not kept, those before it judge no month.
func TestRulesBetweenAreMissing(t *testing.T) {
	s := shelf{t.TempDir()}
	rules := func(serial int, previous string) (*bounty.Rules, []byte) {
		file := fmt.Appendf(nil, "network: lab\nserial: %d\nfrom: 2026-%02d\n", serial, serial)
		if previous != "" {
			file = append(file, "previous: "+previous+"\n"...)
		}
		r, _, err := bounty.OpenRules("rules", file, "")
		must(t, err)
		return r, file
	}
	first, file := rules(1, "")
	must(t, s.keep(ruleFiles, first.Link(), file))
	second, file := rules(2, first.SHA256)
	third, _ := rules(3, second.SHA256)
	if before, err := s.before(third); err != nil || len(before) != 0 {
		t.Errorf("without the second: got %d, %v", len(before), err)
	}
	must(t, s.keep(ruleFiles, second.Link(), file))
	if before, err := s.before(third); err != nil || len(before) != 2 || before[0].Serial != 2 || before[1].Serial != 1 {
		t.Errorf("got %d, %v", len(before), err)
	}
}

// A control is tried in the hours of its term alone.
func TestControlsInForce(t *testing.T) {
	h := evidence.HourOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	l := newLookout([]probe.ControlHost{{Name: "ever"}, {Name: "gone"}, {Name: "new"}})
	l.terms = []bounty.Term{{}, {Until: &h}, {From: h}}
	for at, want := range map[evidence.Hour]string{h - 1: "ever gone", h: "ever new"} {
		var got []string
		for _, host := range l.inForce(at) {
			got = append(got, host.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, want %s", at, got, want)
		}
	}
}
