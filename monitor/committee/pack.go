package committee

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A record is like any other one: with one as the dictionary it takes a third of the room.
// What was packed with another dictionary cannot be read: a new one is a new version of the
// tables.
//
//go:embed dictionary.json
var dictionary []byte

const dictionaryID = 1

// mostUnpacked is far above a verdict, and the spine of a month.
const mostUnpacked = 256 << 20

var (
	packer, _ = zstd.NewWriter(nil, zstd.WithEncoderDictRaw(dictionaryID, dictionary), zstd.WithWindowSize(1<<18), zstd.WithLowerEncoderMem(true))
	opener, _ = zstd.NewReader(nil, zstd.WithDecoderDictRaw(dictionaryID, dictionary), zstd.WithDecoderMaxMemory(mostUnpacked))
)

func pack(b []byte) []byte { return packer.EncodeAll(b, nil) }

func unpack(b []byte) ([]byte, error) { return opener.DecodeAll(b, nil) }

// packJSON and unpackJSON keep what only this program reads.
func packJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return pack(b), nil
}

func unpackJSON(b []byte, v any) error {
	b, err := unpack(b)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	return err
}

// row is what the database holds of a record: its line and, after it, what it shows.
func packRow(line []byte, e evidence.Examined) ([]byte, error) {
	shows, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b := append(append(append(make([]byte, 0, len(line)+1+len(shows)), line...), '\n'), shows...)
	return pack(b), nil
}

func unpackRow(b []byte, h evidence.Hour) (*evidence.Record, evidence.Examined, error) {
	var e evidence.Examined
	b, err := unpack(b)
	if err != nil {
		return nil, e, err
	}
	lines, err := evidence.SplitLines(append(b, '\n'))
	if err != nil || len(lines) != 2 {
		return nil, e, fmt.Errorf("the row of %s is damaged: let \"relaymon committee rebuild\" make the database anew", h)
	}
	var r evidence.Record // it was checked when it was taken in
	if err := evidence.DecodeSealed(lines[0], &r); err != nil {
		return nil, e, err
	}
	return &r, e, json.Unmarshal(lines[1], &e)
}
