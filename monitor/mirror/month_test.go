package mirror

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Who has a mirror exports the same months as who has the log, byte for byte.
func TestMonthsOfAMirror(t *testing.T) {
	w := scene.New(t, evidence.Lab, 3)
	w.Watch(nil)
	var witnesses []string
	for _, m := range w.Monitors {
		witnesses = append(witnesses, m.CosignKey)
	}
	for _, m := range w.Monitors {
		dir := t.TempDir()
		synced(t, of(m, serve(t, handler(m.Log)).url, dir))
		src, err := Open(dir, m.Log.Key())
		must(t, err)
		for _, month := range []evidence.Month{w.First.Month(), w.First.Month() + 1} {
			export := func(s evidence.Source) map[string][]byte {
				out, err := evidence.Export(s, month, w.RelayID, w.AsOf, witnesses...)
				must(t, err)
				files, err := out.Files()
				must(t, err)
				return files
			}
			want, got := export(m.Log), export(src)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s of %s: %s", month, m.Name, diff)
			}
			if month == w.First.Month() && len(got["records.jsonl"]) == 0 {
				t.Error("there is no record in it")
			}
		}
	}
}
