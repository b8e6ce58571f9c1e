// Package config reads YAML files strictly and names every mistake at once.
//
// An operator who mistyped three keys must learn of three, each with its line,
// its column and the key that was probably meant, and not of one per start.
// Programs embed a commented file that holds their defaults, decode it first and
// the operator's file over it; that file is the one place where fields are described.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Fault is one mistake in a file.
type Fault struct {
	File         string
	Line, Column int
	Message      string
}

func (f *Fault) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
}

// Decode reads data over what into already holds: keys that are absent keep
// their value. The error joins a [Fault] for each mistake; name stands for the
// file in them. Lists are replaced, not appended to; maps are merged.
func Decode(name string, data []byte, into any) error {
	return DecodeWith(name, data, into, Options{})
}

// DecodeWhole reads data as [Decode] does, and wants every key of into to stand there
// but those whose yaml tag says omitempty. The error names all that are missing.
func DecodeWhole(name string, data []byte, into any) error {
	return DecodeWith(name, data, into, Options{Whole: true})
}

// Options say how a file is read.
type Options struct {
	// Whole wants every key to stand there, as [DecodeWhole] does.
	Whole bool
	// Version is asked about the number behind the file's key "version" before anything
	// else in the file is judged. Its error is the only one that is told: a newer file may
	// differ in everything.
	Version func(version int) error
	// Unknown collects the keys that into does not have; nil: each is a fault.
	Unknown *Unknown
}

// DecodeWith reads data as [Decode] does, with options.
func DecodeWith(name string, data []byte, into any, o Options) error {
	file, err := Parse(name, data, 0)
	if err := o.newer(name, data, file); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	d := decoder{faults: faults{file: name}, Options: o}
	docs := file.Docs
	// An empty file, or one of comments only, changes nothing.
	docs = slices.DeleteFunc(docs, func(doc *ast.DocumentNode) bool { return isEmpty(doc.Body) })
	v := reflect.ValueOf(into).Elem()
	switch len(docs) {
	case 0:
		if o.Whole {
			d.missing(&token.Token{Position: &token.Position{Line: 1, Column: 1}}, fieldsOf(v), nil, "")
		}
	case 1:
		d.value(docs[0].Body, v, "")
	default:
		d.fault(docs[1].Body, "a second document (---): write one")
	}
	return d.faults.join()
}

func isEmpty(n ast.Node) bool {
	if n == nil {
		return true
	}
	_, comment := n.(*ast.CommentGroupNode)
	return comment || n.Type() == ast.NullType
}

// SyntaxFault says of an error of the YAML library where it is, and what in words
// for people; name stands for the file.
func SyntaxFault(name string, err error) error {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) && syntax.Token != nil {
		message := syntax.Message
		if strings.Contains(message, "'\t'") {
			message = "a tab: indent with spaces"
		}
		return &Fault{name, syntax.Token.Position.Line, syntax.Token.Position.Column, masked(message)}
	}
	message, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%s: %s", name, masked(message))
}

// decoder walks the file's tree and the Go value side by side, so that a fault
// in one place does not hide those in others.
type decoder struct {
	faults faults
	Options
}

func (d *decoder) fault(n ast.Node, format string, args ...any) {
	d.faults.at(n.GetToken(), format, args...)
}

func (d *decoder) value(n ast.Node, v reflect.Value, path string) {
	if n.Type() == ast.NullType {
		// "key:" with nothing behind it is an empty list or map for those who
		// commented its lines out, and a forgotten value for all else.
		if k := v.Kind(); k == reflect.Slice || k == reflect.Map || k == reflect.Pointer {
			v.SetZero()
		} else {
			d.fault(n, "%sno value: write one or leave the key out", at(path))
		}
		return
	}
	switch {
	case leaf(v):
		d.leaf(n, v, path)
	case v.Kind() == reflect.Struct:
		d.object(n, v, path)
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(n, p.Elem(), path)
		v.Set(p)
	case v.Kind() == reflect.Slice:
		d.list(n, v, path)
	case v.Kind() == reflect.Map:
		d.dict(n, v, path)
	case v.Kind() == reflect.Interface:
		d.any(n, v, path)
	default:
		d.leaf(n, v, path)
	}
}

