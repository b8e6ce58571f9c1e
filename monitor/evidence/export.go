package evidence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Source is a log from which months are exported: a monitor's own, or a mirror of one.
// What it gives is checked as far as an export needs it.
type Source interface {
	Origin() string
	Key() string // the log's verifier key
	First() Hour // of block 0
	Size() int64 // of the last checkpoint
	// HeaderLines are the canonical headers of the blocks from up to, without, to.
	HeaderLines(from, to int64) ([][]byte, error)
	// RecordLines are the canonical records of a block, in the order of their peer IDs.
	RecordLines(block int64) ([][]byte, error)
	// CheckpointOf is the checkpoint of a size, with all the cosignatures at hand.
	CheckpointOf(size int64) ([]byte, error)
	// CertificateOf is the certificate (DER) with a SHA-256 in hex.
	CertificateOf(sha256 string) ([]byte, error)
	// ReadHashes reads hashes of the log's tree.
	tlog.HashReader
}

// Export makes what shows the month of one relay, as of a time: what was sealed or
// cosigned later is left out. Of the cosignatures it holds those by the given witnesses
// (verifier keys). Equal logs and arguments make equal exports, whoever holds the log.
func Export(src Source, m Month, relay string, asOf time.Time, witnesses ...string) (MonitorMonth, error) {
	e := newExporter(src, m, relay, asOf)
	if err := e.export(witnesses); err != nil {
		return MonitorMonth{}, fmt.Errorf("export %s of %s: %w", m, relay, err)
	}
	return e.out, nil
}

func newExporter(src Source, m Month, relay string, asOf time.Time) exporter {
	return exporter{src: src, first: src.First(), size: src.Size(), relay: relay, certs: make(map[string][]byte),
		out: MonitorMonth{Origin: src.Origin(), Key: src.Key(), Month: m, Relay: relay, AsOf: TimeOf(asOf)}}
}

type exporter struct {
	src       Source
	first     Hour
	size      int64  // of the last checkpoint when the export began
	relay     string // empty: of none
	log       note.Verifier
	witnesses []note.Verifier
	certs     map[string][]byte
	leaves    []string // the hashes of certs, in the order in which records name them
	out       MonitorMonth
}

func (e *exporter) export(witnesses []string) (err error) {
	if err := checkPeer(e.relay); err != nil {
		return err
	}
	if err := e.spine(witnesses); err != nil {
		return err
	}
	slices.Sort(e.leaves)
	for _, sha := range e.leaves {
		e.out.Certificates = append(e.out.Certificates, e.certs[sha])
	}
	// What no verifier takes is better not handed out.
	files, err := e.out.Files()
	if err != nil {
		return err
	}
	return checkFiles(files)
}

// spine takes in the month's blocks, and with them what they hold of the relay.
func (e *exporter) spine(witnesses []string) (err error) {
	if e.log, err = LogVerifier(e.out.Key); err != nil {
		return err
	}
	if e.witnesses, err = WitnessVerifiers(witnesses); err != nil {
		return err
	}
	headers, err := e.blocks()
	if err != nil {
		return err
	}
	if headers, err = e.contents(headers); err != nil {
		return err
	}
	if n := len(headers); n > 0 && headers[n-1].Hour == e.out.Month.End()-1 {
		return e.tip(e.out.StartSize + int64(n))
	}
	return nil
}

// blocks takes in what is known of the tree before the month, and the month's headers and
// checkpoints. A header that tells of a cosignature which is not there ends it: no verifier
// takes that. What was written before stays as it is: else a monitor could take all of it
// back by telling of one that never was.
func (e *exporter) blocks() ([]Header, error) {
	// The blocks before the month, or, if the log does not come to it, all.
	e.out.StartSize = min(max(int64(e.out.Month.First()-e.first), 0), e.size)
	var err error
	if e.out.Frontier, err = e.src.ReadHashes(frontierIndexes(e.out.StartSize)); err != nil {
		return nil, err
	}
	signed, cosigned := e.out.StartSize > 0, []note.Signature(nil) // the block before
	if signed {
		if e.out.Start, cosigned, err = e.checkpoint(e.out.StartSize); err != nil {
			return nil, err
		}
	}
	lines, headers, err := e.sealed(e.out.Month)
	if err != nil {
		return nil, err
	}
	end := 0
	for i, h := range headers {
		if len(h.Cosigned) > 0 && (!signed || !e.held(h.Cosigned, cosigned)) {
			e.out.Cut = fmt.Sprintf("block %s tells of cosignatures under the checkpoint before it which are not there, so that no verifier takes it", h.Hour)
			break
		}
		if signed = h.Signed; signed {
			var raw []byte
			if raw, cosigned, err = e.checkpoint(e.out.StartSize + int64(i) + 1); err != nil {
				return nil, err
			}
			e.out.Checkpoints = append(e.out.Checkpoints, raw)
			end = i + 1
		}
	}
	e.out.Headers = lines[:end]
	return headers[:end], nil
}

