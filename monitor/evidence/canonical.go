package evidence

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// Encode writes v as canonical JSON (RFC 8785): one spelling for one value. What
// canonical JSON cannot carry unchanged is refused: text that is not UTF-8 and
// integers beyond 2^53.
func Encode(v any) ([]byte, error) {
	if err := carries(reflect.ValueOf(v)); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return jcs.Transform(b)
}

// Decode reads exactly what Encode writes into v: unknown fields, another order,
// white space, other spellings of numbers and strings, trailing bytes are refused.
func Decode(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("decode %T: bytes after the value", v)
	}
	again, err := Encode(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("decode %T: not in canonical form (RFC 8785)", v)
	}
	return nil
}

// maxInteger is the largest integer that RFC 8785 writes without loss.
const maxInteger = 1 << 53

// carries says whether canonical JSON can hold a value as it is. Types that
// write themselves answer for themselves.
func carries(v reflect.Value) error {
	if !v.IsValid() {
		return nil
	}
	if v.CanInterface() {
		switch v.Interface().(type) {
		case json.Marshaler, encoding.TextMarshaler:
			return nil
		}
	}
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return fmt.Errorf("text %q is not UTF-8", v.String())
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n := v.Int(); n > maxInteger || n < -maxInteger {
			return fmt.Errorf("integer %d is beyond 2^53", n)
		}
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n := v.Uint(); n > maxInteger {
			return fmt.Errorf("integer %d is beyond 2^53", n)
		}
	case reflect.Pointer, reflect.Interface:
		return carries(v.Elem())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil
		}
		for i := range v.Len() {
			if err := carries(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := errors.Join(carries(it.Key()), carries(it.Value())); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := carries(v.Field(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// CanonicalBase64 reads the one spelling of standard base64: the bits that a
// decoder leaves unread are zero, and there are no line breaks.
func CanonicalBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if base64.StdEncoding.EncodeToString(b) != s {
		return nil, errors.New("base64 is not in its one spelling")
	}
	return b, nil
}