// leaf says whether the value reads itself from one scalar.
func leaf(v reflect.Value) bool {
	_, text := v.Addr().Interface().(encoding.TextUnmarshaler)
	return text && v.Kind() != reflect.Pointer
}

func (d *decoder) object(n ast.Node, v reflect.Value, path string) {
	entries, ok := d.entries(n, path)
	if !ok {
		return
	}
	fields := fieldsOf(v)
	for _, e := range entries {
		f, ok := fields[e.key]
		if !ok && d.Unknown != nil {
			d.Unknown.add(join(path, e.key))
			continue
		}
		if !ok {
			if d.faults.full() {
				return // a hint takes time
			}
			d.fault(e.node, "unknown key %q%s", join(path, e.key), hint(e.key, fields))
			continue
		}
		d.value(e.value, f.Value, join(path, e.key))
	}
	if d.Whole {
		d.missing(n.GetToken(), fields, entries, path)
	}
}

// missing names the keys that do not stand there, in the order of the alphabet.
func (d *decoder) missing(t *token.Token, fields map[string]field, entries []entry, path string) {
	var names []string
	for name, f := range fields {
		if !f.optional && !slices.ContainsFunc(entries, func(e entry) bool { return e.key == name }) {
			names = append(names, join(path, name))
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		d.faults.at(t, "missing: %s: every key must stand here", strings.Join(names, ", "))
	}
}

func (d *decoder) dict(n ast.Node, v reflect.Value, path string) {
	entries, ok := d.entries(n, path)
	if !ok {
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for _, e := range entries {
		key := reflect.New(v.Type().Key()).Elem()
		if u, ok := key.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(e.key)); err != nil {
				d.fault(e.node, "%s%v", at(path), err)
				continue
			}
		} else {
			key.SetString(e.key)
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, item, join(path, e.key))
		v.SetMapIndex(key, item)
	}
}

// any takes what stands there: for a part of a file that another program checks.
func (d *decoder) any(n ast.Node, v reflect.Value, path string) {
	var out reflect.Value
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		out = reflect.New(reflect.TypeFor[map[string]any]()).Elem()
	case *ast.SequenceNode:
		out = reflect.New(reflect.TypeFor[[]any]()).Elem()
	case *ast.StringNode, *ast.LiteralNode:
		out = reflect.New(reflect.TypeFor[string]()).Elem()
	default:
		d.leaf(n, v, path)
		return
	}
	d.value(n, out, path)
	v.Set(out)
}

func (d *decoder) list(n ast.Node, v reflect.Value, path string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fault(n, "%swant a list (lines that begin with \"- \")", at(path))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		d.value(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

func (d *decoder) leaf(n ast.Node, v reflect.Value, path string) {
	scalar, ok := n.(ast.ScalarNode)
	if lit, isLiteral := n.(*ast.LiteralNode); isLiteral {
		scalar, ok = lit.Value, true
	}
	if !ok {
		d.fault(n, "%swant one value, not a list or a map", at(path))
		return
	}
	text := scalar.GetToken().Value
	var err error
	switch u := v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		err = u.UnmarshalText([]byte(text))
	case *time.Duration:
		// The default stays if this is none, so that no later check complains of a 0.
		if span, fault := time.ParseDuration(text); fault == nil {
			*u = span
		} else {
			err = fmt.Errorf("want a time span such as 90s, 10m or 2h, not %q", masked(text))
		}
	case *string:
		// A version 1.10 or a yes that somebody left unquoted is what stands there.
		*u = text
		if s, quoted := scalar.(*ast.StringNode); quoted {
			*u = s.Value
		}
	default:
		err = scan(n, text, v)
	}
	if err != nil {
		d.fault(n, "%s%v", at(path), err)
	}
}

// wholeNumber and number are the spellings that mean the same to everybody: 0600 is 384
// to some and 600 to others, and so are 0x10, 0b11, 1_000 and 1e3 not for people.
var (
	wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	number      = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)
)