// held says whether the cosignatures of which a header tells are at hand, as far as they
// are by witnesses for whom the export is made.
func (e *exporter) held(told []Held, cosigned []note.Signature) bool {
	return !slices.ContainsFunc(told, func(c Held) bool {
		return slices.ContainsFunc(e.witnesses, func(w note.Verifier) bool { return signerID(w.Name(), w.KeyHash()) == c.Witness }) &&
			!slices.ContainsFunc(cosigned, c.is)
	})
}

// sealed are a month's headers up to the last signed one that was sealed by then.
func (e *exporter) sealed(m Month) ([][]byte, []Header, error) {
	start := min(max(int64(m.First()-e.first), 0), e.size)
	lines, err := e.src.HeaderLines(start, min(max(int64(m.End()-e.first), 0), e.size))
	if err != nil {
		return nil, nil, err
	}
	var headers []Header
	end := 0
	for i, line := range lines {
		h, err := DecodeHeader(line)
		if err != nil {
			return nil, nil, fmt.Errorf("block %d: %w", start+int64(i), err)
		}
		// A header that tells of a cosignature is of no use without it.
		late := func(c Held) bool { return c.Time.After(e.out.AsOf.Time) }
		if late(Held{Time: h.SealedAt}) || slices.ContainsFunc(h.Cosigned, late) {
			break
		}
		headers = append(headers, h)
		if h.Signed {
			end = i + 1
		}
	}
	return lines[:end], headers[:end], nil
}

// monthRoom is what the blocks of a month may take, so that there is room for its index and
// the checkpoints before and after it.
var monthRoom = MaxMonthBytes - 1<<20

// contents takes in what the blocks hold of the relay, as far as a month has room: a log
// that was blown up ends before that, and what it said before stands. It returns the
// headers of the blocks that fit, the last of which is signed.
func (e *exporter) contents(headers []Header) ([]Header, error) {
	var fit, now struct{ blocks, checkpoints, proofs, records, leaves int }
	size := 0
	for i, h := range headers {
		if h.Records > 0 && e.relay != "" {
			if err := e.records(e.out.StartSize+int64(i), h); err != nil {
				return nil, err
			}
		}
		for _, b := range slices.Concat(e.out.Headers[i:i+1], e.out.Proofs[now.proofs:], e.out.Records[now.records:]) {
			size += len(b) + 1
		}
		for _, sha := range e.leaves[now.leaves:] {
			size += len(e.certs[sha])
		}
		if h.Signed {
			size += len(e.out.Checkpoints[now.checkpoints]) + 1
			now.checkpoints++
		}
		if size > monthRoom {
			e.out.Cut = fmt.Sprintf("with block %s the month would be larger than %d bytes, and no verifier takes that", h.Hour, monthRoom)
			e.out.Headers, e.out.Checkpoints = e.out.Headers[:fit.blocks], e.out.Checkpoints[:fit.checkpoints]
			e.out.Proofs, e.out.Records, e.leaves = e.out.Proofs[:fit.proofs], e.out.Records[:fit.records], e.leaves[:fit.leaves]
			return headers[:fit.blocks], nil
		}
		now.blocks, now.proofs, now.records, now.leaves = i+1, len(e.out.Proofs), len(e.out.Records), len(e.leaves)
		if h.Signed {
			fit = now
		}
	}
	return headers, nil
}

// records takes in what a block holds of the relay.
func (e *exporter) records(block int64, h Header) error {
	lines, err := e.src.RecordLines(block)
	if err != nil {
		return err
	}
	proof, record, err := proveRecord(lines, h, e.relay)
	if err != nil {
		return fmt.Errorf("records of %s: %w", h.Hour, err)
	}
	e.out.Proofs = append(e.out.Proofs, proof)
	if record == nil {
		return nil
	}
	e.out.Records = append(e.out.Records, record)
	r, err := DecodeRecord(record, h.Hour)
	if err != nil {
		return err
	}
	for _, a := range r.Attempts {
		c := a.Facts.Certificate
		if c == nil || e.certs[c.SHA256] != nil {
			continue
		}
		if e.certs[c.SHA256], err = e.src.CertificateOf(c.SHA256); err != nil {
			return err
		}
		e.leaves = append(e.leaves, c.SHA256)
	}
	return nil
}

