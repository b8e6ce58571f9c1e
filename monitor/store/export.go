package store

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Month exports what shows the month of one relay, as of a time: what was sealed,
// started or cosigned later is left out. Of the cosignatures it holds those by
// the given witnesses (verifier keys). Equal logs and arguments make equal
// exports.
func (l *Log) Month(m evidence.Month, relay string, asOf time.Time, witnesses ...string) (evidence.MonitorMonth, error) {
	fail := func(err error) (evidence.MonitorMonth, error) {
		return evidence.MonitorMonth{}, fmt.Errorf("export %s of %s: %w", m, relay, err)
	}
	if err := evidence.CheckPeer(relay); err != nil {
		return fail(err)
	}
	known, err := evidence.WitnessVerifiers(witnesses)
	if err != nil {
		return fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := evidence.MonitorMonth{Origin: l.meta.Origin, Key: l.meta.Key, Month: m, Relay: relay, AsOf: evidence.TimeOf(asOf)}
	certs := make(map[string][]byte)

	lines, headers, err := l.sealedBy(m, out.AsOf)
	if err != nil {
		return fail(err)
	}
	out.Headers = lines
	// The blocks before the month, or, if the log does not come to it, all.
	out.StartSize = min(max(int64(m.First()-l.meta.First), 0), l.signed)
	if out.Frontier, err = l.tree.Frontier(out.StartSize); err != nil {
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
		r, err := evidence.DecodeRecord(record, h.Hour)
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
		open := evidence.OpenHour{Hour: h}
		for _, a := range l.wals[h].attempts[relay] {
			if a.Started.After(out.AsOf.Time) {
				continue
			}
			open.Lines = append(append(open.Lines, a.raw...), '\n')
			if err := l.collectCertificates(certs, []evidence.Attempt{a.Attempt}); err != nil {
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
	if err := out.Sign(l.key); err != nil {
		return fail(err)
	}
	return out, nil
}

// sealedBy are the month's headers up to the last signed one that was sealed by then.
func (l *Log) sealedBy(m evidence.Month, asOf evidence.Time) ([][]byte, []evidence.Header, error) {
	lines, err := l.monthHeaders(m)
	if err != nil {
		return nil, nil, err
	}
	start := int64(max(m.First(), l.meta.First) - l.meta.First)
	var headers []evidence.Header
	end := 0
	for i, line := range lines {
		h, err := evidence.DecodeHeader(line)
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
func (l *Log) tip(m evidence.Month, asOf evidence.Time, witnesses []note.Verifier) (size int64, raw []byte, err error) {
	for later := min(l.last.Hour.Month(), evidence.MonthOf(asOf.Time)); later > m; later-- {
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
func (l *Log) exportCheckpoint(size int64, asOf evidence.Time, witnesses []note.Verifier) (out []byte, cosigned int, err error) {
	raw, err := os.ReadFile(l.checkpointPath(size))
	if err != nil {
		return nil, 0, err
	}
	n, err := evidence.ParseNote(raw, l.key.Verifier(), witnesses...)
	if err != nil {
		return nil, 0, l.errDamaged("checkpoint of size %d: %w", size, err)
	}
	sigs := n.Sigs[:1]
	for _, s := range n.Sigs[1:] {
		at, err := evidence.CosignedAt(s)
		if err != nil {
			return nil, 0, err
		}
		if !at.After(asOf.Time) {
			sigs = append(sigs, s)
		}
	}
	out, err = evidence.FormatNote(n.Text, sigs)
	return out, len(sigs) - 1, err
}

// prove shows that a sealed hour holds a record of a relay, or that it holds none (nil).
func (l *Log) prove(h evidence.Header, relay string) (proof, record []byte, err error) {
	lines, err := l.recordLines(h.Hour)
	if err != nil {
		return nil, nil, err
	}
	proof, record, err = evidence.ProveRecord(h, lines, relay)
	if err != nil {
		return nil, nil, l.errDamaged("records of %s: %w", h.Hour, err)
	}
	return proof, record, nil
}

func (l *Log) collectCertificates(into map[string][]byte, attempts []evidence.Attempt) error {
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
