package manifest

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"
	"golang.org/x/mod/sumdb/note"
)

//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

// Config is the post-processor block relay-manifest.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// Version is the version of the image.
	Version string `mapstructure:"version"`

	// Commit is the commit of the sources that it was built of.
	Commit string `mapstructure:"commit"`

	// Key is a file with a note's private key (golang.org/x/mod/sumdb/note) of whoever
	// vouches for the image; it never is part of it. With a key the manifest's signed
	// note is written, too. Default: no signature.
	Key string `mapstructure:"signing_key_file"`

	signer note.Signer
	ctx    interpolate.Context
}

// ConfigSpec is the shape of the block for HCL.
func (p *PostProcessor) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure reads the block and names all that is wrong with it.
func (p *PostProcessor) Configure(raws ...any) error {
	c := &p.config
	if err := config.Decode(c, &config.DecodeOpts{PluginType: "relay-manifest", Interpolate: true, InterpolateContext: &c.ctx}, raws...); err != nil {
		return err
	}
	return c.prepare()
}

func (c *Config) prepare() error {
	var faults []error
	if c.Version == "" {
		faults = append(faults, errors.New("version is required"))
	}
	if c.Key != "" {
		var err error
		if c.signer, err = readSigner(c.Key); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func readSigner(file string) (note.Signer, error) {
	key, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("signing_key_file: %w", err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(key)))
	if err != nil {
		// The error must not repeat the key.
		return nil, fmt.Errorf("signing_key_file: %s is no private key of a note", file)
	}
	return signer, nil
}
