package site

import (
	"reflect"
	"strings"
	"unicode"
)

// Bounds of what others wrote.
const (
	mostText  = 1000 // characters of a text
	mostName  = 100  // of a name
	mostItems = 1000 // of a list
)

// plain is a text of others in a line: cut, with a sign in the place of what is not printable,
// such as characters that turn the direction of all that follows.
func plain(s string, most int) string {
	return cut(strings.Join(strings.Fields(strings.Map(printable, s)), " "), most)
}

// lines are a text of others that may have lines.
func lines(s string) string {
	return cut(strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return printable(r)
	}, s), 2*statementText)
}

// statementText is how long an appeal may be.
const statementText = 4096

func printable(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case unicode.IsPrint(r):
		return r
	}
	return unicode.ReplacementChar
}

func cut(s string, most int) string {
	n := 0
	for i := range s {
		if n == most {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// cleaned is a copy of v in which every text is plain, and no list is long. All of it is
// cleaned: a template that forgets nothing need not be trusted.
func cleaned[T any](v T) T {
	return clean(reflect.ValueOf(&v).Elem()).Interface().(T)
}

func clean(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(plain(v.String(), mostText))
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(clean(v.Elem()))
		}
	case reflect.Slice:
		if !v.IsNil() {
			n := min(v.Len(), mostItems)
			out.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				out.Index(i).Set(clean(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMap(v.Type()))
			for _, k := range v.MapKeys() {
				out.SetMapIndex(clean(k), clean(v.MapIndex(k)))
			}
		}
	case reflect.Struct:
		out.Set(v) // what others cannot write comes along
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(clean(v.Field(i)))
			}
		}
	default:
		out.Set(v)
	}
	return out
}

// short abbreviates a peer ID, of which the end tells more than the beginning.
func short(id string) string {
	if len(id) > 16 {
		return id[:6] + "…" + id[len(id)-6:]
	}
	return id
}

// isID says whether a relay's ID can be a file's name and part of an address.
func isID(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}
