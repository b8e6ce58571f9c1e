// Package stateformat notes in a program's data folder which form the files in it
// have, so that an older program can refuse the folder before it touches anything.
//
// The file "format" has two lines:
//
//	format 2
//	readable-by 1
//
// The first is the newest form that was ever written into the folder, the second the
// oldest form whose programs still work with it. A release that changes what it
// keeps raises the first; it raises the second only if the release before it could
// not go on from what it wrote. An update can then be taken back by one version, or
// the step back is refused: by the package's preinst script, and by the program
// itself. A folder without the note has form 1.
package stateformat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// Name is the note's name in the data folder.
const Name = "format"

// Format is what a note says, and what a program supports.
type Format struct {
	Number     int // the form that is written
	ReadableBy int // the oldest form whose programs work with it
}

func (f Format) encode() string {
	return fmt.Sprintf("format %d\nreadable-by %d\n", f.Number, f.ReadableBy)
}

// Read reads a folder's note. It takes exactly what is written by [Format.Note].
func Read(dir string) (Format, error) {
	path := filepath.Join(dir, Name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Format{1, 1}, nil
	}
	if err != nil {
		return Format{}, fmt.Errorf("read the state's format: %w", err)
	}
	var f Format
	_, err = fmt.Sscanf(string(data), "format %d\nreadable-by %d\n", &f.Number, &f.ReadableBy)
	if err != nil || f.ReadableBy < 1 || f.Number < f.ReadableBy || f.encode() != string(data) {
		return Format{}, fmt.Errorf("%s does not say which format the state has: restore it from a backup", path)
	}
	return f, nil
}

// Check says whether a program of format f may use the folder.
func (f Format) Check(dir string) error {
	have, err := Read(dir)
	if err != nil {
		return err
	}
	if have.ReadableBy > f.Number {
		return fmt.Errorf("the state in %s has format %d, this version reads up to %d: install a newer version, nothing was changed", dir, have.Number, f.Number)
	}
	return nil
}

// Note checks the folder and says in it that a program of format f works with it. A
// note of a newer program stays: what that wrote is still there.
func (f Format) Note(dir string) error {
	if err := f.Check(dir); err != nil {
		return err
	}
	have, err := Read(dir)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, Name)
	if _, err := os.Lstat(path); err == nil && have.Number >= f.Number {
		return nil
	}
	if err := durable.Replace(path, []byte(f.encode()), 0o600); err != nil {
		return fmt.Errorf("note the state's format: %w", err)
	}
	return nil
}
