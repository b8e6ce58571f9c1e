package bundle_test

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/big"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/psf-relay/relay-appliance/monitor/bundle"
)

// A second verifier, written from the package comments of bundle and evidence and
// from BOUNTY.md alone: it shares no code with the first beyond the standard
// library and a YAML reader. It checks the archive, the signatures and the trees,
// votes, and counts the hours; of the verdict it recomputes the uptime.

type second struct {
	files  map[string][]byte
	rules  secondRules
	roster secondRoster
	// logs by monitor's name: hour -> what was seen
	logs map[string]map[string]secondHour
}

type secondRules struct {
	HoursRequired int `yaml:"hours_required"`
	BusyCap       int `yaml:"busy_cap"`
}

type secondRoster struct {
	Network  string `yaml:"network"`
	Monitors []struct {
		Name       string `yaml:"name"`
		Operator   string `yaml:"operator"`
		LogKey     string `yaml:"log_key"`
		WitnessKey string `yaml:"witness_key"`
		From       string `yaml:"from"`
	} `yaml:"monitors"`
	Relays []struct {
		PeerID   string `yaml:"peer_id"`
		Operator string `yaml:"operator"`
		Enrolled string `yaml:"enrolled"`
	} `yaml:"relays"`
	Controls []struct {
		Name string `yaml:"name"`
	} `yaml:"controls"`
}

type secondHour struct {
	header struct {
		Hour     time.Time `json:"hour"`
		Previous string    `json:"previous"`
		SealedAt time.Time `json:"sealed_at"`
		Signed   bool      `json:"signed"`
		Clock    struct {
			Samples      int   `json:"samples"`
			Synchronised bool  `json:"synchronised"`
			DriftMS      int64 `json:"drift_ms"`
			Steps        []any `json:"steps"`
		} `json:"clock"`
		Records int64  `json:"records"`
		Root    string `json:"root"`
	}
	record   *secondRecord
	cosigned map[string]time.Time // by witness key
}

type secondRecord struct {
	PeerID   string `json:"peer_id"`
	Attempts []struct {
		Started time.Time   `json:"started"`
		Stepped bool        `json:"stepped"`
		Level   int         `json:"level"`
		Facts   secondFacts `json:"facts"`
		Results map[string]struct {
			Outcome string `json:"outcome"`
		} `json:"results"`
		Rungs []struct {
			Component  string `json:"component"`
			Outcome    string `json:"outcome"`
			OffsetUS   int64  `json:"offset_us"`
			DurationUS int64  `json:"duration_us"`
		} `json:"rungs"`
		Controls []struct {
			Name      string    `json:"name"`
			Component string    `json:"component"`
			Outcome   string    `json:"outcome"`
			Started   time.Time `json:"started"`
			Sent      int64     `json:"sent"`
			Resent    int64     `json:"resent"`
		} `json:"controls"`
	} `json:"attempts"`
}

type secondFacts struct {
	Reservation *secondReservation `json:"reservation"`
	Certificate *struct {
		SHA256 string `json:"sha256"`
	} `json:"certificate"`
}

// vkey is a verifier key: name+hash+base64(type || key).
type vkey struct {
	name string
	hash []byte
	key  ed25519.PublicKey
}

func parseVKey(s string) (vkey, error) {
	parts := strings.SplitN(strings.TrimSpace(s), "+", 3)
	if len(parts) != 3 {
		return vkey{}, errors.New("no verifier key")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 33 {
		return vkey{}, errors.New("no verifier key")
	}
	hash, err := hex.DecodeString(parts[1])
	return vkey{parts[0], hash, raw[1:]}, err
}

// openSecond opens a signed note and returns its text and the bytes behind the key
// hash of each signature line by name.
func openSecond(note []byte, author vkey) (text string, others map[string][]byte, err error) {
	i := bytes.LastIndex(note, []byte("\n\n"))
	if i < 0 {
		return "", nil, errors.New("no note")
	}
	text = string(note[:i+1])
	others = map[string][]byte{}
	good := false
	for line := range strings.Lines(string(note[i+2:])) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "—" {
			return "", nil, fmt.Errorf("no signature line: %q", line)
		}
		raw, err := base64.StdEncoding.DecodeString(f[2])
		if err != nil || len(raw) < 4 {
			return "", nil, fmt.Errorf("no signature: %q", line)
		}
		if f[1] == author.name && bytes.Equal(raw[:4], author.hash) {
			good = ed25519.Verify(author.key, []byte(text), raw[4:])
			continue
		}
		others[f[1]] = raw[4:]
	}
	if !good {
		return "", nil, fmt.Errorf("not signed by %s", author.name)
	}
	return text, others, nil
}

