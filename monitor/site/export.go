package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/monitor/committee"
)

// Export writes the site as files into a folder, which any web server or bucket serves as
// it is, below any path. Each file takes the place of an older one at once; those that have
// not changed are not touched. What a page leads to is written before it. Nothing is removed.
func Export(ctx context.Context, r committee.Reader, o Options, dir string) error {
	fail := func(err error) error { return fmt.Errorf("export the committee's site: %w", err) }
	s, err := newSite(r, o, false)
	if err != nil {
		return fail(err)
	}
	err = s.each(ctx, func(path string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := s.file(ctx, path, "")
		if errors.Is(err, fs.ErrNotExist) {
			// Not %w: that a folder does not exist is another matter.
			return fmt.Errorf("%s: the records have changed meanwhile: %v", path, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return put(filepath.Join(dir, filepath.FromSlash(path)), f.body)
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// File is one of the files of an export; an error that wraps fs.ErrNotExist: there is none.
func File(ctx context.Context, r committee.Reader, o Options, path string) ([]byte, error) {
	s, err := newSite(r, o, false)
	if err != nil {
		return nil, err
	}
	f, err := s.file(ctx, path, "")
	return f.body, err
}

// each visits the paths of all files.
func (s *site) each(ctx context.Context, visit func(path string) error) error {
	end, err := s.begin(ctx)
	months := s.months
	end()
	for i := 0; err == nil && i < len(months); i++ {
		err = s.eachOf(ctx, months[i].String()+"/", i, visit)
	}
	for _, path := range []string{"style.css", "icon.svg", "feed.atom", "index.html"} {
		if err == nil {
			err = visit(path)
		}
	}
	return err
}

func (s *site) eachOf(ctx context.Context, folder string, i int, visit func(path string) error) error {
	t, _, err := s.one(ctx, s.months[i])
	if err != nil {
		return err
	}
	var paths []string
	for _, r := range t.Rows {
		if r.Linked() {
			for _, kind := range []string{".json", ".svg", ".html"} {
				paths = append(paths, "relays/"+r.Relay+kind)
			}
		}
	}
	paths = append(paths, "table.csv", "table.json")
	for n := t.pages(); n > 0; n-- {
		paths = append(paths, pageName(n))
	}
	for _, path := range paths {
		if err := visit(folder + path); err != nil {
			return err
		}
	}
	return nil
}

// put writes a file, unless it is there already.
func put(path string, body []byte) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == int64(len(body)) {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, body) {
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.Replace(path, body, 0o644)
}
