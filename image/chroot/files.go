package chroot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Upload writes a file of the tree; folders above it must be there.
func (c *Communicator) Upload(to string, r io.Reader, fi *os.FileInfo) error {
	mode := fs.FileMode(0o644)
	if fi != nil {
		mode = (*fi).Mode().Perm()
	}
	return c.inside(func(tree *os.Root) error { return write(tree, inTree(to), r, mode) })
}

// UploadDir writes the folder at src, or with a slash at its end what is in it,
// into the folder to.
func (c *Communicator) UploadDir(to, src string, exclude []string) error {
	to = inTree(to)
	if !strings.HasSuffix(src, "/") {
		to = path.Join(to, path.Base(src))
	}
	return c.inside(func(tree *os.Root) error { return copyDir(tree, to, os.DirFS(src), exclude) })
}

// Download reads a file of the tree.
func (c *Communicator) Download(from string, w io.Writer) error {
	return c.inside(func(tree *os.Root) error {
		f, err := tree.Open(inTree(from))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
}

// DownloadDir reads a folder of the tree, by the rule of UploadDir, into the
// folder to of this machine, which must be there.
func (c *Communicator) DownloadDir(from, to string, exclude []string) error {
	into := "."
	if !strings.HasSuffix(from, "/") {
		into = path.Base(from)
	}
	return c.inside(func(tree *os.Root) error {
		here, err := os.OpenRoot(to)
		if err != nil {
			return err
		}
		defer here.Close()
		sub, err := tree.OpenRoot(inTree(from))
		if err != nil {
			return err
		}
		defer sub.Close()
		return copyDir(here, into, sub.FS(), exclude)
	})
}

func (c *Communicator) inside(do func(*os.Root) error) error {
	tree, err := os.OpenRoot(c.root)
	if err != nil {
		return err
	}
	defer tree.Close()
	return do(tree)
}

// inTree is a path of the guest as os.Root wants it: never absolute, never empty.
func inTree(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	return name
}

func write(tree *os.Root, name string, r io.Reader, mode fs.FileMode) error {
	f, err := tree.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	// The file may have been there, and the umask is not the image's business.
	return errors.Join(err, f.Chmod(mode), f.Close())
}

func copyDir(tree *os.Root, to string, src fs.FS, exclude []string) error {
	return fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, pattern := range exclude {
			if skip, err := path.Match(pattern, name); err != nil {
				return fmt.Errorf("exclude %q: %w", pattern, err)
			} else if skip && d.IsDir() {
				return fs.SkipDir
			} else if skip {
				return nil
			}
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		target := path.Join(to, name)
		switch {
		case d.IsDir():
			return tree.MkdirAll(target, 0o755)
		case d.Type() == fs.ModeSymlink:
			link, err := fs.ReadLink(src, name)
			if err != nil {
				return err
			}
			return tree.Symlink(link, target)
		case d.Type().IsRegular():
			f, err := src.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			return write(tree, target, f, fi.Mode().Perm())
		}
		return fmt.Errorf("%s is neither file, folder nor link: it cannot be copied", name)
	})
}
