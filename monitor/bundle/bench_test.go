package bundle

import (
	"testing"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// BenchmarkVerifyMonth verifies the bundle of a whole month from three monitors.
// Making the month takes longer than all the rest.
func BenchmarkVerifyMonth(b *testing.B) {
	w := scene.New(b, evidence.PSF, 0)
	w.First = w.First.Month().First()
	w.Hours = w.First.Month().Hours()
	for i := range 3 {
		w.Join(i)
	}
	w.Watch(nil)
	in := inputOf(w)
	archive := bundleOf(w, in)
	o := optionsOf(w, in)
	b.ReportAllocs()
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		res, err := verify(archive, o)
		if err != nil || res.Verdict.Hours.Up != w.Hours {
			b.Fatal(err)
		}
	}
}
