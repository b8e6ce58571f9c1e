// Package builder is the Packer builder relay-rootfs: Debian's packages and what
// provisioners do to them become disk images. Nothing is booted, and neither the
// disk nor its file systems are mounted.
//
// Everything is made in one folder, which is gone when a build ends, however it
// ends. Only a build that succeeded moves its files to their names.
package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/debian"
	"github.com/psf-relay/relay-appliance/image/foreign"
)

// BuilderID is the kind of the artifacts.
const BuilderID = "psf-relay.relay-rootfs"

// Builder is the component.
type Builder struct{ config Config }

var _ packer.Builder = (*Builder)(nil)

// build is one run. Its paths lie in the work folder.
type build struct {
	*Config
	ui    packer.Ui
	hook  packer.Hook
	work  string
	tree  string
	disk  string   // the raw disk
	files []string // what is to be published

	hashes debian.Hashes // of what the mirror gave
}

// Run builds the image.
func (b *Builder) Run(ctx context.Context, ui packer.Ui, hook packer.Hook) (_ packer.Artifact, err error) {
	if os.Getuid() != 0 {
		return nil, errors.New("building a tree takes root: it holds files of other users; use sudo")
	}
	if err := os.MkdirAll(b.config.Output, 0o755); err != nil {
		return nil, err
	}
	if err := b.config.free(b.config.PackerForce); err != nil {
		return nil, err
	}
	release, err := foreign.Enable(b.config.arch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	// Beside the output, for a rename to be one step.
	work, err := os.MkdirTemp(b.config.Output, ".building-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	r := &build{Config: &b.config, ui: ui, hook: hook, work: work, tree: filepath.Join(work, "tree")}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"Preparing the tree", r.prepareTree},
		{"Provisioning", r.provision},
		{"Making the initramfs", r.makeInitramfs},
		{"Scrubbing", r.scrub},
		{"Taking stock", r.takeStock},
		{"Looking for what must not be in an image", r.checkHygiene},
		{"Setting times", r.settle},
		{"Making the disk", r.makeDisk},
		{"Converting", r.convert},
	} {
		start := time.Now()
		ui.Say(step.what)
		if err := step.do(ctx); err != nil {
			return nil, err
		}
		// A step that has ended in time may have been the last one.
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cancelled: %w", err)
		}
		ui.Say(fmt.Sprintf("%.1f s", time.Since(start).Seconds()))
	}
	return r.publish()
}
