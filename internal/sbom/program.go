package sbom

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

// Program is the main package of a Go program, as Go has noted it in the file; it
// contains the modules that are linked, and Go's own library.
func Program(file string) (Component, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return Component{}, err
	}
	return program(info)
}

// ProgramAt is [Program] of an open file.
func ProgramAt(r io.ReaderAt) (Component, error) {
	info, err := buildinfo.Read(r)
	if err != nil {
		return Component{}, err
	}
	return program(info)
}

func program(info *debug.BuildInfo) (Component, error) {
	if info.Path == "" || info.GoVersion == "" {
		return Component{}, fmt.Errorf("a Go program that says not what it is")
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	c := Component{Name: info.Path, Version: info.Main.Version, PURL: purl(info.Main.Path, info.Main.Version)}
	c.Contains = []Component{{Name: "stdlib", Version: version, Licences: []string{"BSD-3-Clause"}, PURL: "pkg:golang/stdlib@" + version, Source: "https://go.dev/dl/"}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c.Contains = append(c.Contains, Component{Name: m.Path, Version: m.Version, PURL: purl(m.Path, m.Version), Source: "https://pkg.go.dev/" + m.Path + "@" + m.Version})
	}
	sorted(c.Contains)
	return c, nil
}

func purl(path, version string) string {
	if version == "" || version == "(devel)" {
		return "pkg:golang/" + path
	}
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}
