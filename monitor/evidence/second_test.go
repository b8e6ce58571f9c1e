package evidence_test

// A second verifier, written from the package comment alone with nothing but the
// standard library: no code is shared with the first. It does not judge vouchers
// of RSA relays nor certificates' dates.

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

type second struct {
	files     map[string][]byte
	logKey    string
	witnesses []string
	planKey   string
}

// fact is what it finds of an hour, in words that can be compared.
type fact struct {
	hour, state string
	record      string // SHA-256
	cosigned    string
	due         int64 // seconds since 1970; 0: not known
	voucher     string
	clock       bool // it is to be trusted
}

func (s second) sum(parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// rootAfter is the root of a tree whose first leaves are known by their perfect subtrees only.
func (s second) rootAfter(start int, frontier, leaves [][]byte) []byte {
	type subtree struct {
		size int
		hash []byte
	}
	var stack []subtree
	i := 0
	for bit := 1 << 40; bit > 0; bit >>= 1 {
		if start&bit != 0 {
			stack = append(stack, subtree{bit, frontier[i]})
			i++
		}
	}
	for _, leaf := range leaves {
		stack = append(stack, subtree{1, leaf})
		for n := len(stack); n > 1 && stack[n-2].size == stack[n-1].size; n = len(stack) {
			stack = append(stack[:n-2], subtree{2 * stack[n-1].size, s.sum([]byte{1}, stack[n-2].hash, stack[n-1].hash)})
		}
	}
	if len(stack) == 0 {
		return s.sum()
	}
	root := stack[len(stack)-1].hash
	for i := len(stack) - 2; i >= 0; i-- {
		root = s.sum([]byte{1}, stack[i].hash, root)
	}
	return root
}

// key takes a verifier key apart.
func (s second) key(vkey string, typ byte) (name string, id []byte, pub ed25519.PublicKey) {
	parts := strings.SplitN(vkey, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 33 {
		panic("key")
	}
	raw[0] = typ
	return parts[0], s.sum([]byte(parts[0]+"\n"), raw)[:4], raw[1:]
}

// note opens a signed note and returns its text and the cosignature times by witness.
func (s second) note(raw []byte, witnesses []string) (text string, times map[string]int64) {
	text, sigs, ok := strings.Cut(string(raw), "\n\n")
	text += "\n"
	if !ok || !strings.HasSuffix(sigs, "\n") {
		panic("note")
	}
	times = map[string]int64{}
	previous := ""
	for i, line := range strings.Split(strings.TrimSuffix(sigs, "\n"), "\n") {
		f := strings.Split(line, " ")
		if len(f) != 3 || f[0] != "—" {
			panic("signature line")
		}
		sig, err := base64.StdEncoding.Strict().DecodeString(f[2])
		if err != nil || len(sig) < 4 {
			panic("signature")
		}
		if i == 0 {
			name, id, pub := s.key(s.logKey, 1)
			if f[1] != name || !bytes.Equal(sig[:4], id) || !ed25519.Verify(pub, []byte(text), sig[4:]) {
				panic("author")
			}
			continue
		}
		if order := f[1] + " " + hex.EncodeToString(sig[:4]); order <= previous {
			panic("order of signatures")
		} else {
			previous = order
		}
		found := false
		for _, w := range witnesses {
			name, id, pub := s.key(w, 4)
			if f[1] != name || !bytes.Equal(sig[:4], id) || len(sig) != 4+8+64 {
				continue
			}
			at := binary.BigEndian.Uint64(sig[4:])
			if !ed25519.Verify(pub, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text), sig[12:]) {
				panic("cosignature")
			}
			times[w], found = int64(at), true
		}
		if !found {
			panic("unknown signer")
		}
	}
	return text, times
}

// object decodes a JSON object. It does not check that the bytes are canonical:
// the hashes over them already say that they are what the log wrote.
func (s second) object(b []byte) map[string]any {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	return v
}

func (s second) b64(v any) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(v.(string))
	if err != nil {
		panic(err)
	}
	return b
}

func (s second) hashes(v any) (list [][]byte) {
	for _, h := range v.([]any) {
		list = append(list, s.b64(h))
	}
	return list
}

