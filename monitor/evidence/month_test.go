package evidence

import (
	"bytes"
	"encoding/base64"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// smallMonth is an export with everything in it: a month before, several
// checkpoints, two witnesses, a gap, two relays in each block, a certificate, an
// open hour.
type smallMonth struct {
	log       *Log
	month     MonitorMonth
	keys      Keys
	relay     testRelay
	witnesses []testWitness
}

func newSmallMonth(t testing.TB) smallMonth {
	t.Helper()
	l, _ := newLog(t)
	relay, other := newRelay(t, crypto.Ed25519, 0), newRelay(t, crypto.Ed25519, 0)
	der, cert := newCertificate(t, "relay.example.org")
	ws := []testWitness{newWitness(t, "w1"), newWitness(t, "w2")}
	keys := Keys{Log: l.Key(), Plan: l.PlanKey(), Witnesses: []string{ws[0].vkey(), ws[1].vkey()}}
	open := firstHour + 8
	for h := firstHour + 2; h <= open; h++ {
		if h == firstHour+5 {
			continue // a gap
		}
		watch(t, l, h)
		must(t, l.Append(h, relay.attempt(t, l.Key(), h, 10*time.Minute, cert), der))
		must(t, l.Append(h, other.attempt(t, l.Key(), h, 20*time.Minute, nil)))
		if h == firstHour+6 {
			must(t, l.Mark(h, Mark{Missed: 2}))
		}
		if h == open {
			break
		}
		_, err := l.Seal(closing(h))
		must(t, err)
		cp, err := l.Checkpoint()
		must(t, err)
		if cp == nil {
			continue
		}
		for i, w := range ws {
			must(t, l.AddCosignatures(l.Size(), w.cosign(t, cp, closing(h).Add(time.Duration(i)*time.Minute)), w.vkey()))
		}
	}
	m, err := l.Month(firstHour.Month()+1, relay.id.String(), closing(open-1).Add(10*time.Minute), keys.Witnesses...)
	must(t, err)
	if len(m.Headers) != 4 || len(m.Checkpoints) != 3 || len(m.Records) != 3 || len(m.Open) != 1 || len(m.Certificates) != 1 || m.StartSize != 4 {
		t.Fatalf("small month: %d headers, %d checkpoints, %d records, %d open, %d certificates after %d",
			len(m.Headers), len(m.Checkpoints), len(m.Records), len(m.Open), len(m.Certificates), m.StartSize)
	}
	if _, err := VerifyMonth(m, keys); err != nil {
		t.Fatal(err)
	}
	return smallMonth{l, m, keys, relay, ws}
}

// resign makes the note fit the files again, as the monitor itself could.
func (s smallMonth) resign(t testing.TB, m MonitorMonth) MonitorMonth {
	t.Helper()
	text, err := m.noteText()
	must(t, err)
	m.Note, err = signNote(text, s.log.key)
	must(t, err)
	return m
}

func verifyFiles(files map[string][]byte, k Keys) error {
	m, err := MonthFromFiles(files)
	if err != nil {
		return err
	}
	_, err = VerifyMonth(m, k)
	return err
}

// Each byte of each file of an export is changed in turn.
func TestEveryByteCounts(t *testing.T) {
	s := newSmallMonth(t)
	files, err := s.month.Files()
	must(t, err)
	total := 0
	for name, data := range files {
		for i := range data {
			bad := maps.Clone(files)
			bad[name] = bytes.Clone(data)
			bad[name][i] ^= 1 << (i % 8)
			if err := verifyFiles(bad, s.keys); err == nil {
				t.Fatalf("%s: byte %d (%q) changed goes unseen", name, i, around(data, i))
			}
			total++
		}
	}
	t.Logf("%d changes in %d files, all seen", total, len(files))
}

func around(b []byte, i int) []byte { return b[max(i-10, 0):min(i+10, len(b))] }

// Files left out, added, emptied, cut, exchanged, doubled.
func TestEveryFileCounts(t *testing.T) {
	s := newSmallMonth(t)
	files, err := s.month.Files()
	must(t, err)
	names := slices.Sorted(maps.Keys(files))
	refuse := func(what string, bad map[string][]byte) {
		t.Helper()
		if err := verifyFiles(bad, s.keys); err == nil {
			t.Errorf("%s goes unseen", what)
		}
	}
	with := func(name string, data []byte) map[string][]byte {
		bad := maps.Clone(files)
		bad[name] = data
		return bad
	}
	for _, name := range names {
		bad := maps.Clone(files)
		delete(bad, name)
		refuse(name+" left out", bad)
		refuse(name+" emptied", with(name, nil))
		refuse(name+" cut", with(name, files[name][:len(files[name])/2]))
		refuse(name+" one byte shorter", with(name, files[name][:len(files[name])-1]))
		refuse(name+" with a line more", with(name, append(bytes.Clone(files[name]), '\n')))
		refuse(name+" doubled", with(name, slices.Concat(files[name], files[name])))
		for _, other := range names {
			if other != name && !bytes.Equal(files[name], files[other]) {
				bad := with(name, files[other])
				bad[other] = files[name]
				refuse(name+" exchanged with "+other, bad)
			}
		}
	}
	for _, name := range []string{"x", "open/x.jsonl", "open/2026-11-01T09.jsonl", "certificates/x.der", "../note", "certificates/" + hashHex([]byte("x")) + ".der"} {
		refuse("file "+name, with(name, []byte("x")))
	}
	// Each line of the files of lines.
	for _, name := range []string{fileHeaders, fileProofs, fileRecords, fileCheckpoints, fileNote} {
		lines := strings.SplitAfter(string(files[name]), "\n")
		for i := range lines[:len(lines)-1] {
			refuse(name+" without a line", with(name, []byte(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), ""))))
			refuse(name+" with a line twice", with(name, []byte(strings.Join(slices.Insert(slices.Clone(lines), i, lines[i]), ""))))
			if i > 0 && lines[i] != lines[i-1] {
				swapped := slices.Clone(lines)
				swapped[i], swapped[i-1] = swapped[i-1], swapped[i]
				refuse(name+" with lines exchanged", with(name, []byte(strings.Join(swapped, ""))))
			}
		}
	}
}

