package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/archive"
	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/release"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
)

// What the release list calls the project. One version is of all its programs;
// relays announce it as relayd's.
const (
	product = "relay-appliance"
	agent   = "relayd/*"
)

// version is that of a release, as tags name it.
type version string

var versionPattern = regexp.MustCompile(`^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$`)

// Validate is called by kong.
func (v version) Validate() error {
	if !versionPattern.MatchString(string(v)) {
		return fmt.Errorf("want a version such as v1.2.3, not %q", string(v))
	}
	return nil
}

// number is the version as packages and files have it in their names.
func (v version) number() string { return strings.TrimPrefix(string(v), "v") }

// site is the folder of static files that is published.
type site struct {
	Site string `required:"" type:"path" placeholder:"DIR" help:"The site's folder: the apt repository in apt/, and releases.yaml."`
}

func (s site) listFile() string { return filepath.Join(s.Site, feed.ListFile) }

// list reads the release list, which one of the keys must have signed.
func (s site) list(keys []string) (*release.List, error) {
	file, err := os.ReadFile(s.listFile())
	if err != nil {
		return nil, err
	}
	return release.Open(s.listFile(), file, keys)
}

// write signs the list and puts it in place.
func (s site) write(l *release.List, signers []note.Signer) error {
	file, err := l.Sign(signers...)
	if err != nil {
		return err
	}
	return durable.Replace(s.listFile(), file, 0o644)
}

func (s site) archive(keys *archive.Keys) *archive.Archive {
	return &archive.Archive{Dir: filepath.Join(s.Site, feed.AptDir), Keys: keys}
}

type publishCmd struct {
	signing
	listSigning
	site
	Version version `required:"" placeholder:"VERSION" help:"The version, such as v1.2.3."`
	From    string  `required:"" type:"existingdir" placeholder:"DIR" help:"Where \"release build\" has put it."`
	First   bool    `help:"Begin a new site. It is done once: a site that begins anew is refused by those who follow the old one."`
	Keep    int     `default:"3" help:"How many versions of each package stay, for those who have to go back."`
}

// Help is what --help says besides.
func (publishCmd) Help() string {
	return `First the packages go into the apt repository, then the version into the release list: so the list never names what nobody can install. What is there already is verified before it is signed again. Upload the site afterwards, in this order: apt/pool, apt/dists with what is named by hash, the rest.`
}

func (c *publishCmd) Run(ctx context.Context, out *cli.IO) (err error) {
	debs, err := filepath.Glob(filepath.Join(c.From, "*_"+c.Version.number()+"_*.deb"))
	if err != nil {
		return err
	}
	if len(debs) == 0 {
		return cli.BadInput(fmt.Errorf("%s holds no package of %s: \"release build\" makes them", c.From, c.Version))
	}
	signers, public, err := c.signers()
	if err != nil {
		return err
	}
	list, err := c.list(public)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.First:
		if list, err = (&release.List{Version: 1}), os.MkdirAll(c.Site, 0o755); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
		return cli.BadInput(fmt.Errorf("%s: no site is there: get it back from where it is published, or begin one with --first: %w", c.Site, err))
	case err != nil:
		return err
	case c.First:
		return cli.BadInput(fmt.Errorf("%s is a site already: leave --first away", c.Site))
	}
	p := c.publication()
	list.ValidUntil = release.Time{Time: p.At.Add(p.Valid)}
	if err := list.Add(product, agent, string(c.Version), p.At); err != nil {
		return cli.BadInput(err)
	}
	keys, err := c.keys(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	if err := c.archive(keys).Add(ctx, debs, c.Keep, p); err != nil {
		return err
	}
	if err := c.write(list, signers); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: %s is the newest; valid until %s\n", c.Site, c.Version, list.ValidUntil.Format(time.RFC3339))
	return err
}

type refreshCmd struct {
	signing
	listSigning
	site
}

func (c *refreshCmd) Run(ctx context.Context, out *cli.IO) (err error) {
	signers, public, err := c.signers()
	if err != nil {
		return err
	}
	list, err := c.list(public)
	if err != nil {
		return cli.BadInput(err)
	}
	keys, err := c.keys(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	p := c.publication()
	before := *list
	list.ValidUntil = release.Time{Time: p.At.Add(p.Valid)}
	if err := list.Follows(&before); err != nil {
		return cli.BadInput(err)
	}
	if err := c.archive(keys).Refresh(ctx, p); err != nil {
		return err
	}
	if err := c.write(list, signers); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.Stdout, "%s: valid until %s\n", c.Site, list.ValidUntil.Format(time.RFC3339))
	return err
}