func (s second) int(v any) int {
	n, err := strconv.Atoi(string(v.(json.Number)))
	if err != nil {
		panic(err)
	}
	return n
}

func (s second) time(v any) time.Time {
	t, err := time.Parse(time.RFC3339, v.(string))
	if err != nil {
		panic(err)
	}
	return t
}

func (s second) lines(name string) []string {
	b := string(s.files[name])
	if b == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(b, "\n"), "\n")
}

func (s second) base58(text string) []byte {
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	n := new(big.Int)
	for _, c := range text {
		n.Add(n.Mul(n, big.NewInt(58)), big.NewInt(int64(strings.IndexRune(alphabet, c))))
	}
	zeros := len(text) - len(strings.TrimLeft(text, "1"))
	return append(make([]byte, zeros), n.Bytes()...)
}

// fields reads a protobuf message of length-delimited and varint fields.
func (s second) fields(b []byte) (bytesOf map[int][]byte, numbers map[int]uint64) {
	bytesOf, numbers = map[int][]byte{}, map[int]uint64{}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		b = b[n:]
		v, n := binary.Uvarint(b)
		b = b[n:]
		if tag&7 == 0 {
			numbers[int(tag>>3)] = v
			continue
		}
		bytesOf[int(tag>>3)], b = b[:v], b[v:]
	}
	return bytesOf, numbers
}

// voucher says "bound" or "bad" of an Ed25519 relay's voucher.
func (s second) voucher(attempt map[string]any, hour time.Time) string {
	facts := attempt["facts"].(map[string]any)
	r, ok := facts["reservation"].(map[string]any)
	if !ok || r["voucher"] == nil {
		return "none"
	}
	relay := s.base58(attempt["peer_id"].(string))
	envelope, _ := s.fields(s.b64(r["voucher"]))
	pub, typ := s.fields(envelope[1])
	if typ[1] != 1 || !bytes.Equal(envelope[2], []byte{3, 2}) {
		return "bad"
	}
	var signed []byte
	for _, f := range [][]byte{[]byte("libp2p-relay-rsvp"), envelope[2], envelope[3]} {
		signed = append(binary.AppendUvarint(signed, uint64(len(f))), f...)
	}
	v, numbers := s.fields(envelope[3])
	if !ed25519.Verify(pub[2], signed, envelope[5]) ||
		!bytes.Equal(relay, append([]byte{0, 36}, envelope[1]...)) || !bytes.Equal(v[1], relay) {
		return "bad"
	}
	var seed []byte
	cosigned, _ := r["cosigned"].(string)
	for _, f := range [][]byte{[]byte("relaymon/probe-id/v1"), nil, []byte(cosigned), []byte(s.logKey), relay,
		binary.BigEndian.AppendUint64(nil, uint64(hour.Unix()/3600)), s.b64(r["salt"])} {
		seed = append(binary.BigEndian.AppendUint32(seed, uint32(len(f))), f...)
	}
	probe := ed25519.NewKeyFromSeed(s.sum(seed)).Public().(ed25519.PublicKey)
	id := append([]byte{0, 36, 8, 1, 18, 32}, probe...)
	left := time.Unix(int64(numbers[3]), 0).Sub(s.time(attempt["started"]).Truncate(time.Second))
	if !bytes.Equal(v[2], id) || !bytes.Equal(s.base58(r["peer"].(string)), id) || left < 0 || left > 24*time.Hour {
		return "bad"
	}
	if cosigned == "" {
		return "bound"
	}
	witness, at := s.cosigned(cosigned)
	if start := s.time(attempt["started"]); witness == "" || at.Before(hour.Add(-time.Hour)) || at.After(start.Add(5*time.Second)) {
		return "bad"
	}
	return "bound by " + witness
}