// proveRecord shows that a block, of which these are the records, holds one of a relay, or
// that it holds none (nil).
func proveRecord(lines [][]byte, h Header, relay string) (proof, record []byte, err error) {
	t, err := recordTree(lines)
	if err != nil {
		return nil, nil, err
	}
	p := blockProof{Hour: h.Hour}
	if p.Path, p.Other = t.prove(relay); p.Other != nil && p.Other.Key == relayKey(relay) {
		p.Present = true
		i := slices.IndexFunc(lines, func(line []byte) bool { return placeOf(relay, line) == *p.Other })
		record, p.Other = lines[i], nil
	}
	if err := p.check(h, relay, record); err != nil {
		return nil, nil, fmt.Errorf("they are not those that were sealed: %w", err)
	}
	proof, err = Encode(p)
	return proof, record, err
}

// tip takes in the last checkpoint after the month, which ends with a block of that
// number, that was sealed by then and, if there is such a one, has a cosignature.
func (e *exporter) tip(end int64) error {
	var size int64
	for later := min((e.first + Hour(e.size) - 1).Month(), MonthOf(e.out.AsOf.Time)); later > e.out.Month; later-- {
		_, headers, err := e.sealed(later)
		if err != nil {
			return err
		}
		for _, h := range slices.Backward(headers) {
			if !h.Signed {
				continue
			}
			at := int64(h.Hour-e.first) + 1
			found, cosigned, err := e.checkpoint(at)
			if err != nil {
				return err
			}
			if e.out.Tip == nil || len(cosigned) > 0 {
				size, e.out.Tip = at, found
			}
			if len(cosigned) > 0 || len(e.witnesses) == 0 {
				return e.proveTip(size, end)
			}
		}
	}
	if e.out.Tip == nil {
		return nil
	}
	return e.proveTip(size, end)
}

func (e *exporter) proveTip(size, end int64) (err error) {
	e.out.TipProof, err = tlog.ProveTree(size, end, e.src)
	return err
}

// checkpoint is that of a size with the cosignatures that the witnesses gave by then, and
// these.
func (e *exporter) checkpoint(size int64) (out []byte, cosigned []note.Signature, err error) {
	fail := func(err error) ([]byte, []note.Signature, error) {
		return nil, nil, fmt.Errorf("checkpoint of size %d: %w", size, err)
	}
	raw, err := e.src.CheckpointOf(size)
	if err != nil {
		return fail(err)
	}
	n, err := openLoose(raw, e.log)
	if err != nil {
		return fail(err)
	}
	sigs := n.Sigs[:1]
	for _, v := range e.witnesses {
		good := slices.DeleteFunc(slices.Clone(n.UnverifiedSigs), func(s note.Signature) bool {
			at, err := CosignedAt(s)
			return err != nil || at.After(e.out.AsOf.Time) || verifierOf(s, []note.Verifier{v}) == nil || !verifies(n.Text, s, v)
		})
		if len(good) > 1 { // a mirror was shown another one than the log holds
			if good, err = e.told(size, good); err != nil {
				return fail(err)
			}
		}
		if len(good) > 0 {
			sigs = append(sigs, good[0])
		}
	}
	if out, err = FormatNote(n.Text, sigs); err != nil {
		return fail(err)
	}
	return out, sigs[1:], nil
}

// told puts first the cosignature of which the block after the checkpoint tells, or else the
// earliest.
func (e *exporter) told(size int64, list []note.Signature) ([]note.Signature, error) {
	slices.SortFunc(list, func(a, b note.Signature) int { // verified: these have a time
		x, _ := CosignedAt(a)
		y, _ := CosignedAt(b)
		return cmp.Or(x.Compare(y), strings.Compare(a.Base64, b.Base64))
	})
	if size >= e.size {
		return list, nil
	}
	lines, err := e.src.HeaderLines(size, size+1)
	if err != nil {
		return nil, err
	}
	h, err := DecodeHeader(lines[0])
	if err != nil {
		return nil, err
	}
	for _, c := range h.Cosigned {
		if i := slices.IndexFunc(list, c.is); i >= 0 {
			return list[i:], nil
		}
	}
	return list, nil
}
