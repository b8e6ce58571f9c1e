package sbom

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

const status = `Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.41-12+deb13u4
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>

Package: bash
Status: install ok installed
Architecture: amd64
Source: bash (5.2.37-2)
Version: 5.2.37-2+b10
Maintainer: Matthias Klose <doko@debian.org>

Package: relayd
Status: install ok installed
Architecture: amd64
Version: 1.0.0
Maintainer: The relay appliance's maintainers <x@users.noreply.github.com>
Homepage: https://github.com/psf-relay/relay-appliance
`

const mit = `Copyright (c) 2026 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

func tree() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o644} }
	return fstest.MapFS{
		"var/lib/dpkg/status":            file(status),
		"usr/share/doc/libc6/copyright":  file("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nCopyright: x\nLicense: LGPL-2.1+\n text\n\nFiles: y\nLicense: Permission is hereby given to whoever wants it\n\nLicense: ISC and LGPL-2.1+\n"),
		"usr/share/doc/bash/copyright":   file("This is bash. See /usr/share/common-licenses/GPL-3.\n"),
		"usr/share/doc/relayd/copyright": file("Source: x\n\n" + mit),
	}
}

func TestDebian(t *testing.T) {
	got, err := Debian(tree())
	if err != nil {
		t.Fatal(err)
	}
	want := []Component{
		{Name: "bash", Version: "5.2.37-2+b10", Arch: "amd64", Licences: []string{"GPL-3"}, Source: "https://snapshot.debian.org/package/bash/5.2.37-2/", PURL: "pkg:deb/debian/bash@5.2.37-2%2Bb10?arch=amd64"},
		{Name: "libc6", Version: "2.41-12+deb13u4", Arch: "amd64", Licences: []string{"ISC and LGPL-2.1+", "LGPL-2.1+", "text in the copyright file"},
			Source: "https://snapshot.debian.org/package/glibc/2.41-12+deb13u4/", PURL: "pkg:deb/debian/libc6@2.41-12%2Bdeb13u4?arch=amd64"},
		{Name: "relayd", Version: "1.0.0", Arch: "amd64", Licences: []string{"MIT"}, Source: "https://github.com/psf-relay/relay-appliance", PURL: "pkg:deb/relayd@1.0.0?arch=amd64"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDebianFaults(t *testing.T) {
	for want, text := range map[string]string{
		"no field":                  "x",
		`x is "deinstall ok`:        "Package: x\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n",
		"without name, version or ": "Package: x\nStatus: install ok installed\nArchitecture: all\n",
	} {
		spoilt := tree()
		spoilt["var/lib/dpkg/status"] = &fstest.MapFile{Data: []byte(text)}
		if _, err := Debian(spoilt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := Debian(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "var/lib/dpkg/status") {
		t.Errorf("no dpkg: %v", err)
	}
	huge := tree()
	huge["usr/share/doc/bash/copyright"] = &fstest.MapFile{Data: make([]byte, maxCopyright+1)}
	if _, err := Debian(huge); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a copyright file without end: %v", err)
	}
	none := tree()
	delete(none, "usr/share/doc/bash/copyright")
	if got, err := Debian(none); err != nil || got[0].Licences != nil {
		t.Errorf("without a copyright file: %v %v", got, err)
	}
}

func TestLicences(t *testing.T) {
	for text, want := range map[string]string{
		mit: "MIT",
		"under the GNU Lesser General Public\nLicense, version 2.1": "LGPL",
		"PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n----":        "PSF-2",
		"in the public domain":  "",
		"Format: x\nFiles: *\n": "",
	} {
		if got := strings.Join(Licences([]byte(text)), ", "); got != want {
			t.Errorf("%.40q: %q, want %q", text, got, want)
		}
	}
}

func TestSPDXIdentifiers(t *testing.T) {
	for name, want := range map[string]string{
		"GPL-2+": "GPL-2.0-or-later", "GPL-2": "GPL-2.0-only", "LGPL-2.1+": "LGPL-2.1-or-later", "LGPL-3.0+": "LGPL-3.0-or-later", "GPL-2.0-only": "GPL-2.0-only",
		"GPL-3.0-or-later": "GPL-3.0-or-later", "Expat": "MIT", "BSD-3-Clause": "BSD-3-Clause", "Apache-2.0": "Apache-2.0", "GFDL-1.3+": "GFDL-1.3-or-later",
		// Whatever is not exactly one of the list is not said to be.
		"GPL": "", "GPL-2.5": "", "LGPL-1+": "", "GPL-2+ or Artistic": "", "BSD-3-clause-generic": "", "public-domain": "",
	} {
		if got, ok := spdxID(name); got != want || ok != (want != "") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-o", file, "github.com/psf-relay/relay-appliance/internal/appliance/cmd/relay-appliance")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c, err := Program(file)
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]Component{}
	for _, m := range c.Contains {
		modules[m.Name] = m
	}
	kong, std := modules["github.com/alecthomas/kong"], modules["stdlib"]
	if kong.Version == "" || kong.PURL != "pkg:golang/github.com/alecthomas/kong@"+kong.Version || !strings.HasSuffix(kong.Source, "/github.com/alecthomas/kong@"+kong.Version) {
		t.Errorf("%+v", kong)
	}
	if !strings.HasSuffix(c.Name, "/cmd/relay-appliance") {
		t.Error(c.Name)
	}
	if !strings.HasPrefix(std.Version, "1.") || std.PURL != "pkg:golang/stdlib@"+std.Version {
		t.Errorf("%+v", std)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, err := ProgramAt(f)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, again); d != "" {
		t.Error(d)
	}
	if _, err := Program("sbom_test.go"); err == nil {
		t.Error("this file is taken for a program")
	}
}

