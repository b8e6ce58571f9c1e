// Package provisioner is the Packer provisioner relay: it makes an appliance of an
// installed Debian.
//
// It knows nothing of the guest but Packer's communicator, so the same code works in
// a tree of files and, over SSH, in a machine of a cloud. It starts no service: an
// image that has once run carries traces of it.
package provisioner

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/psf-relay/relay-appliance/image/hygiene"
)

// Provisioner is the component.
type Provisioner struct{ config Config }

var _ packer.Provisioner = (*Provisioner)(nil)

// guest is the machine that is provisioned.
type guest struct {
	comm packer.Communicator
	ui   packer.Ui
	root bool // the communicator's user is root
}

// Provision installs, in the order of the configuration's fields.
func (p *Provisioner) Provision(ctx context.Context, ui packer.Ui, comm packer.Communicator, _ map[string]any) error {
	c := &p.config
	g := &guest{comm: comm, ui: ui}
	who, err := g.output(ctx, "id -u")
	if err != nil {
		return err
	}
	g.root = who == "0"
	for _, step := range []struct {
		what string
		do   func(context.Context, *guest) error
		skip bool
	}{
		{"Installing packages", c.installDebs, false},
		{"Installing files", c.installFiles, len(c.Files) == 0},
		{"Enabling units", c.enableUnits, false},
		{"Scrubbing", c.scrub, !c.Scrub},
	} {
		if step.skip {
			continue
		}
		ui.Say(step.what)
		if err := step.do(ctx, g); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(step.what), err)
		}
	}
	return nil
}

// installDebs installs all packages at once: they may depend on each other. dpkg does
// not ask, and keeps a configuration that is there.
func (c *Config) installDebs(ctx context.Context, g *guest) error {
	stage, err := g.stage(ctx)
	if err != nil {
		return err
	}
	names := make([]string, len(c.Debs))
	for i, name := range c.Debs {
		names[i] = stage + "/" + filepath.Base(name)
		if err := g.upload(name, names[i]); err != nil {
			return err
		}
	}
	if err := g.sudo(ctx, "DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --install "+strings.Join(names, " ")); err != nil {
		return err
	}
	if c.Keep != "" {
		if err := g.sudo(ctx, "umask 022 && mkdir -p "+c.Keep+" && install -m 644 "+strings.Join(names, " ")+" "+c.Keep); err != nil {
			return err
		}
	}
	return g.sudo(ctx, "rm -rf "+stage)
}

func (c *Config) installFiles(ctx context.Context, g *guest) error {
	stage, err := g.stage(ctx)
	if err != nil {
		return err
	}
	var script strings.Builder
	script.WriteString("umask 022\n")
	for i, name := range c.Files {
		if strings.HasSuffix(name, "/") {
			fmt.Fprintf(&script, "mkdir -p %s\n", name)
			continue
		}
		fi, err := os.Stat(filepath.Join(c.Rootfs, name))
		if err != nil {
			return err
		}
		mode := 0o644
		if fi.Mode()&0o111 != 0 {
			mode = 0o755
		}
		there := fmt.Sprintf("%s/%d", stage, i)
		if err := g.upload(filepath.Join(c.Rootfs, name), there); err != nil {
			return err
		}
		fmt.Fprintf(&script, "mkdir -p %s\ninstall -m %o %s %s\n", path.Dir(name), mode, there, name)
	}
	fmt.Fprintf(&script, "rm -rf %s\n", stage)
	return g.sudo(ctx, script.String())
}

func (c *Config) enableUnits(ctx context.Context, g *guest) error {
	for _, do := range []struct {
		verb  string
		units []string
	}{{"preset", c.Preset}, {"enable", c.Enable}, {"mask", c.Mask}} {
		if len(do.units) > 0 {
			if err := g.sudo(ctx, "systemctl "+do.verb+" "+strings.Join(do.units, " ")); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Config) scrub(ctx context.Context, g *guest) error { return g.sudo(ctx, hygiene.Scrub) }

// stage makes a folder in the guest for what is uploaded.
func (g *guest) stage(ctx context.Context) (string, error) {
	dir, err := g.output(ctx, "mktemp -d /var/tmp/relay.XXXXXXXX")
	if err == nil && !guestPath.MatchString(dir) {
		err = fmt.Errorf("the guest's mktemp said %q", dir)
	}
	return dir, err
}

func (g *guest) upload(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := g.comm.Upload(to, f, &fi); err != nil {
		return fmt.Errorf("upload %s: %w", filepath.Base(from), err)
	}
	return nil
}

// sudo runs a script as root and shows what it says.
func (g *guest) sudo(ctx context.Context, script string) error {
	command := "sh -eu -s"
	if !g.root {
		command = "sudo -n " + command
	}
	var said bytes.Buffer
	cmd := &packer.RemoteCmd{Command: command, Stdin: strings.NewReader(script + "\n"), Stdout: &said, Stderr: &said}
	if err := cmd.RunWithUi(ctx, g.comm, g.ui); err != nil {
		return err
	}
	if code := cmd.ExitStatus(); code != 0 {
		return fmt.Errorf("exit code %d:\n%s", code, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// output runs a command as it is and returns what it says.
func (g *guest) output(ctx context.Context, command string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := &packer.RemoteCmd{Command: command, Stdout: &stdout, Stderr: &stderr}
	if err := g.comm.Start(ctx, cmd); err != nil {
		return "", err
	}
	if code := cmd.Wait(); code != 0 {
		return "", fmt.Errorf("%s: exit code %d: %s", command, code, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
