package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// source is what is packed: which version, and of when.
type source struct {
	linked string    // as the programs say it: v1.2.3
	debian string    // as dpkg compares it: 1.2.3
	epoch  time.Time // the time that all files get
}

var (
	release  = regexp.MustCompile(`^v(\d+\.\d+\.\d+)(?:-([0-9A-Za-z.]+))?$`)
	describe = regexp.MustCompile(`^(v\d+\.\d+\.\d+(?:-[0-9A-Za-z.]+?)?)-(\d+)-g([0-9a-f]{12})$`)
)

// identify asks git, unless version and SOURCE_DATE_EPOCH say all.
func (b *build) identify(version string) (source, error) {
	var s source
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		var err error
		if epoch, err = b.output("git", "log", "-1", "--format=%ct"); err != nil {
			return s, fmt.Errorf("find out the commit's time: %w: outside of a git checkout set SOURCE_DATE_EPOCH and give -version", err)
		}
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(epoch), 10, 64)
	if err != nil {
		return s, fmt.Errorf("SOURCE_DATE_EPOCH: want seconds since 1970, not %q", epoch)
	}
	s.epoch = time.Unix(seconds, 0).UTC()
	if version != "" {
		if !release.MatchString(version) {
			return s, fmt.Errorf("-version: want a version such as v1.2.3 or v1.2.3-rc.1, not %q", version)
		}
		s.linked, s.debian = version, debianVersion(version)
		return s, nil
	}
	// The dirty mark is left out of what git parses, and comes last.
	described, err := b.output("git", "describe", "--tags", "--long", "--abbrev=12", "--match=v[0-9]*")
	if err != nil { // no release yet
		commit, err := b.output("git", "rev-parse", "--short=12", "HEAD")
		if err != nil {
			return s, fmt.Errorf("find out the version: %w: outside of a git checkout give -version", err)
		}
		described = "v0.0.0-0-g" + strings.TrimSpace(commit)
	}
	changed, err := b.output("git", "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return s, fmt.Errorf("look for changes: %w", err)
	}
	s.linked, s.debian, err = fromGit(strings.TrimSpace(described), changed != "", s.epoch)
	return s, err
}

// fromGit turns what git describes into versions. Between releases the commit's
// time makes each later package the newer one to dpkg.
func fromGit(described string, changed bool, at time.Time) (linked, debian string, err error) {
	m := describe.FindStringSubmatch(described)
	if m == nil {
		return "", "", fmt.Errorf("a tag that is no version: %q: name releases v1.2.3", described)
	}
	if m[2] == "0" && !changed && m[1] != "v0.0.0" {
		return m[1], debianVersion(m[1]), nil
	}
	dirty := ""
	if changed {
		dirty = ".dirty"
	}
	return "v0.0.0-dev+" + m[3] + dirty, debianVersion(m[1]) + "+git" + at.UTC().Format("20060102150405") + "." + m[3] + dirty, nil
}

// debianVersion sorts a release candidate before the release, as dpkg wants it said.
func debianVersion(v string) string {
	return strings.Replace(strings.TrimPrefix(v, "v"), "-", "~", 1)
}
