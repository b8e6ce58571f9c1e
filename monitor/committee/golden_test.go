package committee

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/bundle"
)

// The verdicts by the database are those of relayaudit on all golden bundles.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join("..", "bundle", "testdata", "*", "*"))
	must(t, err)
	if len(dirs) < 7 {
		t.Fatalf("only %d golden bundles", len(dirs))
	}
	engines(t, func(t *testing.T, address string) {
		for _, dir := range dirs {
			t.Run(filepath.Base(dir), func(t *testing.T) {
				must(t, Drop(t.Context(), address))
				d := open(t, address)
				file := func(name string) []byte {
					b, err := os.ReadFile(filepath.Join(dir, name))
					must(t, err)
					return b
				}
				rules, roster, zip := file("rules.yaml"), file("roster.yaml"), file("bundle.zip")
				o := bundle.Options{Rules: rules, Roster: roster, Committee: string(file("committee.txt"))}
				r, err := bundle.Verify(bytes.NewReader(zip), int64(len(zip)), o)
				must(t, err)
				logs, forks, err := bundle.Logs(bytes.NewReader(zip), int64(len(zip)))
				must(t, err)
				b := basisOf(t, r.Verdict.Month, rules, roster, nil)
				b.Releases = r.Case.Releases
				must(t, d.Settle(t.Context(), b))
				for _, m := range logs {
					takeExport(t, d, m, b)
				}
				must(t, d.Convict(t.Context(), forks, []*Basis{b}))
				if n := judge(t, d, b); n == 0 {
					t.Fatal("nothing was judged")
				}
				v, err := d.Verdict(t.Context(), b.Month, r.Verdict.Relay.PeerID)
				must(t, err)
				same(t, v, r.Verdict)
				table, err := d.Table(t.Context(), b.Month)
				must(t, err)
				if len(table) != 1 || table[0].Headline != r.Verdict.Headline || table[0].Left != RowOf(r.Verdict, b.Rules).Left {
					t.Errorf("the table says %+v", table)
				}
			})
		}
	})
}
