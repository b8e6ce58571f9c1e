package month

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// The names in the folder that is handed over.
const (
	markFile      = "LAB.txt"
	monitorsDir   = "monitors"
	bundlesDir    = "bundles"
	reportsDir    = "reports"
	rulesFile     = "rules.yaml"
	rosterFile    = "roster.yaml"
	releasesFile  = "releases.yaml"
	committeeFile = "committee.txt"
	keyFile       = "lab.key" // the committee's secret key, which everybody knows
)

// made are all of them: nothing else is ever removed.
var made = []string{monitorsDir, bundlesDir, reportsDir, rulesFile, rosterFile, releasesFile, committeeFile, keyFile}

const mark = `LAB: what "make month" made: a simulated month, signed by keys that everybody knows.
It is evidence of nothing. While this file is here, the next run begins anew in this
folder; it removes what it has made itself, and nothing else.
`

// begin makes the folder ready: empty of what a run before has made.
func begin(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, markFile)); errors.Is(err, fs.ErrNotExist) && len(entries) > 0 {
		return fmt.Errorf("%s is not empty, and holds no %s: it was not made here; name another folder with --dir", dir, markFile)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, markFile), []byte(mark), 0o644); err != nil {
		return err
	}
	for _, name := range made {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{monitorsDir, bundlesDir, reportsDir} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// memory is a folder in memory with enough room; empty: there is none. The monitors wait for
// the disk after everything they write, a hundred thousand times in a month: on a
// slow disk that is most of the time.
func memory() string {
	const shm, room = "/dev/shm", 1 << 30
	var s syscall.Statfs_t
	if err := syscall.Statfs(shm, &s); err != nil || s.Bavail*uint64(s.Bsize) < room {
		return ""
	}
	dir, err := os.MkdirTemp(shm, "make-month-")
	if err != nil {
		return ""
	}
	return dir
}
