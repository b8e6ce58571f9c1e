package evidence

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Month exports what shows the month of one relay, as of a time: what was sealed,
// started or cosigned later is left out. Of the cosignatures it holds those by
// the given witnesses (verifier keys). Equal logs and arguments make equal
// exports.
func (l *Log) Month(m Month, relay string, asOf time.Time, witnesses ...string) (MonitorMonth, error) {
	fail := func(err error) (MonitorMonth, error) {
		return MonitorMonth{}, fmt.Errorf("export %s of %s: %w", m, relay, err)
	}
	if err := checkPeer(relay); err != nil {
		return fail(err)
	}
	known, err := verifiers(witnesses)
	if err != nil {
		return fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := MonitorMonth{Origin: l.meta.Origin, Key: l.meta.Key, Month: m, Relay: relay, AsOf: TimeOf(asOf)}
	certs := make(map[string][]byte)

	lines, headers, err := l.sealedBy(m, out.AsOf)
	if err != nil {
		return fail(err)
	}
	out.Headers = lines
	// The blocks before the month, or, if the log does not come to it, all.
	out.StartSize = min(max(int64(m.First()-l.meta.First), 0), l.signed)
	if out.Frontier, err = l.tree.frontier(out.StartSize); err != nil {
		return fail(err)
	}
	if out.StartSize > 0 {
		if out.Start, _, err = l.exportCheckpoint(out.StartSize, out.AsOf, known); err != nil {
			return fail(err)
		}
	}
	for i, h := range headers {
		if h.Signed {
			raw, _, err := l.exportCheckpoint(out.StartSize+int64(i)+1, out.AsOf, known)
			if err != nil {
				return fail(err)
			}
			out.Checkpoints = append(out.Checkpoints, raw)
		}
		if h.Records == 0 {
			continue
		}
		proof, record, err := l.prove(h, relay)
		if err != nil {
			return fail(err)
		}
		out.Proofs = append(out.Proofs, proof)
		if record == nil {
			continue
		}
		out.Records = append(out.Records, record)
		r, err := decodeRecord(record, h.Hour)
		if err != nil {
			return fail(err)
		}
		if err := l.collectCertificates(certs, r.Attempts); err != nil {
			return fail(err)
		}
	}
	if n := len(headers); n > 0 && headers[n-1].Hour == m.End()-1 {
		size := out.StartSize + int64(n)
		tipSize, tip, err := l.tip(m, out.AsOf, known)
		if err != nil {
			return fail(err)
		}
		if tip != nil {
			out.Tip = tip
			if out.TipProof, err = tlog.ProveTree(tipSize, size, l.tree); err != nil {
				return fail(err)
			}
		}
	}
	for _, h := range l.unsealed() {
		if !m.Contains(h) {
			continue
		}
		open := OpenHour{Hour: h}
		for _, a := range l.wals[h].attempts[relay] {
			if a.Started.After(out.AsOf.Time) {
				continue
			}
			open.Lines = append(append(open.Lines, a.raw...), '\n')
			if err := l.collectCertificates(certs, []Attempt{a.Attempt}); err != nil {
				return fail(err)
			}
		}
		if len(open.Lines) > 0 {
			out.Open = append(out.Open, open)
		}
	}
	for _, sha := range slices.Sorted(maps.Keys(certs)) {
		out.Certificates = append(out.Certificates, certs[sha])
	}
	text, err := out.noteText()
	if err != nil {
		return fail(err)
	}
	// What no verifier takes is better not handed out.
	files, err := out.Files()
	if err != nil {
		return fail(err)
	}
	if err := checkFiles(files); err != nil {
		return fail(err)
	}
	if out.Note, err = signNote(text, l.key); err != nil {
		return fail(err)
	}
	return out, nil
}

// sealedBy are the month's headers up to the last signed one that was sealed by then.
func (l *Log) sealedBy(m Month, asOf Time) ([][]byte, []Header, error) {
	lines, err := l.monthHeaders(m)
	if err != nil {
		return nil, nil, err
	}
	start := int64(max(m.First(), l.meta.First) - l.meta.First)
	var headers []Header
	end := 0
	for i, line := range lines {
		h, err := decodeHeader(line)
		if err != nil {
			return nil, nil, l.errDamaged("block %d: %w", start+int64(i), err)
		}
		if h.SealedAt.After(asOf.Time) {
			break
		}
		headers = append(headers, h)
		if h.Signed && start+int64(i)+1 <= l.signed {
			end = i + 1
		}
	}
	return lines[:end], headers[:end], nil
}

// tip is the last checkpoint after the month that was sealed by then and, if there is
// such a one, has a cosignature; nil: there is none at all.
func (l *Log) tip(m Month, asOf Time, witnesses []note.Verifier) (size int64, raw []byte, err error) {
	for later := min(l.last.Hour.Month(), MonthOf(asOf.Time)); later > m; later-- {
		_, headers, err := l.sealedBy(later, asOf)
		if err != nil {
			return 0, nil, err
		}
		for _, h := range slices.Backward(headers) {
			if !h.Signed {
				continue
			}
			at := int64(h.Hour-l.meta.First) + 1
			found, cosigned, err := l.exportCheckpoint(at, asOf, witnesses)
			if err != nil {
				return 0, nil, err
			}
			if cosigned > 0 || len(witnesses) == 0 {
				return at, found, nil
			}
			if raw == nil {
				size, raw = at, found
			}
		}
	}
	return size, raw, nil
}

// exportCheckpoint is a checkpoint with the cosignatures that the witnesses gave
// by then, and how many these are.
func (l *Log) exportCheckpoint(size int64, asOf Time, witnesses []note.Verifier) (out []byte, cosigned int, err error) {
	raw, err := os.ReadFile(l.checkpointPath(size))
	if err != nil {
		return nil, 0, err
	}
	n, err := parseNote(raw, noteVerifier{l.key.public()}, witnesses...)
	if err != nil {
		return nil, 0, l.errDamaged("checkpoint of size %d: %w", size, err)
	}
	sigs := n.Sigs[:1]
	for _, s := range n.Sigs[1:] {
		at, err := cosignedAt(s)
		if err != nil {
			return nil, 0, err
		}
		if !at.After(asOf.Time) {
			sigs = append(sigs, s)
		}
	}
	out, err = formatNote(n.Text, sigs)
	return out, len(sigs) - 1, err
}

// prove shows that a sealed hour holds a record of a relay, or that it holds none (nil).
func (l *Log) prove(h Header, relay string) (proof, record []byte, err error) {
	lines, err := l.recordLines(h.Hour)
	if err != nil {
		return nil, nil, err
	}
	t, err := recordTree(lines)
	if err != nil {
		return nil, nil, l.errDamaged("records of %s: %w", h.Hour, err)
	}
	p := blockProof{Hour: h.Hour}
	if p.Path, p.Other = t.prove(relay); p.Other != nil && p.Other.Key == relayKey(relay) {
		p.Present, p.Other = true, nil
		record = lines[slices.IndexFunc(lines, func(line []byte) bool { id, _ := relayOf(line); return id == relay })]
	}
	if err := p.check(h, relay, record); err != nil {
		return nil, nil, l.errDamaged("records of %s: they are not those that were sealed: %w", h.Hour, err)
	}
	proof, err = Encode(p)
	return proof, record, err
}

func (l *Log) collectCertificates(into map[string][]byte, attempts []Attempt) error {
	for _, a := range attempts {
		c := a.Facts.Certificate
		if c == nil || into[c.SHA256] != nil {
			continue
		}
		der, err := l.certificate(c.SHA256)
		if err != nil {
			return err
		}
		into[c.SHA256] = der
	}
	return nil
}