// cosigned is whose cosignature a note bears, as its only one, and of when; empty: it
// is no checkpoint of this log with that.
func (s second) cosigned(raw string) (witness string, at time.Time) {
	origin, _, _ := strings.Cut(s.logKey, "+")
	text, line, _ := strings.Cut(raw, "\n\n")
	text += "\n"
	lines := strings.Split(text, "\n")
	if len(raw) > 1024 || len(lines) != 4 || lines[0] != origin || strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		return "", at
	}
	if n, err := strconv.ParseUint(lines[1], 10, 32); err != nil || strconv.FormatUint(n, 10) != lines[1] {
		return "", at
	}
	if root, err := base64.StdEncoding.DecodeString(lines[2]); err != nil || len(root) != 32 || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return "", at
	}
	for _, w := range s.witnesses {
		parts := strings.SplitN(w, "+", 3)
		key := s.b64(parts[2])[1:]
		sig, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(strings.TrimPrefix(line, "— "+parts[0]+" "), "\n"))
		if err != nil || len(sig) != 76 || fmt.Sprintf("— %s %s\n", parts[0], base64.StdEncoding.EncodeToString(sig)) != line ||
			!bytes.Equal(sig[:4], s.sum([]byte(parts[0]+"\n\x04"), key)[:4]) {
			continue
		}
		seconds := binary.BigEndian.Uint64(sig[4:])
		if ed25519.Verify(key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", seconds, text), sig[12:]) {
			return w, time.Unix(int64(seconds), 0)
		}
	}
	return "", at
}

// due is when the first attempt of the record was.
func (s second) due(record map[string]any, origin string) int64 {
	plan, _ := record["plan"].(string)
	if s.planKey == "" || plan == "" {
		return 0
	}
	var signature bls12381.G1Affine
	var key bls12381.G2Affine
	if _, err := signature.SetBytes(s.b64(plan)); err != nil {
		return 0
	}
	if _, err := key.SetBytes(s.b64(s.planKey)); err != nil {
		panic(err)
	}
	text := fmt.Sprintf("relaymon-plan/v1\n%s\n%s\n%s\n", origin, record["hour"], record["peer_id"])
	hash, err := bls12381.HashToG1([]byte(text), []byte("BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"))
	if err != nil {
		panic(err)
	}
	_, _, _, generator := bls12381.Generators()
	left, err1 := bls12381.Pair([]bls12381.G1Affine{signature}, []bls12381.G2Affine{generator})
	right, err2 := bls12381.Pair([]bls12381.G1Affine{hash}, []bls12381.G2Affine{key})
	if err1 != nil || err2 != nil || !left.Equal(&right) {
		return 0
	}
	return s.time(record["hour"]).Unix() + int64(binary.BigEndian.Uint64(s.sum(s.b64(plan)))%3600)
}