func leafHash(b []byte) []byte {
	h := sha256.Sum256(append([]byte{0}, b...))
	return h[:]
}

func nodeHash(l, r []byte) []byte {
	h := sha256.Sum256(append(append([]byte{1}, l...), r...))
	return h[:]
}

// treeRoot is MTH of RFC 6962 over hashes of leaves.
func treeRoot(leaves [][]byte) []byte {
	switch len(leaves) {
	case 0:
		h := sha256.Sum256(nil)
		return h[:]
	case 1:
		return leaves[0]
	}
	k := 1 << (bits.Len(uint(len(leaves)-1)) - 1)
	return nodeHash(treeRoot(leaves[:k]), treeRoot(leaves[k:]))
}

// climbPath follows a path of a block's tree from the end of the way to a key up to the root.
func climbPath(end, key []byte, path [][]byte) []byte {
	for depth := len(path) - 1; depth >= 0; depth-- {
		if keyBit(key, depth) == 0 {
			end = nodeHash(end, path[depth])
		} else {
			end = nodeHash(path[depth], end)
		}
	}
	return end
}

func keyBit(key []byte, n int) uint {
	return new(big.Int).SetBytes(key).Bit(8*len(key) - 1 - n)
}

func secondVerify(archive, rules, roster []byte, committee string) (map[string]any, error) {
	s := second{files: map[string][]byte{}, logs: map[string]map[string]secondHour{}}
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, err
	}
	last := ""
	for _, f := range z.File {
		if f.Name <= last || f.Method != zip.Store {
			return nil, fmt.Errorf("%s: not sorted or not stored", f.Name)
		}
		last = f.Name
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		if s.files[f.Name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
	if !bytes.Equal(packSecond(s.files), archive) {
		return nil, errors.New("not packed in the one way")
	}
	key, err := parseVKey(committee)
	if err != nil {
		return nil, err
	}
	s.rules = secondRules{600, 72}
	for name, in := range map[string]struct {
		mine []byte
		into any
	}{"inputs/rules.yaml": {rules, &s.rules}, "inputs/roster.yaml": {roster, &s.roster}} {
		if !bytes.Equal(s.files[name], in.mine) {
			return nil, fmt.Errorf("%s is not mine", name)
		}
		text, _, err := openSecond(in.mine, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := yaml.Unmarshal([]byte(text), in.into); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := s.statement(); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	var report map[string]any
	if err := json.Unmarshal(s.files["report.json"], &report); err != nil {
		return nil, err
	}
	for _, m := range s.roster.Monitors {
		sum := sha256.Sum256([]byte(m.LogKey))
		if err := s.log(m.Name, m.LogKey, "logs/"+hex.EncodeToString(sum[:8])+"/", report); err != nil {
			return nil, fmt.Errorf("log of %s: %w", m.Name, err)
		}
	}
	return report, s.count(report)
}

// packSecond packs files in the one way there is.
func packSecond(files map[string][]byte) []byte {
	var body, directory []byte
	le := binary.LittleEndian
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		var common []byte
		common = le.AppendUint16(common, 20)      // version needed
		common = append(common, 0, 0, 0, 0, 0, 0) // flags, stored, 00:00
		common = le.AppendUint16(common, 1<<5|1)  // 1980-01-01
		common = le.AppendUint32(common, crc32.ChecksumIEEE(data))
		common = le.AppendUint32(common, uint32(len(data)))
		common = le.AppendUint32(common, uint32(len(data)))
		common = le.AppendUint16(common, uint16(len(name)))
		common = append(common, 0, 0)                          // no extra field
		directory = append(directory, "PK\x01\x02\x14\x00"...) // made by version 20
		directory = append(directory, common...)
		directory = append(directory, make([]byte, 10)...) // no comment, disk 0, no attributes
		directory = le.AppendUint32(directory, uint32(len(body)))
		directory = append(directory, name...)
		body = append(body, "PK\x03\x04"...)
		body = append(body, common...)
		body = append(body, name...)
		body = append(body, data...)
	}
	end := []byte("PK\x05\x06\x00\x00\x00\x00")
	end = le.AppendUint16(end, uint16(len(files)))
	end = le.AppendUint16(end, uint16(len(files)))
	end = le.AppendUint32(end, uint32(len(directory)))
	end = le.AppendUint32(end, uint32(len(body)))
	return slices.Concat(body, directory, append(end, 0, 0))
}

// statement checks the DSSE envelope and the files' hashes.
func (s *second) statement() error {
	var e struct {
		PayloadType string `json:"payloadType"`
		Payload     string `json:"payload"`
		Signatures  []struct {
			Sig string `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(s.files["report.dsse.json"], &e); err != nil {
		return err
	}
	body, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil || len(e.Signatures) != 1 {
		return errors.New("no envelope")
	}
	sig, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	if err != nil {
		return err
	}
	pae := fmt.Sprintf("DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(body), body)
	if !slices.ContainsFunc(s.roster.Monitors, func(m struct {
		Name       string `yaml:"name"`
		Operator   string `yaml:"operator"`
		LogKey     string `yaml:"log_key"`
		WitnessKey string `yaml:"witness_key"`
		From       string `yaml:"from"`
	}) bool {
		k, err := parseVKey(m.LogKey)
		return err == nil && ed25519.Verify(k.key, []byte(pae), sig)
	}) {
		return errors.New("signed by nobody of the roster")
	}
	var st struct {
		Subject []struct {
			Name   string            `json:"name"`
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return err
	}
	if len(st.Subject) != len(s.files)-1 {
		return errors.New("not all files")
	}
	for _, sub := range st.Subject {
		h := sha256.Sum256(s.files[sub.Name])
		if sub.Name == "report.dsse.json" || sub.Digest["sha256"] != hex.EncodeToString(h[:]) {
			return fmt.Errorf("%s was changed", sub.Name)
		}
	}
	return nil
}

// log checks what a monitor's log shows. The golden logs begin within the month.
func (s *second) log(name, logKey, dir string, report map[string]any) error {
	if _, ok := s.files[dir+"month.json"]; !ok {
		return nil // not handed in
	}
	key, err := parseVKey(logKey)
	if err != nil {
		return err
	}
	text, _, err := openSecond(s.files[dir+"note"], key)
	if err != nil {
		return err
	}
	listed := 0
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if i < 3 {
			continue
		}
		sum, file, _ := strings.Cut(line, " ")
		h := sha256.Sum256(s.files[dir+file])
		if hex.EncodeToString(h[:]) != sum {
			return fmt.Errorf("%s was changed", file)
		}
		listed++
	}
	for file := range s.files {
		if strings.HasPrefix(file, dir) && !strings.HasPrefix(file, dir+"certificates/") {
			listed--
		}
	}
	if listed != -1 { // the note itself
		return errors.New("files that the note does not list")
	}
	var month struct {
		StartSize int      `json:"start_size"`
		Relay     string   `json:"relay"`
		TipProof  [][]byte `json:"tip_proof"`
	}
	if err := json.Unmarshal(s.files[dir+"month.json"], &month); err != nil {
		return err
	}
	if month.StartSize != 0 {
		return errors.New("this verifier reads logs that begin in the month")
	}
	hours := map[string]secondHour{}
	var leaves [][]byte
	checkpoints := s.files[dir+"checkpoints"]
	var open []string // hours since the last checkpoint
	for line := range bytes.Lines(s.files[dir+"blocks.jsonl"]) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		h := secondHour{cosigned: map[string]time.Time{}}
		if err := json.Unmarshal(line, &h.header); err != nil {
			return err
		}
		previous := make([]byte, 32)
		if len(leaves) > 0 {
			previous = leaves[len(leaves)-1]
		}
		if h.header.Previous != base64.StdEncoding.EncodeToString(previous) {
			return errors.New("the chain of blocks is broken")
		}
		leaves = append(leaves, leafHash(line))
		at := h.header.Hour.Format(time.RFC3339)
		hours[at] = h
		open = append(open, at)
		if !h.header.Signed {
			continue
		}
		// A note: the text, an empty line, signature lines; then an empty line.
		parts := bytes.SplitN(checkpoints, []byte("\n\n"), 3)
		if len(parts) < 2 {
			return errors.New("a checkpoint is missing")
		}
		note := slices.Concat(parts[0], []byte("\n\n"), bytes.TrimSuffix(parts[1], []byte("\n")), []byte("\n"))
		checkpoints = nil
		if len(parts) == 3 {
			checkpoints = parts[2]
		}
		text, others, err := openSecond(note, key)
		if err != nil {
			return err
		}
		want := fmt.Sprintf("%s\n%d\n%s\n", key.name, len(leaves), base64.StdEncoding.EncodeToString(treeRoot(leaves)))
		if text != want {
			return fmt.Errorf("checkpoint %q, want %q", text, want)
		}
		for _, m := range s.roster.Monitors {
			w, err := parseVKey(m.WitnessKey)
			if err != nil {
				return err
			}
			sig, ok := others[w.name]
			if !ok {
				continue
			}
			t := binary.BigEndian.Uint64(sig)
			if !ed25519.Verify(w.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", t, text), sig[8:]) {
				return fmt.Errorf("cosignature of %s", w.name)
			}
			for _, at := range open {
				hours[at].cosigned[m.WitnessKey] = time.Unix(int64(t), 0)
			}
		}
		open = nil
	}
	if _, err := tipOf(s.files[dir+"tip"], key, month.TipProof, len(leaves), treeRoot(leaves)); err != nil {
		return err
	}
	if err := s.proofs(dir, month.Relay, hours); err != nil {
		return err
	}
	if err := s.certificates(dir, hours); err != nil {
		return err
	}
	s.logs[name] = hours
	return nil
}

// proofs checks that of each block with records the relay's is there, or shown to be absent.
func (s *second) proofs(dir, relay string, hours map[string]secondHour) error {
	lines := func(name string) (list [][]byte) {
		for line := range bytes.Lines(s.files[dir+name]) {
			list = append(list, bytes.TrimSuffix(line, []byte("\n")))
		}
		return list
	}
	hash := func(parts ...[]byte) []byte {
		h := sha256.Sum256(bytes.Join(parts, nil))
		return h[:]
	}
	proofs, records, key := lines("proofs.jsonl"), lines("records.jsonl"), hash([]byte(relay))
	for _, at := range slices.Sorted(maps.Keys(hours)) {
		h := hours[at]
		if h.header.Root == base64.StdEncoding.EncodeToString(hash()) != (h.header.Records == 0) {
			return fmt.Errorf("block %s: %d records under root %s", at, h.header.Records, h.header.Root)
		}
		if h.header.Records == 0 {
			continue
		}
		var p struct {
			Hour    string `json:"hour"`
			Present bool   `json:"present"`
			Other   *struct {
				Key   []byte `json:"key"`
				Value []byte `json:"value"`
			} `json:"other"`
			Path [][]byte `json:"path"`
		}
		if len(proofs) == 0 {
			return fmt.Errorf("block %s: no proof", at)
		}
		if err := json.Unmarshal(proofs[0], &p); err != nil {
			return err
		}
		proofs = proofs[1:]
		end := hash()
		switch {
		case p.Hour != at || len(p.Path) > 128 || p.Present && (p.Other != nil || len(records) == 0):
			return fmt.Errorf("block %s: the proof is of %s", at, p.Hour)
		case p.Present:
			end = hash([]byte{0}, key, hash(records[0]))
			h.record = &secondRecord{}
			if err := json.Unmarshal(records[0], h.record); err != nil {
				return err
			}
			if h.record.PeerID != relay {
				return fmt.Errorf("block %s: record of %s", at, h.record.PeerID)
			}
			hours[at] = h
			records = records[1:]
		case p.Other != nil:
			if bytes.Equal(p.Other.Key, key) {
				return fmt.Errorf("block %s: the relay in its own place", at)
			}
			for n := range p.Path {
				if keyBit(p.Other.Key, n) != keyBit(key, n) {
					return fmt.Errorf("block %s: another in another place", at)
				}
			}
			end = hash([]byte{0}, p.Other.Key, p.Other.Value)
		}
		if base64.StdEncoding.EncodeToString(climbPath(end, key, p.Path)) != h.header.Root {
			return fmt.Errorf("block %s: the proof is not of it", at)
		}
	}
	if len(proofs) > 0 || len(records) > 0 {
		return errors.New("proofs or records of no block")
	}
	return nil
}

// certificates checks that those in the folder are those that the records name: the
// note does not list them.
func (s *second) certificates(dir string, hours map[string]secondHour) error {
	named := map[string]bool{}
	for _, h := range hours {
		if h.record == nil {
			continue
		}
		for _, a := range h.record.Attempts {
			if c := a.Facts.Certificate; c != nil {
				named[dir+"certificates/"+c.SHA256+".der"] = true
			}
		}
	}
	for name := range s.files {
		if strings.HasPrefix(name, dir+"open/") {
			for line := range bytes.Lines(s.files[name]) {
				var a struct{ Facts secondFacts }
				if err := json.Unmarshal(line, &a); err != nil {
					return err
				}
				if c := a.Facts.Certificate; c != nil {
					named[dir+"certificates/"+c.SHA256+".der"] = true
				}
			}
		}
	}
	for name := range named {
		if sum := sha256.Sum256(s.files[name]); name != dir+"certificates/"+hex.EncodeToString(sum[:])+".der" {
			return fmt.Errorf("%s is missing or was changed", name)
		}
	}
	for name := range s.files {
		if strings.HasPrefix(name, dir+"certificates/") && !named[name] {
			return fmt.Errorf("no record names %s", name)
		}
	}
	return nil
}

// tipOf checks how far a log reaches beyond the blocks of the month, and returns by how many.
func tipOf(tip []byte, key vkey, proof [][]byte, size int, root []byte) (int, error) {
	if tip == nil {
		if len(proof) > 0 {
			return 0, errors.New("a proof of no tip")
		}
		return 0, nil
	}
	text, _, err := openSecond(tip, key)
	if err != nil {
		return 0, err
	}
	f := strings.Split(text, "\n")
	if len(f) != 4 || f[0] != key.name {
		return 0, fmt.Errorf("tip %q", text)
	}
	n, err := strconv.Atoi(f[1])
	if err != nil || n <= size {
		return 0, fmt.Errorf("tip of size %s after %d blocks", f[1], size)
	}
	// RFC 6962, 2.1.2, read from the proof's end: both roots come out of it.
	var walk func(m, n int, whole bool) (from, to []byte)
	walk = func(m, n int, whole bool) (from, to []byte) {
		if m == n && whole {
			return root, root
		}
		last := func() []byte {
			if len(proof) == 0 {
				return nil
			}
			h := proof[len(proof)-1]
			proof = proof[:len(proof)-1]
			return h
		}
		if m == n {
			h := last()
			return h, h
		}
		k := 1 << (bits.Len(uint(n-1)) - 1)
		sibling := last()
		if m <= k {
			from, to := walk(m, k, whole)
			return from, nodeHash(to, sibling)
		}
		from, to = walk(m-k, n-k, false)
		return nodeHash(sibling, from), nodeHash(sibling, to)
	}
	from, to := walk(size, n, true)
	if len(proof) > 0 || !bytes.Equal(from, root) || base64.StdEncoding.EncodeToString(to) != f[2] {
		return 0, errors.New("the blocks are not under the tip")
	}
	return n - size, nil
}

// vote is R4 to R6 and R9 in one place.
func (s *second) vote(monitor, witnessKey string, h secondHour, n int) string {
	if h.record == nil {
		return "unknown"
	}
	vote := s.rawVote(monitor, h)
	before, after, inTime := 0, 0, 0
	for _, m := range s.roster.Monitors {
		at, ok := h.cosigned[m.WitnessKey]
		switch {
		case m.WitnessKey == witnessKey || !ok:
		case at.Before(h.header.SealedAt.Add(-5 * time.Second)):
			before++
		default:
			after++
			if !at.After(h.header.Hour.Add(2 * time.Hour)) {
				inTime++
			}
		}
	}
	if len(s.roster.Monitors) > 1 && (before > after || inTime < n/2 || h.header.Clock.Samples == 0 || !h.header.Clock.Synchronised) {
		return "unknown"
	}
	if vote != "up" && (h.header.Clock.DriftMS >= 2000 || len(h.header.Clock.Steps) == 16) {
		return "unknown"
	}
	return vote
}

func (s *second) rawVote(monitor string, h secondHour) string {
	var failed []time.Time
	unproven := false
	busy := false
	for _, a := range h.record.Attempts {
		if a.Stepped {
			continue
		}
		if a.Results["tcp4"].Outcome == "ok" && a.Results["wss"].Outcome == "ok" && a.Results["relay"].Outcome == "ok" && a.Level == 4 {
			ended := a.Started
			for _, r := range a.Rungs {
				if end := a.Started.Add(time.Duration(r.OffsetUS+r.DurationUS) * time.Microsecond); r.Component != "" && r.Outcome != "skipped" && end.After(ended) {
					ended = end
				}
			}
			if unproven = !s.proven(monitor, h.record.PeerID, h.header.Hour, a.Started, ended.Truncate(time.Millisecond), a.Facts.Reservation); unproven {
				continue
			}
			return "up"
		}
		busy = busy || a.Results["relay"].Outcome == "busy"
		counted := false
		for _, c := range []string{"tcp4", "wss"} { // the golden relays fail in these
			if a.Results[c].Outcome != "fail" {
				continue
			}
			var start, end int64
			for _, r := range a.Rungs {
				if r.Component == c && r.Outcome != "skipped" && r.OffsetUS+r.DurationUS >= end {
					start, end = r.OffsetUS, r.OffsetUS+r.DurationUS
				}
			}
			at := a.Started.Add(time.Duration(end) * time.Microsecond).Truncate(time.Millisecond)
			type host struct {
				failed       bool
				sent, resent float64
			}
			beside, after := map[string]host{}, map[string]host{}
			for _, x := range a.Controls {
				part := after
				switch {
				case x.Component != c, x.Started.Before(a.Started.Add(time.Duration(start) * time.Microsecond)), x.Started.Sub(at) > 120*time.Second:
					continue
				case x.Started.Before(at):
					part = beside
				}
				h := part[x.Name]
				part[x.Name] = host{h.failed || x.Outcome != "ok", h.sent + float64(x.Sent), h.resent + float64(x.Resent)}
			}
			works := true
			parts := []map[string]host{after}
			if end-start >= 10_000_000 {
				parts = append(parts, beside)
			}
			for _, part := range parts {
				var passed []host
				var all, best host
				for _, h := range part {
					if !h.failed {
						passed = append(passed, h)
						all.sent, all.resent = all.sent+h.sent, all.resent+h.resent
					}
				}
				needed := (2*len(s.roster.Controls) + 2) / 3
				slices.SortFunc(passed, func(a, b host) int { return cmp.Compare(a.resent/max(1, a.sent), b.resent/max(1, b.sent)) })
				if works = works && needed > 0 && len(passed) >= needed; !works {
					break
				}
				for _, h := range passed[:needed] {
					best.sent, best.resent = best.sent+h.sent, best.resent+h.resent
				}
				works = all.resent*100 <= all.sent*3 || best.resent*100 <= best.sent
				if !works {
					break
				}
			}
			counted = counted || works
		}
		if counted {
			failed = append(failed, a.Started)
		}
	}
	switch {
	case unproven: // it was there, and nothing but the monitor's word says so
		return "unknown"
	case len(failed) >= 2 && failed[len(failed)-1].Sub(failed[0]) >= 5*time.Minute:
		return "down"
	case busy && len(failed) < 2:
		return "busy"
	}
	return "unknown"
}

// count recomputes the hours and compares them with the report's.
func (s *second) count(report map[string]any) error {
	month, err := time.Parse("2006-01", report["month"].(string))
	if err != nil {
		return err
	}
	asOf, err := time.Parse(time.RFC3339, report["as_of"].(string))
	if err != nil {
		return err
	}
	relay := s.roster.Relays[0]
	enrolled, err := time.Parse(time.RFC3339, relay.Enrolled)
	if err != nil {
		return err
	}
	states := map[string]string{}
	for _, h := range report["hourly"].([]any) {
		h := h.(map[string]any)
		states[h["hour"].(string)] = h["state"].(string)
	}
	counts := map[string]int{}
	for h := month; h.Month() == month.Month(); h = h.Add(time.Hour) {
		counts["total"]++
		at := h.Format(time.RFC3339)
		state := ""
		switch {
		case h.Before(enrolled):
			counts["not_enrolled"]++
		case h.Add(time.Hour).After(asOf):
			counts["remaining"]++
		default:
			state = s.state(at, relay.Operator, counts)
			counts[state]++
		}
		if states[at] != state {
			return fmt.Errorf("hour %s: %q, the report says %q", at, state, states[at])
		}
	}
	for _, key := range []string{"total", "up", "down", "busy", "unknown", "not_enrolled", "remaining"} {
		if got := int(report["hours"].(map[string]any)[key].(float64)); got != counts[key] {
			return fmt.Errorf("%s: %d hours, the report says %d", key, counts[key], got)
		}
	}
	want := "INCONCLUSIVE"
	switch {
	case counts["up"] >= s.rules.HoursRequired:
		want = "PASS"
	case counts["up"]+counts["unknown"]+counts["remaining"] < s.rules.HoursRequired:
		want = "FAIL"
	}
	if got := report["findings"].([]any)[0].(map[string]any)["outcome"]; got != want {
		return fmt.Errorf("uptime %s, the report says %s", want, got)
	}
	return nil
}

// state is R7 and R8.
func (s *second) state(at, operator string, counts map[string]int) string {
	tally := map[string]int{}
	n := 0
	for _, m := range s.roster.Monitors {
		if m.Operator != operator && m.From <= at {
			n++
		}
	}
	for _, m := range s.roster.Monitors {
		if m.Operator != operator && m.From <= at {
			tally[s.vote(m.Name, m.WitnessKey, s.logs[m.Name][at], n)]++
		}
	}
	q := n/2 + 1
	switch {
	case tally["up"] >= q:
		return "up"
	case tally["down"] >= q:
		return "down"
	case tally["up"]+tally["busy"] >= q:
		counts["busy"]++
		if counts["busy"] <= s.rules.BusyCap {
			return "up"
		}
		return "down"
	}
	return "unknown"
}

func golden(t *testing.T, name, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "golden", name, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSecondVerifierAgrees(t *testing.T) {
	for _, name := range []string{"eligible", "mixed", "lab", "stepped"} {
		t.Run(name, func(t *testing.T) {
			archive, rules, roster := golden(t, name, "bundle.zip"), golden(t, name, "rules.yaml"), golden(t, name, "roster.yaml")
			committee := string(golden(t, name, "committee.txt"))
			report, err := secondVerify(archive, rules, roster, committee)
			if err != nil {
				t.Fatal(err)
			}
			o := bundle.Options{Rules: rules, Roster: roster, Committee: committee}
			first, err := bundle.Verify(bytes.NewReader(archive), int64(len(archive)), o)
			if err != nil {
				t.Fatal(err)
			}
			if report["headline"] != first.Verdict.Headline {
				t.Errorf("%v and %s", report["headline"], first.Verdict.Headline)
			}
			// What one refuses, the other refuses: bytes of the entries, well packed again.
			for i := range 40 {
				at := len(archive) * (2*i + 1) / 80
				bad := bytes.Clone(archive)
				bad[at] ^= 4
				_, err1 := bundle.Verify(bytes.NewReader(bad), int64(len(bad)), o)
				_, err2 := secondVerify(bad, rules, roster, committee)
				if err1 == nil || err2 == nil {
					t.Errorf("byte %s changed: %v and %v", strconv.Itoa(at), err1, err2)
				}
			}
		})
	}
}
