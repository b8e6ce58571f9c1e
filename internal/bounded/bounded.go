// Package bounded reads files of others whole, but none that is larger than it may be:
// what is too large is refused before it is in memory.
package bounded

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Regular refuses what is no file. To open a pipe into which nobody writes never ends.
func Regular(name string) error {
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	return err
}

// handedOver says whether a shell has opened it already: /dev/stdin, or the /dev/fd/63 of
// a <(command).
func handedOver(name string) bool {
	return strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "/proc/self/fd/")
}

// ReadFile reads a file of at most so many bytes, or what a shell hands over as one.
func ReadFile(name string, most int64) ([]byte, error) {
	if err := Regular(name); err != nil && !handedOver(name) {
		return nil, err
	}
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
