package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// The names of the files of an exported month.
const (
	fileMonth        = "month.json"
	fileStart        = "start"
	fileTip          = "tip"
	fileProofs       = "proofs.jsonl"
	fileHeaders      = "blocks.jsonl"
	fileCheckpoints  = "checkpoints"
	fileRecords      = "records.jsonl"
	folderCerts      = "certificates/"
	certificateSufix = ".der"
)

// monthIndex is month.json: all that is not text of its own.
type monthIndex struct {
	Format    string `json:"format"`
	Origin    string `json:"origin"`
	Key       string `json:"key"`
	Month     Month  `json:"month"`
	Relay     string `json:"relay"`
	AsOf      Time   `json:"as_of"`
	StartSize int64  `json:"start_size"`
	Frontier  []Hash `json:"frontier"`
	TipProof  []Hash `json:"tip_proof"`
}

// monthFormat names the format and its version, [FormatVersion].
const (
	monthFormat = monthKind + "1"
	monthKind   = "relaymon-month/v"
)

// readIndex reads the line of month.json.
func readIndex(line []byte) (monthIndex, error) {
	var index monthIndex
	err := DecodeLine(line, maxIndex, &index)
	if err == nil && index.Format == monthFormat {
		if index.Frontier == nil || index.TipProof == nil { // the digest is over the bytes: there is one spelling
			return monthIndex{}, fmt.Errorf("%s: frontier or tip_proof is null: want a list, [] if it is empty", fileMonth)
		}
		return index, nil
	}
	var of struct {
		Format string `json:"format"`
	}
	fault := json.Unmarshal(line, &of)
	if v, ours := strings.CutPrefix(of.Format, monthKind); fault == nil && ours {
		if n, fault := strconv.Atoi(v); fault == nil {
			if newer := NewerVersion(fileMonth, n, FormatVersion); newer != nil {
				return monthIndex{}, newer
			}
		}
	}
	if err != nil {
		return monthIndex{}, fmt.Errorf("%s: %w", fileMonth, err)
	}
	return monthIndex{}, fmt.Errorf("%s: format %q, want %s", fileMonth, index.Format, monthFormat)
}

// Files are the month as files: name to content, names with slashes. Equal months
// make equal files. Certificates stand under certificates/<sha256>.der, so that
// several months can share them.
func (m MonitorMonth) Files() (map[string][]byte, error) {
	parts, err := m.parts()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, list := range parts {
		files[name] = bytes.Join(list, nil)
	}
	for _, der := range m.Certificates {
		files[certificateFile(der)] = der
	}
	if len(files) != len(parts)+len(m.Certificates) {
		return nil, errors.New("month has a certificate twice")
	}
	return files, nil
}

func certificateFile(der []byte) string { return folderCerts + SHA256Hex(der) + certificateSufix }

// encodeIndex is the line of month.json: as it was read, if what is known of it says the same.
func (m MonitorMonth) encodeIndex() ([]byte, error) {
	// An empty list is written [], not null.
	b, err := Encode(monthIndex{monthFormat, m.Origin, m.Key, m.Month, m.Relay, m.AsOf, m.StartSize,
		append([]Hash{}, m.Frontier...), append([]Hash{}, m.TipProof...)})
	if err != nil || m.grownIndex == nil {
		return b, err
	}
	if known := appendKnown(nil, m.grownIndex, reflect.TypeFor[monthIndex]()); bytes.Equal(known, b) {
		return m.grownIndex, nil
	}
	return b, nil
}

// parts are the files but the certificates, each in parts: they are long, and some
// callers only want a hash.
func (m MonitorMonth) parts() (map[string][][]byte, error) {
	b, err := m.encodeIndex()
	if err != nil {
		return nil, err
	}
	newline := []byte("\n")
	lines := func(list [][]byte) (parts [][]byte) {
		for _, line := range list {
			parts = append(parts, line, newline)
		}
		return parts
	}
	files := map[string][][]byte{
		fileMonth:       {b, newline},
		fileHeaders:     lines(m.Headers),
		fileCheckpoints: {bytes.Join(m.Checkpoints, newline)},
		fileProofs:      lines(m.Proofs),
		fileRecords:     lines(m.Records),
	}
	for name, raw := range map[string][]byte{fileStart: m.Start, fileTip: m.Tip} {
		if raw != nil {
			files[name] = [][]byte{raw}
		}
	}
	return files, nil
}