// verify returns the facts, or why there are none.
func (s second) verify() (facts []fact, tip string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("second verifier: %v", p)
		}
	}()
	must := func(ok bool, what string) {
		if !ok {
			panic(what)
		}
	}
	month := s.object(s.files["month.json"])
	origin, _, _ := s.key(s.logKey, 1)
	must(month["format"] == "relaymon-month/v1" && month["key"] == s.logKey && month["origin"] == origin, "identity")
	text := fmt.Sprintf("relaymon-month/v1\n%s\n%s %s %s\n", origin, month["month"], month["relay"], month["as_of"])
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if name != "note" && !strings.HasPrefix(name, "certificates/") {
			text += hex.EncodeToString(s.sum(s.files[name])) + " " + name + "\n"
		}
	}
	signed, _ := s.note(s.files["note"], nil)
	must(signed == text, "note")

	asOf := s.time(month["as_of"])
	start, frontier := s.int(month["start_size"]), s.hashes(month["frontier"])
	checkpoint := func(raw []byte, size int, root []byte) map[string]int64 {
		text, times := s.note(raw, s.witnesses)
		must(text == fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root)), "checkpoint")
		for _, at := range times {
			must(!time.Unix(at, 0).After(asOf), "cosigned after the export")
		}
		return times
	}
	if start > 0 {
		checkpoint(s.files["start"], start, s.rootAfter(start, frontier, nil))
	}
	var leaves [][]byte
	var headers []map[string]any
	for i, line := range s.lines("blocks.jsonl") {
		h := s.object([]byte(line))
		hour := s.time(h["hour"])
		must(hour.Format("2006-01") == month["month"], "month")
		switch {
		case i > 0:
			must(hour.Equal(s.time(headers[i-1]["hour"]).Add(time.Hour)) && bytes.Equal(s.b64(h["previous"]), leaves[i-1]), "order")
		case start > 0:
			must(hour.Format("02 15") == "01 00", "first hour")
		default:
			must(bytes.Equal(s.b64(h["previous"]), make([]byte, 32)), "first block")
		}
		sealed := s.time(h["sealed_at"])
		must(!sealed.Before(hour.Add(76*time.Minute)) && !sealed.After(asOf), "sealed")
		if missed, ok := h["missed"]; ok {
			n := s.int(missed)
			must(n >= 1 && n <= 3200000 && h["state"] != "gap", "missed")
		}
		leaves, headers = append(leaves, s.sum([]byte{0}, []byte(line))), append(headers, h)
	}
	parts := strings.Split(string(s.files["checkpoints"]), "\n\n")
	times := make([]map[string]int64, len(headers))
	used := 0
	for i, h := range headers {
		must(i < len(headers)-1 || h["signed"] == true, "last signed")
		if h["signed"] != true {
			continue
		}
		raw := parts[used] + "\n\n" + strings.TrimSuffix(parts[used+1], "\n") + "\n"
		times[i] = checkpoint([]byte(raw), start+i+1, s.rootAfter(start, frontier, leaves[:i+1]))
		used += 2
	}
	must(used == len(parts) || used == 0 && len(s.files["checkpoints"]) == 0, "checkpoints")

	// How far the log reaches.
	if n := len(headers); n > 0 {
		end, cosigned := s.time(headers[n-1]["hour"]).Add(time.Hour), times[n-1]
		proof := s.hashes(month["tip_proof"])
		if raw, ok := s.files["tip"]; ok {
			must(end.Day() == 1 && end.Hour() == 0, "tip of a month that is not over")
			f := strings.Split(string(raw), "\n")
			size, err := strconv.Atoi(f[1])
			must(err == nil && size > start+n, "size of the tip")
			root, err := base64.StdEncoding.Strict().DecodeString(f[2])
			must(err == nil, "root of the tip")
			cosigned = checkpoint(raw, size, root)
			from, to := s.consistent(start+n, size, s.rootAfter(start, frontier, leaves), proof)
			must(bytes.Equal(from, s.rootAfter(start, frontier, leaves)) && bytes.Equal(to, root), "consistency of the tip")
			end = end.Add(time.Duration(size-start-n) * time.Hour)
			must(!end.Add(16*time.Minute).After(asOf), "tip in the future")
		} else {
			must(len(proof) == 0, "proof of no tip")
		}
		tip = end.Format(time.RFC3339)
		for _, w := range slices.Sorted(maps.Keys(cosigned)) {
			tip += fmt.Sprintf(" %s %d", w, cosigned[w])
		}
	} else {
		must(s.files["tip"] == nil, "tip of a month without blocks")
	}

	records, proofs := s.lines("records.jsonl"), s.lines("proofs.jsonl")
	byHour := map[string]string{}
	certs := map[string]bool{}
	refer := func(attempt map[string]any) {
		if c, ok := attempt["facts"].(map[string]any)["certificate"].(map[string]any); ok {
			certs[c["sha256"].(string)] = true
		}
	}
	for _, h := range headers {
		nothing := s.sum()
		must((s.int(h["records"]) == 0) == bytes.Equal(s.b64(h["root"]), nothing), "number of records")
		if s.int(h["records"]) == 0 {
			continue
		}
		hour := h["hour"].(string)
		must(len(proofs) > 0, "proof missing")
		proof := s.object([]byte(proofs[0]))
		proofs = proofs[1:]
		must(proof["hour"] == hour, "proof of another hour")
		key := s.sum([]byte(month["relay"].(string)))
		bit := func(key []byte, d int) byte { return key[d/8] << (d % 8) >> 7 }
		hash, path, line := nothing, s.hashes(proof["path"]), ""
		must(len(path) <= 128, "path too long")
		other, isOther := proof["other"].(map[string]any)
		switch {
		case proof["present"] == true:
			must(!isOther && len(records) > 0, "record missing")
			line, records = records[0], records[1:]
			hash = s.sum([]byte{0}, key, s.sum([]byte(line)))
		case isOther:
			otherKey := s.b64(other["key"])
			must(!bytes.Equal(key, otherKey), "not another")
			for d := range path {
				must(bit(key, d) == bit(otherKey, d), "other is elsewhere")
			}
			hash = s.sum([]byte{0}, otherKey, s.b64(other["value"]))
		}
		for d := len(path) - 1; d >= 0; d-- {
			if bit(key, d) == 0 {
				hash = s.sum([]byte{1}, hash, path[d])
			} else {
				hash = s.sum([]byte{1}, path[d], hash)
			}
		}
		must(bytes.Equal(hash, s.b64(h["root"])), "proof")
		if line == "" {
			continue
		}
		r := s.object([]byte(line))
		must(r["peer_id"] == month["relay"] && r["hour"] == hour, "record")
		attempts := r["attempts"].([]any)
		must(len(attempts) > 0, "attempts")
		var previous time.Time
		for _, a := range attempts {
			a := a.(map[string]any)
			started := s.time(a["started"])
			must(a["peer_id"] == r["peer_id"] && !started.Before(previous) && !started.Before(s.time(hour)) && started.Before(s.time(hour).Add(76*time.Minute)), "attempt")
			must(!previous.IsZero() || started.Before(s.time(hour).Add(time.Hour)), "first attempt")
			previous = started
			refer(a)
		}
		byHour[hour] = line
	}
	must(len(records) == 0 && len(proofs) == 0, "lines left over")
	for name := range s.files {
		if rest, ok := strings.CutPrefix(name, "open/"); ok {
			for _, line := range s.lines(name) {
				refer(s.object([]byte(line)))
			}
			must(len(headers) == 0 || strings.TrimSuffix(rest, ".jsonl")+":00:00Z" > headers[len(headers)-1]["hour"].(string), "open hour")
		}
	}
	for name, b := range s.files {
		if rest, ok := strings.CutPrefix(name, "certificates/"); ok {
			sha := strings.TrimSuffix(rest, ".der")
			must(certs[sha] && hex.EncodeToString(s.sum(b)) == sha, "certificate")
			certs[sha] = false
		}
	}
	for sha, missing := range certs {
		must(!missing, "certificate "+sha)
	}
	// Hours under a checkpoint that a witness cosigned before it was sealed.
	ahead := make([]bool, len(headers))
	for i := len(headers) - 1; i >= 0; i-- {
		if i+1 < len(headers) && headers[i]["signed"] != true {
			ahead[i] = ahead[i+1]
		}
		for _, at := range times[i] {
			ahead[i] = ahead[i] || time.Unix(at+5, 0).Before(s.time(headers[i]["sealed_at"]))
		}
	}
	first, wrong := map[string]int64{}, map[string]int64{}
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i]["signed"].(bool) {
			wrong = map[string]int64{}
		}
		for w, at := range times[i] {
			if time.Unix(at+5, 0).Before(s.time(headers[i]["sealed_at"])) {
				wrong[w] = at
			} else if old, ok := first[w]; !ok || at < old {
				first[w] = at
			}
		}
		f := fact{hour: headers[i]["hour"].(string), state: headers[i]["state"].(string)}
		both := maps.Clone(first)
		maps.Copy(both, wrong)
		for _, w := range slices.Sorted(maps.Keys(both)) {
			f.cosigned += fmt.Sprintf("%s %d\n", w, both[w])
		}
		clock := headers[i]["clock"].(map[string]any)
		steps, _ := clock["steps"].([]any)
		f.clock = !ahead[i] && s.int(clock["samples"]) > 0 && clock["synchronised"] == true && s.int(clock["drift_ms"]) < 2000 && len(steps) < 16
		if line, ok := byHour[f.hour]; ok {
			f.record = hex.EncodeToString(s.sum([]byte(line)))
			f.due = s.due(s.object([]byte(line)), origin)
			for _, a := range s.object([]byte(line))["attempts"].([]any) {
				f.voucher += s.voucher(a.(map[string]any), s.time(f.hour)) + "\n"
			}
		}
		facts = append(facts, f)
	}
	slices.Reverse(facts)
	return facts, tip, nil
}

