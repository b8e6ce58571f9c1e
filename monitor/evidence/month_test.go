package evidence_test

import (
	"bytes"
	"encoding/base64"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

func verifyFiles(files map[string][]byte, k evidence.Keys) (evidence.VerifiedMonth, error) {
	m, err := evidence.MonthFromFiles(files)
	if err != nil {
		return evidence.VerifiedMonth{}, err
	}
	return evidence.VerifyMonth(m, k)
}

// Each byte of each file of an export is changed in turn. Nobody signs an export: the
// time as of which it was made is a word, and a cosignature of which no header tells yet
// may be left out. Nothing else may change unseen.
func TestEveryByteCounts(t *testing.T) {
	s := newSmallMonth(t)
	files, err := s.Month.Files()
	evidencetest.Must(t, err)
	good, err := verifyFiles(files, s.Keys)
	evidencetest.Must(t, err)
	total, unseen := 0, 0
	step := 1
	if testing.Short() {
		step = 11
	}
	for name, data := range files {
		for i := 0; i < len(data); i += step {
			bad := maps.Clone(files)
			bad[name] = bytes.Clone(data)
			bad[name][i] ^= 1 << (i % 8)
			total++
			got, err := verifyFiles(bad, s.Keys)
			if err != nil {
				continue
			}
			unseen++
			if d := cmp.Diff(bare(good), bare(got)); d != "" {
				t.Fatalf("%s: byte %d (%q) changed goes unseen: %s", name, i, around(data, i), d)
			}
			for k, h := range got.Hours[:len(got.Hours)-1] {
				if len(h.Cosigned) != len(good.Hours[k].Cosigned) {
					t.Fatalf("%s: byte %d (%q) changed takes away a cosignature of %s", name, i, around(data, i), h.Header.Hour)
				}
			}
		}
	}
	if unseen > total/100 {
		t.Errorf("%d of %d changes do no harm: too many", unseen, total)
	}
	t.Logf("%d changes in %d files: %d do no harm", total, len(files), unseen)
}

// bare is what a month shows, but for the time as of which it was exported and the
// cosignatures.
func bare(v evidence.VerifiedMonth) evidence.VerifiedMonth {
	v.AsOf, v.Digest, v.Tip.Cosigned = evidence.Time{}, "", nil
	v.Hours = slices.Clone(v.Hours)
	for i := range v.Hours {
		v.Hours[i].Cosigned = nil
	}
	return v
}

func around(b []byte, i int) []byte { return b[max(i-10, 0):min(i+10, len(b))] }

// Files left out, added, emptied, cut, exchanged, doubled.
func TestEveryFileCounts(t *testing.T) {
	s := newSmallMonth(t)
	files, err := s.Month.Files()
	evidencetest.Must(t, err)
	names := slices.Sorted(maps.Keys(files))
	refuse := func(what string, bad map[string][]byte) {
		t.Helper()
		if _, err := verifyFiles(bad, s.Keys); err == nil {
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
	for _, name := range []string{"x", "open/x.jsonl", "open/2026-11-01T09.jsonl", "certificates/x.der", "../note", "certificates/" + evidence.SHA256Hex([]byte("x")) + ".der"} {
		refuse("file "+name, with(name, []byte("x")))
	}
	// Each line of the files of lines.
	for _, name := range []string{evidence.FileHeaders, evidence.FileProofs, evidence.FileRecords, evidence.FileCheckpoints} {
		lines := strings.SplitAfter(string(files[name]), "\n")
		for i := range lines[:len(lines)-1] {
			// Of the last cosignatures no header tells yet.
			if name != evidence.FileCheckpoints || i < len(lines)-3 {
				refuse(name+" without a line", with(name, []byte(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), ""))))
			}
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
	header := func(m *evidence.MonitorMonth, i int, change func(*evidence.Header)) {
		h, err := evidence.DecodeHeader(m.Headers[i])
		evidencetest.Must(t, err)
		change(&h)
		m.Headers[i], err = evidence.Encode(h)
		evidencetest.Must(t, err)
	}
	proof := func(m *evidence.MonitorMonth, i int, change func(*evidence.BlockProof)) {
		var p evidence.BlockProof
		evidencetest.Must(t, evidence.Decode(m.Proofs[i], &p))
		change(&p)
		var err error
		m.Proofs[i], err = evidence.Encode(p)
		evidencetest.Must(t, err)
	}
	cosigned := func(raw []byte, lines ...string) []byte {
		return []byte(string(raw) + strings.Join(lines, ""))
	}
	for name, c := range map[string]struct {
		change func(*evidence.MonitorMonth)
		want   string
	}{
		"another month":  {func(m *evidence.MonitorMonth) { m.Month++ }, "block 0 is of hour"},
		"another relay":  {func(m *evidence.MonitorMonth) { m.Relay = foreign.Relay.ID.String() }, "block 2026-11-01T00:00:00Z: the record is not in its block"},
		"no relay":       {func(m *evidence.MonitorMonth) { m.Relay = "" }, "peer ID"},
		"another origin": {func(m *evidence.MonitorMonth) { m.Origin = "m/relaymon/psf" }, "is not the name of the log's key"},
		"another key":    {func(m *evidence.MonitorMonth) { m.Key = foreign.Keys.Log }, "it is of the log with the key"},
		"earlier": {func(m *evidence.MonitorMonth) {
			m.AsOf = evidence.TimeOf(evidencetest.Closing(evidencetest.FirstHour + 6))
		}, "was sealed after"},
		"frontier too short":  {func(m *evidence.MonitorMonth) { m.Frontier = nil }, "does not make a tree"},
		"frontier wrong":      {func(m *evidence.MonitorMonth) { m.Frontier = []evidence.Hash{{1}} }, "not of the frontier"},
		"start size":          {func(m *evidence.MonitorMonth) { m.StartSize = 8 }, "is of size 4"},
		"negative start size": {func(m *evidence.MonitorMonth) { m.StartSize = -1 }, "does not make a tree"},
		"no start":            {func(m *evidence.MonitorMonth) { m.Start = nil }, "checkpoint: malformed note"},
		"start of another":    {func(m *evidence.MonitorMonth) { m.Start = foreign.Month.Start }, "none is by"},
		"as if first":         {func(m *evidence.MonitorMonth) { m.StartSize, m.Frontier = 0, nil }, "there is a checkpoint before it"},
		"as if first, bare":   {func(m *evidence.MonitorMonth) { m.StartSize, m.Frontier, m.Start = 0, nil, nil }, "refers to one before"},
		"hour left out":       {func(m *evidence.MonitorMonth) { m.Headers = slices.Delete(m.Headers, 1, 2) }, "the one before of"},
		"hour doubled":        {func(m *evidence.MonitorMonth) { m.Headers = slices.Insert(m.Headers, 1, m.Headers[0]) }, "the one before of"},
		"first hour left out": {func(m *evidence.MonitorMonth) { m.Headers = m.Headers[1:] }, "want the month's first"},
		"last hour left out":  {func(m *evidence.MonitorMonth) { m.Headers = m.Headers[:3] }, "3 checkpoints for 2 signed blocks"},
		"all hours left out":  {func(m *evidence.MonitorMonth) { m.Headers = nil }, "3 checkpoints for 0 signed blocks"},
		"header changed": {func(m *evidence.MonitorMonth) {
			header(m, 0, func(h *evidence.Header) { h.State, h.Records, h.Root = evidence.StateGap, 0, evidence.EmptyRoot })
		}, "does not refer to the one before"},
		"last header changed": {func(m *evidence.MonitorMonth) {
			header(m, 3, func(h *evidence.Header) { h.State, h.Records, h.Root = evidence.StateGap, 0, evidence.EmptyRoot })
		}, "its root is not that of the blocks"},
		"state":            {func(m *evidence.MonitorMonth) { header(m, 3, func(h *evidence.Header) { h.State = "x" }) }, `state "x"`},
		"gap with records": {func(m *evidence.MonitorMonth) { header(m, 3, func(h *evidence.Header) { h.State = evidence.StateGap }) }, "a gap with records"},
		"gap with missed": {func(m *evidence.MonitorMonth) {
			header(m, 3, func(h *evidence.Header) {
				h.State, h.Records, h.Root, h.Missed = evidence.StateGap, 0, evidence.EmptyRoot, 1
			})
		}, "or missed attempts"},
		"negative missed": {func(m *evidence.MonitorMonth) { header(m, 3, func(h *evidence.Header) { h.Missed = -1 }) }, "-1 missed attempts"},
		"too many missed": {func(m *evidence.MonitorMonth) {
			header(m, 3, func(h *evidence.Header) { h.Missed = evidence.MaxMissed + 1 })
		}, "missed attempts, want"},
		"negative records": {func(m *evidence.MonitorMonth) { header(m, 3, func(h *evidence.Header) { h.Records = -1 }) }, "-1 records"},
		"sealed too early": {func(m *evidence.MonitorMonth) {
			header(m, 3, func(h *evidence.Header) { h.SealedAt = evidence.TimeOf(h.Hour.End()) })
		}, "before its hour had closed"},
		"last one not signed":  {func(m *evidence.MonitorMonth) { header(m, 3, func(h *evidence.Header) { h.Signed = false }) }, "under no checkpoint"},
		"first one not signed": {func(m *evidence.MonitorMonth) { header(m, 0, func(h *evidence.Header) { h.Signed = false }) }, "there is no checkpoint over the blocks before it"},
		"clock":                {func(m *evidence.MonitorMonth) { header(m, 3, func(h *evidence.Header) { h.Clock.DriftMS = -1 }) }, "drift of -1 ms"},
		"no checkpoint":        {func(m *evidence.MonitorMonth) { m.Checkpoints = nil }, "0 checkpoints for 3"},
		"checkpoint left out":  {func(m *evidence.MonitorMonth) { m.Checkpoints = slices.Delete(m.Checkpoints, 0, 1) }, "2 checkpoints for 3"},
		"checkpoints exchanged": {func(m *evidence.MonitorMonth) {
			m.Checkpoints[0], m.Checkpoints[1] = m.Checkpoints[1], m.Checkpoints[0]
		}, "is of size 7, want 5"},
		"checkpoint doubled": {func(m *evidence.MonitorMonth) { m.Checkpoints = append(m.Checkpoints, m.Checkpoints[2]) }, "4 checkpoints for 3"},
		"foreign checkpoint": {func(m *evidence.MonitorMonth) { m.Checkpoints[1] = foreign.Month.Checkpoints[1] }, "none is by"},
		"stranger in a wrong place": {func(m *evidence.MonitorMonth) {
			w := evidencetest.NewWitness(t, "a") // before w1
			m.Checkpoints[2] = slices.Concat(m.Checkpoints[2], w.Cosign(t, m.Checkpoints[2], evidencetest.FirstHour.Start()))
		}, "one spelling"},
		"stranger cosigned twice": {func(m *evidence.MonitorMonth) {
			w := evidencetest.NewWitness(t, "x")
			m.Checkpoints[2] = slices.Concat(m.Checkpoints[2], w.Cosign(t, m.Checkpoints[2], evidencetest.FirstHour.Start()), w.Cosign(t, m.Checkpoints[2], evidencetest.FirstHour.End()))
		}, "signed twice"},
		"cosigned twice": {func(m *evidence.MonitorMonth) {
			m.Checkpoints[2] = cosigned(m.Checkpoints[2], string(s.Witnesses[1].Cosign(t, m.Checkpoints[2], evidencetest.Closing(evidencetest.FirstHour+9))))
		}, "not in the one spelling"},
		"order of cosignatures": {func(m *evidence.MonitorMonth) {
			lines := strings.SplitAfter(string(m.Checkpoints[2]), "\n")
			lines[5], lines[6] = lines[6], lines[5]
			m.Checkpoints[2] = []byte(strings.Join(lines, ""))
		}, "not in the one spelling"},
		"spare bits of base64": {func(m *evidence.MonitorMonth) { m.Checkpoints[2] = spareBits(t, m.Checkpoints[2]) }, "not in the one spelling"},
		"records out of order": {func(m *evidence.MonitorMonth) { slices.Reverse(m.Records) }, "block 2026-11-01T00:00:00Z: the record is not in its block"},
		"proofs out of order":  {func(m *evidence.MonitorMonth) { slices.Reverse(m.Proofs) }, "block 2026-11-01T00:00:00Z: nothing shows whether"},
		"record doubled":       {func(m *evidence.MonitorMonth) { m.Records = append(m.Records, m.Records[2]) }, "0 proofs and 1 records are of no block"},
		"record and proof doubled": {func(m *evidence.MonitorMonth) {
			m.Records, m.Proofs = slices.Insert(m.Records, 1, m.Records[0]), slices.Insert(m.Proofs, 1, m.Proofs[0])
		}, "block 2026-11-01T02:00:00Z: nothing shows whether"},
		"record moved": {func(m *evidence.MonitorMonth) { m.Records[1] = m.Records[0] }, "block 2026-11-01T02:00:00Z: the record is not in its block"},
		"record of a gap": {func(m *evidence.MonitorMonth) {
			proof(m, 1, func(p *evidence.BlockProof) { p.Hour = evidencetest.FirstHour + 5 })
		}, "the next proof is of 2026-11-01T01:00:00Z"},
		"record changed":  {func(m *evidence.MonitorMonth) { m.Records[0] = append(m.Records[0], ' ') }, "not in its block"},
		"record left out": {func(m *evidence.MonitorMonth) { m.Records = m.Records[:2] }, "block 2026-11-01T03:00:00Z: the relay's record is missing"},
		"proof left out":  {func(m *evidence.MonitorMonth) { m.Proofs = m.Proofs[:2] }, "block 2026-11-01T03:00:00Z: it has 2 records, and nothing shows"},
		"record withdrawn": {func(m *evidence.MonitorMonth) {
			m.Records, m.Proofs = slices.Delete(m.Records, 1, 2), slices.Delete(m.Proofs, 1, 2)
		}, "block 2026-11-01T02:00:00Z: nothing shows whether one of its 2 records is of the relay"},
		"record denied": {func(m *evidence.MonitorMonth) {
			m.Records = slices.Delete(m.Records, 1, 2)
			proof(m, 1, func(p *evidence.BlockProof) { p.Present = false })
		}, "block 2026-11-01T02:00:00Z: the proof does not show that the block has no record"},
		"another in its place": {func(m *evidence.MonitorMonth) {
			m.Records = slices.Delete(m.Records, 1, 2)
			proof(m, 1, func(p *evidence.BlockProof) {
				p.Present, p.Other, p.Path = false, &evidence.Place{Key: evidence.RelayKey("x")}, nil
			})
		}, "block 2026-11-01T02:00:00Z: the proof does not show that the block has no record"},
		"itself in its place": {func(m *evidence.MonitorMonth) {
			p := evidence.PlaceOf(m.Relay, m.Records[1])
			m.Records = slices.Delete(m.Records, 1, 2)
			proof(m, 1, func(b *evidence.BlockProof) { b.Present, b.Other = false, &p })
		}, "block 2026-11-01T02:00:00Z: the proof that the block has no record of the relay shows one of it"},
		"present and absent": {func(m *evidence.MonitorMonth) {
			proof(m, 1, func(p *evidence.BlockProof) { p.Other = &evidence.Place{} })
		}, "is of a record of the relay and of another in its place"},
		"no path": {func(m *evidence.MonitorMonth) { proof(m, 0, func(p *evidence.BlockProof) { p.Path = nil }) }, "not in its block"},
		"path goes on": {func(m *evidence.MonitorMonth) {
			proof(m, 0, func(p *evidence.BlockProof) { p.Path = append(p.Path, evidence.EmptyRoot) })
		}, "not in its block"},
		"path is too long": {func(m *evidence.MonitorMonth) {
			proof(m, 0, func(p *evidence.BlockProof) { p.Path = make([]evidence.Hash, evidence.MaxPath+1) })
		}, "has 129 hashes, want 128"},
		"proof is too long": {func(m *evidence.MonitorMonth) {
			m.Proofs[0] = append(m.Proofs[0], make([]byte, evidence.MaxBlockProof)...)
		}, "too long"},
		"proof is odd":        {func(m *evidence.MonitorMonth) { m.Proofs[0] = append(m.Proofs[0], ' ') }, "not in canonical form"},
		"records without any": {func(m *evidence.MonitorMonth) { header(m, 3, func(h *evidence.Header) { h.Root = evidence.EmptyRoot }) }, "2 records, and the root is"},
		"none, with records":  {func(m *evidence.MonitorMonth) { header(m, 3, func(h *evidence.Header) { h.Records = 0 }) }, "0 records, and the root is"},
		"tip too early":       {func(m *evidence.MonitorMonth) { m.Tip = m.Checkpoints[2] }, "do not come to its end"},
		"proof of no tip":     {func(m *evidence.MonitorMonth) { m.TipProof = []evidence.Hash{{}} }, "and no tip"},
		"no certificate":      {func(m *evidence.MonitorMonth) { m.Certificates = nil }, "is missing"},
		"another certificate": {func(m *evidence.MonitorMonth) { m.Certificates = foreign.Month.Certificates }, "is missing"},
		"certificate too many": {func(m *evidence.MonitorMonth) {
			m.Certificates = append(m.Certificates, foreign.Month.Certificates[0])
			slices.SortFunc(m.Certificates, func(a, b []byte) int { return strings.Compare(evidence.SHA256Hex(a), evidence.SHA256Hex(b)) })
		}, "no record refers to certificate"},
		"cosignature left out": {func(m *evidence.MonitorMonth) {
			m.Checkpoints[1] = withoutLastLine(m.Checkpoints[1])
		}, "tells that w2+"},
		"cosignature before the month left out": {func(m *evidence.MonitorMonth) { m.Start = withoutLastLine(m.Start) }, "tells that w2+"},
		"later cosignature": {func(m *evidence.MonitorMonth) {
			raw := withoutLastLine(m.Checkpoints[1])
			m.Checkpoints[1] = cosigned(raw, string(s.Witnesses[1].Cosign(t, raw, evidencetest.Closing(evidencetest.FirstHour+6).Add(30*time.Minute))))
		}, "and that cosignature is not there"},
		"earlier cosignature": {func(m *evidence.MonitorMonth) {
			raw := withoutLastLine(m.Checkpoints[1])
			m.Checkpoints[1] = cosigned(raw, string(s.Witnesses[1].Cosign(t, raw, evidencetest.Closing(evidencetest.FirstHour+5).Add(-time.Minute))))
		}, "and that cosignature is not there"},
		"cosigned after the as-of": {func(m *evidence.MonitorMonth) {
			m.AsOf = evidence.TimeOf(evidencetest.Closing(evidencetest.FirstHour + 7))
		}, "w2 cosigned the checkpoint of size 8 at 2026-11-01T04:17:00.000Z, which is after"},
	} {
		m := clone(s.Month)
		c.change(&m)
		_, err := evidence.VerifyMonth(m, s.Keys)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	for name, k := range map[string]evidence.Keys{
		"no key":              {Witnesses: s.Keys.Witnesses},
		"a witness's key":     {Log: s.Keys.Witnesses[0], Witnesses: s.Keys.Witnesses},
		"malformed witness":   {Log: s.Keys.Log, Witnesses: []string{"x"}},
		"another log's key":   foreign.Keys,
		"key with spare bits": {Log: strings.TrimRight(s.Keys.Log, "=") + "=x", Witnesses: s.Keys.Witnesses},
	} {
		if _, err := evidence.VerifyMonth(s.Month, k); err == nil {
			t.Errorf("verified with %s", name)
		}
	}
	// What witnesses say who are not known means nothing.
	v, err := evidence.VerifyMonth(s.Month, evidence.Keys{Log: s.Keys.Log, Witnesses: s.Keys.Witnesses[:1]})
	evidencetest.Must(t, err)
	for _, h := range v.Hours {
		for _, c := range h.Cosigned {
			if c.Witness != s.Keys.Witnesses[0] {
				t.Errorf("%s counts as cosigned by %s, who is not known", h.Header.Hour, c.Witness)
			}
		}
	}
	m := clone(s.Month)
	x := evidencetest.NewWitness(t, "x")
	m.Checkpoints[2] = slices.Concat(m.Checkpoints[2], x.Cosign(t, m.Checkpoints[2], evidencetest.FirstHour.Start()))
	whole, err := evidence.VerifyMonth(s.Month, s.Keys)
	evidencetest.Must(t, err)
	if v, err = evidence.VerifyMonth(m, s.Keys); err != nil || !reflect.DeepEqual(v.Hours, whole.Hours) {
		t.Errorf("with a cosignature by somebody who is not known: %v, and not the same hours", err)
	}
	// A witness too many, or twice, does no harm.
	more := append(slices.Clone(s.Keys.Witnesses), evidencetest.NewWitness(t, "w3").VKey(), s.Keys.Witnesses[0])
	if _, err := evidence.VerifyMonth(s.Month, evidence.Keys{Log: s.Keys.Log, Witnesses: more}); err != nil {
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

func clone(m evidence.MonitorMonth) evidence.MonitorMonth {
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
	return m
}

func TestMonthsOfALog(t *testing.T) {
	s := newSmallMonth(t)
	l, relay := s.log, s.Relay.ID.String()
	end := evidencetest.Closing(evidencetest.FirstHour + 20)
	for name, c := range map[string]struct {
		month          evidence.Month
		asOf           time.Time
		relay          string
		start, size    int64
		hours, records int
	}{
		"before the log":   {evidencetest.FirstHour.Month() - 1, end, relay, 0, 0, 0, 0},
		"its first":        {evidencetest.FirstHour.Month(), end, relay, 0, 4, 4, 2},
		"the current":      {evidencetest.FirstHour.Month() + 1, end, relay, 4, 8, 4, 3},
		"to come":          {evidencetest.FirstHour.Month() + 2, end, relay, 8, 8, 0, 0},
		"unknown relay":    {evidencetest.FirstHour.Month() + 1, end, evidencetest.NewRelay(t, crypto.Ed25519, 0).ID.String(), 4, 8, 4, 0},
		"as of the gap":    {evidencetest.FirstHour.Month() + 1, evidencetest.Closing(evidencetest.FirstHour + 5), relay, 4, 5, 1, 1},
		"as of nothing":    {evidencetest.FirstHour.Month() + 1, evidencetest.FirstHour.Start(), relay, 4, 4, 0, 0},
		"as of four hours": {evidencetest.FirstHour.Month() + 1, evidencetest.Closing(evidencetest.FirstHour + 6), relay, 4, 7, 3, 2},
	} {
		m, err := l.Month(c.month, c.relay, c.asOf, s.Keys.Witnesses...)
		evidencetest.Must(t, err)
		v, err := evidence.VerifyMonth(m, s.Keys)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.StartSize != c.start || v.Size != c.size || len(v.Hours) != c.hours || len(m.Records) != c.records {
			t.Errorf("%s: start %d, size %d, %d hours, %d records", name, m.StartSize, v.Size, len(v.Hours), len(m.Records))
		}
	}
	if _, err := l.Month(evidencetest.FirstHour.Month(), "x", end); err == nil {
		t.Error("exported relay x")
	}
	if _, err := l.Month(evidencetest.FirstHour.Month(), relay, end, "x"); err == nil {
		t.Error("exported with witness x")
	}
	// Cosignatures by others, or of later, are left out.
	one, err := l.Month(evidencetest.FirstHour.Month()+1, relay, evidencetest.Closing(evidencetest.FirstHour+7), s.Keys.Witnesses[0])
	evidencetest.Must(t, err)
	v, err := evidence.VerifyMonth(one, evidence.Keys{Log: s.Keys.Log, Witnesses: s.Keys.Witnesses[:1]})
	evidencetest.Must(t, err)
	if got := v.Hours[3].Cosigned; len(got) != 1 || got[0].Witness != s.Keys.Witnesses[0] {
		t.Errorf("cosigned: %+v", got)
	}
	early, err := l.Month(evidencetest.FirstHour.Month()+1, relay, evidencetest.Closing(evidencetest.FirstHour+7), s.Keys.Witnesses...)
	evidencetest.Must(t, err)
	v, err = evidence.VerifyMonth(early, s.Keys)
	evidencetest.Must(t, err)
	if got := v.Hours[3].Cosigned; len(got) != 1 {
		t.Errorf("cosigned a minute later, and it is there: %+v", got)
	}
	// Consistency with what an auditor kept of the month before.
	oct, err := l.Month(evidencetest.FirstHour.Month(), relay, end, s.Keys.Witnesses...)
	evidencetest.Must(t, err)
	old, err := evidence.VerifyMonth(oct, s.Keys)
	evidencetest.Must(t, err)
	proof, err := tlog.ProveTree(v.Size, old.Size, l)
	evidencetest.Must(t, err)
	evidencetest.Must(t, tlog.CheckTree(proof, v.Size, v.Root, old.Size, old.Root))
}

// Two witnesses, one of which was away for a while, and one whose clock went far back:
// that time is of the one hour, not of those that it had cosigned before.
func TestWhoCosignedWhen(t *testing.T) {
	l, _ := newLog(t)
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	w1, w2 := evidencetest.NewWitness(t, "w1"), evidencetest.NewWitness(t, "w2")
	at := func(h evidence.Hour, after time.Duration) time.Time { return evidencetest.Closing(h).Add(after) }
	for h := evidencetest.FirstHour; h < evidencetest.FirstHour+3; h++ {
		evidencetest.Watch(t, l, h)
		evidencetest.Must(t, l.Append(h, relay.Attempt(t, l.Key(), h, time.Minute, nil)))
		_, err := l.Seal(at(h, 0))
		evidencetest.Must(t, err)
		cp, err := l.Checkpoint()
		evidencetest.Must(t, err)
		switch h {
		case evidencetest.FirstHour, evidencetest.FirstHour + 1:
			evidencetest.Must(t, l.AddCosignatures(l.Size(), w1.Cosign(t, cp, at(h, time.Minute)), w1.VKey()))
		case evidencetest.FirstHour + 2:
			evidencetest.Must(t, l.AddCosignatures(l.Size(), w1.Cosign(t, cp, at(evidencetest.FirstHour, -time.Hour)), w1.VKey()))
			evidencetest.Must(t, l.AddCosignatures(l.Size(), w2.Cosign(t, cp, at(h, 0)), w2.VKey()))
		}
	}
	// The first checkpoint, cosigned after the last one: the earlier time stands.
	first := evidencetest.SignedText(t, l.dir, evidencetest.TextOf(mustRead(t, filepath.Join(l.dir, "checkpoints", "00000001"))))
	evidencetest.Must(t, l.AddCosignatures(1, w2.Cosign(t, first, at(evidencetest.FirstHour+2, time.Minute)), w2.VKey()))
	k := evidence.Keys{Log: l.Key(), Witnesses: []string{w2.VKey(), w1.VKey()}}
	m, err := l.Month(evidencetest.FirstHour.Month(), relay.ID.String(), at(evidencetest.FirstHour+3, 0), k.Witnesses...)
	evidencetest.Must(t, err)
	v, err := evidence.VerifyMonth(m, k)
	evidencetest.Must(t, err)
	late := evidence.Cosigned{Witness: w2.VKey(), At: at(evidencetest.FirstHour+2, 0)}
	want := [][]evidence.Cosigned{
		{{Witness: w1.VKey(), At: at(evidencetest.FirstHour, time.Minute)}, late},
		{{Witness: w1.VKey(), At: at(evidencetest.FirstHour+1, time.Minute)}, late},
		{{Witness: w1.VKey(), At: at(evidencetest.FirstHour, -time.Hour)}, late},
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
	evidencetest.Must(t, err)
	return b
}

// What a log's key may sign without it being a checkpoint of the log.
func TestOpenCheckpoint(t *testing.T) {
	l, _ := newLog(t)
	v := evidencetest.SecretOf(t, l.dir).Verifier()
	root := evidence.Hash{1}.String()
	for name, c := range map[string]struct{ text, want string }{
		"good":            {l.Origin() + "\n7\n" + root + "\n", ""},
		"another origin":  {"x\n7\n" + root + "\n", "it is of log x"},
		"no origin":       {"\n7\n" + root + "\n", "empty origin"},
		"extension":       {l.Origin() + "\n7\n" + root + "\nmore\n", "extension lines"},
		"leading zero":    {l.Origin() + "\n07\n" + root + "\n", "one spelling"},
		"plus":            {l.Origin() + "\n+7\n" + root + "\n", "size"},
		"negative":        {l.Origin() + "\n-7\n" + root + "\n", "size"},
		"huge":            {l.Origin() + "\n4294967297\n" + root + "\n", "malformed"},
		"short hash":      {l.Origin() + "\n7\nAAAA\n", "malformed"},
		"spare bits":      {l.Origin() + "\n7\n" + strings.Replace(root, "A=", "B=", 1) + "\n", "one spelling"},
		"two lines":       {l.Origin() + "\n7\n", "few newlines"},
		"note of a month": {evidence.MonthFormat + "\n" + l.Origin() + "\n2026-11 x\n", "size"},
	} {
		got, err := evidence.OpenCheckpoint(evidencetest.SignedText(t, l.dir, c.text), v)
		switch {
		case c.want == "" && (err != nil || got.Size != 7 || got.Root != evidence.Hash{1}):
			t.Errorf("%s: %+v, %v", name, got, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	if _, err := evidence.OpenNote(make([]byte, evidence.MaxNote+1), v); err == nil {
		t.Error("opened a note that is too long")
	}
}

func TestCheckRecord(t *testing.T) {
	relay, other := evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.NewRelay(t, crypto.Ed25519, 0)
	good := func() evidence.Record {
		r := evidence.Record{PeerID: relay.ID.String(), Hour: evidencetest.FirstHour}
		for _, after := range []time.Duration{50 * time.Minute, 63 * time.Minute} {
			r.Attempts = append(r.Attempts, relay.Attempt(t, monitorKey, evidencetest.FirstHour, after, nil))
		}
		return r
	}
	evidencetest.Must(t, evidence.CheckRecord(good(), evidencetest.FirstHour))
	for name, c := range map[string]struct {
		change func(*evidence.Record)
		want   string
	}{
		"another hour":      {func(r *evidence.Record) { r.Hour++ }, "is of hour"},
		"no attempt":        {func(r *evidence.Record) { r.Attempts = nil }, "0 attempts"},
		"too many":          {func(r *evidence.Record) { r.Attempts = make([]evidence.Attempt, evidence.MaxAttempts+1) }, "17 attempts"},
		"another relay":     {func(r *evidence.Record) { r.PeerID = other.ID.String() }, "has an attempt on"},
		"another's attempt": {func(r *evidence.Record) { r.Attempts[1].PeerID = other.ID.String() }, "has an attempt on"},
		"order":             {func(r *evidence.Record) { slices.Reverse(r.Attempts) }, "order of their start"},
		"only a retry":      {func(r *evidence.Record) { r.Attempts = r.Attempts[1:] }, "first attempt"},
		"too early": {func(r *evidence.Record) {
			r.Attempts[0].Started = evidence.TimeOf(evidencetest.FirstHour.Start().Add(-1))
		}, "does not belong"},
		"too late": {func(r *evidence.Record) {
			r.Attempts[1].Started = evidence.TimeOf(evidencetest.Closing(evidencetest.FirstHour))
		}, "does not belong"},
	} {
		r := good()
		c.change(&r)
		err := evidence.CheckRecord(r, evidencetest.FirstHour)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}
