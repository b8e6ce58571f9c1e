package sbom

import (
	"regexp"
	"strings"
)

// identifiers are the names of Debian's that mean exactly one licence of SPDX's list,
// and what does not follow Debian's pattern for GNU's.
var identifiers = map[string]string{
	"expat": "MIT", "mit": "MIT", "isc": "ISC", "x11": "X11", "zlib": "Zlib", "curl": "curl", "0bsd": "0BSD",
	"bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause", "bsd-4-clause-uc": "BSD-4-Clause-UC",
	"apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0", "mpl-2": "MPL-2.0", "mpl-2.0": "MPL-2.0", "cc0-1.0": "CC0-1.0",
	"bsl-1.0": "BSL-1.0", "psf-2": "PSF-2.0", "psf-2.0": "PSF-2.0", "python-2.0": "Python-2.0", "afl-2.1": "AFL-2.1", "ftl": "FTL",
	"fsfap": "FSFAP", "fsful": "FSFUL", "fsfullr": "FSFULLR", "beerware": "Beerware", "unlicense": "Unlicense",
	"cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0",
	"bzip2-1.0.6": "bzip2-1.0.6", "sleepycat": "Sleepycat", "ms-pl": "MS-PL", "unicode-dfs-2016": "Unicode-DFS-2016",
	"gpl-2 with linux-syscall-note exception": "GPL-2.0-only WITH Linux-syscall-note",
	"apache-2.0 with llvm exception":          "Apache-2.0 WITH LLVM-exception",
}

var gnu = regexp.MustCompile(`^(gpl|lgpl|agpl|gfdl)-([123])(?:\.([0-3]))?(\+|-only|-or-later)?$`)

// gnuVersions are those that SPDX lists.
var gnuVersions = map[string]bool{"gpl-1.0": true, "gpl-2.0": true, "gpl-3.0": true, "lgpl-2.0": true, "lgpl-2.1": true,
	"lgpl-3.0": true, "agpl-3.0": true, "gfdl-1.1": true, "gfdl-1.2": true, "gfdl-1.3": true}

// spdxID is the identifier of a licence that Debian names.
func spdxID(name string) (string, bool) {
	name = strings.ToLower(name)
	if id, ok := identifiers[name]; ok {
		return id, true
	}
	m := gnu.FindStringSubmatch(name)
	if m == nil {
		return "", false
	}
	minor := m[3]
	if minor == "" {
		minor = "0"
	}
	version := m[1] + "-" + m[2] + "." + minor
	if !gnuVersions[version] {
		return "", false
	}
	if m[4] == "+" || m[4] == "-or-later" {
		return strings.ToUpper(version) + "-or-later", true
	}
	return strings.ToUpper(version) + "-only", true
}
