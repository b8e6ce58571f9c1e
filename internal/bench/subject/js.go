package subject

import (
	"context"
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

//go:embed js/package.json js/package-lock.json js/.npmrc js/relay.mjs
var jsFiles embed.FS

// JSProject writes the npm project of the js relay into a folder.
func JSProject(dir string) error {
	files, err := fs.Sub(jsFiles, "js")
	if err != nil {
		return err
	}
	return os.CopyFS(dir, files)
}

func (s *starting) js(ctx context.Context) (*Subject, error) {
	if err := JSProject(s.dir); err != nil {
		return nil, err
	}
	// Modules are looked for beside the script.
	if err := os.Symlink(s.Modules, filepath.Join(s.dir, "node_modules")); err != nil {
		return nil, err
	}
	p, err := s.start(ctx, true, "node", "relay.mjs", s.ip.String(), strconv.Itoa(portTCP))
	if err != nil {
		return nil, err
	}
	return s.up(p)
}
