package bundle

import (
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// BenchmarkVerifyMonth verifies the bundle of a whole month from three monitors.
// Making the month takes longer than all the rest.
func BenchmarkVerifyMonth(b *testing.B) {
	w := newScene(b, evidence.PSF, 0)
	w.first = w.first.Month().First()
	w.hours = w.first.Month().Hours()
	for i := range 3 {
		w.join(i)
	}
	w.watch(nil)
	in := w.input()
	archive := w.bundle(in)
	o := w.options(in)
	b.ReportAllocs()
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		res, err := verify(archive, o)
		if err != nil || res.Verdict.Hours.Up != w.hours {
			b.Fatal(err)
		}
	}
}
