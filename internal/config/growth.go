package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// Bounds of what is told of unknown keys.
const (
	maxUnknown = 10  // that are named
	maxPlace   = 100 // bytes of the place of one
)

// Unknown are the keys of a file that its reader does not know. They mean nothing to it.
type Unknown struct {
	places []string // the first of them
	count  int
}

func (u *Unknown) add(place string) {
	if u.count++; len(u.places) < maxUnknown {
		u.places = append(u.places, shown(place))
	}
}

// Places are where the unknown keys stand, such as monitors[2].colour, in the order of
// the file: the first ten, and how many more there are. They are fit for a terminal.
func (u *Unknown) Places() []string {
	if more := u.count - len(u.places); more > 0 {
		return append(u.places[:len(u.places):len(u.places)], fmt.Sprintf("and %d more", more))
	}
	return u.places
}

// shown is a place in short, with escapes for what does not print.
func shown(place string) string {
	cut := place
	if len(cut) > maxPlace {
		for cut = cut[:maxPlace]; len(cut) > 0 && !utf8.RuneStart(place[len(cut)]); {
			cut = cut[:len(cut)-1]
		}
	}
	quoted := strconv.Quote(cut)
	out := strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	if len(cut) < len(place) {
		out += "..."
	}
	return out
}

// versionLine is the key at the margin of a file that is no YAML that is read here.
var versionLine = regexp.MustCompile(`(?m)^version:[ \t]+([0-9]{1,9})[ \t\r]*(#.*)?$`)

// newer asks about the file's version. The file of a newer version may be written in a
// way that cannot be parsed here; then file is nil.
func (o Options) newer(name string, data []byte, file *ast.File) error {
	if o.Version == nil {
		return nil
	}
	text := ""
	if file == nil {
		if m := versionLine.FindSubmatch(data[:min(len(data), MaxBytes)]); m != nil {
			text = string(m[1])
		}
	} else {
		for _, doc := range file.Docs {
			for _, v := range mapping(doc.Body) {
				if v.Key.GetToken().Value == "version" && text == "" && v.Value != nil {
					text = v.Value.GetToken().Value
				}
			}
		}
	}
	if !wholeNumber.MatchString(text) {
		return nil // none, or a fault
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil
	}
	if err := o.Version(n); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
