package config

import (
	"maps"
	"testing"
)

func TestLines(t *testing.T) {
	got := Lines([]byte("# relay\nname: a\n\nlisten:\n  tcp: [x]\n  # nothing\n  quic:\n    - y\nlog: {level: info}\n"))
	want := map[string]int{"name": 2, "listen": 4, "listen.tcp": 5, "listen.quic": 7, "log": 9, "log.level": 9}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"", "# only this", "a: [", "- a"} {
		if got := Lines([]byte(bad)); len(got) != 0 {
			t.Errorf("%q: %v", bad, got)
		}
	}
}
