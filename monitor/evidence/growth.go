package evidence

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// A format grows by new members. Who reads it keeps their bytes, hashes them and passes
// them on; they mean nothing to him.

// DecodeGrown reads into the empty v what [Decode] does, and besides that members which
// v's type does not have, at any depth: those are ignored. A name in another case is
// another name. The keys of maps do not grow, nor do types that read themselves. The
// bytes are canonical JSON all the same, with bounds on depth and members; a number
// is no larger than 2^53.
func DecodeGrown(b []byte, v any) error {
	strict := Decode(b, v)
	if strict == nil {
		return nil // nothing is new, as nearly always
	}
	if err := canonical(b); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	into := reflect.ValueOf(v).Elem()
	known := appendKnown(make([]byte, 0, len(b)), b, into.Type())
	if len(known) == len(b) {
		return strict
	}
	into.SetZero() // the library takes names in another case for known ones
	return Decode(known, v)
}

// DecodeSealed reads into the empty v what DecodeGrown would, in a fraction of the time.
// It is for canonical lines whose hash vouches for them, and that were checked before.
func DecodeSealed(line []byte, v any) error {
	return json.Unmarshal(appendKnown(make([]byte, 0, len(line)), line, reflect.TypeOf(v).Elem()), v)
}

// canonical says whether bytes are canonical JSON, whatever it says, within the bounds
// of a line.
func canonical(b []byte) error {
	if err := shaped(b); err != nil {
		return err
	}
	again, err := jcs.Transform(b)
	if err != nil || !utf8.Valid(b) || !bytes.Equal(again, b) {
		return errors.New("not in canonical form (RFC 8785)")
	}
	return smallNumbers(b)
}

// smallNumbers refuses numbers in canonical JSON that not every reader holds unchanged.
func smallNumbers(b []byte) error {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			i = stringEnd(b, i) - 1
		case c == '-' || c >= '0' && c <= '9':
			end := i
			for end < len(b) && strings.IndexByte("+-.eE0123456789", b[end]) >= 0 {
				end++
			}
			if n, err := strconv.ParseFloat(string(b[i:end]), 64); err != nil || n > maxInteger || n < -maxInteger {
				return fmt.Errorf("number %.40s is beyond 2^53", b[i:end])
			}
			i = end - 1
		}
	}
	return nil
}

// appendKnown appends canonical JSON without the members that values of the type do not
// have.
func appendKnown(dst, b []byte, t reflect.Type) []byte {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	kind := t.Kind()
	switch {
	case len(b) == 0 || readsItself(t):
	case b[0] == '{' && kind == reflect.Struct:
		known := fieldTypes(t)
		return appendMembers(dst, b, func(name []byte) reflect.Type { return known[string(name)] })
	case b[0] == '{' && kind == reflect.Map:
		return appendMembers(dst, b, func([]byte) reflect.Type { return t.Elem() })
	case b[0] == '[' && (kind == reflect.Slice || kind == reflect.Array):
		dst = append(dst, '[')
		for at := 1; at < len(b)-1; at++ {
			end := valueEnd(b, at)
			dst = appendKnown(dst, b[at:end], t.Elem())
			if at = end; at < len(b)-1 {
				dst = append(dst, ',')
			}
		}
		return append(dst, ']')
	}
	return append(dst, b...)
}

// appendMembers appends an object with those members of it whose name has a type.
func appendMembers(dst, object []byte, typeOf func(name []byte) reflect.Type) []byte {
	dst = append(dst, '{')
	first := true
	members(object, func(name, value []byte) bool {
		if t := typeOf(name); t != nil {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(append(append(dst, '"'), name...), `":`...)
			dst = appendKnown(dst, value, t)
		}
		return true
	})
	return append(dst, '}')
}

var (
	jsonReader = reflect.TypeFor[json.Unmarshaler]()
	textReader = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(jsonReader) || p.Implements(textReader)
}

var knownFields sync.Map // of fieldTypes, by type

// fieldTypes are the types of a struct's members, by their names in JSON.
func fieldTypes(t reflect.Type) map[string]reflect.Type {
	if known, ok := knownFields.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "":
			panic(fmt.Sprintf("evidence: %s embeds %s: what is in a format has names of its own", t, f.Type))
		case name == "":
			out[f.Name] = f.Type
		default:
			out[name] = f.Type
		}
	}
	knownFields.Store(t, out)
	return out
}

// members visits the members of an object in JSON without white space, until visit says
// false. It returns false if this is no such object.
func members(object []byte, visit func(name, value []byte) bool) bool {
	if len(object) < 2 || object[0] != '{' {
		return false
	}
	for i := 1; i < len(object); i++ {
		if object[i] == '}' {
			return true
		}
		if object[i] != '"' {
			return false
		}
		colon := stringEnd(object, i)
		if colon >= len(object) || object[colon] != ':' {
			return false
		}
		end := valueEnd(object, colon+1)
		if end >= len(object) || end == colon+1 || object[end] != ',' && object[end] != '}' {
			return false
		}
		if !visit(object[i+1:colon-1], object[colon+1:end]) {
			return true
		}
		if i = end; object[i] == '}' {
			return true
		}
	}
	return false
}

// stringEnd is where the string that begins at i has ended; len(b), if it does not.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// valueEnd is where the value that begins at i has ended; len(b), if it does not.
func valueEnd(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			depth++
		case '}', ']', ',':
			if b[i] != ',' {
				depth--
			}
			if depth < 0 || depth == 0 && b[i] == ',' {
				return i
			}
		}
	}
	return len(b)
}
