package provisioner

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

// Config is the provisioner block relay.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// Debs are package files of this machine, which dpkg installs. What they depend on
	// must be installed. Required.
	Debs []string `mapstructure:"debs"`

	// Keep is a folder of the guest in which the package files stay: with them an
	// update can be taken back. Default: they do not stay.
	Keep string `mapstructure:"keep_debs_in"`

	// Rootfs is a folder of this machine with files of the guest at the paths where they
	// land. Of these, Files are installed, which no package brings.
	Rootfs string `mapstructure:"rootfs"`

	// Files are paths in the guest. One that ends with a slash is an empty folder.
	Files []string `mapstructure:"files"`

	// Enable are units that start at boot. Nothing is started now.
	Enable []string `mapstructure:"enable"`

	// Preset are units that start at boot if their package's preset says so.
	Preset []string `mapstructure:"preset"`

	// Mask are units that shall not start.
	Mask []string `mapstructure:"mask"`

	// Scrub removes at the end what the machine has of its own: SSH host keys, logs,
	// the user it is built as. For a machine that was booted; the builder
	// relay-rootfs does it by itself.
	Scrub bool `mapstructure:"scrub"`

	ctx interpolate.Context
}

// ConfigSpec is the shape of the block for HCL.
func (p *Provisioner) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Prepare reads the block and names all that is wrong with it.
func (p *Provisioner) Prepare(raws ...any) error {
	c := &p.config
	if err := config.Decode(c, &config.DecodeOpts{PluginType: "relay", Interpolate: true, InterpolateContext: &c.ctx}, raws...); err != nil {
		return err
	}
	return c.prepare()
}

// The names are for a shell in the guest, too.
var (
	unitName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:_.@-]*\.(service|timer|socket|target|path)$`)
	guestPath = regexp.MustCompile(`^(/[A-Za-z0-9][A-Za-z0-9._+~@-]*)+/?$`)
	debName   = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+_[A-Za-z0-9.+~]+_` + arch.Pattern() + `\.deb$`)
)

func (c *Config) prepare() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Debs) == 0 {
		fault("debs is required: make deb builds them")
	}
	for _, name := range c.Debs {
		if !debName.MatchString(filepath.Base(name)) {
			fault("debs: want files PACKAGE_VERSION_ARCH.deb, not %q", name)
		} else if _, err := os.Stat(name); err != nil {
			fault("debs: %w", err)
		}
	}
	if c.Keep != "" && !guestPath.MatchString(c.Keep) {
		fault("keep_debs_in: want an absolute path of the guest, not %q", c.Keep)
	}
	if len(c.Files) > 0 && c.Rootfs == "" {
		fault("rootfs is required where there are files")
	}
	for _, name := range c.Files {
		if !guestPath.MatchString(name) || path.Clean(name) != strings.TrimSuffix(name, "/") {
			fault("files: want absolute paths of the guest, not %q", name)
		} else if !strings.HasSuffix(name, "/") && c.Rootfs != "" {
			if fi, err := os.Stat(filepath.Join(c.Rootfs, name)); err != nil {
				fault("files: %w", err)
			} else if !fi.Mode().IsRegular() {
				fault("files: %s is no file", name)
			}
		}
	}
	for _, unit := range slices.Concat(c.Enable, c.Preset, c.Mask) {
		if !unitName.MatchString(unit) {
			fault("enable, preset, mask: want names of units, not %q", unit)
		}
	}
	return errors.Join(faults...)
}
