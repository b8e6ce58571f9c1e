// Package feed follows the release list that the project publishes at its site.
//
// Whoever carries the list can hold newer ones back, until its time is over; he
// cannot change it (it is signed), and cannot bring an older one back: what was
// taken is kept, and only what follows from it is taken next.
package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/release"
)

// Config is where the project publishes, and who signs the list. Packages bring it
// as a file, so that keys change by an update, like those of apt.
type Config struct {
	// Site is the URL under which releases.yaml and the folder apt are found.
	Site string `yaml:"site"`
	// Keys verify the list; while one replaces another, there are two.
	Keys []string `yaml:"keys"`
}

// DefaultFile is where packages put a [Config].
const DefaultFile = "/usr/share/relay-appliance/updates.yaml"

// Load reads a Config. Without a name or a file nothing is followed: the zero
// Config says so.
func Load(name string) (Config, error) {
	if name == "" {
		return Config{}, nil
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read where updates come from: %w", err)
	}
	return Parse(name, data)
}

// Parse reads a Config; name stands for the file in errors.
func Parse(name string, data []byte) (Config, error) {
	var c Config
	if err := config.Decode(name, data, &c); err != nil {
		return Config{}, err
	}
	if err := c.validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func (c Config) validate() error {
	var faults []error
	if u, err := url.Parse(c.Site); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		faults = append(faults, fmt.Errorf("site: want a URL such as https://updates.example.org, not %q", c.Site))
	}
	if len(c.Keys) == 0 {
		faults = append(faults, errors.New("keys: want at least one: a list counts only with a signature"))
	}
	for i, k := range c.Keys {
		if err := release.CheckKey(k); err != nil {
			faults = append(faults, fmt.Errorf("keys[%d]: want a verifier key (list.pub of the project's keys): %w", i, err))
		}
	}
	return errors.Join(faults...)
}

// Known says whether there is a list to follow.
func (c Config) Known() bool { return c.Site != "" }

// ListFile and AptDir are what stands at the site.
const (
	ListFile = "releases.yaml"
	AptDir   = "apt"
)

// List is the list's URL.
func (c Config) List() string { return strings.TrimSuffix(c.Site, "/") + "/" + ListFile }

// Apt is the URL of the apt repository.
func (c Config) Apt() string { return strings.TrimSuffix(c.Site, "/") + "/" + AptDir }

// fetchTime bounds one download.
const fetchTime = 20 * time.Second

// Get downloads the list and checks its signature. The agent is what the server
// sees as User-Agent.
func (c Config) Get(ctx context.Context, agent string) (*release.List, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	file, err := download.Get(ctx, http.DefaultClient, c.List(), agent, release.MaxBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("get the release list: %w", err)
	}
	l, err := release.Open(c.List(), file, c.Keys)
	return l, file, err
}

// Feed is a list that is followed, and what was taken of it in a folder: one file
// for each list, named by its SHA-256, so that one that a roster names is still
// there when the month is judged.
type Feed struct {
	cfg   Config
	dir   string
	agent string
	keep  int

	mu    sync.Mutex
	lists []kept // the newest last
	fault error
}

type kept struct {
	list   *release.List
	file   []byte
	stored bool
}

// Years is how many lists to keep for somebody who is asked for old ones: some years
// of monthly releases, or of refreshes.
const Years = 60

// Follow reads what was taken before; the folder need not be there. So many lists are
// kept in it: one is enough to refuse older ones, with 0 the folder is only read. With
// the zero Config nothing is fetched.
func Follow(cfg Config, dir, agent string, keep int) (*Feed, error) {
	f := &Feed{cfg: cfg, dir: dir, agent: agent, keep: keep}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the release lists that were kept: %w", err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".yaml" {
			continue // such as what a crash left
		}
		name := filepath.Join(dir, e.Name())
		file, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the one who keeps them has just let go of it
		}
		if err != nil {
			return nil, fmt.Errorf("read a release list that was kept: %w", err)
		}
		l, err := release.Parse(name, file)
		if err == nil && l.SHA256 != strings.TrimSuffix(filepath.Base(name), ".yaml") {
			err = fmt.Errorf("%s has another SHA-256", name)
		}
		if err != nil {
			return nil, fmt.Errorf("a release list that was kept is damaged: remove the file, and the newest is fetched anew: %w", err)
		}
		f.lists = append(f.lists, kept{l, file, true})
	}
	slices.SortFunc(f.lists, func(a, b kept) int {
		return cmp.Or(cmp.Compare(releases(a.list), releases(b.list)), a.list.ValidUntil.Compare(b.list.ValidUntil.Time))
	})
	return f, nil
}

// releases counts them: a list that follows another has as many or more.
func releases(l *release.List) (n int) {
	for _, p := range l.Products {
		n += len(p.Releases)
	}
	return n
}

// Fetch looks for a newer list. Its fault is also told by [Feed.Newest], until a
// later fetch succeeds.
func (f *Feed) Fetch(ctx context.Context) error {
	if !f.cfg.Known() {
		return nil
	}
	l, file, err := f.cfg.Get(ctx, f.agent)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = f.take(l, file)
	}
	f.fault = err
	return err
}

func (f *Feed) take(l *release.List, file []byte) error {
	if n := len(f.lists); n > 0 {
		newest := f.lists[n-1].list
		if err := l.Follows(newest); err != nil {
			return fmt.Errorf("%s: it does not follow from the list of before, which stays (if the project has begun a new one, remove %s): %w", f.cfg.List(), f.dir, err)
		}
		if newest.Follows(l) == nil {
			// The same. Anybody can add signatures by keys that nobody knows: taken as
			// new, such files would push out those that are asked for.
			return f.store()
		}
	}
	// It counts even if it cannot be stored: else an older one would.
	f.lists = append(f.lists, kept{l, file, false})
	if err := f.store(); err != nil {
		return err
	}
	for f.keep > 0 && len(f.lists) > f.keep {
		if err := os.Remove(f.path(f.lists[0].list)); err != nil {
			return fmt.Errorf("let go of an old release list: %w", err)
		}
		f.lists = f.lists[1:]
	}
	return nil
}

// store writes the lists that are not in the folder yet.
func (f *Feed) store() error {
	for i := range f.lists {
		k := &f.lists[i]
		if k.stored || f.keep == 0 {
			continue
		}
		err := os.MkdirAll(f.dir, 0o755)
		if err == nil {
			err = errors.Join(durable.Replace(f.path(k.list), k.file, 0o644), durable.SyncDir(filepath.Dir(f.dir)))
		}
		if err != nil {
			return fmt.Errorf("keep the release list: %w", err)
		}
		k.stored = true
	}
	return nil
}

func (f *Feed) path(l *release.List) string { return filepath.Join(f.dir, l.SHA256+".yaml") }

// Newest is the newest list that was taken, nil if none was, and why there may be
// a newer one.
func (f *Feed) Newest() (*release.List, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.lists) == 0 {
		return nil, f.fault
	}
	return f.lists[len(f.lists)-1].list, f.fault
}

// Named is the file with that SHA-256; nil if it was not taken.
func (f *Feed) Named(sha256 string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.lists {
		if k.list.SHA256 == sha256 {
			return k.file
		}
	}
	return nil
}