// consistent follows a consistency proof of RFC 9162 (2.1.4.2) and returns both roots.
func (s second) consistent(m, n int, root []byte, proof [][]byte) (from, to []byte) {
	if m&(m-1) == 0 {
		proof = append([][]byte{root}, proof...)
	}
	a, b := m-1, n-1
	for a&1 == 1 {
		a, b = a>>1, b>>1
	}
	from, to = proof[0], proof[0]
	for _, c := range proof[1:] {
		if b == 0 {
			panic("consistency proof is too long")
		}
		if a&1 == 1 || a == b {
			from, to = s.sum([]byte{1}, c, from), s.sum([]byte{1}, c, to)
			for a&1 == 0 && a != 0 {
				a, b = a>>1, b>>1
			}
		} else {
			to = s.sum([]byte{1}, to, c)
		}
		a, b = a>>1, b>>1
	}
	if b != 0 {
		panic("consistency proof is too short")
	}
	return from, to
}

func tipOf(v evidence.VerifiedMonth) string {
	if v.Tip.End == 0 {
		return ""
	}
	tip := v.Tip.End.String()
	for _, c := range v.Tip.Cosigned {
		tip += fmt.Sprintf(" %s %d", c.Witness, c.At.Unix())
	}
	return tip
}

// factsOf are the same facts as the first verifier has them.
func factsOf(v evidence.VerifiedMonth) (facts []fact) {
	for _, h := range v.Hours {
		f := fact{hour: h.Header.Hour.String(), state: string(h.Header.State), clock: h.ClockFault == ""}
		for _, c := range h.Cosigned {
			f.cosigned += fmt.Sprintf("%s %d\n", c.Witness, c.At.Unix())
		}
		if !h.Due.IsZero() {
			f.due = h.Due.Unix()
		}
		if h.Record != nil {
			b, err := evidence.Encode(h.Record)
			if err != nil {
				panic(err)
			}
			f.record = evidence.SHA256Hex(b)
			for _, c := range h.Vouchers {
				f.voucher += string(c.State)
				if c.Witness != "" {
					f.voucher += " by " + c.Witness
				}
				f.voucher += "\n"
			}
		}
		facts = append(facts, f)
	}
	return facts
}