// What the monitor itself might change before it signs the export.
func TestVerifyMonthRefuses(t *testing.T) {
	s := newSmallMonth(t)
	foreign := newSmallMonth(t)
	header := func(m *MonitorMonth, i int, change func(*Header)) {
		h, err := decodeHeader(m.Headers[i])
		must(t, err)
		change(&h)
		m.Headers[i], err = Encode(h)
		must(t, err)
	}
	proof := func(m *MonitorMonth, i int, change func(*blockProof)) {
		var p blockProof
		must(t, Decode(m.Proofs[i], &p))
		change(&p)
		var err error
		m.Proofs[i], err = Encode(p)
		must(t, err)
	}
	cosigned := func(raw []byte, lines ...string) []byte {
		return []byte(string(raw) + strings.Join(lines, ""))
	}
	for name, c := range map[string]struct {
		change func(*MonitorMonth)
		want   string
	}{
		"another month":       {func(m *MonitorMonth) { m.Month++ }, "block 0 is of hour"},
		"another relay":       {func(m *MonitorMonth) { m.Relay = foreign.relay.id.String() }, "block 2026-11-01T00:00:00Z: the record is not in its block"},
		"no relay":            {func(m *MonitorMonth) { m.Relay = "" }, "peer ID"},
		"another origin":      {func(m *MonitorMonth) { m.Origin = "m/relaymon/psf" }, "is not the name of the log's key"},
		"another key":         {func(m *MonitorMonth) { m.Key = foreign.keys.Log }, "it is signed by log key"},
		"earlier":             {func(m *MonitorMonth) { m.AsOf = TimeOf(closing(firstHour + 6)) }, "was sealed after"},
		"frontier too short":  {func(m *MonitorMonth) { m.Frontier = nil }, "does not make a tree"},
		"frontier wrong":      {func(m *MonitorMonth) { m.Frontier = []Hash{{1}} }, "not of the frontier"},
		"start size":          {func(m *MonitorMonth) { m.StartSize = 8 }, "is of size 4"},
		"negative start size": {func(m *MonitorMonth) { m.StartSize = -1 }, "does not make a tree"},
		"no start":            {func(m *MonitorMonth) { m.Start = nil }, "checkpoint: malformed note"},
		"start of another":    {func(m *MonitorMonth) { m.Start = foreign.month.Start }, "none is by"},
		"as if first":         {func(m *MonitorMonth) { m.StartSize, m.Frontier = 0, nil }, "there is a checkpoint before it"},
		"as if first, bare":   {func(m *MonitorMonth) { m.StartSize, m.Frontier, m.Start = 0, nil, nil }, "refers to one before"},
		"hour left out":       {func(m *MonitorMonth) { m.Headers = slices.Delete(m.Headers, 1, 2) }, "the one before of"},
		"hour doubled":        {func(m *MonitorMonth) { m.Headers = slices.Insert(m.Headers, 1, m.Headers[0]) }, "the one before of"},
		"first hour left out": {func(m *MonitorMonth) { m.Headers = m.Headers[1:] }, "want the month's first"},
		"last hour left out":  {func(m *MonitorMonth) { m.Headers = m.Headers[:3] }, "3 checkpoints for 2 signed blocks"},
		"all hours left out":  {func(m *MonitorMonth) { m.Headers = nil }, "3 checkpoints for 0 signed blocks"},
		"header changed": {func(m *MonitorMonth) {
			header(m, 0, func(h *Header) { h.State, h.Records, h.Root = StateGap, 0, emptyRoot })
		}, "does not refer to the one before"},
		"last header changed": {func(m *MonitorMonth) {
			header(m, 3, func(h *Header) { h.State, h.Records, h.Root = StateGap, 0, emptyRoot })
		}, "its root is not that of the blocks"},
		"state":            {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.State = "x" }) }, `state "x"`},
		"gap with records": {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.State = StateGap }) }, "a gap with records"},
		"gap with missed": {func(m *MonitorMonth) {
			header(m, 3, func(h *Header) { h.State, h.Records, h.Root, h.Missed = StateGap, 0, emptyRoot, 1 })
		}, "or missed attempts"},
		"negative missed":       {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.Missed = -1 }) }, "-1 missed attempts"},
		"too many missed":       {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.Missed = maxMissed + 1 }) }, "missed attempts, want"},
		"negative records":      {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.Records = -1 }) }, "-1 records"},
		"sealed too early":      {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.SealedAt = TimeOf(h.Hour.End()) }) }, "before its hour had closed"},
		"last one not signed":   {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.Signed = false }) }, "under no checkpoint"},
		"first one not signed":  {func(m *MonitorMonth) { header(m, 0, func(h *Header) { h.Signed = false }) }, "does not refer to"},
		"clock":                 {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.Clock.DriftMS = -1 }) }, "drift of -1 ms"},
		"no checkpoint":         {func(m *MonitorMonth) { m.Checkpoints = nil }, "0 checkpoints for 3"},
		"checkpoint left out":   {func(m *MonitorMonth) { m.Checkpoints = slices.Delete(m.Checkpoints, 0, 1) }, "2 checkpoints for 3"},
		"checkpoints exchanged": {func(m *MonitorMonth) { m.Checkpoints[0], m.Checkpoints[1] = m.Checkpoints[1], m.Checkpoints[0] }, "is of size 7, want 5"},
		"checkpoint doubled":    {func(m *MonitorMonth) { m.Checkpoints = append(m.Checkpoints, m.Checkpoints[2]) }, "4 checkpoints for 3"},
		"foreign checkpoint":    {func(m *MonitorMonth) { m.Checkpoints[1] = foreign.month.Checkpoints[1] }, "none is by"},
		"stranger cosigned": {func(m *MonitorMonth) {
			w := newWitness(t, "x")
			m.Checkpoints[2] = cosigned(m.Checkpoints[2], string(w.cosign(t, m.Checkpoints[2], firstHour.Start())))
		}, "by a key that is not known"},
		"cosigned twice": {func(m *MonitorMonth) {
			m.Checkpoints[2] = cosigned(m.Checkpoints[2], string(s.witnesses[1].cosign(t, m.Checkpoints[2], closing(firstHour+9))))
		}, "not in the one spelling"},
		"order of cosignatures": {func(m *MonitorMonth) {
			lines := strings.SplitAfter(string(m.Checkpoints[2]), "\n")
			lines[5], lines[6] = lines[6], lines[5]
			m.Checkpoints[2] = []byte(strings.Join(lines, ""))
		}, "not in the one spelling"},
		"spare bits of base64": {func(m *MonitorMonth) { m.Checkpoints[2] = spareBits(t, m.Checkpoints[2]) }, "not in the one spelling"},
		"records out of order": {func(m *MonitorMonth) { slices.Reverse(m.Records) }, "block 2026-11-01T00:00:00Z: the record is not in its block"},
		"proofs out of order":  {func(m *MonitorMonth) { slices.Reverse(m.Proofs) }, "block 2026-11-01T00:00:00Z: nothing shows whether"},
		"record doubled":       {func(m *MonitorMonth) { m.Records = append(m.Records, m.Records[2]) }, "0 proofs and 1 records are of no block"},
		"record and proof doubled": {func(m *MonitorMonth) {
			m.Records, m.Proofs = slices.Insert(m.Records, 1, m.Records[0]), slices.Insert(m.Proofs, 1, m.Proofs[0])
		}, "block 2026-11-01T02:00:00Z: nothing shows whether"},
		"record moved":    {func(m *MonitorMonth) { m.Records[1] = m.Records[0] }, "block 2026-11-01T02:00:00Z: the record is not in its block"},
		"record of a gap": {func(m *MonitorMonth) { proof(m, 1, func(p *blockProof) { p.Hour = firstHour + 5 }) }, "the next proof is of 2026-11-01T01:00:00Z"},
		"record changed":  {func(m *MonitorMonth) { m.Records[0] = append(m.Records[0], ' ') }, "not in its block"},
		"record left out": {func(m *MonitorMonth) { m.Records = m.Records[:2] }, "block 2026-11-01T03:00:00Z: the relay's record is missing"},
		"proof left out":  {func(m *MonitorMonth) { m.Proofs = m.Proofs[:2] }, "block 2026-11-01T03:00:00Z: it has 2 records, and nothing shows"},
		"record withdrawn": {func(m *MonitorMonth) {
			m.Records, m.Proofs = slices.Delete(m.Records, 1, 2), slices.Delete(m.Proofs, 1, 2)
		}, "block 2026-11-01T02:00:00Z: nothing shows whether one of its 2 records is of the relay"},
		"record denied": {func(m *MonitorMonth) {
			m.Records = slices.Delete(m.Records, 1, 2)
			proof(m, 1, func(p *blockProof) { p.Present = false })
		}, "block 2026-11-01T02:00:00Z: the proof does not show that the block has no record"},
		"another in its place": {func(m *MonitorMonth) {
			m.Records = slices.Delete(m.Records, 1, 2)
			proof(m, 1, func(p *blockProof) { p.Present, p.Other, p.Path = false, &place{Key: relayKey("x")}, nil })
		}, "block 2026-11-01T02:00:00Z: the proof does not show that the block has no record"},
		"itself in its place": {func(m *MonitorMonth) {
			p := placeOf(m.Relay, m.Records[1])
			m.Records = slices.Delete(m.Records, 1, 2)
			proof(m, 1, func(b *blockProof) { b.Present, b.Other = false, &p })
		}, "block 2026-11-01T02:00:00Z: the proof that the block has no record of the relay shows one of it"},
		"present and absent":  {func(m *MonitorMonth) { proof(m, 1, func(p *blockProof) { p.Other = &place{} }) }, "is of a record of the relay and of another in its place"},
		"no path":             {func(m *MonitorMonth) { proof(m, 0, func(p *blockProof) { p.Path = nil }) }, "not in its block"},
		"path goes on":        {func(m *MonitorMonth) { proof(m, 0, func(p *blockProof) { p.Path = append(p.Path, emptyRoot) }) }, "not in its block"},
		"path is too long":    {func(m *MonitorMonth) { proof(m, 0, func(p *blockProof) { p.Path = make([]Hash, maxPath+1) }) }, "has 129 hashes, want 128"},
		"proof is too long":   {func(m *MonitorMonth) { m.Proofs[0] = append(m.Proofs[0], make([]byte, maxBlockProof)...) }, "too long"},
		"proof is odd":        {func(m *MonitorMonth) { m.Proofs[0] = append(m.Proofs[0], ' ') }, "not in canonical form"},
		"records without any": {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.Root = emptyRoot }) }, "2 records, and the root is"},
		"none, with records":  {func(m *MonitorMonth) { header(m, 3, func(h *Header) { h.Records = 0 }) }, "0 records, and the root is"},
		"tip too early":       {func(m *MonitorMonth) { m.Tip = m.Checkpoints[2] }, "do not come to its end"},
		"proof of no tip":     {func(m *MonitorMonth) { m.TipProof = []Hash{{}} }, "and no tip"},
		"no certificate":      {func(m *MonitorMonth) { m.Certificates = nil }, "is missing"},
		"another certificate": {func(m *MonitorMonth) { m.Certificates = foreign.month.Certificates }, "is missing"},
		"certificate too many": {func(m *MonitorMonth) {
			m.Certificates = append(m.Certificates, foreign.month.Certificates[0])
			slices.SortFunc(m.Certificates, func(a, b []byte) int { return strings.Compare(hashHex(a), hashHex(b)) })
		}, "no record refers to certificate"},
		"open hour is sealed":     {func(m *MonitorMonth) { m.Open[0].Hour = firstHour + 7 }, "is out of place"},
		"open hour of next month": {func(m *MonitorMonth) { m.Open[0].Hour = m.Month.End() }, "is out of place"},
		"open hour, other hour":   {func(m *MonitorMonth) { m.Open[0].Hour++ }, "does not belong to hour"},
		"open hour is empty":      {func(m *MonitorMonth) { m.Open[0].Lines = nil }, "not ended"},
		"open hour, torn":         {func(m *MonitorMonth) { m.Open[0].Lines = m.Open[0].Lines[:50] }, "not ended"},
		"open hour, foreign":      {func(m *MonitorMonth) { m.Open = foreign.month.Open }, "certificate"},
		"open hour, white space":  {func(m *MonitorMonth) { m.Open[0].Lines = append([]byte(" "), m.Open[0].Lines...) }, "not in canonical form"},
		"open hour after the as-of": {func(m *MonitorMonth) {
			m.AsOf = TimeOf(closing(firstHour + 7).Add(5 * time.Minute))
			m.Open[0].Lines = late(t, m.Open[0].Lines)
		}, "attempt of 2026-11-01T04:50:00.000Z is after"},
		"cosigned after the as-of": {func(m *MonitorMonth) { m.AsOf = TimeOf(closing(firstHour + 7)) }, "w2 cosigned the checkpoint of size 8 at 2026-11-01T04:17:00.000Z, which is after"},
	} {
		m := clone(s.month)
		c.change(&m)
		_, err := VerifyMonth(s.resign(t, m), s.keys)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	// Without a new signature every change is one of the note's files.
	m := clone(s.month)
	m.Records = m.Records[1:]
	_, err := VerifyMonth(m, s.keys)
	wantError(t, err, "note: it is not over these files")
	m = clone(s.month)
	m.Note = foreign.month.Note
	_, err = VerifyMonth(m, s.keys)
	wantError(t, err, "none is by")
	m = clone(s.month)
	m.Note = append(m.Note, s.witnesses[0].cosign(t, m.Note, firstHour.Start())...)
	_, err = VerifyMonth(m, s.keys)
	wantError(t, err, "key that is not known")

	for name, k := range map[string]Keys{
		"no key":              {Witnesses: s.keys.Witnesses},
		"a witness's key":     {Log: s.keys.Witnesses[0], Witnesses: s.keys.Witnesses},
		"no witnesses":        {Log: s.keys.Log},
		"one witness":         {Log: s.keys.Log, Witnesses: s.keys.Witnesses[:1]},
		"malformed witness":   {Log: s.keys.Log, Witnesses: []string{"x"}},
		"another log's key":   foreign.keys,
		"key with spare bits": {Log: strings.TrimRight(s.keys.Log, "=") + "=x", Witnesses: s.keys.Witnesses},
	} {
		if _, err := VerifyMonth(s.month, k); err == nil {
			t.Errorf("verified with %s", name)
		}
	}
	// A witness too many, or twice, does no harm.
	more := append(slices.Clone(s.keys.Witnesses), newWitness(t, "w3").vkey(), s.keys.Witnesses[0])
	if _, err := VerifyMonth(s.month, Keys{Log: s.keys.Log, Witnesses: more}); err != nil {
		t.Error(err)
	}
}

