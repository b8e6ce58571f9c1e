package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
)

// FormatVersion is the version of records, headers and exported months that this package
// writes and reads. What is added to a format raises no version: see [DecodeGrown]. What
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

// wrongVersion is the fault of a line that cannot be read: nothing but its version, if
// that is a newer one, and otherwise err or, without one, a version that there never was.
func wrongVersion(what string, line []byte, err error) error {
	version := VersionIn(line)
	if newer := NewerVersion(what, version, FormatVersion); newer != nil {
		return newer
	}
	if err == nil || version < FormatVersion {
		return errors.Join(fmt.Errorf("%s has no version: want \"version\":%d in it", what, FormatVersion), err)
	}
	return err
}

// VersionIn is the number of the member "version" of an object, whatever else it holds; 0:
// there is none.
func VersionIn(object []byte) int {
	var members map[string]json.RawMessage // other than those of a struct, its names are exact
	var version int
	if json.Unmarshal(object, &members) != nil || json.Unmarshal(members["version"], &version) != nil {
		return 0
	}
	return version
}
