// Package sbom says what an image or an archive is made of: its software bill of
// materials.
//
// A [Component] is whatever has a name and a version. [Debian] finds those of an
// installed Debian, [Program] the Go modules in a program; [Write] makes an SPDX 2.3
// document of them. The same components and time give the same document.
package sbom

import (
	"slices"
	"strings"
)

// Component is one part, and what it contains.
type Component struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch,omitempty"`
	// Licences are what the part itself names, in its own words: each holds for some of
	// it. Empty means that it was not found out.
	Licences []string `json:"licences"`
	// SHA256 is of the file that it came in.
	SHA256 string `json:"sha256,omitempty"`
	// Source is where the corresponding source is to be had.
	Source string `json:"source,omitempty"`
	// PURL is its package URL.
	PURL     string      `json:"purl,omitempty"`
	Contains []Component `json:"contains,omitempty"`
}

// sorted are the parts in a fixed order.
func sorted(parts []Component) []Component {
	slices.SortFunc(parts, func(a, b Component) int {
		return strings.Compare(a.Name+"\x00"+a.Version+"\x00"+a.Arch, b.Name+"\x00"+b.Version+"\x00"+b.Arch)
	})
	return parts
}