// spareBits spells the last signature of a note with other unread bits.
func spareBits(t testing.TB, raw []byte) []byte {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	line := strings.TrimRight(string(raw), "\n")
	at := len(strings.TrimRight(line, "=")) - 1
	if at == len(line)-1 {
		t.Fatalf("no spare bits in %q", line)
	}
	other := strings.IndexByte(alphabet, line[at]) ^ 1
	out := []byte(line + "\n")
	out[at] = alphabet[other]
	if _, err := note.Open(out, note.VerifierList()); err == nil {
		t.Fatal("opened without keys")
	}
	a, _ := base64.StdEncoding.DecodeString(line[strings.LastIndexByte(line, ' ')+1:])
	b, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(out[strings.LastIndexByte(line, ' ')+1:]), "\n"))
	if err != nil || !bytes.Equal(a, b) {
		t.Fatal("the spare bits are not spare")
	}
	return out
}

// late moves the attempt in an open hour to a later moment.
func late(t testing.TB, lines []byte) []byte {
	var a Attempt
	must(t, Decode(bytes.TrimSuffix(lines, []byte("\n")), &a))
	a.Started = TimeOf(a.Started.Add(40 * time.Minute))
	b, err := Encode(a)
	must(t, err)
	return append(b, '\n')
}

func clone(m MonitorMonth) MonitorMonth {
	m.Frontier = slices.Clone(m.Frontier)
	m.TipProof = slices.Clone(m.TipProof)
	m.Headers = slices.Clone(m.Headers)
	m.Checkpoints = slices.Clone(m.Checkpoints)
	m.Proofs = slices.Clone(m.Proofs)
	m.Records = slices.Clone(m.Records)
	for _, lines := range [][][]byte{m.Proofs, m.Records} {
		for i := range lines {
			lines[i] = bytes.Clone(lines[i])
		}
	}
	m.Certificates = slices.Clone(m.Certificates)
	m.Open = slices.Clone(m.Open)
	m.Note = bytes.Clone(m.Note)
	return m
}

