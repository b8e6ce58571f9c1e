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
	for _, v := range mapping(n) {
		token := v.Key.GetToken()
		key := join(path, token.Value)
		lines[key] = token.Position.Line
		note(v.Value, key, lines)
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
