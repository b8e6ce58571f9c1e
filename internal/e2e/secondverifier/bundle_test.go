package secondverifier

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// What a log shows, as verify.mjs tells it.
type (
	shownLog struct {
		Key     string      `json:"key"`
		Origin  string      `json:"origin"`
		Name    string      `json:"name"`
		Network string      `json:"network"`
		Month   string      `json:"month"`
		Relay   string      `json:"relay"`
		AsOf    int64       `json:"as_of"`
		Size    int64       `json:"size"`
		Root    string      `json:"root"`
		Digest  string      `json:"digest"`
		Tip     tipFacts    `json:"tip"`
		Void    string      `json:"void"`
		Hours   []shownHour `json:"hours"`
	}
	shownHour struct {
		Hour       evidence.Hour  `json:"hour"`
		Record     bool           `json:"record"`
		Attempts   int            `json:"attempts"`
		Cosigned   []cosigned     `json:"cosigned"`
		ClockFault string         `json:"clock_fault"`
		Round      string         `json:"round"`
		Due        *int64         `json:"due"`
		PlanFault  bool           `json:"plan_fault"`
		Vouchers   []shownVoucher `json:"vouchers"`
	}
	shownVoucher struct {
		State   evidence.VoucherState `json:"state"`
		Expires *int64                `json:"expires"`
		Beacon  bool                  `json:"beacon"`
		Witness string                `json:"witness"`
	}
)

func shown(m evidence.VerifiedMonth, key, void string, hours []evidence.VerifiedHour) shownLog {
	out := shownLog{key, m.Origin, m.Name, string(m.Network), m.Month.String(), m.Relay, m.AsOf.UnixMilli(), m.Size, m.Root.String(), m.Digest,
		tipFacts{int64(m.Tip.End), cosignedOf(m.Tip.Cosigned)}, void, []shownHour{}}
	for _, h := range hours {
		s := shownHour{Hour: h.Header.Hour, Record: h.Record != nil, Cosigned: cosignedOf(h.Cosigned), ClockFault: h.ClockFault, PlanFault: h.PlanFault != "", Round: hex.EncodeToString(h.Round), Vouchers: []shownVoucher{}}
		if h.Record != nil {
			s.Attempts = len(h.Record.Attempts)
		}
		if !h.Due.IsZero() {
			due := h.Due.UnixMilli()
			s.Due = &due
		}
		for _, v := range h.Vouchers {
			sv := shownVoucher{v.State, nil, v.Beacon, v.Witness}
			if v.State == evidence.VoucherBound {
				expires := v.Expires.UnixMilli()
				sv.Expires = &expires
			}
			s.Vouchers = append(s.Vouchers, sv)
		}
		out.Hours = append(out.Hours, s)
	}
	return out
}

// logsOf are what the logs of a case show.
func logsOf(t testing.TB, c bounty.Case) []shownLog {
	t.Helper()
	out := []shownLog{}
	for _, log := range c.Logs {
		var hours []evidence.VerifiedHour
		m, err := log.Read(func(h evidence.VerifiedHour) error {
			hours = append(hours, h)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, shown(m, log.Key, log.Void, hours))
	}
	return out
}

// plain is a value as JSON has it.
func plain(t testing.TB, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// golden is a golden bundle and what its reader brings along.
type golden struct {
	name    string
	bundle  []byte
	request request
	options bundle.Options
}

func goldenBundles(t testing.TB) []golden {
	t.Helper()
	var out []golden
	for _, kind := range []string{"golden", "frozen"} {
		dirs, err := filepath.Glob(filepath.Join("../../../monitor/bundle/testdata", kind, "*"))
		if err != nil || len(dirs) == 0 {
			t.Fatalf("%d %s bundles: %v", len(dirs), kind, err)
		}
		for _, dir := range dirs {
			out = append(out, openGolden(t, kind+" "+filepath.Base(dir), dir))
		}
	}
	return out
}

func openGolden(t testing.TB, name, dir string) golden {
	t.Helper()
	path := func(name string) string { return filepath.Join(dir, name) }
	read := func(name string) []byte {
		b, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	g := golden{name, read("bundle.zip"),
		request{Bundle: path("bundle.zip"), Rules: []string{path("rules.yaml")}, Roster: []string{path("roster.yaml")}, Committee: string(read("committee.txt"))},
		bundle.Options{Rules: read("rules.yaml"), Roster: read("roster.yaml"), Committee: string(read("committee.txt")), Beacon: beacon.Quicknet()}}
	if _, err := os.Stat(path("releases.yaml")); err == nil {
		g.request.Releases, g.options.Releases = path("releases.yaml"), read("releases.yaml")
	}
	return g
}

// Both verify every golden bundle, see the same in its logs, and come to the same verdict.
func TestGoldenBundlesFromTheirBytes(t *testing.T) {
	p := startProgram(t)
	for _, g := range goldenBundles(t) {
		t.Run(g.name, func(t *testing.T) {
			res, err := bundle.Verify(bytes.NewReader(g.bundle), int64(len(g.bundle)), g.options)
			if err != nil {
				t.Fatal(err)
			}
			r := g.request
			r.Facts = true
			a := p.ask(r)
			if !a.Verified {
				t.Fatalf("relayaudit says %s, the second verifier refuses: %s", res.Verdict.Headline, a.Error)
			}
			if a.Headline != res.Verdict.Headline || a.Result != string(res.Result) || a.SignedBy != res.SignedBy || a.Files != res.Files || a.Final != res.Final() {
				t.Errorf("got %s (%s, final %v) by %s, %d files, want %s (%s, final %v) by %s, %d files",
					a.Headline, a.Result, a.Final, a.SignedBy, a.Files, res.Verdict.Headline, res.Result, res.Final(), res.SignedBy, res.Files)
			}
			for _, d := range differences("logs", plain(t, logsOf(t, res.Case)), a.Logs) {
				t.Error(d)
			}
		})
	}
}

// flipped is a file of which one byte was changed.
type flipped struct {
	r io.ReaderAt
	c flip
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p, off)
	if i := f.c.At - off; i >= 0 && i < int64(n) {
		p[i] ^= f.c.Xor
	}
	return n, err
}

var long = flag.Bool("long", false, "change every byte of a bundle, not each 97th")

// Both refuse a bundle of which any one byte was changed: with -long each byte, else each
// 97th, of the smallest golden bundle.
func TestEveryByteOfABundle(t *testing.T) {
	p := startProgram(t)
	g := goldenBundles(t)[0]
	for _, other := range goldenBundles(t) {
		if len(other.bundle) < len(g.bundle) {
			g = other
		}
	}
	r := g.request
	r.FactsOnly = true
	if a := p.ask(r); !a.Verified {
		t.Fatalf("unchanged: %s", a.Error)
	}
	step := 97
	if *long {
		step = 1
	}
	for i := 0; i < len(g.bundle); i += step {
		c := flip{int64(i), 1 << (i % 8)}
		r.Change = &c
		if a := p.ask(r); a.Verified || a.Own {
			t.Errorf("byte %d of %d changed: the second verifier says verified %v, own fault %v", i, len(g.bundle), a.Verified, a.Own)
		}
		if _, err := bundle.Verify(flipped{bytes.NewReader(g.bundle), c}, int64(len(g.bundle)), g.options); err == nil {
			t.Errorf("byte %d of %d changed: relayaudit accepts it", i, len(g.bundle))
		}
	}
}
