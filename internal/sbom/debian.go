package sbom

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"

	"github.com/psf-relay/relay-appliance/internal/deb822"
)

// Debian lists the packages that dpkg has installed in tree, with the licences that
// their copyright files name. No hashes: dpkg forgets the files that it installed.
func Debian(tree fs.FS) ([]Component, error) {
	f, err := tree.Open("var/lib/dpkg/status")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []Component
	for p, err := range deb822.Paragraphs(f) {
		if err != nil {
			return nil, fmt.Errorf("dpkg's status: %w", err)
		}
		if p.Get("Status") != "install ok installed" {
			return nil, fmt.Errorf("dpkg's status: %s is %q", p.Get("Package"), p.Get("Status"))
		}
		c := Component{Name: p.Get("Package"), Version: p.Get("Version"), Arch: p.Get("Architecture")}
		if c.Name == "" || c.Version == "" || c.Arch == "" {
			return nil, errors.New("dpkg's status has a package without name, version or architecture")
		}
		vendor := "debian/"
		c.Source = sourceOf(p)
		if ours(p) {
			vendor, c.Source = "", p.Get("Homepage")
		}
		c.PURL = "pkg:deb/" + vendor + c.Name + "@" + url.QueryEscape(c.Version) + "?arch=" + c.Arch
		if c.Licences, err = copyright(tree, c.Name); err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	return sorted(found), nil
}

// ours tells this project's packages from Debian's.
func ours(p deb822.Paragraph) bool {
	return strings.HasPrefix(p.Get("Homepage"), "https://github.com/psf-relay/")
}

// sourceOf is where the source of a package of Debian's is kept for good.
func sourceOf(p deb822.Paragraph) string {
	name, version := p.Get("Package"), p.Get("Version")
	// Source: NAME, or NAME (VERSION) where that differs from the binary package's.
	if s := p.Get("Source"); s != "" {
		other, rest, differs := strings.Cut(s, " (")
		name = other
		if differs {
			version = strings.TrimSuffix(rest, ")")
		}
	}
	return "https://snapshot.debian.org/package/" + name + "/" + url.PathEscape(version) + "/"
}

// maxCopyright bounds what is read: the largest of Debian's have some 500 KB.
const maxCopyright = 8 << 20

// copyright are the licences that a package's copyright file names.
func copyright(tree fs.FS, name string) ([]string, error) {
	path := "usr/share/doc/" + name + "/copyright"
	fi, err := fs.Stat(tree, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxCopyright {
		return nil, fmt.Errorf("%s has %d bytes", path, fi.Size())
	}
	text, err := fs.ReadFile(tree, path)
	if err != nil {
		return nil, err
	}
	return Licences(text), nil
}

// A name of a licence, and not the beginning of its text.
var licenceName = regexp.MustCompile(strings.ReplaceAll(
	`^NAME(,? (and|or|and/or) NAME|,? with NAME( exception)?)*$`, "NAME", `[A-Za-z0-9][A-Za-z0-9.+_/-]*`))

// debianCommon are Debian's own copies, which copyright files refer to.
var debianCommon = regexp.MustCompile(`/usr/share/common-licenses/([A-Za-z]+(?:-[0-9.]*[0-9])?)`)

// spoken are licences that a text only talks about.
var spoken = map[string]*regexp.Regexp{
	"LGPL":  regexp.MustCompile(`(?i)GNU\s+(Lesser|Library)\s+General\s+Public\s+License`),
	"GPL":   regexp.MustCompile(`(?i)GNU\s+General\s+Public\s+License`),
	"PSF-2": regexp.MustCompile(`(?i)PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2`),
}

// Licences are the licences that a text names: in the fields of Debian's
// machine-readable format, or else those whose words it holds or that it refers to.
func Licences(text []byte) []string {
	var names []string
	if named, ok := machineReadable(text); ok {
		names = named
	} else {
		for _, m := range licensecheck.Scan(text).Match {
			names = append(names, m.ID)
		}
		for _, m := range debianCommon.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
		if len(names) == 0 {
			for name, words := range spoken {
				if words.Match(text) {
					names = append(names, name)
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// machineReadable reads the format
// https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ as it is written
// in practice: where a text stands in the place of a name it says so.
func machineReadable(text []byte) ([]string, bool) {
	first, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	if !bytes.HasPrefix(bytes.ToLower(first), []byte("format:")) {
		return nil, false
	}
	var names []string
	for p, err := range deb822.Paragraphs(bytes.NewReader(text)) {
		if err != nil {
			return nil, false
		}
		if p.Get("License") == "" {
			continue
		}
		name := strings.TrimSpace(p.First("License"))
		if !licenceName.MatchString(name) {
			name = "text in the copyright file"
		}
		names = append(names, name)
	}
	return names, len(names) > 0
}
