package store

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/durable/durabletest"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

// hardHour are three attempts that fail with everything that goes with it: in each all
// controls of nine hosts, beside and after, look-ups and long details.
func hardHour(t testing.TB, r evidencetest.Relay, monitorKey string, h evidence.Hour, cert *evidence.Certificate) (list []evidence.Attempt) {
	for n := range 3 {
		a := r.Attempt(t, monitorKey, h, time.Minute+time.Duration(n)*7*time.Minute, cert)
		a.Rungs = nil
		for i := range 12 {
			a.Rungs = append(a.Rungs, evidence.Rung{Name: fmt.Sprint("rung", i), Component: evidence.WSS, Outcome: evidence.Fail, Class: evidence.NameNotFound,
				Detail: strings.Repeat("x", 300), OffsetUS: int64(i) * 1_000_000, DurationUS: 999_999, Tries: 3})
		}
		for range 2 {
			for host := range 9 {
				for _, c := range evidence.Components {
					a.Controls = append(a.Controls, evidence.Control{Name: fmt.Sprint("control-of-a-large-provider-", host), Component: c, Outcome: evidence.OK,
						Started: evidence.TimeOf(a.Started.Add(time.Minute)), DurationUS: 1_234_567, Sent: 100, Resent: 10})
				}
			}
		}
		for i := range 9 {
			l := evidence.Lookup{Resolver: fmt.Sprintf("203.0.113.%d:853#resolver.example.org", i), IPv4: slices.Repeat([]string{"203.0.113.77"}, 4)}
			if i == 0 {
				l = evidence.Lookup{Resolver: evidence.OwnResolver, Class: evidence.NameNotFound}
			}
			a.Facts.Lookups = append(a.Facts.Lookups, l)
		}
		a.Facts.Protocols = nil
		for i := range 40 {
			a.Facts.Protocols = append(a.Facts.Protocols, fmt.Sprintf("/a/protocol/of/the/relay/%d", i))
		}
		a.Facts.PingUS = make([]int64, 10)
		list = append(list, a)
	}
	return list
}

// A whole month in which every attempt fails fits the limits with room to spare, and no
// more of it is in memory at once than it must be.
func TestHardMonthFits(t *testing.T) {
	first := evidencetest.FirstHour.Month().First()
	l, err := create(durabletest.MemoryDisk{}, filepath.Join(t.TempDir(), "log"), Options{Name: "m", Network: evidence.Lab, First: first})
	evidencetest.Must(t, err)
	defer l.Close()
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	der, cert := evidencetest.NewLeaf(t, "relay.example.org")
	end := first + 93 // an eighth of the month
	for h := first; h < end; h++ {
		evidencetest.Watch(t, l, h)
		for _, a := range hardHour(t, relay, l.Key(), h, cert) {
			evidencetest.Must(t, l.Append(h, a, der))
		}
		_, err := l.Seal(evidencetest.Closing(h))
		evidencetest.Must(t, err)
	}
	m, err := l.Month(evidencetest.FirstHour.Month(), relay.ID.String(), evidencetest.Closing(end))
	evidencetest.Must(t, err)
	files, err := m.Files()
	evidencetest.Must(t, err)
	part := 0
	for _, b := range files {
		part += len(b)
	}
	total := 8 * part
	t.Logf("%d bytes, of these %d a record", total, len(m.Records[0]))
	if total > evidence.MaxMonthBytes*2/3 || len(m.Records[0]) > evidence.MaxRecordBytes/2 {
		t.Errorf("a month of %d bytes, with records of %d: there is no room to spare", total, len(m.Records[0]))
	}
	read, err := evidence.MonthFromFiles(files)
	evidencetest.Must(t, err)
	clear(files)
	m = evidence.MonitorMonth{}
	before, most, hours := heap(), int64(0), 0
	v, err := evidence.VerifyHours(read, evidence.Keys{Log: l.Key()}, func(h evidence.VerifiedHour) error {
		if hours++; hours%31 == 0 {
			most = max(most, heap()-before)
		}
		if len(h.Record.Attempts) != 3 || len(h.Vouchers) != 3 {
			return errors.New("not all is there")
		}
		return nil
	})
	evidencetest.Must(t, err)
	if hours != 93 || v.Hours != nil {
		t.Errorf("%d hours handed over, %d kept", hours, len(v.Hours))
	}
	if most > int64(part)*2/3 {
		t.Errorf("%d bytes in memory for files of %d", most, part)
	}
	t.Logf("%d bytes in memory", most)
	runtime.KeepAlive(read)
}

