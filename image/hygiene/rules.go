package hygiene

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// matching finds whatever stands under one of the patterns.
func matching(patterns ...string) func(fs.FS) ([]string, error) {
	return func(tree fs.FS) ([]string, error) {
		var found []string
		for _, pattern := range patterns {
			names, err := fs.Glob(tree, pattern)
			if err != nil {
				return nil, err
			}
			found = append(found, names...)
		}
		return found, nil
	}
}

// filesBelow finds files with something in them below the folders.
func filesBelow(dirs ...string) func(fs.FS) ([]string, error) {
	return func(tree fs.FS) ([]string, error) {
		var found []string
		for _, dir := range dirs {
			err := fs.WalkDir(tree, dir, func(name string, d fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) && name == dir {
					return fs.SkipDir
				}
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				fi, err := d.Info()
				if err == nil && fi.Size() > 0 {
					found = append(found, name)
				}
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		return found, nil
	}
}

func authorizedKeys(tree fs.FS) ([]string, error) {
	return matching("root/.ssh/authorized_keys*", "home/*/.ssh/authorized_keys*", "etc/ssh/authorized_keys*")(tree)
}

// accounts calls do with the fields of each line of a file such as etc/passwd.
func accounts(tree fs.FS, name string, fields int, do func(line []string)) error {
	data, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != fields {
			return fmt.Errorf("%s: a line of %d fields, not %d", name, len(f), fields)
		}
		do(f)
	}
	return nil
}

// passwords finds accounts whose password could match anything: it must begin with
// what no hash begins with, and an empty one lets everybody in.
func passwords(tree fs.FS) ([]string, error) {
	var found []string
	locked := func(p string) bool { return strings.HasPrefix(p, "!") && !strings.HasPrefix(p, "!$") || p == "*" }
	rootIsLocked := false
	err := errors.Join(
		accounts(tree, "etc/shadow", 9, func(f []string) {
			if !locked(f[1]) {
				found = append(found, f[0]+" in etc/shadow")
			} else if f[0] == "root" {
				rootIsLocked = true
			}
		}),
		accounts(tree, "etc/passwd", 7, func(f []string) {
			if f[1] != "x" {
				found = append(found, f[0]+" in etc/passwd")
			}
		}))
	if !rootIsLocked && err == nil && len(found) == 0 {
		found = append(found, "root is not locked in etc/shadow")
	}
	return found, err
}

// people are accounts as adduser and cloud-init make them, and homes.
func people(tree fs.FS) ([]string, error) {
	found, err := matching("home/*")(tree)
	if err != nil {
		return nil, err
	}
	err = accounts(tree, "etc/passwd", 7, func(f []string) {
		if id, err := strconv.Atoi(f[2]); err != nil || id >= 1000 && id < 60000 || id == 0 && f[0] != "root" {
			found = append(found, f[0]+" in etc/passwd")
		}
	})
	return found, err
}

func machineID(tree fs.FS) ([]string, error) {
	data, err := fs.ReadFile(tree, "etc/machine-id")
	if errors.Is(err, fs.ErrNotExist) {
		return []string{"etc/machine-id is missing"}, nil
	}
	if err != nil || len(data) == 0 {
		return nil, err
	}
	return []string{"etc/machine-id"}, nil
}

// nameServers wants resolv.conf to be a link to what the guest itself finds out.
func nameServers(tree fs.FS) ([]string, error) {
	const name = "etc/resolv.conf"
	fi, err := fs.Lstat(tree, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || fi.Mode().Type() == fs.ModeSymlink || fi.Size() == 0 {
		return nil, err
	}
	return []string{name}, nil
}

var proxy = regexp.MustCompile(`(?im)^[^#/\n]*(acquire::[a-z]+::proxy|\b(https?|all)_proxy\s*=)`)

func proxies(tree fs.FS) ([]string, error) {
	names, err := matching("etc/apt/apt.conf", "etc/apt/apt.conf.d/*", "etc/environment", "etc/profile.d/*")(tree)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		if fi, err := fs.Lstat(tree, name); err != nil {
			return nil, err
		} else if !fi.Mode().IsRegular() {
			continue // a link's target is looked at where it stands, or is a package's
		}
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			return nil, err
		}
		if proxy.Match(data) {
			found = append(found, name)
		}
	}
	return found, nil
}

// A key in PEM, of OpenSSH, of age, of note.
var private = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE` + ` KEY( BLOCK)?-----\r?\n|PRIVATE\+` + `KEY\+|AGE-SECRET-KEY-1`)

// scanned is as much of a file as is looked at for keys. Key files are small; a
// program may well hold the words.
const scanned = 64 << 10

// privateKeys looks into all small files but programs'.
func privateKeys(tree fs.FS) ([]string, error) {
	var found []string
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch name {
			case "proc", "sys", "dev", "usr/share/doc", "usr/lib/modules":
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := tree.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		head, err := io.ReadAll(io.LimitReader(f, scanned))
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(head, []byte("\x7fELF")) && path.Ext(name) != ".py" && path.Ext(name) != ".pyc" && private.Match(head) {
			found = append(found, name)
		}
		return nil
	})
	return found, err
}
