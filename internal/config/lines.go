package config

import "github.com/goccy/go-yaml/ast"

// Lines says on which line of a file each key is set, inner keys with dots
// between: "listen.tcp". A program that layers files over other sources tells an
// operator with it where a value comes from. A file that cannot be read has none:
// [Decode] says why.
func Lines(data []byte) map[string]int {
	lines := map[string]int{}
	file, err := Parse("", data, 0)
	if err != nil {
		return lines
	}
	for _, doc := range file.Docs {
		note(doc.Body, "", lines)
	}
	return lines
}

func note(n ast.Node, path string, lines map[string]int) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	}
	for _, v := range values {
		token := v.Key.GetToken()
		key := join(path, token.Value)
		lines[key] = token.Position.Line
		note(v.Value, key, lines)
	}
}
