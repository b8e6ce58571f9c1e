package evidence

import "fmt"

// FormatVersion is the version of records, headers and exported months that this package
// writes and reads. What is added to a format raises no version: see [Decode]. What
// changes the meaning of something known does.
const FormatVersion = 1

// NewerVersion is the error of what is of a higher version than the reader's; nil: it is
// not. It comes before any other fault: what is newer may differ in everything.
func NewerVersion(what string, version, reads int) error {
	if version <= reads {
		return nil
	}
	return fmt.Errorf("%s is of version %d: it needs relayaudit of at least version %d; this one reads version %d", what, version, version, reads)
}
