package config

import (
	"errors"
	"maps"
	"testing"
)

func TestLines(t *testing.T) {
	got := Lines([]byte("# relay\nname: a\n\nlisten:\n  tcp: [x]\n  # nothing\n  quic:\n    - y\nlog: {level: info}\n"))
	want := map[string]int{"name": 2, "listen": 4, "listen.tcp": 5, "listen.quic": 7, "log": 9, "log.level": 9}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	want = map[string]int{"a": 1, "a.b": 2, "a.b[0]": 3, "a.b[1]": 4, "a.b[1].c": 4, "a.b[1].d": 5, "e": 6, "e[0]": 6, "e[1]": 6}
	places := PlacesOf([]byte("a:\n  b:\n  - x\n  - c: y\n    d: z\ne: [1, 2]\n"))
	if !maps.Equal(places, want) {
		t.Errorf("got %v, want %v", places, want)
	}
	if list, none := places.Line("a.b[7]"), places.Line("f"); list != 2 || none != 0 {
		t.Errorf("got the lines %d and %d, want that of the list, and none", list, none)
	}
	for _, bad := range []string{"", "# only this", "a: [", "- a"} {
		if got := Lines([]byte(bad)); len(got) != 0 {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// All faults that were joined have the line of what they are about.
func TestLocated(t *testing.T) {
	err := Located("f", []byte("b:\n- x\n- y\n"), errors.Join(errors.New("b[1]: bad"), errors.Join(errors.New("b: long"), errors.New("c: missing"))))
	if want := "f:3: b[1]: bad\nf:1: b: long\nf: c: missing"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := Located("f", nil, nil); err != nil {
		t.Errorf("got %v, want no fault of none", err)
	}
}
