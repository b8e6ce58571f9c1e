package secondverifier

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// second is the other program's judge: a request a line, and an answer for each.
type second struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

func startSecond(t testing.TB) *second {
	t.Helper()
	need.Tools(t, "node")
	cmd := exec.Command("node", filepath.Join(folder, "judge.mjs"), "--facts")
	cmd.Stderr = os.Stderr
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/phuslu/iploc").Output()
	if err != nil {
		t.Fatalf("the folder of the data on countries: %v", err)
	}
	cmd.Env = append(os.Environ(), "VERIFIER_IPLOC="+string(bytes.TrimSpace(module)))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("judge.mjs: %v", err)
		}
	})
	return &second{t, in, bufio.NewReaderSize(out, 1<<20)}
}

// judge is what the other program makes of the facts: a report, or why it refuses.
func (s *second) judge(f facts) (report any, refusal string) {
	s.t.Helper()
	line, err := json.Marshal(f)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		s.t.Fatal(err)
	}
	answer, err := s.out.ReadBytes('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	var a struct {
		Report any    `json:"report"`
		Error  string `json:"error"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		s.t.Fatal(err)
	}
	return a.Report, a.Error
}

// The facts, as docs/verifier/facts.md describes them.
type (
	facts struct {
		Rules    input      `json:"rules"`
		Roster   input      `json:"roster"`
		Releases *input     `json:"releases"`
		Relay    string     `json:"relay"`
		Month    string     `json:"month"`
		Logs     []logFacts `json:"logs"`
	}
	input struct {
		Text     string   `json:"text"`
		SHA256   string   `json:"sha256"`
		SignedBy []string `json:"signedBy"`
	}
	logFacts struct {
		Key     string      `json:"key"`
		Void    string      `json:"void"`
		Origin  string      `json:"origin"`
		Network string      `json:"network"`
		Month   string      `json:"month"`
		Relay   string      `json:"relay"`
		Size    int64       `json:"size"`
		Root    string      `json:"root"`
		Digest  string      `json:"digest"`
		Tip     tipFacts    `json:"tip"`
		Hours   []hourFacts `json:"hours"`
	}
	tipFacts struct {
		End      int64      `json:"end"`
		Cosigned []cosigned `json:"cosigned"`
	}
	hourFacts struct {
		Header    evidence.Header  `json:"header"`
		Record    *evidence.Record `json:"record"`
		Cosigned  []cosigned       `json:"cosigned"`
		Round     string           `json:"round"`
		Due       *int64           `json:"due"`
		PlanFault string           `json:"planFault"`
		Vouchers  []voucher        `json:"vouchers"`
	}
	cosigned struct {
		Witness string `json:"witness"`
		At      int64  `json:"at"`
	}
	voucher struct {
		State   evidence.VoucherState `json:"state"`
		Expires int64                 `json:"expires"`
		Beacon  bool                  `json:"beacon"`
		Witness string                `json:"witness"`
	}
)

func cosignedOf(list []evidence.Cosigned) []cosigned {
	out := []cosigned{}
	for _, c := range list {
		out = append(out, cosigned{c.Witness, c.At.UnixMilli()})
	}
	return out
}

// factsOf are the facts of a case. The texts are those of its files, signed or not.
func factsOf(t testing.TB, c bounty.Case, rules, roster, releases []byte) facts {
	t.Helper()
	of := func(file []byte, sha string, by []string) input {
		text, _ := bounty.Text(file)
		return input{string(text), sha, by}
	}
	f := facts{Rules: of(rules, c.Rules.SHA256, c.RulesSignedBy), Roster: of(roster, c.Roster.SHA256, c.RosterSignedBy), Relay: c.Relay, Month: c.Month.String(), Logs: []logFacts{}}
	if c.Releases != nil {
		r := of(releases, c.Releases.SHA256, nil)
		f.Releases = &r
	}
	for _, log := range c.Logs {
		l := logFacts{Key: log.Key, Void: log.Void, Hours: []hourFacts{}}
		m, err := log.Read(func(h evidence.VerifiedHour) error {
			l.Hours = append(l.Hours, hourOf(h))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		l.Origin, l.Network, l.Month, l.Relay = m.Origin, string(m.Network), m.Month.String(), m.Relay
		l.Size, l.Root, l.Digest = m.Size, m.Root.String(), m.Digest
		l.Tip = tipFacts{int64(m.Tip.End), cosignedOf(m.Tip.Cosigned)}
		f.Logs = append(f.Logs, l)
	}
	return f
}

func hourOf(h evidence.VerifiedHour) hourFacts {
	out := hourFacts{Header: h.Header, Record: h.Record, Cosigned: cosignedOf(h.Cosigned), PlanFault: h.PlanFault, Round: hex.EncodeToString(h.Round)}
	if !h.Due.IsZero() {
		due := h.Due.UnixMilli()
		out.Due = &due
	}
	for _, v := range h.Vouchers {
		out.Vouchers = append(out.Vouchers, voucher{v.State, v.Expires.UnixMilli(), v.Beacon, v.Witness})
	}
	return out
}

// differences are the members in which two values of JSON differ.
func differences(where string, first, second any) []string {
	if reflect.DeepEqual(first, second) {
		return nil
	}
	var out []string
	a, aMap := first.(map[string]any)
	b, bMap := second.(map[string]any)
	x, aList := first.([]any)
	y, bList := second.([]any)
	switch {
	case aMap && bMap:
		var names []string
		for k := range a {
			names = append(names, k)
		}
		for k := range b {
			if _, both := a[k]; !both {
				names = append(names, k)
			}
		}
		slices.Sort(names)
		for _, k := range names {
			_, inA := a[k]
			_, inB := b[k]
			if inA != inB {
				out = append(out, fmt.Sprintf("%s.%s: relayaudit %v, the second %v", where, k, a[k], b[k]))
				continue
			}
			out = append(out, differences(where+"."+k, a[k], b[k])...)
		}
	case aList && bList && len(x) == len(y):
		for i := range x {
			out = append(out, differences(fmt.Sprintf("%s[%d]", where, i), x[i], y[i])...)
		}
	default:
		out = append(out, fmt.Sprintf("%s: relayaudit %v, the second %v", where, first, second))
	}
	return out
}

// agree wants both to come to the same report, in every member.
func agree(t *testing.T, s *second, name string, v *bounty.Verdict, f facts) {
	t.Helper()
	report, refusal := s.judge(f)
	if refusal != "" {
		t.Errorf("%s: relayaudit says %s, the second refuses: %s", name, v.Headline, refusal)
		return
	}
	for i, d := range differences("report", written(t, v), report) {
		if i == 10 {
			t.Errorf("%s: and more", name)
			break
		}
		t.Errorf("%s: %s", name, d)
	}
}

// written is the verdict as report.json has it.
func written(t testing.TB, v *bounty.Verdict) (report any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &report)
	}
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// inZip is a file of a bundle; nil: it is not there.
func inZip(t testing.TB, b []byte, name string) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	data, err := fs.ReadFile(z, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return data
}

// agreeOnBundle verifies a bundle and lets the second judge the same facts.
func agreeOnBundle(t *testing.T, s *second, name string, b []byte, o bundle.Options) *bounty.Verdict {
	t.Helper()
	res, err := bundle.Verify(bytes.NewReader(b), int64(len(b)), o)
	if err != nil {
		t.Fatal(err)
	}
	agree(t, s, name, res.Verdict, factsOf(t, res.Case, inZip(t, b, "inputs/rules.yaml"), inZip(t, b, "inputs/roster.yaml"), inZip(t, b, "inputs/releases.yaml")))
	return res.Verdict
}

// Both come to the same report of months with forks and witnesses of all kinds.
func TestScenes(t *testing.T) {
	s := startSecond(t)
	for _, c := range []struct {
		name, want string
		set        func(w *scene.Scene, in *bundle.Input)
	}{
		{"a fork", "ELIGIBLE", func(w *scene.Scene, in *bundle.Input) {
			in.Forks = [][]byte{w.Fork(w.Monitors[2])}
		}},
		{"late witnesses", "REVIEW, PROVISIONAL", func(w *scene.Scene, _ *bundle.Input) {
			w.Witness = func(by, of *scene.Watcher, sealed time.Time) time.Time { return sealed.Add(2 * time.Hour) }
		}},
		{"witnesses behind", "ELIGIBLE", func(w *scene.Scene, _ *bundle.Input) {
			w.Witness = func(by, of *scene.Watcher, sealed time.Time) time.Time {
				if by == w.Monitors[0] {
					return sealed.Add(-time.Minute)
				}
				return sealed.Add(time.Minute)
			}
		}},
		{"provisional", "ELIGIBLE, PROVISIONAL", func(w *scene.Scene, _ *bundle.Input) {
			w.AsOf = time.Date(2026, 11, 2, 1, 0, 0, 0, time.UTC)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := scene.New(t, evidence.PSF, 3)
			w.Releases = []byte("products:\n- name: relayd\n  agent: relayd/*\n  releases:\n  - {version: v1.2.3, published: 2026-09-01T00:00:00Z}\n")
			in := bundle.Input{Beacon: beacon.Quicknet()}
			c.set(w, &in)
			w.Watch(nil)
			in.Rules, in.Roster, in.Releases, in.Logs = w.RulesFile(), w.Signed(w.RosterYAML()), w.Releases, w.Logs()
			in.Relay, in.Month, in.Sign = w.RelayID, w.First.Month(), w.Monitors[0].Log.SignStatement
			var b bytes.Buffer
			_, err := bundle.Write(&b, in)
			w.Must(err)
			v := agreeOnBundle(t, s, c.name, b.Bytes(), bundle.Options{Rules: in.Rules, Roster: in.Roster, Committee: w.CommitteeKey, Beacon: in.Beacon})
			if v.Headline != c.want {
				t.Errorf("got %s, want %s: %s", v.Headline, c.want, v.Line())
			}
		})
	}
}