func TestSecondVerifier(t *testing.T) {
	s := newSmallMonth(t)
	_, example, exampleKeys, _ := workedExample(t)
	// A block of seven records, whose proofs have every shape.
	wide, _ := newLog(t)
	relays := make([]evidencetest.Relay, 7)
	evidencetest.Watch(t, wide, evidencetest.FirstHour)
	for i := range relays {
		relays[i] = evidencetest.NewRelay(t, crypto.Ed25519, 0)
		evidencetest.Must(t, wide.Append(evidencetest.FirstHour, relays[i].Attempt(t, wide.Key(), evidencetest.FirstHour, time.Minute, nil)))
	}
	_, err := wide.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)

	type export struct {
		m evidence.MonitorMonth
		k evidence.Keys
	}
	exports := []export{{s.Month, s.Keys}, {example, exampleKeys}}
	oct, err := s.log.Month(evidencetest.FirstHour.Month(), s.Relay.ID.String(), evidencetest.Closing(evidencetest.FirstHour+20), s.Keys.Witnesses...)
	evidencetest.Must(t, err)
	exports = append(exports, export{oct, s.Keys})
	for _, r := range slices.Concat(relays, []evidencetest.Relay{s.Relay, evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.NewRelay(t, crypto.Ed25519, 0)}) {
		m, err := wide.Month(evidencetest.FirstHour.Month(), r.ID.String(), evidencetest.Closing(evidencetest.FirstHour))
		evidencetest.Must(t, err)
		exports = append(exports, export{m, evidence.Keys{Log: wide.Key(), Plan: wide.PlanKey()}})
	}
	for i, e := range exports {
		v, err := evidence.VerifyMonth(e.m, e.k)
		evidencetest.Must(t, err)
		files, err := e.m.Files()
		evidencetest.Must(t, err)
		facts, tip, err := second{files, e.k.Log, e.k.Witnesses, e.k.Plan}.verify()
		if err != nil {
			t.Errorf("export %d: %v", i, err)
			continue
		}
		if !slices.Equal(facts, factsOf(v)) || len(facts) == 0 {
			t.Errorf("export %d:\n%v\n%v", i, facts, factsOf(v))
		}
		if tip != tipOf(v) {
			t.Errorf("export %d: tip %q and %q", i, tip, tipOf(v))
		}
	}
	// Both refuse what is signed anew but wrong.
	for i, change := range []func(*evidence.MonitorMonth){
		func(m *evidence.MonitorMonth) { m.Headers = m.Headers[:3] },
		func(m *evidence.MonitorMonth) { m.Headers = m.Headers[1:] },
		func(m *evidence.MonitorMonth) { m.Checkpoints = m.Checkpoints[1:] },
		func(m *evidence.MonitorMonth) { m.Frontier = []evidence.Hash{{1}} },
		func(m *evidence.MonitorMonth) { m.Proofs = m.Proofs[1:] },
		func(m *evidence.MonitorMonth) { m.Records = m.Records[1:] },
		func(m *evidence.MonitorMonth) { m.Records[0], m.Records[1] = m.Records[1], m.Records[0] },
		func(m *evidence.MonitorMonth) { m.Proofs[0], m.Proofs[1] = m.Proofs[1], m.Proofs[0] },
		func(m *evidence.MonitorMonth) {
			m.Proofs[0], m.Records = bytes.Replace(m.Proofs[0], []byte("true"), []byte("false"), 1), m.Records[1:]
		},
		func(m *evidence.MonitorMonth) { m.Relay = relays[0].ID.String() },
		func(m *evidence.MonitorMonth) { m.Tip = m.Checkpoints[2] },
		func(m *evidence.MonitorMonth) { m.TipProof = []evidence.Hash{{}} },
		func(m *evidence.MonitorMonth) { m.Certificates = nil },
		func(m *evidence.MonitorMonth) { m.Start = m.Checkpoints[0] },
		func(m *evidence.MonitorMonth) { m.AsOf = evidence.TimeOf(evidencetest.FirstHour.Start()) },
	} {
		m := clone(s.Month)
		change(&m)
		m = s.resign(t, m)
		_, err1 := evidence.VerifyMonth(m, s.Keys)
		files, err := m.Files()
		evidencetest.Must(t, err)
		_, _, err2 := second{files, s.Keys.Log, s.Keys.Witnesses, s.Keys.Plan}.verify()
		if err1 == nil || err2 == nil {
			t.Errorf("change %d: first says %v, second %v", i, err1, err2)
		}
	}
	for i, change := range []func(*evidence.MonitorMonth){
		func(m *evidence.MonitorMonth) { m.Tip = s.Month.Start },
		func(m *evidence.MonitorMonth) { m.Tip = s.Month.Checkpoints[0] },
		func(m *evidence.MonitorMonth) { m.Tip = m.Checkpoints[0] },
		func(m *evidence.MonitorMonth) { m.Tip = nil },
		func(m *evidence.MonitorMonth) { m.TipProof = nil },
		func(m *evidence.MonitorMonth) { m.TipProof[0][0] ^= 1 },
		func(m *evidence.MonitorMonth) { m.TipProof = append(m.TipProof, evidence.Hash{}) },
		func(m *evidence.MonitorMonth) {
			m.AsOf = evidence.TimeOf(evidencetest.Closing(evidencetest.FirstHour + 7).Add(-time.Second))
		},
	} {
		m := clone(oct)
		change(&m)
		m = s.resign(t, m)
		_, err1 := evidence.VerifyMonth(m, s.Keys)
		files, err := m.Files()
		evidencetest.Must(t, err)
		_, _, err2 := second{files, s.Keys.Log, s.Keys.Witnesses, s.Keys.Plan}.verify()
		if err1 == nil || err2 == nil {
			t.Errorf("tip %d: first says %v, second %v", i, err1, err2)
		}
	}
}
