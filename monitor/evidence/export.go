package evidence

import (
	"bytes"
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
		if out.Start, err = l.exportCheckpoint(out.StartSize, out.AsOf, known); err != nil {
			return fail(err)
		}
	}
	for i, h := range headers {
		if h.Signed {
			raw, err := l.exportCheckpoint(out.StartSize+int64(i)+1, out.AsOf, known)
			if err != nil {
				return fail(err)
			}
			out.Checkpoints = append(out.Checkpoints, raw)
		}
		if h.Records == 0 {
			continue
		}
		p, found, err := l.prove(h, relay)
		if err != nil {
			return fail(err)
		}
		if found {
			out.Records = append(out.Records, p)
			r, err := decodeRecord(p.Record, h.Hour)
			if err != nil {
				return fail(err)
			}
			if err := l.collectCertificates(certs, r.Attempts); err != nil {
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

// exportCheckpoint is a checkpoint with the cosignatures that the witnesses gave
// by then.
func (l *Log) exportCheckpoint(size int64, asOf Time, witnesses []note.Verifier) ([]byte, error) {
	raw, err := os.ReadFile(l.checkpointPath(size))
	if err != nil {
		return nil, err
	}
	n, err := parseNote(raw, noteVerifier{l.key.public()}, witnesses...)
	if err != nil {
		return nil, l.errDamaged("checkpoint of size %d: %w", size, err)
	}
	sigs := n.Sigs[:1]
	for _, s := range n.Sigs[1:] {
		at, err := cosignedAt(s)
		if err != nil {
			return nil, err
		}
		if !at.After(asOf.Time) {
			sigs = append(sigs, s)
		}
	}
	return formatNote(n.Text, sigs)
}

// prove finds a relay's record in a sealed hour and its way to the header's root.
func (l *Log) prove(h Header, relay string) (ProvenRecord, bool, error) {
	lines, err := l.recordLines(h.Hour)
	if err != nil {
		return ProvenRecord{}, false, err
	}
	if int64(len(lines)) != h.Records {
		return ProvenRecord{}, false, l.errDamaged("block %s has %d records, want %d", h.Hour, len(lines), h.Records)
	}
	// The peer ID is the last member of a canonical record.
	tail := []byte(`"peer_id":"` + relay + `"}`)
	at := slices.IndexFunc(lines, func(line []byte) bool { return bytes.HasSuffix(line, tail) })
	if at < 0 {
		return ProvenRecord{}, false, nil
	}
	t, err := recordTree(lines)
	if err != nil {
		return ProvenRecord{}, false, err
	}
	proof, err := tlog.ProveRecord(t.size, int64(at), t)
	if err != nil {
		return ProvenRecord{}, false, err
	}
	return ProvenRecord{Hour: h.Hour, Index: int64(at), Record: lines[at], Proof: proof}, true, nil
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
