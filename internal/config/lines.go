package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Lines says on which line of a file each key is set, inner keys with dots
// between: "listen.tcp". A program that layers files over other sources tells an
// operator with it where a value comes from. A file that cannot be read has none:
// [Decode] says why.
func Lines(data []byte) map[string]int { return lines(data, false) }

// Places are the [Lines], and those of the entries of lists: "alerts.receivers[1]".
type Places map[string]int

// PlacesOf are those of a file.
func PlacesOf(data []byte) Places { return lines(data, true) }

// Line is the line of a key, or of the list in which it stands; 0: it is not set.
func (p Places) Line(key string) int {
	if line, ok := p[key]; ok {
		return line
	}
	list, _, _ := strings.Cut(key, "[")
	return p[list]
}

// Located writes before each fault of a file's values the file and, where the fault begins
// with a key that is set there, its line.
func Located(name string, data []byte, err error) error {
	places := PlacesOf(data)
	var out []error
	for _, fault := range Each(err) {
		where := name
		key, _, _ := strings.Cut(fault.Error(), ":")
		if line := places.Line(key); line > 0 {
			where = fmt.Sprintf("%s:%d", name, line)
		}
		out = append(out, fmt.Errorf("%s: %w", where, fault))
	}
	return errors.Join(out...)
}

// Each are the faults that were joined to one, also in several steps.
func Each(err error) (list []error) {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	for _, one := range joined.Unwrap() {
		list = append(list, Each(one)...)
	}
	return list
}

func lines(data []byte, entries bool) map[string]int {
	lines := map[string]int{}
	file, err := Parse("", data, 0)
	if err != nil {
		return lines
	}
	for _, doc := range file.Docs {
		note(doc.Body, "", entries, lines)
	}
	return lines
}

func note(n ast.Node, path string, entries bool, lines map[string]int) {
	if list, ok := n.(*ast.SequenceNode); ok && entries {
		for i, entry := range list.Values {
			key := fmt.Sprintf("%s[%d]", path, i)
			lines[key] = entry.GetToken().Position.Line
			note(entry, key, entries, lines)
		}
	}
	for _, v := range mapping(n) {
		token := v.Key.GetToken()
		key := join(path, token.Value)
		lines[key] = token.Position.Line
		note(v.Value, key, entries, lines)
	}
}

// mapping are the entries of a map; anything else has none.
func mapping(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}