func TestMonthsOfALog(t *testing.T) {
	s := newSmallMonth(t)
	l, relay := s.log, s.relay.id.String()
	end := closing(firstHour + 20)
	for name, c := range map[string]struct {
		month             Month
		asOf              time.Time
		relay             string
		start, size, open int64
		hours, records    int
	}{
		"before the log":   {firstHour.Month() - 1, end, relay, 0, 0, 0, 0, 0},
		"its first":        {firstHour.Month(), end, relay, 0, 4, 0, 4, 2},
		"the current":      {firstHour.Month() + 1, end, relay, 4, 8, 1, 4, 3},
		"to come":          {firstHour.Month() + 2, end, relay, 8, 8, 0, 0, 0},
		"unknown relay":    {firstHour.Month() + 1, end, newRelay(t, crypto.Ed25519, 0).id.String(), 4, 8, 0, 4, 0},
		"as of the gap":    {firstHour.Month() + 1, closing(firstHour + 5), relay, 4, 5, 0, 1, 1},
		"as of nothing":    {firstHour.Month() + 1, firstHour.Start(), relay, 4, 4, 0, 0, 0},
		"as of four hours": {firstHour.Month() + 1, closing(firstHour + 6), relay, 4, 7, 0, 3, 2},
	} {
		m, err := l.Month(c.month, c.relay, c.asOf, s.keys.Witnesses...)
		must(t, err)
		v, err := VerifyMonth(m, s.keys)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.StartSize != c.start || v.Size != c.size || len(v.Hours) != c.hours || len(m.Records) != c.records || int64(len(v.Open)) != c.open {
			t.Errorf("%s: start %d, size %d, %d hours, %d records, %d open", name, m.StartSize, v.Size, len(v.Hours), len(m.Records), len(v.Open))
		}
	}
	if _, err := l.Month(firstHour.Month(), "x", end); err == nil {
		t.Error("exported relay x")
	}
	if _, err := l.Month(firstHour.Month(), relay, end, "x"); err == nil {
		t.Error("exported with witness x")
	}
	// Cosignatures by others, or of later, are left out.
	one, err := l.Month(firstHour.Month()+1, relay, closing(firstHour+7), s.keys.Witnesses[0])
	must(t, err)
	v, err := VerifyMonth(one, Keys{Log: s.keys.Log, Witnesses: s.keys.Witnesses[:1]})
	must(t, err)
	if got := v.Hours[3].Cosigned; len(got) != 1 || got[0].Witness != s.keys.Witnesses[0] {
		t.Errorf("cosigned: %+v", got)
	}
	early, err := l.Month(firstHour.Month()+1, relay, closing(firstHour+7), s.keys.Witnesses...)
	must(t, err)
	v, err = VerifyMonth(early, s.keys)
	must(t, err)
	if got := v.Hours[3].Cosigned; len(got) != 1 {
		t.Errorf("cosigned a minute later, and it is there: %+v", got)
	}
	// Consistency with what an auditor kept of the month before.
	oct, err := l.Month(firstHour.Month(), relay, end, s.keys.Witnesses...)
	must(t, err)
	old, err := VerifyMonth(oct, s.keys)
	must(t, err)
	proof, err := l.ProveConsistency(old.Size, v.Size)
	must(t, err)
	must(t, tlog.CheckTree(proof, v.Size, v.Root, old.Size, old.Root))
	if _, err := l.ProveConsistency(0, 1); err == nil {
		t.Error("proved consistency with nothing")
	}
}

