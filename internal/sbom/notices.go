package sbom

import (
	"regexp"
	"slices"
)

// heading begins, in the copyright file of a package of this project, the licence of
// a module that is linked: a line of dashes, then module, version and file.
var heading = regexp.MustCompile(`(?m)^-{78}\n(\S+) (\S+), \S+$`)

// Label says of each module in c, a program or a package of programs, which licences
// it has, by the copyright file that comes along.
func (c *Component) Label(copyright []byte) {
	found := map[string][]string{}
	headings := heading.FindAllSubmatchIndex(copyright, -1)
	for i, at := range headings {
		end := len(copyright)
		if i+1 < len(headings) {
			end = headings[i+1][0]
		}
		module := string(copyright[at[2]:at[3]]) + " " + string(copyright[at[4]:at[5]])
		found[module] = append(found[module], Licences(copyright[at[1]:end])...)
	}
	for i := range c.Contains {
		part := &c.Contains[i]
		if names := found[part.Name+" "+part.Version]; len(names) > 0 {
			slices.Sort(names)
			part.Licences = slices.Compact(names)
		}
		part.Label(copyright)
	}
}
