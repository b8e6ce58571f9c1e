package main

import (
	"testing"
	"time"
)

func TestFromGit(t *testing.T) {
	at := time.Unix(1795402225, 0)
	for _, c := range []struct {
		described      string
		changed        bool
		linked, debian string
	}{
		{"v1.2.3-0-g0123456789ab", false, "v1.2.3", "1.2.3"},
		{"v1.2.3-rc.1-0-g0123456789ab", false, "v1.2.3-rc.1", "1.2.3~rc.1"},
		{"v1.2.3-0-g0123456789ab", true, "v0.0.0-dev+0123456789ab.dirty", "1.2.3+git20261123025025.0123456789ab.dirty"},
		{"v1.2.3-7-g0123456789ab", false, "v0.0.0-dev+0123456789ab", "1.2.3+git20261123025025.0123456789ab"},
		{"v1.2.3-rc.1-7-g0123456789ab", false, "v0.0.0-dev+0123456789ab", "1.2.3~rc.1+git20261123025025.0123456789ab"},
		{"v0.0.0-0-g0123456789ab", false, "v0.0.0-dev+0123456789ab", "0.0.0+git20261123025025.0123456789ab"},
	} {
		linked, debian, err := fromGit(c.described, c.changed, at)
		if err != nil || linked != c.linked || debian != c.debian {
			t.Errorf("fromGit(%q, %t) = %q, %q, %v; want %q, %q", c.described, c.changed, linked, debian, err, c.linked, c.debian)
		}
	}
	if _, _, err := fromGit("nightly-3-g0123456789ab", false, at); err == nil {
		t.Error("a tag that is no version was taken for one")
	}
}
