package evidence

import (
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// BenchmarkMonth is a month of a monitor with 100 relays: every attempt appended,
// every hour sealed, on a disk that does not wait. It reports what a relay's month
// leaves on disk, and in the memory of the open log.
func BenchmarkMonth(b *testing.B) {
	const relays = 100
	first := firstHour.Month().First()
	hours := firstHour.Month().Hours()
	der, cert := newCertificate(b, "relay.example.org")
	var attempts []Attempt
	for range relays {
		attempts = append(attempts, newRelay(b, crypto.Ed25519, 0).attempt(b, "key", first, time.Minute, cert))
	}
	for b.Loop() {
		b.StopTimer()
		dir := filepath.Join(b.TempDir(), "log")
		before := heap()
		l, err := create(memoryDisk{}, dir, Options{Name: "m", Network: Lab, First: first})
		must(b, err)
		b.StartTimer()
		for h := first; h < first+Hour(hours); h++ {
			watch(b, l, h)
			for _, a := range attempts {
				a.Started = TimeOf(h.Start().Add(time.Minute))
				must(b, l.Append(h, a, der))
			}
			if _, err := l.Seal(closing(h)); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		kept := heap() - before
		must(b, l.Close())
		var size int64
		must(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				var fi fs.FileInfo
				if fi, err = d.Info(); err == nil {
					size += fi.Size()
				}
			}
			return err
		}))
		b.StartTimer()
		b.ReportMetric(float64(size)/relays, "disk-B/relay-month")
		b.ReportMetric(float64(kept)/relays, "heap-B/relay-month")
	}
}

// heap is the memory that is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkVerify is the verification of a month of one relay by one monitor with
// three witnesses.
func BenchmarkVerify(b *testing.B) {
	first := firstHour.Month().First()
	hours := firstHour.Month().Hours()
	dir := filepath.Join(b.TempDir(), "log")
	l, err := create(memoryDisk{}, dir, Options{Name: "m", Network: Lab, First: first})
	must(b, err)
	defer l.Close()
	der, cert := newCertificate(b, "relay.example.org")
	relay := newRelay(b, crypto.Ed25519, 0)
	witnesses := []testWitness{newWitness(b, "w1"), newWitness(b, "w2"), newWitness(b, "w3")}
	keys := Keys{Log: l.Key()}
	for _, w := range witnesses {
		keys.Witnesses = append(keys.Witnesses, w.vkey())
	}
	for h := first; h < first+Hour(hours); h++ {
		watch(b, l, h)
		must(b, l.Append(h, relay.attempt(b, l.Key(), h, time.Minute, cert), der))
		if _, err := l.Seal(closing(h)); err != nil {
			b.Fatal(err)
		}
		cp, err := l.Checkpoint()
		must(b, err)
		for _, w := range witnesses {
			must(b, l.AddCosignatures(l.Size(), w.cosign(b, cp, closing(h)), w.vkey()))
		}
	}
	m, err := l.Month(firstHour.Month(), relay.id.String(), closing(first+Hour(hours)), keys.Witnesses...)
	must(b, err)
	files, err := m.Files()
	must(b, err)
	size := 0
	for _, f := range files {
		size += len(f)
	}
	for b.Loop() {
		v, err := VerifyMonth(m, keys)
		must(b, err)
		if len(v.Hours) != hours || v.Hours[hours-1].Vouchers[0].State != VoucherBound {
			b.Fatal("not all was verified")
		}
	}
	b.ReportMetric(float64(size), "export-B")
}

// BenchmarkExport exports a day of one of 1,000 relays.
func BenchmarkExport(b *testing.B) {
	first := firstHour.Month().First()
	l, err := create(memoryDisk{}, filepath.Join(b.TempDir(), "log"), Options{Name: "m", Network: Lab, First: first})
	must(b, err)
	defer l.Close()
	var attempts []Attempt
	for range 1000 {
		attempts = append(attempts, newRelay(b, crypto.Ed25519, 0).attempt(b, l.Key(), first, time.Minute, nil))
	}
	for h := first; h < first+24; h++ {
		watch(b, l, h)
		for _, a := range attempts {
			a.Started = TimeOf(h.Start().Add(time.Minute))
			must(b, l.Append(h, a))
		}
		_, err := l.Seal(closing(h))
		must(b, err)
	}
	for b.Loop() {
		m, err := l.Month(firstHour.Month(), attempts[0].PeerID, closing(first+24))
		must(b, err)
		if len(m.Records) != 24 {
			b.Fatal("not all was exported")
		}
	}
}

// BenchmarkOpen is the start of a monitor that has run for a year.
func BenchmarkOpen(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "log")
	l, err := create(memoryDisk{}, dir, Options{Name: "m", Network: Lab, First: firstHour})
	must(b, err)
	for h := firstHour; h < firstHour+365*24; h++ {
		watch(b, l, h)
		if _, err := l.Seal(closing(h)); err != nil {
			b.Fatal(err)
		}
	}
	must(b, l.Close())
	for b.Loop() {
		l, err := open(memoryDisk{}, dir)
		must(b, err)
		if l.Size() != 365*24 {
			b.Fatal(l.Size())
		}
		must(b, l.Close())
	}
}
