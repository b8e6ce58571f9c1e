package builder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/psf-relay/relay-appliance/image/debian"
	"github.com/psf-relay/relay-appliance/image/disk"
	"github.com/psf-relay/relay-appliance/image/format"
	"github.com/psf-relay/relay-appliance/internal/arch"
)

//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

// Config is the source block relay-rootfs.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// Arch is the architecture, as Debian calls it: amd64 or arm64. Default: this machine's.
	// For another one qemu-user-static has to be installed.
	Arch string `mapstructure:"arch"`

	// Name is the base name of the files that are made, and ID and version of the
	// image: disk and file systems take their identifiers from it. Required.
	Name string `mapstructure:"image_name"`

	// Output is the folder for the files, which is made if needed. Nothing appears in
	// it before all is done. Files that are there already are replaced with -force only.
	Output string `mapstructure:"output_directory"`

	// Formats are raw, raw.gz, qcow2, vmdk, vhd (for Azure), google.tar.gz, ova (for
	// VirtualBox and VMware on amd64; its disk is the vmdk). Default: raw and qcow2.
	Formats []string `mapstructure:"formats"`

	// DiskSize is the size of the disk, such as 2G. The root grows with the disk at
	// boot. Default: 2G.
	DiskSize string `mapstructure:"disk_size"`

	// Suite is the Debian release. Default: trixie.
	Suite string `mapstructure:"suite"`

	// Mirror has the release and its updates; the guest uses it, too.
	// Default: http://deb.debian.org/debian, where apt verifies all by signature.
	Mirror string `mapstructure:"mirror"`

	// SecurityMirror has the security updates.
	// Default: http://deb.debian.org/debian-security.
	SecurityMirror string `mapstructure:"security_mirror"`

	// Packages are Debian's packages, besides the essential ones, what the disk boots with
	// (GRUB, shim, mke2fs), and what these depend on. A kernel must be among them. Required.
	Packages []string `mapstructure:"packages"`

	// Debs are the package files that provisioners install: whatever is installed in the
	// end must come from the mirror or be one of these.
	Debs []string `mapstructure:"debs"`

	// Cache keeps installed trees. Default: relay-appliance/trees in the user's cache folder.
	Cache string `mapstructure:"cache_directory"`

	// Hostname is the guest's until cloud-init gives it another. Default: relay.
	Hostname string `mapstructure:"hostname"`

	// KernelOptions are the kernel's besides root and ro. Default: the consoles of a screen
	// and of the architecture's serial lines, a new start 30 seconds after a panic, and SSH
	// over the network only.
	KernelOptions string `mapstructure:"kernel_options"`

	// Epoch is the time of the build in seconds since 1970: no file is younger, and the
	// same sources with the same time give the same image. Default: SOURCE_DATE_EPOCH
	// of the environment. Required.
	Epoch int64 `mapstructure:"source_date_epoch"`

	arch arch.Arch
	size int64
	ctx  interpolate.Context
}

// formats are all that there are.
var formats = append([]string{"raw"}, format.Names...)

// ConfigSpec is the shape of the block for HCL.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare reads the block and names all that is wrong with it.
func (b *Builder) Prepare(raws ...any) ([]string, []string, error) {
	c := &b.config
	if err := config.Decode(c, &config.DecodeOpts{PluginType: BuilderID, Interpolate: true, InterpolateContext: &c.ctx}, raws...); err != nil {
		return nil, nil, err
	}
	return nil, nil, c.prepare(os.Getenv("SOURCE_DATE_EPOCH"))
}

var (
	fileName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)
	hostName    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	suiteName   = regexp.MustCompile(`^[a-z]+$`)
)

