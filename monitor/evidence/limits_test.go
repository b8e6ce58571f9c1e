package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// hardHour are three attempts that fail with everything that goes with it: in each all
// controls of nine hosts, beside and after, look-ups and long details.
func hardHour(t testing.TB, r testRelay, monitorKey string, h Hour, cert *Certificate) (list []Attempt) {
	for n := range 3 {
		a := r.attempt(t, monitorKey, h, time.Minute+time.Duration(n)*7*time.Minute, cert)
		a.Rungs = nil
		for i := range 12 {
			a.Rungs = append(a.Rungs, Rung{Name: fmt.Sprint("rung", i), Component: WSS, Outcome: Fail, Class: NameNotFound,
				Detail: strings.Repeat("x", maxDetail), OffsetUS: int64(i) * 1_000_000, DurationUS: 999_999, Tries: 3})
		}
		for range 2 {
			for host := range 9 {
				for _, c := range Components {
					a.Controls = append(a.Controls, Control{Name: fmt.Sprint("control-of-a-large-provider-", host), Component: c, Outcome: OK,
						Started: TimeOf(a.Started.Add(time.Minute)), DurationUS: 1_234_567, Sent: 100, Resent: 10})
				}
			}
		}
		for i := range maxLookups {
			l := Lookup{Resolver: fmt.Sprintf("203.0.113.%d:853#resolver.example.org", i), IPv4: slices.Repeat([]string{"203.0.113.77"}, 4)}
			if i == 0 {
				l = Lookup{Resolver: OwnResolver, Class: NameNotFound}
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
	first := firstHour.Month().First()
	l, err := create(memoryDisk{}, filepath.Join(t.TempDir(), "log"), Options{Name: "m", Network: Lab, First: first})
	must(t, err)
	defer l.Close()
	relay := newRelay(t, crypto.Ed25519, 0)
	der, cert := newCertificate(t, "relay.example.org")
	end := first + 93 // an eighth of the month
	for h := first; h < end; h++ {
		watch(t, l, h)
		for _, a := range hardHour(t, relay, l.Key(), h, cert) {
			must(t, l.Append(h, a, der))
		}
		_, err := l.Seal(closing(h))
		must(t, err)
	}
	m, err := l.Month(firstHour.Month(), relay.id.String(), closing(end))
	must(t, err)
	files, err := m.Files()
	must(t, err)
	part := 0
	for _, b := range files {
		part += len(b)
	}
	total := 8 * part
	t.Logf("%d bytes, of these %d a record", total, len(m.Records[0]))
	if total > MaxMonthBytes*2/3 || len(m.Records[0]) > maxRecord/2 {
		t.Errorf("a month of %d bytes, with records of %d: there is no room to spare", total, len(m.Records[0]))
	}
	read, err := MonthFromFiles(files)
	must(t, err)
	clear(files)
	m = MonitorMonth{}
	before, most, hours := heap(), int64(0), 0
	v, err := VerifyHours(read, Keys{Log: l.Key()}, func(h VerifiedHour) error {
		if hours++; hours%31 == 0 {
			most = max(most, heap()-before)
		}
		if len(h.Record.Attempts) != 3 || len(h.Vouchers) != 3 {
			return errors.New("not all is there")
		}
		return nil
	})
	must(t, err)
	if hours != 93 || v.Hours != nil {
		t.Errorf("%d hours handed over, %d kept", hours, len(v.Hours))
	}
	if most > int64(part)*2/3 {
		t.Errorf("%d bytes in memory for files of %d", most, part)
	}
	t.Logf("%d bytes in memory", most)
	runtime.KeepAlive(read)
}

func TestVisitStops(t *testing.T) {
	s := newSmallMonth(t)
	stop := errors.New("enough")
	seen := 0
	_, err := VerifyHours(s.month, s.keys, func(VerifiedHour) error { seen++; return stop })
	if !errors.Is(err, stop) || seen != 1 {
		t.Errorf("%v after %d hours", err, seen)
	}
}

// What is larger than the format allows is refused before it is looked at.
func TestTooLarge(t *testing.T) {
	s := newSmallMonth(t)
	good, err := s.month.Files()
	must(t, err)
	for name := range good {
		if FileLimit(name) == 0 || len(good[name]) > FileLimit(name) {
			t.Errorf("%s: limit %d for %d bytes", name, FileLimit(name), len(good[name]))
		}
	}
	for _, name := range []string{"", "x", "open/", "open/x", "certificates/x.der", "certificates/" + strings.Repeat("A", 64) + ".der", "../note"} {
		if n := FileLimit(name); n != 0 {
			t.Errorf("file %q may have %d bytes", name, n)
		}
	}
	for name := range good {
		if FileLimit(name) > MaxMonthBytes/2 {
			continue // all together are less
		}
		bad := maps.Clone(good)
		bad[name] = make([]byte, FileLimit(name)+1)
		_, err := MonthFromFiles(bad)
		wantError(t, err, fmt.Sprintf("%s has %d bytes, want %d at most", name, FileLimit(name)+1, FileLimit(name)))
	}
	with := func(name string, data []byte) map[string][]byte {
		bad := maps.Clone(good)
		bad[name] = data
		return bad
	}
	many := func(prefix string, n int, name func(i int) string) map[string][]byte {
		bad := maps.Clone(good)
		for i := range n {
			bad[prefix+name(i)] = nil
		}
		return bad
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"all together":     {with(fileRecords, make([]byte, MaxMonthBytes)), "together, want 67108864 at most"},
		"lines of blocks":  {with(fileHeaders, bytes.Repeat([]byte("\n"), 745)), "blocks.jsonl has 745 lines, want 744"},
		"lines of records": {with(fileRecords, bytes.Repeat([]byte("\n"), 1<<20)), "records.jsonl has 1048576 lines"},
		"lines of proofs":  {with(fileProofs, bytes.Repeat([]byte("\n"), 1<<20)), "proofs.jsonl has 1048576 lines"},
		"checkpoints":      {with(fileCheckpoints, bytes.Repeat([]byte("\n\n"), 1<<20)), "there are more than 744"},
		"a checkpoint":     {with(fileCheckpoints, slices.Concat([]byte("x\n\n"), make([]byte, maxCheckpoint))), "want 16384 at most"},
		"open hours": {many(folderOpen, 800, func(i int) string { return hourFile(firstHour + Hour(i)) }),
			"files that are no certificates, want 752 at most"},
		"certificates": {many(folderCerts, 12000, func(i int) string { return fmt.Sprintf("%064x.der", i) }), "certificates, want 11904 at most"},
		"two faults":   {with("x", nil), `file "x" is not known`},
		"deep":         {with(fileMonth, slices.Concat(bytes.Repeat([]byte("["), 5000), []byte("\n"))), "stand in each other"},
		"wide":         {with(fileMonth, slices.Concat([]byte(`{"frontier":[`), bytes.Repeat([]byte("{},"), 2000), []byte("{}]}\n"))), "more than 256 members"},
	} {
		if _, err := MonthFromFiles(c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	// Lists of the smallest values, wherever they stand, signed by the monitor itself.
	for name, change := range map[string]func(*MonitorMonth){
		"header": func(m *MonitorMonth) {
			m.Headers[0] = slices.Concat([]byte(`{"controls":[`), bytes.Repeat([]byte("{},"), 9000), []byte("{}]}"))
		},
		"proof": func(m *MonitorMonth) {
			m.Proofs[0] = slices.Concat([]byte(`{"path":[`), bytes.Repeat([]byte("0,"), 2000), []byte("0]}"))
		},
		"open": func(m *MonitorMonth) {
			m.Open[0].Lines = slices.Concat([]byte(`{"rungs":[`), bytes.Repeat([]byte("{},"), 9000), []byte("{}]}\n"))
		},
	} {
		m := clone(s.month)
		change(&m)
		_, err := VerifyMonth(s.resign(t, m), s.keys)
		wantError(t, err, "more than 256 members")
		t.Logf("%s: %v", name, err)
	}
	_, err = decodeRecord(slices.Concat([]byte(`{"attempts":[`), bytes.Repeat([]byte("{},"), 9000), []byte("{}]}")), firstHour)
	wantError(t, err, "more than 256 members")
	_, err = decodeRecord(make([]byte, maxRecord+1), firstHour)
	wantError(t, err, "too long")
}

// Text does not count as structure.
func TestShaped(t *testing.T) {
	for text, good := range map[string]bool{
		`{"a":"[[[[[[[[[[[["}`: true, `{"a":"\"[[[[[[[[[[\\"}`: true, `[[[[[[[[]]]]]]]]`: true, `[[[[[[[[[]]]]]]]]]`: false,
		`}`: false, `"` + strings.Repeat(",", 300) + `"`: true, `[` + strings.Repeat(`"",`, 255) + `""]`: true, `[` + strings.Repeat(`"",`, 256) + `""]`: false,
		`"\`: true, ``: true,
	} {
		if err := shaped([]byte(text)); (err == nil) != good {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// A monitor writes no block that a verifier would not take: what would make a record too
// long is refused, and what is there already is sealed and verifies.
func TestFullRecord(t *testing.T) {
	l, dir := newLog(t)
	relay := newRelay(t, crypto.Ed25519, 0)
	watch(t, l, firstHour)
	big := relay.attempt(t, l.Key(), firstHour, time.Minute, nil)
	big.Facts.Protocols = slices.Repeat([]string{strings.Repeat("\"", 200)}, 100)
	n := 0
	for ; n < maxAttempts; n++ {
		if err := l.Append(firstHour, big); err != nil {
			wantError(t, err, "more than 131072 bytes")
			break
		}
	}
	if n != 3 {
		t.Errorf("%d attempts were taken", n)
	}
	must(t, l.Append(firstHour, relay.attempt(t, l.Key(), firstHour, 2*time.Minute, nil)))
	must(t, l.Begin(firstHour, firstHour.Start(), strings.Repeat("x", maxText)))
	wantError(t, l.Begin(firstHour, firstHour.Start(), strings.Repeat("x", maxText+1)), "software has 257 bytes")
	_, err := l.Seal(closing(firstHour))
	must(t, err)
	must(t, l.Close())
	sound(t, dir)
	l, err = OpenRead(dir)
	must(t, err)
	m, err := l.Month(firstHour.Month(), relay.id.String(), closing(firstHour))
	must(t, err)
	v, err := VerifyMonth(m, Keys{Log: l.Key()})
	must(t, err)
	if len(v.Hours[0].Record.Attempts) != 4 {
		t.Error("not all attempts are there")
	}
}

// A witness too many does not make a checkpoint that nobody reads.
func TestManyCosignatures(t *testing.T) {
	l, _ := newLog(t)
	watch(t, l, firstHour)
	_, err := l.Seal(closing(firstHour))
	must(t, err)
	cp, err := l.Checkpoint()
	must(t, err)
	var refused error
	for i := range 90 {
		w := newWitness(t, fmt.Sprint("w", i, ".", strings.Repeat("x", 100)))
		if refused = l.AddCosignatures(1, w.cosign(t, cp, closing(firstHour)), w.vkey()); refused != nil {
			break
		}
	}
	wantError(t, refused, "want 16384 at most")
	kept, err := l.Checkpoint()
	must(t, err)
	if len(kept) > maxCheckpoint {
		t.Errorf("a checkpoint of %d bytes", len(kept))
	}
}

// A time that nothing can write is no cosignature.
func TestCosignedTooLate(t *testing.T) {
	l, _ := newLog(t)
	watch(t, l, firstHour)
	_, err := l.Seal(closing(firstHour))
	must(t, err)
	cp, err := l.Checkpoint()
	must(t, err)
	w := newWitness(t, "w")
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	wantError(t, l.AddCosignatures(1, w.cosign(t, cp, last.Add(time.Second)), w.vkey()), "invalid signature")
	must(t, l.AddCosignatures(1, w.cosign(t, cp, last), w.vkey()))
}

// A relay that shows another certificate each time does not make its month unreadable:
// the note need not list them, since the records do.
func TestManyCertificates(t *testing.T) {
	l, _ := newLog(t)
	relay := newRelay(t, crypto.Ed25519, 0)
	first := firstHour.Month() + 1
	for h := first.First(); h < first.First()+32; h++ {
		watch(t, l, h)
		for i := range maxAttempts {
			der, cert := newCertificate(t, "relay.example.org")
			must(t, l.Append(h, relay.attempt(t, l.Key(), h, time.Duration(i+1)*time.Second, cert), der))
		}
	}
	end := first.First() + 31
	_, err := l.Seal(closing(end))
	must(t, err)
	m, err := l.Month(first, relay.id.String(), closing(end))
	must(t, err)
	v, err := VerifyMonth(m, Keys{Log: l.Key()})
	must(t, err)
	if len(v.Certificates) != 32*maxAttempts || len(m.Note) > 1<<10 {
		t.Errorf("%d certificates, a note of %d bytes", len(v.Certificates), len(m.Note))
	}
}