// A monitor writes no block that a verifier would not take: what would make a record too
// long is refused, and what is there already is sealed and verifies.
func TestFullRecord(t *testing.T) {
	l, dir := newLog(t)
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	evidencetest.Watch(t, l, evidencetest.FirstHour)
	big := relay.Attempt(t, l.Key(), evidencetest.FirstHour, time.Minute, nil)
	big.Facts.Protocols = slices.Repeat([]string{strings.Repeat("\"", 200)}, 100)
	n := 0
	for ; n < evidence.MaxAttempts; n++ {
		if err := l.Append(evidencetest.FirstHour, big); err != nil {
			evidencetest.WantError(t, err, "more than 131072 bytes")
			break
		}
	}
	if n != 3 {
		t.Errorf("%d attempts were taken", n)
	}
	evidencetest.Must(t, l.Append(evidencetest.FirstHour, relay.Attempt(t, l.Key(), evidencetest.FirstHour, 2*time.Minute, nil)))
	evidencetest.Must(t, l.Begin(evidencetest.FirstHour, evidencetest.FirstHour.Start(), strings.Repeat("x", evidence.MaxTextBytes)))
	evidencetest.WantError(t, l.Begin(evidencetest.FirstHour, evidencetest.FirstHour.Start(), strings.Repeat("x", evidence.MaxTextBytes+1)), "software has 257 bytes")
	_, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	evidencetest.Must(t, l.Close())
	sound(t, dir)
	l, err = OpenRead(dir)
	evidencetest.Must(t, err)
	m, err := l.Month(evidencetest.FirstHour.Month(), relay.ID.String(), evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	v, err := evidence.VerifyMonth(m, evidence.Keys{Log: l.Key()})
	evidencetest.Must(t, err)
	if len(v.Hours[0].Record.Attempts) != 4 {
		t.Error("not all attempts are there")
	}
}

// A witness too many does not make a checkpoint that nobody reads.
func TestManyCosignatures(t *testing.T) {
	l, _ := newLog(t)
	evidencetest.Watch(t, l, evidencetest.FirstHour)
	_, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	cp, err := l.Checkpoint()
	evidencetest.Must(t, err)
	var refused error
	for i := range 25 {
		skey, vkey, err := formats.GenerateMLDSAKey(fmt.Sprint("w", i)) // its lines are the longest
		evidencetest.Must(t, err)
		signer, err := formats.NewMLDSASigner(skey)
		evidencetest.Must(t, err)
		n, err := note.Open(cp, note.VerifierList(l.key.Verifier()))
		evidencetest.Must(t, err)
		signed, err := note.Sign(n, signer)
		evidencetest.Must(t, err)
		if refused = l.AddCosignatures(1, signed[bytes.LastIndexByte(signed[:len(signed)-1], '\n')+1:], vkey); refused != nil {
			break
		}
	}
	evidencetest.WantError(t, refused, "want 65536 at most")
	kept, err := l.Checkpoint()
	evidencetest.Must(t, err)
	if len(kept) > evidence.MaxCheckpointBytes {
		t.Errorf("a checkpoint of %d bytes", len(kept))
	}
}

// A time that nothing can write is no cosignature.
func TestCosignedTooLate(t *testing.T) {
	l, _ := newLog(t)
	evidencetest.Watch(t, l, evidencetest.FirstHour)
	_, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	cp, err := l.Checkpoint()
	evidencetest.Must(t, err)
	w := evidencetest.NewWitness(t, "w")
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	evidencetest.WantError(t, l.AddCosignatures(1, w.Cosign(t, cp, last.Add(time.Second)), w.VKey()), "invalid signature")
	evidencetest.Must(t, l.AddCosignatures(1, w.Cosign(t, cp, last), w.VKey()))
}

// A witness whose clock is years ahead does not end the log for every reader: no header
// tells of a time that has not come.
func TestCosignedAhead(t *testing.T) {
	l, dir := newLog(t)
	cp := evidencetest.Grow(t, l, 1)
	ahead, good := evidencetest.NewWitness(t, "ahead"), evidencetest.NewWitness(t, "good")
	at := evidencetest.Closing(evidencetest.FirstHour).Add(time.Minute)
	evidencetest.Must(t, l.AddCosignatures(1, ahead.Cosign(t, cp, at.AddDate(3, 0, 0)), ahead.VKey()))
	evidencetest.Must(t, l.AddCosignatures(1, good.Cosign(t, cp, at), good.VKey()))
	evidencetest.Grow(t, l, 1)
	sound(t, dir)
	h, err := l.Header(evidencetest.FirstHour + 1)
	evidencetest.Must(t, err)
	if len(h.Cosigned) != 1 || !strings.HasPrefix(h.Cosigned[0].Witness, "good+") {
		t.Errorf("the header tells of %+v, want that of the good witness", h.Cosigned)
	}
	keys := evidence.Keys{Log: l.Key(), Witnesses: []string{ahead.VKey(), good.VKey()}}
	m, err := l.Month(evidencetest.FirstHour.Month(), evidencetest.NewRelay(t, crypto.Ed25519, 0).ID.String(), evidencetest.Closing(evidencetest.FirstHour+2), keys.Witnesses...)
	evidencetest.Must(t, err)
	v, err := evidence.VerifyMonth(m, keys)
	evidencetest.Must(t, err)
	if len(v.Hours) != 2 {
		t.Errorf("the month has %d hours, want both", len(v.Hours))
	}
}

// A relay that shows another certificate each time does not make its month unreadable:
// the note need not list them, since the records do.
func TestManyCertificates(t *testing.T) {
	l, _ := newLog(t)
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	first := evidencetest.FirstHour.Month() + 1
	for h := first.First(); h < first.First()+32; h++ {
		evidencetest.Watch(t, l, h)
		for i := range evidence.MaxAttempts {
			der, cert := evidencetest.NewLeaf(t, "relay.example.org")
			evidencetest.Must(t, l.Append(h, relay.Attempt(t, l.Key(), h, time.Duration(i+1)*time.Second, cert), der))
		}
	}
	end := first.First() + 31
	_, err := l.Seal(evidencetest.Closing(end))
	evidencetest.Must(t, err)
	m, err := l.Month(first, relay.ID.String(), evidencetest.Closing(end))
	evidencetest.Must(t, err)
	v, err := evidence.VerifyMonth(m, evidence.Keys{Log: l.Key()})
	evidencetest.Must(t, err)
	if len(v.Certificates) != 32*evidence.MaxAttempts {
		t.Errorf("%d certificates, want %d", len(v.Certificates), 32*evidence.MaxAttempts)
	}
}