func (c *Config) prepare(epoch string) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	defaults := func(value *string, otherwise string) {
		if *value == "" {
			*value = otherwise
		}
	}
	defaults(&c.Suite, "trixie")
	defaults(&c.Mirror, "http://deb.debian.org/debian")
	defaults(&c.SecurityMirror, "http://deb.debian.org/debian-security")
	defaults(&c.Hostname, "relay")
	defaults(&c.DiskSize, "2G")
	defaults(&c.Arch, arch.Host)
	var err error
	if c.arch, err = arch.Find(c.Arch); err != nil {
		fault("%w", err)
	}
	consoles := "console=tty0"
	for _, line := range c.arch.Serial {
		consoles += " console=" + line + ",115200"
	}
	defaults(&c.KernelOptions, consoles+" panic=30 systemd.ssh_auto=no")
	if c.Formats == nil {
		c.Formats = []string{"raw", "qcow2"}
	}
	if !fileName.MatchString(c.Name) {
		fault("image_name: want a file name of letters, digits and . _ + ~ -, not %q", c.Name)
	}
	if c.Output == "" {
		fault("output_directory is required")
	}
	if len(c.Formats) == 0 {
		fault("formats: want one at least of %s", strings.Join(formats, ", "))
	}
	for i, f := range c.Formats {
		if !slices.Contains(formats, f) {
			fault("formats: want some of %s, not %q", strings.Join(formats, ", "), f)
		} else if slices.Contains(c.Formats[:i], f) {
			fault("formats: %s stands there twice", f)
		}
	}
	if c.wants("ova") && c.arch.Name != "" && !c.arch.BIOS {
		fault("formats: the machine of an ova starts by BIOS, which %s has not", c.Arch)
	}
	if c.size, err = parseSize(c.DiskSize); err != nil {
		fault("disk_size: %w", err)
	} else if c.wants("google.tar.gz") && c.size%(1<<30) != 0 {
		fault("disk_size: for google.tar.gz it must be whole GiB, such as 2G, not %q", c.DiskSize)
	}
	if !suiteName.MatchString(c.Suite) {
		fault("suite: want the code name of a Debian release, not %q", c.Suite)
	}
	for name, url := range map[string]string{"mirror": c.Mirror, "security_mirror": c.SecurityMirror} {
		if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") || strings.ContainsAny(url, " \n") {
			fault("%s: want a URL of http or https, not %q", name, url)
		}
	}
	if len(c.Packages) == 0 {
		fault("packages is required: it names a kernel at least")
	}
	for _, p := range c.Packages {
		if !packageName.MatchString(p) {
			fault("packages: want names of Debian packages, not %q", p)
		}
	}
	for _, d := range c.Debs {
		if _, err := os.Stat(d); err != nil {
			fault("debs: %w", err)
		}
	}
	if !hostName.MatchString(c.Hostname) {
		fault("hostname: want one label of lower-case letters, digits and -, not %q", c.Hostname)
	}
	if strings.ContainsAny(c.KernelOptions, "\n\"'{}$;") {
		fault("kernel_options: no quotes, braces, dollars, semicolons or line ends, please: %q", c.KernelOptions)
	}
	if c.Epoch == 0 && epoch != "" {
		if c.Epoch, err = strconv.ParseInt(epoch, 10, 64); err != nil {
			fault("SOURCE_DATE_EPOCH: want seconds since 1970, not %q", epoch)
		}
	} else if c.Epoch == 0 {
		fault("source_date_epoch is required: git log -1 --format=%%ct tells the commit's")
	}
	if c.Epoch < 0 {
		fault("source_date_epoch: want seconds since 1970, not %d", c.Epoch)
	}
	if c.Cache == "" {
		if cache, err := os.UserCacheDir(); err != nil {
			fault("cache_directory: %w: name one", err)
		} else {
			c.Cache = filepath.Join(cache, "relay-appliance", "trees")
		}
	}
	// Other programs run in other folders.
	for _, path := range []*string{&c.Output, &c.Cache} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				fault("%w", err)
			}
		}
	}
	return errors.Join(faults...)
}

func parseSize(text string) (int64, error) {
	number, unit, ok := text, int64(0), true
	if number, ok = strings.CutSuffix(text, "G"); ok {
		unit = 1 << 30
	} else if number, ok = strings.CutSuffix(text, "M"); ok {
		unit = 1 << 20
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if unit == 0 || err != nil || n <= 0 {
		return 0, fmt.Errorf("want a number and M or G, such as 2G, not %q", text)
	}
	if n*unit < disk.MinSize {
		return 0, fmt.Errorf("%s is too small: %dM at least", text, disk.MinSize>>20)
	}
	return n * unit, nil
}

func (c *Config) recipe() debian.Recipe {
	return debian.Recipe{Arch: c.arch, Suite: c.Suite, Mirror: c.Mirror, Security: c.SecurityMirror, Packages: slices.Concat(c.arch.Boot, c.Packages)}
}

func (c *Config) time() time.Time { return time.Unix(c.Epoch, 0).UTC() }
