package boottest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/qemu"
)

//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

// Config is the post-processor block relay-boottest.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// Arch is the image's architecture, as Debian calls it. Default: this machine's.
	Arch string `mapstructure:"arch"`

	// Firmware are the kinds to boot with, one after the other: bios, uefi, secureboot.
	// None: the image is not booted.
	Firmware []string `mapstructure:"firmware"`

	// UserData is a file with cloud-init's user-data. Default: none.
	UserData string `mapstructure:"user_data_file"`

	// Services are units that must be active when cloud-init is done.
	Services []string `mapstructure:"services"`

	// Accelerator is tcg, which runs everywhere, or kvm, for the machine's own architecture. A /dev/kvm does not mean that
	// it works, so nothing is probed. Default: tcg.
	Accelerator string `mapstructure:"accelerator"`

	// Memory of the machine in MiB. Default: 512.
	Memory int `mapstructure:"memory"`

	// Timeout for one boot. Default: 10m.
	Timeout string `mapstructure:"timeout"`

	userData []byte
	timeout  time.Duration
	ctx      interpolate.Context
}

// ConfigSpec is the shape of the block for HCL.
func (p *PostProcessor) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure reads the block and names all that is wrong with it.
func (p *PostProcessor) Configure(raws ...any) error {
	c := &p.config
	if err := config.Decode(c, &config.DecodeOpts{PluginType: "relay-boottest", Interpolate: true, InterpolateContext: &c.ctx}, raws...); err != nil {
		return err
	}
	return c.prepare()
}

func (c *Config) prepare() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, f := range c.Firmware {
		if !slices.Contains(qemu.Firmwares, qemu.Firmware(f)) {
			fault("firmware: want one of %v, not %q", qemu.Firmwares, f)
		}
	}
	if c.Arch == "" {
		c.Arch = arch.Host
	}
	if _, err := arch.Find(c.Arch); err != nil {
		fault("%w", err)
	}
	if c.Accelerator == "" {
		c.Accelerator = string(qemu.TCG)
	}
	if a := qemu.Accel(c.Accelerator); a != qemu.TCG && a != qemu.KVM {
		fault("accelerator: want %s or %s, not %q", qemu.TCG, qemu.KVM, c.Accelerator)
	}
	if c.Memory == 0 {
		c.Memory = 512
	}
	if c.Memory < 128 || c.Memory > 64<<10 {
		fault("memory: want 128 to 65536 MiB, not %d", c.Memory)
	}
	if c.Timeout == "" {
		c.Timeout = "10m"
	}
	var err error
	if c.timeout, err = time.ParseDuration(c.Timeout); err != nil || c.timeout <= 0 {
		fault("timeout: want a time such as 10m, not %q", c.Timeout)
	}
	if c.UserData != "" {
		if c.userData, err = os.ReadFile(c.UserData); err != nil {
			fault("user_data_file: %w", err)
		}
	}
	return errors.Join(faults...)
}
