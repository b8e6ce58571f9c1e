package bundle

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The names of the files. There are no others: what nobody checks has no place in
// a bundle.
const (
	verifyFile   = "VERIFY.md"
	rulesFile    = "inputs/rules.yaml"
	rosterFile   = "inputs/roster.yaml"
	releasesFile = "inputs/releases.yaml"
	forksDir     = "forks/"
	logsDir      = "logs/"
	jsonFile     = "report.json"
	htmlFile     = "report.html"
	mdFile       = "report.md"
	dsseFile     = "report.dsse.json"
)

// limits of the files that stand alone. A log's are limited together.
var limits = map[string]uint64{
	verifyFile: 64 << 10, rulesFile: 4 << 20, rosterFile: 4 << 20, releasesFile: 4 << 20,
	jsonFile: 8 << 20, htmlFile: 16 << 20, mdFile: 8 << 20, dsseFile: 4 << 20,
}

var (
	forkName = regexp.MustCompile(`^` + forksDir + `([1-9][0-9]{0,2})\.txt$`)
	logName  = regexp.MustCompile(`^(` + logsDir + `[0-9a-f]{16}/)(.+)$`)
)

// sizes are those of a bundle's files, added up in the order of the names.
type sizes struct {
	logs  map[string]uint64 // by folder
	forks []string
}

func newSizes() *sizes { return &sizes{logs: map[string]uint64{}} }

// add refuses a file whose name is not known, or which is too large.
func (s *sizes) add(name string, size uint64) error {
	if limit, ok := limits[name]; ok {
		if size > limit {
			return fmt.Errorf("%s has %d bytes, at most %d are read", name, size, limit)
		}
		return nil
	}
	if forkName.MatchString(name) {
		if s.forks = append(s.forks, name); size > maxFork {
			return fmt.Errorf("%s has %d bytes, at most %d are read", name, size, maxFork)
		}
		if len(s.forks) > maxLogs {
			return fmt.Errorf("there are more than %d files in %s", maxLogs, forksDir)
		}
		return nil
	}
	m := logName.FindStringSubmatch(name)
	if m == nil || evidence.FileLimit(m[2]) == 0 {
		return fmt.Errorf("%s was added: no bundle has a file of that name", name)
	}
	dir, limit := m[1], evidence.FileLimit(m[2])
	if size > uint64(limit) {
		return fmt.Errorf("%s has %d bytes, at most %d are read", name, size, limit)
	}
	if size > maxLog || s.logs[dir]+size > maxLog {
		return fmt.Errorf("the files in %s have more than %d bytes together, which is the limit of a log", dir, maxLog)
	}
	if s.logs[dir] += size; len(s.logs) > maxLogs {
		return fmt.Errorf("there are more than %d logs", maxLogs)
	}
	return nil
}

// complete refuses forks that are not numbered 1, 2, ... without holes.
func (s *sizes) complete() error {
	for n := range s.forks {
		if name := forkFile(n); !slices.Contains(s.forks, name) {
			return fmt.Errorf("%s is missing: there are %d files in %s", name, len(s.forks), forksDir)
		}
	}
	return nil
}

// checkNames looks at the names and sizes of files that are about to be packed.
func checkNames(f folder) error {
	s := newSizes()
	for _, x := range f {
		if err := s.add(x.name, uint64(x.size)); err != nil {
			return err
		}
	}
	return s.complete()
}

func forkFile(n int) string { return fmt.Sprintf("%s%d.txt", forksDir, n+1) }
