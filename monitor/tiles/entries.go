package tiles

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// JoinEntries makes a bundle of headers.
func JoinEntries(lines [][]byte) ([]byte, error) {
	if len(lines) == 0 || len(lines) > Width {
		return nil, fmt.Errorf("entries: %d in a bundle, want 1 to %d", len(lines), Width)
	}
	var b []byte
	for i, line := range lines {
		if len(line) > evidence.MaxHeaderBytes {
			return nil, fmt.Errorf("entries: number %d has %d bytes, want %d at most", i, len(line), evidence.MaxHeaderBytes)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(line)))
		b = append(b, line...)
	}
	return b, nil
}

// SplitEntries takes a bundle apart. The entries are parts of it, not copies.
func SplitEntries(b []byte) ([][]byte, error) {
	var lines [][]byte
	for len(b) > 0 {
		if len(lines) == Width {
			return nil, fmt.Errorf("entries: more than %d in a bundle", Width)
		}
		if len(b) < entryLengthBytes {
			return nil, errors.New("entries: the bundle ends within a length")
		}
		n := int(binary.BigEndian.Uint16(b))
		b = b[entryLengthBytes:]
		if n > evidence.MaxHeaderBytes {
			return nil, fmt.Errorf("entries: number %d has %d bytes, want %d at most", len(lines), n, evidence.MaxHeaderBytes)
		}
		if n > len(b) {
			return nil, fmt.Errorf("entries: the bundle ends within entry %d", len(lines))
		}
		lines = append(lines, b[:n:n])
		b = b[n:]
	}
	if len(lines) == 0 {
		return nil, errors.New("entries: the bundle is empty")
	}
	return lines, nil
}