// scan reads a number, or what else the library reads, into v. Of what is none, v
// keeps what it holds.
func scan(n ast.Node, text string, v reflect.Value) error {
	wrong := fmt.Errorf("want %s, not %q", kindWords(v.Kind()), masked(text))
	into := reflect.New(v.Type()).Elem()
	var err error
	switch {
	case v.CanInt() || v.CanUint():
		if !wholeNumber.MatchString(text) {
			return fmt.Errorf("%w%s", wrong, decimal(text))
		}
		if v.CanInt() {
			var i int64
			i, err = strconv.ParseInt(text, 10, v.Type().Bits())
			into.SetInt(i)
		} else {
			var i uint64
			i, err = strconv.ParseUint(text, 10, v.Type().Bits())
			into.SetUint(i)
		}
	case v.CanFloat():
		if !number.MatchString(text) {
			return fmt.Errorf("%w%s", wrong, decimal(text))
		}
		var f float64
		f, err = strconv.ParseFloat(text, v.Type().Bits())
		into.SetFloat(f)
	default:
		// Of numbers of no kind that is known, too, only one spelling is read.
		if t := n.Type(); (t == ast.IntegerType || t == ast.FloatType || t == ast.InfinityType || t == ast.NanType) && !number.MatchString(text) {
			return fmt.Errorf("%q is not plain%s", text, decimal(text))
		}
		err = yaml.NodeToValue(n, into.Addr().Interface(), yaml.Strict())
	}
	if err != nil {
		return wrong
	}
	v.Set(into)
	return nil
}

// decimal says how to write a number that has another spelling; empty: it is none, or
// is plain.
func decimal(text string) string {
	const how = ": write it in decimal digits alone, without leading zeros"
	if digits := strings.TrimLeft(text, "+0"); digits != "" && wholeNumber.MatchString(digits) && !wholeNumber.MatchString(text) {
		return how + ": " + digits // 0600 was meant as 600, whatever it is to others
	}
	_, notFloat := strconv.ParseFloat(text, 64)
	_, notInt := strconv.ParseInt(text, 0, 64)
	if number.MatchString(text) || notFloat != nil && notInt != nil {
		return ""
	}
	return how
}

type entry struct {
	node  ast.Node // of the key
	key   string
	value ast.Node
}

// entries lists a map's keys; a key that stands twice is a fault.
func (d *decoder) entries(n ast.Node, path string) ([]entry, bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.fault(n, "%swant keys with values (\"key: value\")", at(path))
		return nil, false
	}
	var out []entry
	seen := map[string]bool{}
	for _, v := range values {
		key := v.Key.GetToken().Value
		if seen[key] {
			d.fault(v.Key, "key %q stands twice", join(path, key))
			continue
		}
		seen[key] = true
		out = append(out, entry{v.Key, key, v.Value})
	}
	return out, true
}

// field is one of a struct's, by its yaml name.
type field struct {
	reflect.Value
	optional bool // it may be missing where all must be there
}

func fieldsOf(v reflect.Value) map[string]field {
	out := map[string]field{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case strings.Contains(opts, "inline"):
			maps.Copy(out, fieldsOf(v.Field(i)))
		case name != "":
			out[name] = field{v.Field(i), strings.Contains(opts, "omitempty")}
		default:
			panic(fmt.Sprintf("config: field %s of %s has no yaml name", f.Name, v.Type()))
		}
	}
	return out
}

// hint names the known key that is nearest to the unknown one, or all of them.
func hint(key string, fields map[string]field) string {
	names := slices.Sorted(maps.Keys(fields))
	if near := Nearest(key, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; known here: " + strings.Join(names, ", ")
}

// Nearest is the name that was probably meant, the first of several; empty: none is near.
func Nearest(given string, names []string) string {
	best, distance := "", 0
	for _, name := range names {
		if dist := levenshtein.ComputeDistance(strings.ToLower(given), name); best == "" || dist < distance {
			best, distance = name, dist
		}
	}
	if distance > max(2, len(best)/2) {
		return ""
	}
	return best
}

func kindWords(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not below 0"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a " + k.String()
	}
}

func at(path string) string {
	if path == "" {
		return ""
	}
	return path + ": "
}

var address = regexp.MustCompile(`://\S*`)

// masked is text as an error may quote it. Of an address that was written in the wrong
// place it shows the scheme only: the rest often holds a password.
func masked(text string) string { return address.ReplaceAllLiteralString(text, "://…") }

func join(path, key string) string {
	key = masked(key)
	if path == "" {
		return key
	}
	return path + "." + key
}