// digest is the SHA-256 over the hashes and names of the files but the certificates, whose
// hashes stand in the records.
func (m MonitorMonth) digest() (string, error) {
	files, err := m.parts()
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.New()
		for _, part := range files[name] {
			sum.Write(part)
		}
		fmt.Fprintf(all, "%x %s\n", sum.Sum(nil), name)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// checkFiles refuses files with bad names and of more bytes than there may be.
func checkFiles(files map[string][]byte) error {
	var faults []error
	total, certificates := 0, 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		limit := FileLimit(name)
		switch {
		case limit == 0:
			faults = append(faults, fmt.Errorf("file %.120q is not known", name))
		case len(files[name]) > limit:
			faults = append(faults, fmt.Errorf("%s has %d bytes, want %d at most", name, len(files[name]), limit))
		}
		total += len(files[name])
		if strings.HasPrefix(name, folderCerts) {
			certificates++
		}
	}
	if total > MaxMonthBytes {
		faults = append(faults, fmt.Errorf("the files have %d bytes together, want %d at most", total, MaxMonthBytes))
	}
	if certificates > maxHours*MaxAttempts {
		faults = append(faults, fmt.Errorf("there are %d certificates, want %d at most", certificates, maxHours*MaxAttempts))
	}
	for _, name := range []string{fileMonth, fileHeaders, fileCheckpoints, fileProofs, fileRecords} {
		if _, ok := files[name]; !ok {
			faults = append(faults, fmt.Errorf("file %s is missing", name))
		}
	}
	if len(faults) > maxFaults {
		faults = append(faults[:maxFaults], fmt.Errorf("and %d more faults", len(faults)-maxFaults))
	}
	return errors.Join(faults...)
}

// MonthFromFiles reads what [MonitorMonth.Files] wrote; a name too many or too few
// is an error, and so are more bytes or lines than there may be. It looks at the form
// only: [VerifyMonth] does the rest. The month's parts are those of the files, not copies.
func MonthFromFiles(files map[string][]byte) (MonitorMonth, error) {
	fail := func(err error) (MonitorMonth, error) {
		return MonitorMonth{}, fmt.Errorf("read month: %w", err)
	}
	if err := checkFiles(files); err != nil {
		return fail(err)
	}
	b, ok := bytes.CutSuffix(files[fileMonth], []byte("\n"))
	if !ok {
		return fail(fmt.Errorf("%s: the line is not ended", fileMonth))
	}
	index, err := readIndex(b)
	if err != nil {
		return fail(err)
	}
	m := MonitorMonth{Origin: index.Origin, Key: index.Key, Month: index.Month, Relay: index.Relay, AsOf: index.AsOf,
		StartSize: index.StartSize, Frontier: index.Frontier, TipProof: index.TipProof}
	if again, err := m.encodeIndex(); err != nil || !bytes.Equal(again, b) {
		m.grownIndex = b
	}
	for name, into := range map[string]*[][]byte{fileHeaders: &m.Headers, fileProofs: &m.Proofs, fileRecords: &m.Records} {
		if n := bytes.Count(files[name], []byte("\n")); n > maxHours {
			return fail(fmt.Errorf("%s has %d lines, want %d at most", name, n, maxHours))
		}
		lines, err := SplitLines(files[name])
		if err != nil {
			return fail(fmt.Errorf("%s: %w", name, err))
		}
		*into = lines
	}
	if m.Checkpoints, err = splitNotes(files[fileCheckpoints]); err != nil {
		return fail(fmt.Errorf("%s: %w", fileCheckpoints, err))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch {
		case name == fileStart:
			m.Start = files[name]
		case name == fileTip:
			m.Tip = files[name]
		case strings.HasPrefix(name, folderCerts):
			if name != certificateFile(files[name]) {
				return fail(fmt.Errorf("file %q is not named after its hash", name))
			}
			m.Certificates = append(m.Certificates, files[name])
		}
	}
	return m, nil
}

// SplitLines cuts a file into its lines; each must be ended.
func SplitLines(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[len(b)-1] != '\n' {
		return nil, errors.New("the last line is not ended")
	}
	return bytes.Split(b[:len(b)-1], []byte("\n")), nil
}

// splitNotes takes apart notes that were joined by an empty line: each has a text
// of lines, an empty line, and signature lines.
func splitNotes(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if n := bytes.Count(b, []byte("\n\n")); n > 2*maxHours {
		return nil, fmt.Errorf("there are more than %d", maxHours)
	}
	parts := bytes.Split(b, []byte("\n\n"))
	if len(parts)%2 != 0 {
		return nil, errors.New("notes are not separated by empty lines")
	}
	var notes [][]byte
	for i := 0; i < len(parts); i += 2 {
		end := "\n"
		if i+2 == len(parts) {
			end = "" // the last one ends the file
		}
		n := []byte(string(parts[i]) + "\n\n" + string(parts[i+1]) + end)
		if len(n) > MaxCheckpointBytes {
			return nil, fmt.Errorf("one has %d bytes, want %d at most", len(n), MaxCheckpointBytes)
		}
		notes = append(notes, n)
	}
	return notes, nil
}