// Two witnesses, one of which was away for a while, and one whose clock went far back:
// that time is of the one hour, not of those that it had cosigned before.
func TestWhoCosignedWhen(t *testing.T) {
	l, _ := newLog(t)
	relay := newRelay(t, crypto.Ed25519, 0)
	w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
	at := func(h Hour, after time.Duration) time.Time { return closing(h).Add(after) }
	for h := firstHour; h < firstHour+3; h++ {
		watch(t, l, h)
		must(t, l.Append(h, relay.attempt(t, l.Key(), h, time.Minute, nil)))
		_, err := l.Seal(at(h, 0))
		must(t, err)
		cp, err := l.Checkpoint()
		must(t, err)
		switch h {
		case firstHour, firstHour + 1:
			must(t, l.AddCosignatures(l.Size(), w1.cosign(t, cp, at(h, time.Minute)), w1.vkey()))
		case firstHour + 2:
			must(t, l.AddCosignatures(l.Size(), w1.cosign(t, cp, at(firstHour, -time.Hour)), w1.vkey()))
			must(t, l.AddCosignatures(l.Size(), w2.cosign(t, cp, at(h, 0)), w2.vkey()))
		}
	}
	// The first checkpoint, cosigned after the last one: the earlier time stands.
	first := signedText(t, l, textOf(mustRead(t, l.checkpointPath(1))))
	must(t, l.AddCosignatures(1, w2.cosign(t, first, at(firstHour+2, time.Minute)), w2.vkey()))
	k := Keys{Log: l.Key(), Witnesses: []string{w2.vkey(), w1.vkey()}}
	m, err := l.Month(firstHour.Month(), relay.id.String(), at(firstHour+3, 0), k.Witnesses...)
	must(t, err)
	v, err := VerifyMonth(m, k)
	must(t, err)
	late := Cosigned{w2.vkey(), at(firstHour+2, 0)}
	want := [][]Cosigned{
		{{w1.vkey(), at(firstHour, time.Minute)}, late},
		{{w1.vkey(), at(firstHour+1, time.Minute)}, late},
		{{w1.vkey(), at(firstHour, -time.Hour)}, late},
	}
	for i, h := range v.Hours {
		if d := cmp.Diff(want[i], h.Cosigned); d != "" {
			t.Errorf("hour %d: %s", i, d)
		}
		if (h.ClockFault != "") != (i == 2) {
			t.Errorf("hour %d: clock fault %q", i, h.ClockFault)
		}
	}
	wantFault := v.Hours[2].ClockFault
	if !strings.Contains(wantFault, "w1 cosigned at") {
		t.Errorf("clock fault %q", wantFault)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// What a log's key may sign without it being a checkpoint of the log.
func TestOpenCheckpoint(t *testing.T) {
	l, _ := newLog(t)
	v := noteVerifier{l.key.public()}
	root := Hash{1}.String()
	for name, c := range map[string]struct{ text, want string }{
		"good":            {l.Origin() + "\n7\n" + root + "\n", ""},
		"another origin":  {"x\n7\n" + root + "\n", "it is of log x"},
		"no origin":       {"\n7\n" + root + "\n", "empty origin"},
		"extension":       {l.Origin() + "\n7\n" + root + "\nmore\n", "one spelling"},
		"leading zero":    {l.Origin() + "\n07\n" + root + "\n", "one spelling"},
		"plus":            {l.Origin() + "\n+7\n" + root + "\n", "size"},
		"negative":        {l.Origin() + "\n-7\n" + root + "\n", "size"},
		"huge":            {l.Origin() + "\n4294967297\n" + root + "\n", "malformed"},
		"short hash":      {l.Origin() + "\n7\nAAAA\n", "malformed"},
		"spare bits":      {l.Origin() + "\n7\n" + strings.Replace(root, "A=", "B=", 1) + "\n", "one spelling"},
		"two lines":       {l.Origin() + "\n7\n", "few newlines"},
		"note of a month": {monthFormat + "\n" + l.Origin() + "\n2026-11 x\n", "size"},
	} {
		got, err := openCheckpoint(signedText(t, l, c.text), v)
		switch {
		case c.want == "" && (err != nil || got.size != 7 || got.root != Hash{1}):
			t.Errorf("%s: %+v, %v", name, got, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	if _, err := openNote(make([]byte, maxNote+1), v); err == nil {
		t.Error("opened a note that is too long")
	}
}

func TestCheckRecord(t *testing.T) {
	relay, other := newRelay(t, crypto.Ed25519, 0), newRelay(t, crypto.Ed25519, 0)
	good := func() Record {
		r := Record{PeerID: relay.id.String(), Hour: firstHour}
		for _, after := range []time.Duration{50 * time.Minute, 63 * time.Minute} {
			r.Attempts = append(r.Attempts, relay.attempt(t, monitorKey, firstHour, after, nil))
		}
		return r
	}
	must(t, checkRecord(good(), firstHour))
	for name, c := range map[string]struct {
		change func(*Record)
		want   string
	}{
		"another hour":      {func(r *Record) { r.Hour++ }, "is of hour"},
		"no attempt":        {func(r *Record) { r.Attempts = nil }, "0 attempts"},
		"too many":          {func(r *Record) { r.Attempts = make([]Attempt, maxAttempts+1) }, "17 attempts"},
		"another relay":     {func(r *Record) { r.PeerID = other.id.String() }, "has an attempt on"},
		"another's attempt": {func(r *Record) { r.Attempts[1].PeerID = other.id.String() }, "has an attempt on"},
		"order":             {func(r *Record) { slices.Reverse(r.Attempts) }, "order of their start"},
		"only a retry":      {func(r *Record) { r.Attempts = r.Attempts[1:] }, "first attempt"},
		"too early":         {func(r *Record) { r.Attempts[0].Started = TimeOf(firstHour.Start().Add(-1)) }, "does not belong"},
		"too late":          {func(r *Record) { r.Attempts[1].Started = TimeOf(closing(firstHour)) }, "does not belong"},
	} {
		r := good()
		c.change(&r)
		err := checkRecord(r, firstHour)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}
