package store

import (
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/internal/durable/durabletest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// BenchmarkMonth is a month of a monitor with 100 relays: every attempt appended,
// every hour sealed, on a disk that does not wait. It reports what a relay's month
// leaves on disk, and in the memory of the open log.
func BenchmarkMonth(b *testing.B) {
	const relays = 100
	first := evidencetest.FirstHour.Month().First()
	hours := evidencetest.FirstHour.Month().Hours()
	der, cert := evidencetest.NewLeaf(b, "relay.example.org")
	var attempts []evidence.Attempt
	for range relays {
		attempts = append(attempts, evidencetest.NewRelay(b, crypto.Ed25519, 0).Attempt(b, "key", first, time.Minute, cert))
	}
	for b.Loop() {
		b.StopTimer()
		dir := filepath.Join(b.TempDir(), "log")
		before := heap()
		l, err := create(durabletest.MemoryDisk{}, dir, Options{Name: "m", Network: evidence.Lab, First: first})
		evidencetest.Must(b, err)
		b.StartTimer()
		for h := first; h < first+evidence.Hour(hours); h++ {
			evidencetest.Watch(b, l, h)
			for _, a := range attempts {
				a.Started = evidence.TimeOf(h.Start().Add(time.Minute))
				evidencetest.Must(b, l.Append(h, a, der))
			}
			if _, err := l.Seal(evidencetest.Closing(h)); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		kept := heap() - before
		evidencetest.Must(b, l.Close())
		var size int64
		evidencetest.Must(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
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
	first := evidencetest.FirstHour.Month().First()
	hours := evidencetest.FirstHour.Month().Hours()
	dir := filepath.Join(b.TempDir(), "log")
	l, err := create(durabletest.MemoryDisk{}, dir, Options{Name: "m", Network: evidence.Lab, First: first})
	evidencetest.Must(b, err)
	defer l.Close()
	der, cert := evidencetest.NewLeaf(b, "relay.example.org")
	relay := evidencetest.NewRelay(b, crypto.Ed25519, 0)
	witnesses := []evidencetest.Witness{evidencetest.NewWitness(b, "w1"), evidencetest.NewWitness(b, "w2"), evidencetest.NewWitness(b, "w3")}
	keys := evidence.Keys{Log: l.Key()}
	for _, w := range witnesses {
		keys.Witnesses = append(keys.Witnesses, w.VKey())
	}
	for h := first; h < first+evidence.Hour(hours); h++ {
		evidencetest.Watch(b, l, h)
		evidencetest.Must(b, l.Append(h, relay.Attempt(b, l.Key(), h, time.Minute, cert), der))
		if _, err := l.Seal(evidencetest.Closing(h)); err != nil {
			b.Fatal(err)
		}
		cp, err := l.Checkpoint()
		evidencetest.Must(b, err)
		for _, w := range witnesses {
			evidencetest.Must(b, l.AddCosignatures(l.Size(), w.Cosign(b, cp, evidencetest.Closing(h)), w.VKey()))
		}
	}
	m, err := l.Month(evidencetest.FirstHour.Month(), relay.ID.String(), evidencetest.Closing(first+evidence.Hour(hours)), keys.Witnesses...)
	evidencetest.Must(b, err)
	files, err := m.Files()
	evidencetest.Must(b, err)
	size := 0
	for _, f := range files {
		size += len(f)
	}
	for b.Loop() {
		v, err := evidence.VerifyMonth(m, keys)
		evidencetest.Must(b, err)
		if len(v.Hours) != hours || v.Hours[hours-1].Vouchers[0].State != evidence.VoucherBound {
			b.Fatal("not all was verified")
		}
	}
	b.ReportMetric(float64(size), "export-B")
}

// BenchmarkExport exports a day of one of 1,000 relays.
func BenchmarkExport(b *testing.B) {
	first := evidencetest.FirstHour.Month().First()
	l, err := create(durabletest.MemoryDisk{}, filepath.Join(b.TempDir(), "log"), Options{Name: "m", Network: evidence.Lab, First: first})
	evidencetest.Must(b, err)
	defer l.Close()
	var attempts []evidence.Attempt
	for range 1000 {
		attempts = append(attempts, evidencetest.NewRelay(b, crypto.Ed25519, 0).Attempt(b, l.Key(), first, time.Minute, nil))
	}
	for h := first; h < first+24; h++ {
		evidencetest.Watch(b, l, h)
		for _, a := range attempts {
			a.Started = evidence.TimeOf(h.Start().Add(time.Minute))
			evidencetest.Must(b, l.Append(h, a))
		}
		_, err := l.Seal(evidencetest.Closing(h))
		evidencetest.Must(b, err)
	}
	for b.Loop() {
		m, err := l.Month(evidencetest.FirstHour.Month(), attempts[0].PeerID, evidencetest.Closing(first+24))
		evidencetest.Must(b, err)
		if len(m.Records) != 24 {
			b.Fatal("not all was exported")
		}
	}
}

// BenchmarkOpen is the start of a monitor that has run for a year.
func BenchmarkOpen(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "log")
	l, err := create(durabletest.MemoryDisk{}, dir, Options{Name: "m", Network: evidence.Lab, First: evidencetest.FirstHour})
	evidencetest.Must(b, err)
	for h := evidencetest.FirstHour; h < evidencetest.FirstHour+365*24; h++ {
		evidencetest.Watch(b, l, h)
		if _, err := l.Seal(evidencetest.Closing(h)); err != nil {
			b.Fatal(err)
		}
	}
	evidencetest.Must(b, l.Close())
	for b.Loop() {
		l, err := open(durabletest.MemoryDisk{}, dir)
		evidencetest.Must(b, err)
		if l.Size() != 365*24 {
			b.Fatal(l.Size())
		}
		evidencetest.Must(b, l.Close())
	}
}
