package config

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

// MaxBytes bounds a file: people write it, or a committee's program.
const MaxBytes = 1 << 20

// The bounds of what stands in a file. They hold before the YAML library makes a tree of
// it: that takes memory with the square of the depth, and of the keys of a map. The
// library's scanner, which alone knows what is quoted and what is a comment, takes
// memory only with the length.
const (
	maxTokens = 1 << 18 // a roster of 4,000 relays has half of that
	maxDepth  = 32      // lists and maps within each other
	maxKeys   = 250     // of one map
	maxFaults = 50      // that are told of one file

	maxMessage = 500 // bytes of what is told of one
)

// Parse makes the library's tree of a file whose size, depth and number of keys are
// within the bounds; name stands for the file in errors. Anchors, aliases, tags and
// merge keys, with which a small file says much, are refused.
func Parse(name string, data []byte, mode parser.Mode) (*ast.File, error) {
	tokens, err := tokenize(name, data)
	if err != nil {
		return nil, err
	}
	faults := faults{file: name}
	for _, t := range tokens {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType:
			faults.at(t, "anchors, aliases and tags are not read: write the value out")
		case token.MergeKeyType:
			faults.at(t, "merge keys (<<) are not read: write the values out")
		}
	}
	if err := faults.join(); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, mode)
	if err != nil {
		return nil, SyntaxFault(name, err)
	}
	return file, nil
}

// CheckBounds says whether a file is within the bounds. It is for YAML that is read by
// the library alone.
func CheckBounds(name string, data []byte) error {
	_, err := tokenize(name, data)
	return err
}

func tokenize(name string, data []byte) (token.Tokens, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", name, len(data), MaxBytes)
	}
	var (
		tokens token.Tokens
		s      scanner.Scanner
		n      nesting
	)
	s.Init(string(data))
	for {
		some, err := s.Scan()
		if errors.Is(err, io.EOF) {
			return tokens, nil
		}
		for _, t := range some {
			tokens.Add(t)
			n.add(t)
			message := ""
			switch {
			case len(tokens) > maxTokens:
				message = fmt.Sprintf("more than %d words and marks: this is no file for people", maxTokens)
			case len(n.open) > maxDepth:
				message = fmt.Sprintf("lists and maps stand in each other more than %d deep", maxDepth)
			case n.keys() > maxKeys:
				message = fmt.Sprintf("a map with more than %d keys", maxKeys)
			default:
				continue
			}
			return nil, &Fault{name, t.Position.Line, t.Position.Column, message} // nobody needs what follows
		}
	}
}

// nesting follows which lists and maps are open, by the marks alone. In wrong YAML it
// may count one too many, but never one that the parser opens too few.
type nesting struct {
	open []collection // the outermost first
}

type collection struct {
	flow   bool // between brackets or braces
	column int  // of a block: where its entries begin
	keys   int
}

func (n *nesting) keys() int {
	if len(n.open) == 0 {
		return 0
	}
	return n.open[len(n.open)-1].keys
}

func (n *nesting) add(t *token.Token) {
	inFlow := len(n.open) > 0 && n.open[len(n.open)-1].flow
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.open = append(n.open, collection{flow: true})
	case token.SequenceEndType, token.MappingEndType:
		if inFlow {
			n.open = n.open[:len(n.open)-1]
		}
	case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
		if inFlow {
			n.open[len(n.open)-1].keys++
			return
		}
		column := t.Position.Column
		if key := t.Prev; t.Type == token.MappingValueType && key != nil && key.Position.Line == t.Position.Line {
			column = min(column, key.Position.Column)
		}
		n.block(column, t.Type == token.MappingValueType)
	case token.DocumentHeaderType, token.DocumentEndType:
		n.open = nil
	}
}

// block enters an entry of a block that begins in the column.
func (n *nesting) block(column int, key bool) {
	keys := 0
	for len(n.open) > 0 {
		last := &n.open[len(n.open)-1]
		if last.flow || last.column < column {
			break
		}
		if last.column == column {
			if key {
				last.keys++
			}
			return
		}
		// Entries that stand in no column of those around them are taken for further
		// ones of the block that they end.
		keys = max(keys, last.keys)
		n.open = n.open[:len(n.open)-1]
	}
	if key {
		keys++
	}
	n.open = append(n.open, collection{column: column, keys: keys})
}

// faults are those of one file, no more than maxFaults.
type faults struct {
	file string
	all  []error
	more bool
}

// full says that no more are told.
func (f *faults) full() bool {
	f.more = f.more || len(f.all) == maxFaults
	return f.more
}

func (f *faults) at(t *token.Token, format string, args ...any) {
	if f.full() {
		return
	}
	message := fmt.Sprintf(format, args...)
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + " ..."
	}
	f.all = append(f.all, &Fault{f.file, t.Position.Line, t.Position.Column, message})
}

func (f *faults) join() error {
	if f.more {
		return errors.Join(append(f.all, fmt.Errorf("%s: and more faults than these %d", f.file, maxFaults))...)
	}
	return errors.Join(f.all...)
}
