package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The names of the files of an exported month.
const (
	fileMonth        = "month.json"
	fileStart        = "start"
	fileHeaders      = "blocks.jsonl"
	fileCheckpoints  = "checkpoints"
	fileRecords      = "records.jsonl"
	fileNote         = "note"
	folderOpen       = "open/"
	folderCerts      = "certificates/"
	certificateSufix = ".der"
)

// monthIndex is month.json: all that is not text of its own.
type monthIndex struct {
	Format    string        `json:"format"`
	Origin    string        `json:"origin"`
	Key       string        `json:"key"`
	Month     Month         `json:"month"`
	Relay     string        `json:"relay"`
	AsOf      Time          `json:"as_of"`
	StartSize int64         `json:"start_size"`
	Frontier  []Hash        `json:"frontier"`
	Records   []recordIndex `json:"records"` // one for each line of records.jsonl
}

type recordIndex struct {
	Hour  Hour   `json:"hour"`
	Index int64  `json:"index"`
	Proof []Hash `json:"proof"`
}

const monthFormat = "relaymon-month/v1"

// Files are the month as files: name to content, names with slashes. Equal months
// make equal files. Certificates stand under certificates/<sha256>.der, so that
// several months can share them.
func (m MonitorMonth) Files() (map[string][]byte, error) {
	files, err := m.unsignedFiles()
	if err != nil {
		return nil, err
	}
	files[fileNote] = m.Note
	return files, nil
}

// unsignedFiles are all but the note.
func (m MonitorMonth) unsignedFiles() (map[string][]byte, error) {
	// An empty list is written [], not null.
	index := monthIndex{monthFormat, m.Origin, m.Key, m.Month, m.Relay, m.AsOf, m.StartSize,
		append([]Hash{}, m.Frontier...), []recordIndex{}}
	var records [][]byte
	for _, r := range m.Records {
		index.Records = append(index.Records, recordIndex{r.Hour, r.Index, append([]Hash{}, r.Proof...)})
		records = append(records, r.Record)
	}
	b, err := Encode(index)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		fileMonth:       append(b, '\n'),
		fileHeaders:     joinLines(m.Headers),
		fileCheckpoints: bytes.Join(m.Checkpoints, []byte("\n")),
		fileRecords:     joinLines(records),
	}
	if m.Start != nil {
		files[fileStart] = m.Start
	}
	for _, o := range m.Open {
		files[folderOpen+hourFile(o.Hour)] = o.Lines
	}
	for _, der := range m.Certificates {
		files[folderCerts+hashHex(der)+certificateSufix] = der
	}
	if want := 4 + len(m.Open) + len(m.Certificates); len(files) != want && len(files) != want+1 {
		return nil, errors.New("month has an hour or a certificate twice")
	}
	return files, nil
}

// noteText is what the log's key signs over an export: its files by their hashes.
func (m MonitorMonth) noteText() (string, error) {
	files, err := m.unsignedFiles()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%s %s %s\n", monthFormat, m.Origin, m.Month, m.Relay, m.AsOf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256(files[name])
		fmt.Fprintf(&b, "%s %s\n", hex.EncodeToString(sum[:]), name)
	}
	return b.String(), nil
}

// MonthFromFiles reads what [MonitorMonth.Files] wrote; a name too many or too few
// is an error. It looks at the form only: [VerifyMonth] does the rest.
func MonthFromFiles(files map[string][]byte) (MonitorMonth, error) {
	fail := func(err error) (MonitorMonth, error) {
		return MonitorMonth{}, fmt.Errorf("read month: %w", err)
	}
	for _, name := range []string{fileMonth, fileHeaders, fileCheckpoints, fileRecords, fileNote} {
		if _, ok := files[name]; !ok {
			return fail(fmt.Errorf("file %s is missing", name))
		}
	}
	b, ok := bytes.CutSuffix(files[fileMonth], []byte("\n"))
	if !ok {
		return fail(fmt.Errorf("%s: the line is not ended", fileMonth))
	}
	var index monthIndex
	if err := Decode(b, &index); err != nil {
		return fail(fmt.Errorf("%s: %w", fileMonth, err))
	}
	if index.Format != monthFormat {
		return fail(fmt.Errorf("%s: format %q, want %s", fileMonth, index.Format, monthFormat))
	}
	m := MonitorMonth{Origin: index.Origin, Key: index.Key, Month: index.Month, Relay: index.Relay, AsOf: index.AsOf,
		StartSize: index.StartSize, Frontier: index.Frontier, Note: files[fileNote]}
	var err error
	if m.Headers, err = splitLines(files[fileHeaders]); err != nil {
		return fail(fmt.Errorf("%s: %w", fileHeaders, err))
	}
	if m.Checkpoints, err = splitNotes(files[fileCheckpoints]); err != nil {
		return fail(fmt.Errorf("%s: %w", fileCheckpoints, err))
	}
	records, err := splitLines(files[fileRecords])
	if err != nil {
		return fail(fmt.Errorf("%s: %w", fileRecords, err))
	}
	if len(records) != len(index.Records) {
		return fail(fmt.Errorf("%s has %d lines, %s tells of %d", fileRecords, len(records), fileMonth, len(index.Records)))
	}
	for i, r := range index.Records {
		m.Records = append(m.Records, ProvenRecord{r.Hour, r.Index, records[i], r.Proof})
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch {
		case slices.Contains([]string{fileMonth, fileHeaders, fileCheckpoints, fileRecords, fileNote}, name):
		case name == fileStart:
			m.Start = files[name]
		case strings.HasPrefix(name, folderOpen):
			h, ok := parseHourFile(strings.TrimPrefix(name, folderOpen))
			if !ok {
				return fail(fmt.Errorf("file %q is not known", name))
			}
			m.Open = append(m.Open, OpenHour{h, files[name]})
		case strings.HasPrefix(name, folderCerts):
			if name != folderCerts+hashHex(files[name])+certificateSufix {
				return fail(fmt.Errorf("file %q is not named after its hash", name))
			}
			m.Certificates = append(m.Certificates, files[name])
		default:
			return fail(fmt.Errorf("file %q is not known", name))
		}
	}
	return m, nil
}

// splitNotes takes apart notes that were joined by an empty line: each has a text
// of lines, an empty line, and signature lines.
func splitNotes(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, nil
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
		notes = append(notes, []byte(string(parts[i])+"\n\n"+string(parts[i+1])+end))
	}
	return notes, nil
}