func TestLabel(t *testing.T) {
	line := strings.Repeat("-", 78) + "\n"
	copyright := []byte("Source: x\n\n" + line + "The Go standard library and runtime , LICENSE\n\ntext\n\n" +
		line + "example.org/a v1.0.0, LICENSE\n\n" + mit + "\n" + line + "example.org/a v1.0.0, NOTICE\n\n/usr/share/common-licenses/GPL-3\n" +
		line + "example.org/b v2.0.0, LICENSE\n\nwhatever\n")
	c := Component{Name: "package", Licences: []string{"MIT"}, Contains: []Component{{Name: "program", Contains: []Component{
		{Name: "example.org/a", Version: "v1.0.0"}, {Name: "example.org/b", Version: "v2.0.0"}, {Name: "example.org/a", Version: "v0.9.0"},
		{Name: "stdlib", Version: "1.26", Licences: []string{"BSD-3-Clause"}}}}}}
	c.Label(copyright)
	var got []string
	for _, m := range c.Contains[0].Contains {
		got = append(got, strings.Join(m.Licences, "+"))
	}
	if d := cmp.Diff([]string{"GPL-3+MIT", "", "", "BSD-3-Clause"}, got); d != "" {
		t.Error(d)
	}
}

func image(t *testing.T) Component {
	t.Helper()
	packages, err := Debian(tree())
	if err != nil {
		t.Fatal(err)
	}
	packages[0].SHA256 = strings.Repeat("ab", 32)
	// Two programs with a module in common.
	common := Component{Name: "example.org/module", Version: "v1.0.0", PURL: "pkg:golang/example.org/module@v1.0.0"}
	for _, name := range []string{"one", "two"} {
		packages[2].Contains = append(packages[2].Contains, Component{Name: "example.org/" + name, Version: "v1", Contains: []Component{common}})
	}
	return Component{Name: "image", Version: "1.0.0", Contains: packages}
}

// The document is what SPDX's own library reads and finds valid, each part stands
// there once, and the same image gives the same bytes.
func TestWrite(t *testing.T) {
	at := time.Unix(1790000000, 0)
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := Write(w, image(t), at); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two documents of the same differ")
	}
	doc, err := spdxjson.Read(&second)
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	ids, names := map[string]bool{}, map[string]int{}
	for _, p := range doc.Packages {
		if ids[string(p.PackageSPDXIdentifier)] {
			t.Errorf("%s stands there twice", p.PackageSPDXIdentifier)
		}
		ids[string(p.PackageSPDXIdentifier)] = true
		names[p.PackageName]++
	}
	for _, name := range []string{"image", "bash", "libc6", "relayd", "example.org/one", "example.org/two", "example.org/module"} {
		if names[name] != 1 {
			t.Errorf("%s: %d times", name, names[name])
		}
	}
	// One describes, and each is contained in something; the module in both programs.
	if got := len(doc.Relationships); got != 1+3+2+2 {
		t.Errorf("%d relationships", got)
	}
	if doc.CreationInfo.Created != "2026-09-21T14:13:20Z" {
		t.Error(doc.CreationInfo.Created)
	}
	for _, want := range []string{`"licenseDeclared": "LicenseRef-ISC-and-LGPL-2.1 AND LGPL-2.1-or-later AND LicenseRef-text-in-the-copyright-file"`, `"licenseId": "LicenseRef-ISC-and-LGPL-2.1"`,
		`"checksumValue": "` + strings.Repeat("ab", 32), "corresponding source: https://snapshot.debian.org/package/glibc/"} {
		if !bytes.Contains(first.Bytes(), []byte(want)) {
			t.Errorf("no %s in\n%s", want, &first)
		}
	}
	other := image(t)
	other.Contains[1].Version = "2"
	var third bytes.Buffer
	if err := Write(&third, other, at); err != nil {
		t.Fatal(err)
	}
	docThree, err := spdxjson.Read(&third)
	if err != nil {
		t.Fatal(err)
	}
	if docThree.DocumentNamespace == doc.DocumentNamespace {
		t.Error("two documents share a namespace")
	}
}

// Whatever a copyright file says, it gives words, and a document that can be read.
func FuzzLicences(f *testing.F) {
	f.Add("Format: x\nLicense: GPL-2+ or \"Artistic\"\n")
	f.Add("Format: x\nLicense: +++\n\nLicense:\n ...\n")
	f.Add(mit)
	f.Fuzz(func(t *testing.T, text string) {
		var out bytes.Buffer
		c := Component{Name: "x", Version: "1", Licences: Licences([]byte(text))}
		if err := Write(&out, c, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		doc, err := spdxjson.Read(&out)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range doc.OtherLicenses {
			if !fs.ValidPath(l.LicenseIdentifier) || strings.ContainsAny(l.LicenseIdentifier, " /\n\"") || l.LicenseIdentifier == "LicenseRef-" {
				t.Errorf("%q", l.LicenseIdentifier)
			}
		}
	})
}
