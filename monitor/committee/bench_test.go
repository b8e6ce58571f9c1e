package committee

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/pgtest"
)

// What a record costs that is taken in, and a relay that is judged: 3 monitors, 20 relays, 120
// hours, of which every fifth has no record.
func BenchmarkMonth(b *testing.B) {
	w := newWorld(b, 3, 20, 0)
	w.First = w.First.Month().First()
	roster := w.roster()
	for h := w.Monitors[0].Log.First(); h < w.Monitors[0].Log.First()+120; h++ {
		w.watch(h, h+1)
	}
	w.AsOf = (w.Monitors[0].Log.First() + 120).Start().Add(30 * time.Minute)
	bases := w.bases(b, roster)
	for name, address := range map[string]string{"sqlite": filepath.Join(b.TempDir(), "c.db"), "postgres": pgtest.Start(b).Database(b)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				must(b, Drop(b.Context(), address))
				d := open(b, address)
				settle(b, d, bases)
				begin := time.Now()
				_, records := take(b, d, w.AsOf, bases, w.logs()...)
				taken := time.Now()
				var relays int64
				for _, base := range bases {
					relays += judge(b, d, base)
				}
				b.ReportMetric(float64(records)/taken.Sub(begin).Seconds(), "records/s")
				b.ReportMetric(time.Since(taken).Seconds()*1e6/float64(records), "µs-judging/record")
				b.ReportMetric(float64(time.Since(taken).Milliseconds())/float64(relays), "ms/relay")
				var size float64
				q := "SELECT sum(length(data)) FROM records"
				must(b, d.read.QueryRow(q).Scan(&size))
				b.ReportMetric(size/float64(records), "B/record")
			}
		})
	}
}
