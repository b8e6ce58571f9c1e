package statement

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckText says what keeps a text of people's from being signed: more than so many bytes,
// nothing in it, white space around it, bytes that are not UTF-8, and characters that
// would steer a terminal or turn the direction of what is read. Newlines and tabs may be
// in it.
func CheckText(s string, most int) error {
	var faults []error
	if s == "" {
		return errors.New("it is empty")
	}
	if len(s) > most {
		faults = append(faults, fmt.Errorf("it has %d bytes, want %d at most", len(s), most))
	}
	if strings.TrimSpace(s) != s {
		faults = append(faults, errors.New("there is white space at its begin or end"))
	}
	if !utf8.ValidString(s) {
		return errors.Join(append(faults, errors.New("it is not UTF-8: save it in that encoding"))...)
	}
	seen := map[rune]bool{}
	line := 1
	for _, r := range s {
		switch {
		case r == '\n':
			line++
		case r == '\t' || seen[r] || !unicode.IsControl(r) && !unicode.Is(unicode.Bidi_Control, r):
		default:
			if seen[r] = true; len(seen) > maxFaults {
				return errors.Join(append(faults, errors.New("and more such characters"))...)
			}
			hint := ""
			if r == '\r' {
				hint = ": save it with the line ends of Unix"
			}
			faults = append(faults, fmt.Errorf("line %d has the control character %U%s", line, r, hint))
		}
	}
	return errors.Join(faults...)
}

// maxFaults is how many kinds of bad characters are named.
const maxFaults = 5
