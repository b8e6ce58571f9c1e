// Package buildinfo says which version of a program is running.
//
// The version comes from the build itself: the module version when the program
// was installed with `go install ...@vX.Y.Z`, the version the Makefile links in
// for a release, else the commit. Nothing has to be edited by hand.
package buildinfo

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// linked is set by the release build with
// -ldflags "-X github.com/psf-relay/relay-appliance/internal/buildinfo.linked=v1.2.3".
var linked string

// committed is set in the same way, to the commit's time in seconds since 1970.
var committed string

// Version is the program's version, such as "v1.2.3", or "v0.0.0-dev+0123456789ab"
// for a build from a checkout without a tag. It never is empty.
func Version() string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "v0.0.0-dev"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var commit, dirty string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = "+" + s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = ".dirty"
			}
		}
	}
	return "v0.0.0-dev" + commit + dirty
}

// Committed is the time of the commit that was built, from which on alone the program
// can run: a clock that is before it is wrong. The zero time: it is not known.
func Committed() time.Time {
	if seconds, err := strconv.ParseInt(committed, 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC()
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, _ := time.Parse(time.RFC3339, s.Value)
			return at
		}
	}
	return time.Time{}
}

// Agent is the agent version a program announces in libp2p identify,
// such as "relayd/1.2.3". Version rules of the bounty map it back.
func Agent(program string) string {
	return program + "/" + strings.TrimPrefix(Version(), "v")
}

// String is what `PROGRAM version` prints.
func String(program string) string {
	return fmt.Sprintf("%s %s (%s %s/%s)", program, Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
