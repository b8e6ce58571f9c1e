// Package bounded reads files of others whole, but none that is larger than it may be:
// what is too large is refused before it is in memory.
package bounded

import (
	"fmt"
	"io"
	"os"
)

// ReadFile reads a file of at most so many bytes.
func ReadFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One more byte shows that there is more, of what has no size, too: a pipe or a device.
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: more than %d bytes, which are all that are read", name, most)
	}
	return b, nil
}
