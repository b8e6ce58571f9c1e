package debian

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/psf-relay/relay-appliance/image/process"
)

// Cache is a folder of trees. It keeps the newest trees of each list of packages.
type Cache struct {
	Dir string
	Say func(format string, args ...any) // progress
}

// Kept is one tree of the cache.
type Kept struct{ dir string }

// Unpack writes the tree into the folder dir.
func (k Kept) Unpack(ctx context.Context, dir string) error {
	return process.Run(ctx, nil, nil, "tar", "--extract", "--file="+filepath.Join(k.dir, "tree.tar"), "--directory="+dir,
		"--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*")
}

// Packages are the packages that the tree was made of.
func (k Kept) Packages() (Hashes, error) {
	data, err := os.ReadFile(filepath.Join(k.dir, "packages.json"))
	if err != nil {
		return nil, err
	}
	var h Hashes
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, fmt.Errorf("%s/packages.json: %w: remove the folder, and it is made again", k.dir, err)
	}
	return h, nil
}

// Tree is the tree of recipe at the mirror's state of now. When the mirror cannot be
// asked, the newest that is kept will do, and that is said.
func (c Cache) Tree(ctx context.Context, r Recipe) (Kept, error) {
	state, err := r.state(ctx)
	if err != nil {
		if old := c.kept(r); ctx.Err() == nil && len(old) > 0 {
			c.Say("%v: building on the newest tree that is kept", err)
			return Kept{old[len(old)-1]}, nil
		}
		return Kept{}, err
	}
	dir := filepath.Join(c.Dir, r.Key(state))
	// A mirror with an older state than before lags behind, or somebody withholds updates:
	// apt's check of signatures sees neither.
	if old := c.kept(r); len(old) > 0 && filepath.Base(old[len(old)-1]) > r.later(state) {
		dir = old[len(old)-1]
		c.Say("the mirror shows an older state than before (%s): building on the newest tree that is kept", state.Time.Format(time.DateTime))
	}
	if _, err := os.Stat(dir); err == nil {
		c.Say("using the kept tree %s", filepath.Base(dir))
		return Kept{dir}, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return Kept{}, err
	}
	fresh, err := os.MkdirTemp(c.Dir, begun)
	if err != nil {
		return Kept{}, err
	}
	defer os.RemoveAll(fresh)
	start := time.Now()
	c.Say("installing Debian %s with %d packages named", r.Suite, len(r.Packages))
	if err := c.make(ctx, r, state, fresh); err != nil {
		return Kept{}, err
	}
	c.Say("installed in %s", time.Since(start).Round(time.Second))
	// A tree that a power cut has left half would be taken ever after.
	for _, name := range []string{"tree.tar", "packages.json", ""} {
		if err := sync(filepath.Join(fresh, name)); err != nil {
			return Kept{}, err
		}
	}
	if err := os.Rename(fresh, dir); err != nil {
		if _, other := os.Stat(dir); other != nil { // another build may have been faster
			return Kept{}, err
		}
	}
	c.drop(r)
	return Kept{dir}, nil
}

func sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (c Cache) make(ctx context.Context, r Recipe, state State, fresh string) error {
	tree := filepath.Join(fresh, "tree")
	argv := r.argv(tree)
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "TMPDIR=" + fresh,
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(state.Time.Unix(), 10)}
	if err := process.Run(ctx, env, nil, argv...); err != nil {
		return fmt.Errorf("install Debian: %w", err)
	}
	lists := filepath.Join(tree, "var/lib/apt/lists")
	if err := checkState(lists, state); err != nil {
		return err
	}
	hashes, err := readLists(lists)
	if err != nil {
		return fmt.Errorf("read the hashes of the packages: %w", err)
	}
	status, err := os.ReadFile(filepath.Join(tree, "var/lib/dpkg/status"))
	if err != nil {
		return err
	}
	if hashes, err = hashes.of(string(status)); err != nil {
		return err
	}
	data, err := json.MarshalIndent(hashes, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(fresh, "packages.json"), data, 0o644); err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, "rm", "-rf", "--one-file-system", lists).Run(); err != nil {
		return fmt.Errorf("remove apt's lists: %w", err)
	}
	if err := process.Run(ctx, env, nil, pack(tree, filepath.Join(fresh, "tree.tar"), state.Time)...); err != nil {
		return fmt.Errorf("pack the tree: %w", err)
	}
	return os.RemoveAll(tree)
}

// pack is the command that packs the tree into a file. What was made while Debian was
// installed bears the time of the state: a tree that was kept and one that is made
// today are then the same.
func pack(tree, file string, state time.Time) []string {
	return []string{"tar", "--create", "--file=" + file, "--directory=" + tree, "--sort=name",
		"--mtime=@" + strconv.FormatInt(state.Unix(), 10), "--clamp-mtime",
		"--numeric-owner", "--xattrs", "--xattrs-include=*", "--one-file-system", "."}
}

// checkState makes sure that apt saw the state that the tree is named after.
func checkState(lists string, want State) error {
	names, err := filepath.Glob(filepath.Join(lists, "*_InRelease"))
	if err != nil {
		return err
	}
	var files []string
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files = append(files, string(data))
	}
	got, err := StateOf(files)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the mirror has changed while the tree was made: build again")
	}
	return nil
}

// kept lists the folders of the recipe's list of packages, the oldest state first.
func (c Cache) kept(r Recipe) []string {
	dirs, err := filepath.Glob(filepath.Join(c.Dir, r.list()+"-*"))
	if err != nil {
		return nil
	}
	slices.Sort(dirs)
	return dirs
}

// begun is what the folder of a tree that is being made begins with.
const begun = "new-"

// drop removes all but the two newest, which another build may be reading, and what a
// build has left that was killed: none takes a day.
func (c Cache) drop(r Recipe) {
	dirs := c.kept(r)
	dirs = dirs[:max(0, len(dirs)-2)]
	left, _ := filepath.Glob(filepath.Join(c.Dir, begun+"*"))
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			c.Say("%v", err)
		}
	}
}
