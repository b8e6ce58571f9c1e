package config

import (
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func multiaddrs(t testing.TB, s ...string) (out []ma.Multiaddr) {
	t.Helper()
	for _, a := range s {
		m, err := ma.NewMultiaddr(a)
		must(t, err)
		out = append(out, m)
	}
	return out
}
