// Package deb822 reads Debian's control files: dpkg's status, a mirror's Packages,
// machine-readable copyright files. The format is deb822(5): paragraphs of fields,
// a field goes on in lines that begin with a blank.
package deb822

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Paragraph holds fields by name, in lower case: names do not tell case apart.
type Paragraph map[string]string

// Get is a field's value: its lines without the leading blank, joined by newlines;
// empty when there is no such field.
func (p Paragraph) Get(name string) string { return p[strings.ToLower(name)] }

// First is the first line of a field's value.
func (p Paragraph) First(name string) string {
	line, _, _ := strings.Cut(p.Get(name), "\n")
	return line
}

// MaxLine bounds a line.
const MaxLine = 1 << 20

// Paragraphs goes through the paragraphs of r. A fault is the last that it yields.
func Paragraphs(r io.Reader) iter.Seq2[Paragraph, error] {
	return func(yield func(Paragraph, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 64<<10), MaxLine)
		p, field, number := Paragraph{}, "", 0
		for lines.Scan() {
			line := lines.Text()
			number++
			switch {
			case strings.TrimSpace(line) == "":
				if len(p) > 0 && !yield(p, nil) {
					return
				}
				p, field = Paragraph{}, ""
			case line[0] == '#':
			case line[0] == ' ' || line[0] == '\t':
				if field == "" {
					yield(nil, fmt.Errorf("line %d goes on where no field began", number))
					return
				}
				p[field] += "\n" + line[1:]
			default:
				name, value, ok := strings.Cut(line, ":")
				if !ok || name == "" || strings.ContainsAny(name, " \t") {
					yield(nil, fmt.Errorf("line %d is no field", number))
					return
				}
				field = strings.ToLower(name)
				if _, twice := p[field]; twice {
					yield(nil, fmt.Errorf("line %d: a second field %s", number, name))
					return
				}
				p[field] = strings.TrimSpace(value)
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, fmt.Errorf("after line %d: %w", number, err))
			return
		}
		if len(p) > 0 {
			yield(p, nil)
		}
	}
}
